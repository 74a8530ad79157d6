"""The points as the worker knows them, kept equal to the database."""

from bacpipes.database import Connection
from bacpipes.points import Point, load_points


class Directory:
    """Points by our id; also those that are disabled."""

    def __init__(self) -> None:
        self._by_id: dict[int, Point] = {}

    async def load(self, connection: Connection) -> None:
        """Read all points anew."""
        self.replace(await load_points(connection))

    def replace(self, points: list[Point]) -> None:
        """Let these be all points."""
        self._by_id = {point.id: point for point in points}

    @property
    def enabled(self) -> list[Point]:
        """The points that are polled."""
        return [point for point in self._by_id.values() if point.enabled]

    def get(self, point_id: int) -> Point | None:
        """The point with our id."""
        return self._by_id.get(point_id)
