"""The service's way to central's database: the exporter's, for central's schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bacpipes.central import schema
from bacpipes.database import Connection, query, schema_version
from bacpipes.exporter.store import POOL_PATIENCE, Store
from bacpipes.points import Device, Point


class CentralStore(Store):
    """Lends connections to central's database."""

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A pooled connection to a database that has this version of central's schema."""
        async with self.pool.connection(timeout=POOL_PATIENCE) as connection:
            schema.check(await schema_version(connection))
            yield connection


async def find_point(
    connection: Connection, site: str, device_id: int, object_type: str, instance: int
) -> Point | None:
    """The point of a BACnet object as its site described it last."""
    values = {"site": site, "device": device_id, "type": object_type, "instance": instance}
    row = await (await connection.execute(query("central_find_point"), values)).fetchone()
    return Point(row[7], Device(*row[:7]), *row[8:]) if row else None


async def site_exists(connection: Connection, site: str) -> bool:
    """Is a site of that id registered?"""
    return await (await connection.execute("SELECT 1 FROM site WHERE id = %s", [site])).fetchone() is not None
