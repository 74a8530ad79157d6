"""The points as the worker knows them, kept equal to the database."""

from bacpipes.database import Connection
from bacpipes.points import Point, load_points


class Directory:
    """Points by our id and by their BACnet identity; also those that are disabled."""

    def __init__(self) -> None:
        self._by_id: dict[int, Point] = {}
        self._by_object: dict[tuple[int, str, int], Point] = {}

    async def load(self, connection: Connection) -> None:
        """Read all points anew."""
        self.replace(await load_points(connection))

    def replace(self, points: list[Point]) -> None:
        """Let these be all points."""
        self._by_id = {point.id: point for point in points}
        self._by_object = {(p.device.device_id, p.object_type, p.object_instance): p for p in points}

    @property
    def enabled(self) -> list[Point]:
        """The points that are polled."""
        return [point for point in self._by_id.values() if point.enabled]

    def get(self, point_id: int) -> Point | None:
        """The point with our id."""
        return self._by_id.get(point_id)

    def find(self, device_id: int, object_type: str, instance: int) -> Point | None:
        """The point of a BACnet object."""
        return self._by_object.get((device_id, object_type, instance))
