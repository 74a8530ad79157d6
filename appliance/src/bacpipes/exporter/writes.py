"""``POST /api/bacnet/write``: a command takes the same way as every other, through the queue to the worker.

What the queue can't carry (a value of the wrong type, a haystackName, the age at arrival) is judged here, by the
validator that the worker calls too; all else is the worker's to judge.
"""

import asyncio
import json
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from psycopg.types.json import Jsonb
from starlette.responses import JSONResponse, Response

from bacpipes import clock
from bacpipes.database import Connection, query
from bacpipes.exporter import description
from bacpipes.exporter.auth import Identity, require
from bacpipes.exporter.news import News
from bacpipes.exporter.parameters import take
from bacpipes.exporter.problem import DATABASE_ERRORS, Problem, bad_parameter
from bacpipes.exporter.store import Store
from bacpipes.payload import refusal, result_payload
from bacpipes.points import Point, find_point
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from bacpipes.writes.command import Command, MalformedCommandError, from_fields
from bacpipes.writes.validator import Policy, Violation, validate
from bacpipes.writes.values import convert

router = APIRouter()

WAIT_FOR_RESULT = 30.0  # seconds
LOOK_EVERY = 1.0  # seconds; a notification is faster, but can be missed
LARGEST_BODY = 16 * 1024
_TARGET = {"siteId", "equipmentType", "equipmentId", "haystackName", "deviceId", "objectType", "objectInstance"}
_OPTIONS = {"jobId", "value", "priority", "release", "timestamp", "expiresAt", "releaseAfter", "source", "reason"}
KEYS = frozenset(_TARGET | _OPTIONS)
# What the row in write_commands does not hold, so that the worker could not judge it.
AGE = frozenset({"command-too-old", "command-in-future", "command-expired"})
JUDGED_HERE = AGE | {"point-not-found", "haystack-name-differs", "value-wrong-type", "value-not-finite"}
_INTEGER = 2**31


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a command."""

    name: str
    ip: str | None
    channel: str = "api"  # ``page`` for somebody who is logged in

    @property
    def actor(self) -> str:
        """As it stands in ``created_by`` and in the audit trail."""
        return f"{self.channel}:{self.name}"


@router.post("/api/bacnet/write", openapi_extra=description.body(description.COMMAND))
async def write(request: Request, who: Annotated[Identity, Depends(require(Role.OPERATOR))]) -> Response:
    """Queue a write command and answer with its result; 202 where it is not there within 30 s."""
    take(request.query_params.multi_items(), ())
    fields = read_fields(await read_body(request))
    channel = "api" if who.session is None else "page"
    sender = Sender(who.name, request.client.host if request.client else None, channel)
    status, result = await submit(request.app.state, fields, sender)
    return JSONResponse(result, status)


async def submit(state: Any, fields: dict[str, Any], sender: Sender) -> tuple[int, dict[str, Any]]:
    """Queue a command given as its payload; HTTP status and result, or `Problem` where it is no command."""
    began = time.monotonic()
    settings: Settings = state.settings
    store: Store = state.store
    command = _command(fields, settings)
    async with store.connection() as connection:
        key = (command.device_id, command.object_type, command.object_instance)
        point = await find_point(connection, settings.site_id, *key)
        violations = _refused(command, point, settings)
        if violations and not await _only_old_news(connection, command, violations):
            result = refused_result(command, settings.site_id, violations, began)
            detail = [sender.actor, "write.refused", command.job_id, Jsonb(result)]
            await connection.execute(query("exporter_audit"), detail)
            return 200, result
        assert point is not None  # noqa: S101 - else it was refused
        await _queue(connection, command, point, settings, sender)
    return await _result(store, state.news, command.job_id, state.stopping)


async def read_body(request: Request) -> bytes:
    """The request's body; 413 where it is too large."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise Problem(413, f"The body is larger than {LARGEST_BODY} bytes.")
    return bytes(body)


def read_fields(body: bytes) -> dict[str, Any]:
    """A command's fields, with a jobId; 400 where they are no JSON object, or unknown."""
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=float, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise bad_parameter("body", "The body is not JSON.", "a JSON object, as docs/api.md shows it") from None
    if not isinstance(fields, dict):
        raise bad_parameter("body", "The body is not a JSON object.", "a JSON object, as docs/api.md shows it")
    for name in fields.keys() - KEYS:
        raise bad_parameter(name, f"Unknown key {name!r}.", f"one of {', '.join(sorted(KEYS))}")
    return {"jobId": str(uuid.uuid4())} | {name: value for name, value in fields.items() if value is not None}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise bad_parameter("body", "A key is given more than once.", "each key once")
    return fields


