"""Python's garbage collector in a process that lives for months and must answer within milliseconds."""

import asyncio
import gc
from collections.abc import Callable

from bacpipes.events import first_of

# Objects more than before until the youngest are looked through, and how often until the next older ones are. A poll of
# a big site makes a hundred thousand, and keeps none in cycles: each look must be short (1,500 take 1 ms). Looking
# through all of them would take 60 ms amid such a poll: `tidy` does it when nothing is under way.
_THRESHOLDS = (1_500, 4, 1_000_000)
TIDY_EVERY, QUIET_WITHIN, LOOK_EVERY = 60.0, 60.0, 0.2  # seconds


def settle() -> None:
    """Take all that exists now out of the collector's sight, as what is loaded at start stays: looking through 50,000
    points takes it 70 ms, in which no answer is read. What is no longer used is freed nevertheless, but for cycles."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)


class Tidying:
    """Looks for cycles that nobody uses any more, at a moment at which ``quiet`` says that nothing is under way."""

    def __init__(self, quiet: Callable[[], bool]) -> None:
        self._quiet = quiet
        self.changed = True  # what stays is another than before

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``. Where it is never quiet, it is done all the same: a leak would be worse."""
        while not stop.is_set():
            await first_of(stop, within=TIDY_EVERY)
            deadline = asyncio.get_running_loop().time() + QUIET_WITHIN
            while not (stop.is_set() or self._quiet() or asyncio.get_running_loop().time() > deadline):
                await first_of(stop, within=LOOK_EVERY)
            if not stop.is_set():
                self._tidy()

    def _tidy(self) -> None:
        if self.changed:
            self.changed = False
            settle()
        else:
            gc.collect()
