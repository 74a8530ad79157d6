"""``POST /api/write`` and ``GET /api/write/{jobId}``: a command for any site, and what became of it."""

import math
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from psycopg.types.json import Jsonb
from starlette.responses import JSONResponse, Response

from bacpipes.central import queue
from bacpipes.central.store import CentralStore, find_point, site_exists
from bacpipes.database import query
from bacpipes.exporter.auth import Identity, require
from bacpipes.exporter.parameters import take
from bacpipes.exporter.problem import Problem, bad_parameter
from bacpipes.exporter.writes import read_body, read_fields, refused_result, require_same
from bacpipes.reading import iso_milliseconds
from bacpipes.tokens import Role
from bacpipes.writes.command import Command, MalformedCommandError, from_fields

router = APIRouter()


@router.post("/api/write", status_code=202)
async def write(request: Request, who: Annotated[Identity, Depends(require(Role.OPERATOR))]) -> Response:
    """Judge a command and queue it for its site: 202 with where to ask for its result, or the refusal."""
    began = time.monotonic()
    take(request.query_params.multi_items(), ())
    state = request.app.state
    store: CentralStore = state.store
    command = _command(read_fields(await read_body(request)))
    site = command.site_id or ""
    async with store.connection() as connection:
        if not await site_exists(connection, site):
            raise bad_parameter("siteId", f"Unknown site {site!r}.", "one of GET /api/sites")
        key = (command.device_id, command.object_type, command.object_instance)
        point = await find_point(connection, site, *key)
        violations = queue.judge(command, point, state.settings)
        if violations or point is None:
            result = refused_result(command, site, violations, began)
            detail = [f"api:{who.name}", "write.refused", command.job_id, Jsonb(result)]
            await connection.execute(query("exporter_audit"), detail)
            return JSONResponse(result)
        ip = request.client.host if request.client else None
        row = await queue.insert(connection, command, point, f"api:{who.name}", ip)
        await require_same(connection, row)
    place = f"/api/write/{command.job_id}"
    body = {"jobId": command.job_id, "siteId": site, "status": "pending", "statusUrl": place}
    return JSONResponse(body, 202, {"Location": place})


@router.get("/api/write/{job_id}")
async def status(request: Request, job_id: str, _: Annotated[Identity, Depends(require(Role.VIEWER))]) -> Response:
    """A command's status, its result as the site told it, and who asked for it."""
    take(request.query_params.multi_items(), ())
    store: CentralStore = request.app.state.store
    rows = await store.rows("central_write_status", {"job": job_id})
    if not rows:
        raise Problem(404, f"There is no command {job_id!r}.")
    return JSONResponse({name: _plain(value) for name, value in rows[0].items()})


def _command(fields: dict[str, Any]) -> Command:
    try:
        command = from_fields(fields)
    except MalformedCommandError as error:
        name, _, expected = error.problems[0].partition(" is ")
        raise bad_parameter(name, f"Not a command: {error}.", expected.removeprefix("not ")) from None
    if command.site_id is None:
        raise bad_parameter("siteId", queue.SITE_MISSING.text, "one of GET /api/sites")
    return command


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return iso_milliseconds(value) if isinstance(value, datetime) else value
