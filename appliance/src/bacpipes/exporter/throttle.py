"""Against guessing: after a few failures a name, or an address, has to wait, each time twice as long."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FREE = 5  # failures without a wait
FIRST_WAIT, LONGEST_WAIT = 30.0, 900.0  # seconds
FORGET_AFTER = 3600.0  # seconds without a failure
REMEMBERED = 10_000  # keys; the oldest go first


@dataclass(slots=True)
class _Entry:
    failures: int = 0
    last: float = 0.0

    @property
    def wait(self) -> float:
        over = self.failures - FREE
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(over, 10)) if over >= 0 else 0.0


class Throttle:
    """Failures by key, in memory; ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def seconds_left(self, keys: Iterable[str]) -> float:
        """How long whoever these keys stand for has to wait; 0: not at all."""
        now = self._clock()
        found = (entry for key in keys if (entry := self._entries.get(key)))
        return max((entry.last + entry.wait - now for entry in found), default=0.0)

    def failed(self, keys: Iterable[str]) -> None:
        """Note a failure."""
        now = self._clock()
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is None or now - entry.last > FORGET_AFTER:
                entry = _Entry()
            entry.failures += 1
            entry.last = now
            self._entries[key] = entry
        while len(self._entries) > REMEMBERED:
            self._entries.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget this key's failures."""
        self._entries.pop(key, None)