def _command(fields: dict[str, Any], settings: Settings) -> Command:
    try:
        command = from_fields(fields)
    except MalformedCommandError as error:
        name, _, expected = error.problems[0].partition(" is ")
        raise bad_parameter(name, f"Not a command: {error}.", expected.removeprefix("not ")) from None
    if command.site_id not in (None, settings.site_id):
        raise bad_parameter("siteId", "The command is for another site.", settings.site_id)
    if isinstance(command.priority, bool) or not isinstance(command.priority, int):
        raise bad_parameter("priority", "priority is not an integer.", "an integer from 1 to 16")
    if not -_INTEGER <= command.priority < _INTEGER:
        raise bad_parameter("priority", f"Priority {command.priority} is invalid (must be 1-16)", "1 to 16")
    return command


def _refused(command: Command, point: Point | None, settings: Settings) -> list[Violation]:
    """What is judged here: the row in the queue would not tell the worker that a command carried a foreign time."""
    now = datetime.now(UTC)
    kept = not settings.clock_check or clock.synchronised()
    policy = Policy.from_settings(settings, clock_synchronised=kept)
    found = validate(command, point, policy, now, now)
    if all(violation.code not in JUDGED_HERE for violation in found):
        return []
    return found  # with all others too, as the worker would have told


async def _only_old_news(connection: Connection, command: Command, violations: list[Violation]) -> bool:
    """A job that was queued in time and is asked for again: its result counts, not its age by now."""
    if not {violation.code for violation in violations} & JUDGED_HERE <= AGE:
        return False
    return await (await connection.execute(query("exporter_write_known"), [command.job_id])).fetchone() is not None


def refused_result(command: Command, site: str, violations: list[Violation], began: float) -> dict[str, Any]:
    """The payload that says why a command was not even queued."""
    seconds = time.monotonic() - began
    return result_payload(
        command, site, success=False, seconds=seconds, error=refusal(violations), violations=violations
    )


async def _queue(connection: Connection, command: Command, point: Point, settings: Settings, sender: Sender) -> None:
    """Insert the command, once; raise 409 where its jobId was used for another."""
    row = queue_row(command, point, settings.site_id, sender.actor, sender.ip)
    async with connection.transaction():
        inserted = await (await connection.execute(query("exporter_write"), row)).fetchone()
        if inserted is None:
            await require_same(connection, row)
            return
        detail = {"deviceId": command.device_id, "object": command.object, "source": command.source}
        detail |= {name: row[name] for name in ("type", "value", "priority", "reason", "ip", "release_after")}
        audit = [sender.actor, "write.request", command.job_id, Jsonb(detail)]
        await connection.execute(query("exporter_audit"), audit)


def queue_row(command: Command, point: Point, site: str | None, actor: str, ip: str | None) -> dict[str, Any]:
    """A command as the queue's statements take it."""
    return {
        "job": command.job_id,
        "site": site,
        "point": point.id,
        "type": "release_priority" if command.release else "write_value",
        "value": None if command.release else _queue_number(command, point),
        "priority": command.priority,
        "timestamp": command.timestamp,
        "expires": command.expires_at,
        "actor": actor,
        "reason": command.reason,
        "ip": ip,
        "release_after": command.release_after,
    }


def _queue_number(command: Command, point: Point) -> float:
    """The value as the queue holds it. Out of range is the worker's to refuse, so the number passes."""
    if isinstance(command.value, int | float) and not isinstance(command.value, bool):
        return float(command.value)
    return convert(command.value, point)


async def require_same(connection: Connection, row: dict[str, Any]) -> None:
    """409 where the queue has another command under this jobId."""
    same = await (await connection.execute(query("exporter_write_same"), row)).fetchone()
    if same != (True,):
        raise Problem(
            409, f"jobId {row['job']!r} was used for another command.", parameter="jobId", expected="a new id"
        )


async def _result(store: Store, news: News, job_id: str, stopping: asyncio.Event) -> tuple[int, dict[str, Any]]:
    """Wait for the worker's answer; the database may come and go meanwhile, the command is safe in the queue."""
    deadline = time.monotonic() + WAIT_FOR_RESULT
    while (left := deadline - time.monotonic()) > 0 and not stopping.is_set():
        try:
            async with store.connection() as connection:
                row = await (await connection.execute(query("exporter_write_result"), [job_id])).fetchone()
        except DATABASE_ERRORS:
            row = None
        if row is not None:
            return 200, row[0]
        await news.wait("write_results", min(left, LOOK_EVERY))
    return 202, {"jobId": job_id, "status": "pending"}
