"""Devices and points as the database holds them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bacpipes.database import Connection, query
from bacpipes.objects import OBJECT_TYPES, ObjectType

DEVICE_COLUMNS, COLUMNS = 14, 36  # of find_point.sql: those of the device, and all
PIECE = 500  # rows that are taken over in one turn of the event loop
RANKS = {"high": 0, "normal": 1, "low": 2}


@dataclass(frozen=True, slots=True)
class Device:
    """A BACnet device; ``id`` is our row, ``device_id`` its BACnet instance, ``address`` as bacpypes3 reads it.

    ``ip`` is the address without its port, as payloads carry it; behind a router, all of ``network:mac``.
    """

    id: int
    device_id: int
    name: str
    address: str
    ip: str
    max_apdu: int | None
    read_multiple: bool
    timeout: float | None = None  # seconds; None, here and below: the site's default
    retries: int | None = None
    concurrency: int | None = None  # requests outstanding at once
    cov: str | None = None  # off, unconfirmed or confirmed
    batch: int | None = None  # points a request, where an abort has left fewer
    batch_since: datetime | None = None
    learnt_of: str | None = None  # who it was of whom ``batch`` and ``read_multiple`` were found out

    @property
    def place(self) -> tuple[Any, ...]:
        """What stays equal as long as it is the same device at the same address, asked in the same way, whatever was
        learnt of it meanwhile."""
        asked = (self.timeout, self.retries, self.concurrency, self.cov)
        return (self.id, self.device_id, self.address, *asked)


@dataclass(frozen=True, slots=True)
class Point:
    """A BACnet object whose present value we poll. ``interval`` is seconds; units are those of the device."""

    id: int
    device: Device
    object_type: str
    object_instance: int
    name: str
    dis: str
    units: str
    site: str
    equip: str | None
    equip_ref: str | None
    haystack_name: str | None
    topic: str | None
    interval: int
    enabled: bool
    writable: bool
    minimum: float | None
    maximum: float | None
    states: int | None
    publish: str | None = None  # every, change; None: the site's default
    deadband: float | None = None  # None: 0
    heartbeat: int | None = None  # seconds; None: the site's default
    cov: bool = False  # subscribe, where the device takes it
    poll_priority: str | None = None

    @property
    def type(self) -> ObjectType:
        """What the standard says of this object's type."""
        return OBJECT_TYPES[self.object_type]

    @property
    def object(self) -> str:
        """``type:instance``."""
        return f"{self.object_type}:{self.object_instance}"

    @property
    def rank(self) -> int:
        """What a device that is too slow is asked first: 0 before 1 before 2."""
        return RANKS[self.poll_priority or "normal"]


async def load_points(connection: Connection) -> list[Point]:
    """All points of the site, in a stable order (device, object)."""
    cursor = await connection.execute(query("load_points"))
    devices: dict[int, Device] = {}
    points = []
    texts: dict[str, str] = {}  # one object for what many points say alike
    async for row in cursor:
        device = devices.get(row[0]) or devices.setdefault(row[0], Device(*row[:DEVICE_COLUMNS]))
        own = row[DEVICE_COLUMNS + 1 :]
        point: list[Any] = [texts.setdefault(each, each) if type(each) is str else each for each in own]
        points.append(Point(row[DEVICE_COLUMNS], device, *point))
        if len(points) % PIECE == 0:
            await asyncio.sleep(0)
    return points


def from_row(row: Sequence[Any]) -> Point:
    """The point of a row whose columns are those of ``find_point.sql``."""
    return Point(row[DEVICE_COLUMNS], Device(*row[:DEVICE_COLUMNS]), *row[DEVICE_COLUMNS + 1 : COLUMNS])


async def find_point(
    connection: Connection, site: str, device_id: int, object_type: str, instance: int
) -> Point | None:
    """The point of a BACnet object as the database has it now."""
    values = {"site": site, "device": device_id, "type": object_type, "instance": instance}
    row = await (await connection.execute(query("find_point"), values)).fetchone()
    return from_row(row) if row else None
