"""What is wrong with this appliance, in plain words, and what to do about it."""

import asyncio
import json
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from http.client import HTTPException
from typing import Any

import psycopg

from bacpipes import clock, history, schema
from bacpipes.bacnet.interface import check_bindable, parse_interface
from bacpipes.database import connect, connect_now, first_line, query, schema_version
from bacpipes.errors import BacpipesError
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.check import ask, test_connection
from bacpipes.settings import Settings

GIGABYTE = 1024**3
DISK_WARNING = 0.20  # part of the disk that should be free (specification: alert below 20 %)
STALE_AFTER = 3  # missed intervals
HTTP_TIMEOUT = 3.0  # seconds
LATE = timedelta(minutes=5)  # what has waited longer for central is worth a word
NAMED = 10  # points in one line


class Level(Enum):
    """How a finding is meant."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    subject: str
    level: Level
    text: str
    remedy: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Look at everything; one part that can't be looked at does not keep the others from it."""
    checks: list[tuple[str, Callable[[Settings], Awaitable[list[Finding]]]]] = [
        ("database", _database),
        ("polling", _polling),
        ("devices", _devices),
        ("points", _points),
        ("COV", _cov),
        ("writes", _writes),
        ("broker", _broker),
        ("central", _central),
        ("BACnet", _bacnet),
        ("worker", _worker),
        ("exporter", _exporter),
        ("clock", _clock),
        ("disk", _disk),
    ]
    findings: list[Finding] = []
    away = False
    for subject, check in checks:
        if away and subject in ("polling", "devices", "points", "COV", "writes", "broker", "central"):
            continue  # they would only say again that the database is away
        try:
            findings += await check(settings)
        except BacpipesError as error:
            findings.append(Finding(subject, Level.PROBLEM, *_split(error)))
        except psycopg.Error as error:
            findings.append(Finding(subject, Level.PROBLEM, first_line(error)))
        away = away or (subject == "database" and findings[-1].level is Level.PROBLEM)
    return findings


async def _database(settings: Settings) -> list[Finding]:
    async with await connect(settings, "doctor") as connection:
        version = connection.info.server_version
        current = await schema_version(connection)
        schema.check(current)
    engine = await asyncio.to_thread(_engine, settings)
    name = engine.value if engine else "no history table"
    return [Finding("database", Level.OK, f"PostgreSQL {version // 10000}.{version % 10000}, schema {current}, {name}")]


def _engine(settings: Settings) -> history.Engine | None:
    with connect_now(settings.database_url.get_secret_value(), "doctor") as connection:
        return history.installed(connection)


async def _polling(settings: Settings) -> list[Finding]:
    row = await _one(settings, "doctor_polling", cov_poll=settings.cov_poll)
    if row["enabled"] == 0:
        remedy = "Import points (`bacpipes points import`), or find devices (`bacpipes discover`)."
        return [Finding("polling", Level.PROBLEM, "no point is enabled", remedy)]
    if row["newest"] is None:
        return [Finding("polling", Level.PROBLEM, "nothing was ever read", "Is the worker running?")]
    age = (datetime.now(UTC) - row["newest"]).total_seconds()
    text = f"{row['enabled']} points, {row['good']} of {row['fresh']} fresh ones good; the newest is {age:.0f} s old"
    if age > row["shortest"] * STALE_AFTER + 5:
        return [Finding("polling", Level.PROBLEM, text, "Polling has stopped: look at the worker's log.")]
    return [Finding("polling", Level.OK, text)]


