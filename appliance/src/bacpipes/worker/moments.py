"""A point has one row a millisecond: no two readings of a device may share one, also after the clock was set back."""

from dataclasses import replace

from bacpipes.reading import Reading

SECOND = 1000  # ms


class Moments:
    """One device's. Where the clock was set back, hours are passed through twice, and polls answer at about the same
    millisecond of a second: those of the second pass are moved to milliseconds that the first never used."""

    def __init__(self) -> None:
        self._latest = 0  # the newest reading since the clock was set back last, ms since the epoch
        self._peak = 0  # the newest of all
        self._used, self._before = bytearray(SECOND), bytearray(SECOND)  # milliseconds of a second: now, and until then

    def apart(self, readings: list[Reading]) -> list[Reading]:
        """The same, later than all before by as little as it takes."""
        first = min(reading.at for reading in readings)
        if first + SECOND <= self._latest:
            self._before = bytearray(one | other for one, other in zip(self._before, self._used, strict=True))
            self._used, self._latest = bytearray(SECOND), 0
        shift = max(0, self._latest + 1 - first)
        moments = {at: self._free(at + shift) for at in sorted({reading.at for reading in readings})}
        for moment in moments.values():
            self._used[moment % SECOND] = 1
        self._latest = max(moments.values())
        self._peak = max(self._peak, self._latest)
        if all(at == moment for at, moment in moments.items()):
            return readings
        return [replace(reading, at=moments[reading.at]) for reading in readings]

    def _free(self, at: int) -> int:
        if at > self._peak:
            return at
        return next((at + more for more in range(SECOND) if not self._before[(at + more) % SECOND]), at)
