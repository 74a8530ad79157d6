"""How many points a request to one device has: as its answers can be long, fewer after an abort, more again later."""

import time

# Octets of an unsegmented answer: header, and value with status flags of one object (measured, rounded up).
_ANSWER_HEADER, _ANSWER_POINT = 9, 23
_SMALLEST_APDU = 480  # where the device's own limit is not known: what fits every BACnet/IP and MS/TP device
GROW_AFTER = 24 * 3600.0  # seconds after an abort, or after it grew; then a quarter more is tried, once


class BatchSize:
    """``points`` of the next request. ``kept`` is what an abort has left of it, None where there was none; ``since``
    (seconds since the epoch) when that was, or when more was tried last."""

    def __init__(self, max_apdu: int | None, kept: int | None = None, since: float | None = None) -> None:
        self._limit = _fitting(max_apdu)
        self.kept, self.since = kept, since

    def reset(self, max_apdu: int | None) -> None:
        """Begin anew, with a device whose answers may have so many octets."""
        self._limit, self.kept, self.since = _fitting(max_apdu), None, None

    def limit(self, max_apdu: int | None) -> None:
        """The device has said how long its answers may be."""
        self._limit = _fitting(max_apdu)

    @property
    def points(self) -> int:
        """At least 1."""
        if self.kept is None:
            return self._limit
        if self.since is not None and 0 <= time.time() - self.since < GROW_AFTER:
            return min(self.kept, self._limit)
        return min(self.kept + max(1, self.kept // 4), self._limit)

    def aborted(self, points: int) -> None:
        """A request for so many was too long to be answered."""
        if self.kept is None or points <= self.kept:
            self.kept = max(1, points // 2)
        self.since = time.time()  # else it was a trial: as before

    def unanswered(self, points: int) -> None:
        """A request for so many had no answer: a trial is not repeated soon."""
        if self.kept is not None and points > self.kept:
            self.since = time.time()

    def answered(self, points: int) -> bool:
        """So many were answered at once; True where that was a trial that is worth remembering."""
        if self.kept is None or points <= self.kept:
            return False
        self.kept, self.since = (None, None) if points >= self._limit else (points, time.time())
        return True


def _fitting(max_apdu: int | None) -> int:
    return max(1, ((max_apdu or _SMALLEST_APDU) - _ANSWER_HEADER) // _ANSWER_POINT)