async def _devices(settings: Settings) -> list[Finding]:
    rows = await _all(settings, "doctor_devices")
    remedy = "Is it switched on, and does the network reach it? Try `bacpipes discover --address`."
    findings = []
    for row in rows:
        what = f"{row['device_id']} {row['name']} at {row['address']} ({row['points']} points): {row['reason']}"
        since = _moment(row["good_time"], settings)
        findings.append(Finding("device", Level.PROBLEM, f"{what}, since {since}", remedy))
    for double in (await _ask(settings, "status")).get("doubles", []):
        text = f"{double['device']} is polled at {double['polled']}, and another device with this number is at "
        text += f"{double['other']}"
        findings.append(Finding("device", Level.WARNING, text, "Give one of them another number."))
    silent = {row["device_id"] for row in rows}
    behind = [row for row in await _all(settings, "doctor_behind") if row["device_id"] not in silent]
    slow = [_behind(row, settings) for row in behind]
    return [*findings, *slow] or [Finding("devices", Level.OK, "all answer")]


def _behind(row: dict[str, Any], settings: Settings) -> Finding:
    text = f"{row['device_id']} {row['name']} is too slow for its points: {row['points']} reads were left out in the "
    text += f"last hour, the last at {_moment(row['last'], settings)}"
    remedy = (
        "Poll less often, give points that matter poll_priority high, or ask more at once (`bacpipes devices set`)."
    )
    return Finding("device", Level.WARNING, text, remedy)


async def _points(settings: Settings) -> list[Finding]:
    row = await _one(settings, "doctor_points")
    findings = []
    if row["unlimited"]:
        text = f"{row['unlimited']} writable analog points have no limits; writes to them are refused"
        findings.append(Finding("points", Level.WARNING, text, "Give them min or max in the points CSV."))
    if row["bad"]:
        text = f"{row['bad']} points read bad, the first: {row['example']} ({row['reason']})"
        findings.append(Finding("points", Level.WARNING, text, "Compare with the device; disable what does not exist."))
    if row["quarantined"]:
        text = f"{row['quarantined']} points are in quarantine, their reads make whole requests fail: "
        remedy = "They are tried again every 10 minutes at the latest. Disable what the device does not have."
        findings.append(Finding("points", Level.WARNING, text + row["quarantined_points"], remedy))
    if row["gaps"]:
        text = f"{row['gaps']} gaps in the last 24 hours, the last: {row['gap_reason']}"
        findings.append(Finding("points", Level.WARNING, text, "They stand in table gap."))
    return findings


async def _cov(settings: Settings) -> list[Finding]:
    """Which points are told by their devices; the worker knows. Silent where no point asks for it."""
    asked = (await _one(settings, "doctor_cov"))["asked"]
    if not asked:
        return []
    points = (await _ask(settings, "status")).get("cov", [])
    polled = [point for point in points if point["reason"] is not None]
    text = f"{len(points) - len(polled)} points are told by COV: " + _some(
        f"{point['device']} {point['object']}" for point in points if point["reason"] is None
    )
    findings = [Finding("COV", Level.OK, text)] if len(polled) < len(points) else []
    if polled:
        names = _some(f"{point['device']} {point['object']} ({point['reason']})" for point in polled)
        text = f"{len(polled)} points ask for COV and are polled instead: {names}"
        remedy = "They lose nothing but speed. A device that can't do COV: `bacpipes devices set NUMBER --cov off`."
        findings.append(Finding("COV", Level.WARNING, text, remedy))
    return findings


def _some(texts: Iterable[str]) -> str:
    """The first few, and how many there are besides."""
    found = list(texts)
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


async def _writes(settings: Settings) -> list[Finding]:
    row = await _one(settings, "doctor_held")
    findings = []
    if row["stopped"]:
        why = f": {row['reason']}" if row["reason"] else ""
        text = f"the site was stopped by {row['actor']} at {_moment(row['since'], settings)}{why}; writes are refused"
        findings.append(Finding("writes", Level.WARNING, text, "`bacpipes stop --lift` lets it be written again."))
    if row["late"]:
        since = _moment(row["late_since"], settings)
        text = f"{row['late']} releases are overdue, the first: {row['late_example']}, since {since}"
        remedy = "The worker goes on trying; does the device answer, and does it take writes?"
        findings.append(Finding("writes", Level.PROBLEM, text, remedy))
    if row["held"]:
        what = f"{row['held_example']}, priority {row['held_priority']}, {row['held_value']:.15g}"
        since = _moment(row["held_since"], settings)
        findings.append(Finding("writes", Level.OK, f"{row['held']} slots held, the oldest: {what}, since {since}"))
    return findings or [Finding("writes", Level.OK, "nothing is held")]


