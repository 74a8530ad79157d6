"""How long one turn of the event loop keeps all others waiting.

As a program it is ``bacpipes worker`` under such a watch: `turns.py FILE`. SIGUSR1 begins anew, SIGUSR2 writes to FILE
what was found since, for `read`.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bacpipes.settings import load_settings
from bacpipes.worker.restart import run

BEAT = 0.001  # seconds between looks whether the loop is held up

Held = tuple[float, float]  # the longest delay, and the most work of this process in one turn; seconds


class Watch:
    """Looks each millisecond at the running loop: the delay of a look, and how much of it this process worked; the rest
    is the machine's other work."""

    def __init__(self) -> None:
        self.turns: list[Held] = []
        self._loop = asyncio.get_running_loop()
        self._begin()

    def _begin(self) -> None:
        self._due, self._cpu = self._loop.time() + BEAT, time.process_time()
        self._handle = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        self.turns.append((self._loop.time() - self._due, time.process_time() - self._cpu))
        self._begin()

    def end(self) -> None:
        """Look no more."""
        self._handle.cancel()

    @property
    def longest(self) -> Held:
        """Each for itself: the delay and the work need not be of the same turn."""
        waited, worked = zip(*self.turns, strict=True)
        return max(waited), max(worked)


@contextlib.contextmanager
def watched() -> Iterator[Watch]:
    """The turns of the running loop while the block lasts."""
    watch = Watch()
    try:
        yield watch
    finally:
        watch.end()


def write(watch: Watch, file: Path) -> None:
    """What `read` takes; whole, or not there."""
    part = file.with_suffix(".part")
    part.write_text(" ".join(map(str, watch.longest)))
    part.replace(file)


def read(file: Path) -> Held:
    """What `write` wrote."""
    waited, worked = map(float, file.read_text().split())
    return waited, worked


async def _worker(file: Path) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    with watched() as watch:
        loop.add_signal_handler(signal.SIGUSR1, watch.turns.clear)
        loop.add_signal_handler(signal.SIGUSR2, write, watch, file)
        await run(load_settings(), stop)


if __name__ == "__main__":
    asyncio.run(_worker(Path(sys.argv[1])))
