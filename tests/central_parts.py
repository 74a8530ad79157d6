"""What the tests of central share: its database, a registered site, a site's own role."""

import base64
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from bacpipes.central import migrate
from bacpipes.central.settings import CentralSettings
from engines import Server

NOW = datetime.now(UTC).replace(microsecond=0)
AHU = {"device_id": 7, "name": "AHU 1", "address": "10.0.0.7:47808", "ip": "10.0.0.7"}
SAT = {
    "id": 1,
    "device_id": 7,
    "object_type": "analog-input",
    "object_instance": 1,
    "name": "SAT",
    "dis": "Supply air",
    "units": "°C",
    "equip": "ahu",
    "equip_ref": "1",
    "haystack_name": "duxton.ahu.1.sensor.temp.air.supply.actual",
    "topic": "duxton/ahu_1/analoginput1/presentValue",
}
SETPOINT = SAT | {
    "id": 2,
    "object_type": "analog-value",
    "object_instance": 2,
    "name": "SP",
    "haystack_name": "duxton.ahu.1.sp.temp.air.supply.effective",
    "topic": "duxton/ahu_1/analogvalue2/presentValue",
    "writable": True,
    "minimum": 10,
    "maximum": 30,
}
_numbers = itertools.count(1)


def central_settings(url: str, state_dir: Path = Path("unused"), **more: object) -> CentralSettings:
    """Central's settings as a test needs them, without the environment's."""
    values: dict[str, object] = {"clock_check": False, "database_url": url, "state_dir": state_dir}
    return CentralSettings(**(values | more))  # type: ignore[arg-type]


@contextmanager
def central_database(server: Server, template: str | None = None) -> Iterator[str]:
    """A migrated database of central's; yields its connection string."""
    name = f"central_{next(_numbers)}"
    options = f" TEMPLATE {template}" if template else " TEMPLATE template0"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}{options}".encode())
    try:
        if template is None:
            migrate.migrate(central_settings(server.url(name)))
        yield server.url(name)
    finally:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def register(connection: psycopg.Connection[Any], site: str = "duxton", *, lane: str = "ship") -> None:
    """A site's row."""
    connection.execute("INSERT INTO site (id, complete_lane) VALUES (%s, %s)", [site, lane])


def bring_metadata(connection: psycopg.Connection[Any], *points: dict[str, Any], site: str = "duxton") -> None:
    """Devices and points, as a site sends them."""
    connection.execute(
        "INSERT INTO site_metadata (site_id, digest, devices, points) VALUES (%s, %s, %s, %s)",
        [site, "test", json.dumps([AHU]), json.dumps(points or (SAT, SETPOINT))],
    )


def bring_batch(
    connection: psycopg.Connection[Any],
    values: dict[int, float | None],
    at: datetime = NOW,
    site: str = "duxton",
    cycle: int | None = 5,
) -> None:
    """One row of a site's log, as the complete lane brings it: point → value."""
    qualities = [0 if value is not None else 2 for value in values.values()]
    connection.execute(
        "INSERT INTO reading_batch (seq, site_id, base_time, interval_seconds, poll_cycle, poll_duration, point_id,"
        " offset_ms, value, quality) VALUES (1, %s, %s, 60, %s, 12, %s, %s, %s, %s::smallint[])",
        [site, at, cycle, list(values), [0] * len(values), list(values.values()), qualities],
    )


def payload(**fields: Any) -> dict[str, Any]:
    """A reading of point SAT as MQTT carries it."""
    message = {
        "value": 21.5,
        "timestamp": NOW.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "units": "°C",
        "quality": "good",
        "deviceId": 7,
        "objectType": "analog-input",
        "objectInstance": 1,
    }
    return message | fields


def bring_messages(
    connection: psycopg.Connection[Any], *payloads: dict[str, Any] | bytes, topic: str = str(SAT["topic"])
) -> None:
    """One COPY into the live lane's landing table, as Telegraf does it."""
    with connection.cursor().copy('COPY landing.live ("time", topic, value) FROM STDIN') as copy:
        for one in payloads:
            octets = one if isinstance(one, bytes) else json.dumps(one).encode()
            copy.write_row([NOW, topic, base64.b64encode(octets).decode()])


def site_url(url: str, site: str) -> str:
    """The connection string of a site's own role, which is made where it is missing."""
    role, password = f"site_{site}", "test"
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.execute("SELECT to_regrole(%s) IS NULL", [role]).fetchone() == (True,):
            connection.execute(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}' IN ROLE central_site".encode())
    return make_conninfo(url, user=role, password=password)


def rows(connection: psycopg.Connection[Any], statement: str, *values: object) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.execute(statement.encode(), list(values)).fetchall()


def ago(**parts: float) -> datetime:
    """A time in the past, to the second."""
    return NOW - timedelta(**parts)