async def _broker(settings: Settings) -> list[Finding]:
    async with await connect(settings, "doctor") as connection:
        config = await mqtt_config.load(connection, settings)
    if not config.enabled:
        return [
            Finding("broker", Level.WARNING, "MQTT is switched off", "`bacpipes mqtt set --enable` switches it on.")
        ]
    result = await test_connection(config)
    if failure := result.failure:
        return [Finding("broker", Level.PROBLEM, f"{failure.name}: {failure.detail}", failure.remedy)]
    kind = "encrypted" if config.tls_enabled else "not encrypted"
    user = f"as {config.username}" if config.username else "without a username"
    found = [Finding("broker", Level.OK, f"{config.address}, {kind}, {user}, MQTT {config.protocol}")]
    told = await ask(config)
    down = [name for name, up in told.bridges.items() if not up]
    if down:
        text = f"the bridge to central is down: {', '.join(down)}"
        remedy = (
            "Live values wait. The broker's log says why: refused, a certificate that ended or was revoked, or no way."
        )
        found.append(Finding("broker", Level.PROBLEM, text, remedy))
    if told.dropped:
        text = f"{told.dropped} messages found a full queue since the broker's start, and were dropped"
        remedy = "Who does not fetch them? Is it the bridge, then live values are lost; the complete lane brings all."
        found.append(Finding("broker", Level.WARNING, text, remedy))
    return found


async def _central(settings: Settings) -> list[Finding]:
    """Whether central gets all that the site has. Silent where the site stands by itself."""
    slots = await _all(settings, "page_replication")
    if settings.central_database_url is None and not slots:
        return []
    findings = [_unfetched(slot) for slot in slots if not slot["active"]]
    shipper = (await _ask(settings, "site")).get("central") or {}  # its reason is told by the worker's readiness
    oldest = datetime.fromisoformat(shipper["oldest"]) if shipper.get("oldest") else None
    if oldest is not None and datetime.now(UTC) - oldest > LATE:
        text = f"{shipper['waiting']} batches wait for central, the oldest since {_moment(oldest, settings)}"
        findings.append(Finding("central", Level.WARNING, text, "It catches up by itself, at BACPIPES_SHIP_RATE."))
    compared = await _all(settings, "doctor_compared")
    if compared and compared[0]["differing_hours"]:
        text = f"{compared[0]['differing_hours']} hours differed still at the last comparison, at "
        text += _moment(compared[0]["finished_at"], settings)
        findings.append(Finding("central", Level.PROBLEM, text, "`bacpipes reconcile` says which, and sends again."))
    when = _moment(compared[0]["finished_at"], settings) if compared else "never"
    return findings or [Finding("central", Level.OK, f"nothing is held up; last compared: {when}")]


def _unfetched(slot: dict[str, Any]) -> Finding:
    if slot["wal_status"] == "lost":
        text = f"central was away for too long: its slot {slot['name']} is given up"
        remedy = "Central makes it anew (`bacpipes central subscribe`), and history fills in what is missing."
    else:
        text = f"central does not fetch this site's log; {slot['behind'] / 1e6:,.0f} MB wait in slot {slot['name']}"
        remedy = "Can central reach this site? At central: `bacpipes central site list`."
    return Finding("central", Level.PROBLEM, text, remedy)


async def _bacnet(settings: Settings) -> list[Finding]:
    port = parse_interface(settings.bacnet_address).addrTuple[1]
    worker = await _service("worker", f"http://{settings.worker_http_host}:{settings.worker_http_port}/healthz", "")
    if worker[0].level is not Level.OK:
        check_bindable(parse_interface(settings.bacnet_address))  # a running worker holds the port itself
    return [Finding("BACnet", Level.OK, f"interface {settings.bacnet_address}, UDP port {port}")]


async def _worker(settings: Settings) -> list[Finding]:
    url = f"http://{settings.worker_http_host}:{settings.worker_http_port}/readyz"
    return await _service("worker", url, "Start it: `bacpipes worker`.")


async def _exporter(settings: Settings) -> list[Finding]:
    """Over TLS too: the exporter's certificate stands in its own environment, which may be another container's."""
    found = []
    for scheme in ("https", "http") if settings.http_certificate is None else ("https",):
        url = f"{scheme}://{settings.http_host}:{settings.http_port}/healthz"
        found = await _service("exporter", url, "Start it: `bacpipes exporter`.")
        if found[0].level is Level.OK:
            break
    return found


async def _ask(settings: Settings, page: str) -> dict[str, Any]:
    """What the worker says on a page of its own; nothing where it does not answer, which is told by itself."""
    try:
        return await asyncio.to_thread(_get, f"http://{settings.worker_http_host}:{settings.worker_http_port}/{page}")
    except OSError:
        return {}


async def _service(subject: str, url: str, remedy: str) -> list[Finding]:
    try:
        body = await asyncio.to_thread(_get, url)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        return [Finding(subject, Level.PROBLEM, f"does not answer at {url}: {reason}", remedy)]
    reasons = body.get("reasons", [])
    if reasons:
        return [
            Finding(subject, Level.PROBLEM, f"{r['component']}: {r['reason']}", r.get("remedy", "")) for r in reasons
        ]
    return [Finding(subject, Level.OK, f"answers at {url}")]


def _get(url: str) -> dict[str, Any]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # whether it answers; nothing secret is said
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=HTTP_TIMEOUT, context=context) as answer:  # noqa: S310 - our service
            body: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:  # /readyz says what is wrong with a 503
        body = json.load(error)
    return body


async def _clock(settings: Settings) -> list[Finding]:
    if clock.synchronised():
        return [Finding("clock", Level.OK, "synchronised")]
    if not settings.clock_check:
        return [Finding("clock", Level.WARNING, "not synchronised, and the check is switched off")]
    text = "the kernel's clock is not synchronised; commands with a timestamp or expiry are refused"
    return [Finding("clock", Level.PROBLEM, text, "Let the host keep time: install and start chrony on it.")]


async def _disk(settings: Settings) -> list[Finding]:
    try:
        usage = await asyncio.to_thread(shutil.disk_usage, settings.state_dir)
    except OSError as error:
        text = f"state directory {settings.state_dir}: {error.strerror}"
        return [
            Finding("disk", Level.PROBLEM, text, "Create it, owned by the worker's user, or set BACPIPES_STATE_DIR.")
        ]
    text = f"{usage.free / GIGABYTE:.1f} GB of {usage.total / GIGABYTE:.1f} GB free for the spool"
    if usage.free < usage.total * DISK_WARNING:
        return [Finding("disk", Level.WARNING, text, "Less than a fifth is free: make room.")]
    return [Finding("disk", Level.OK, text)]


async def _one(settings: Settings, name: str, **values: object) -> dict[str, Any]:
    return (await _all(settings, name, **values))[0]


async def _all(settings: Settings, name: str, **values: object) -> list[dict[str, Any]]:
    async with await connect(settings, "doctor") as connection:
        cursor = await connection.execute(query(name), values or None)
        columns = [column.name for column in cursor.description or []]
        return [dict(zip(columns, row, strict=True)) async for row in cursor]


def _moment(moment: datetime | None, settings: Settings) -> str:
    return moment.astimezone(settings.zone).strftime("%Y-%m-%d %H:%M") if moment else "always"


def _split(error: BacpipesError) -> tuple[str, str]:
    text = str(error).removesuffix(error.remedy).strip() if error.remedy else str(error)
    return text.rstrip("."), error.remedy
