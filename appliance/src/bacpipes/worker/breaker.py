"""Patience with a device that does not answer: it is no longer polled but probed, ever more seldom."""

import asyncio
from collections.abc import Awaitable, Callable

OPEN_AFTER = 2  # silent polls in a row
FIRST_PROBE, LAST_PROBE = 2.0, 60.0  # seconds before a probe, doubling


class Breaker:
    """``probe`` asks the device for one thing and says whether it answered; ``back`` is told when it did.

    While it is `open`, nobody waits for the device: each scheduled read is a bad reading at once.
    """

    def __init__(self, probe: Callable[[], Awaitable[bool]], back: Callable[[], None]) -> None:
        self._probe, self._back = probe, back
        self._silent_polls = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def open(self) -> bool:
        """True while the device is probed instead of polled."""
        return self._probing is not None

    def note(self, silent: bool) -> bool:
        """A poll ended; True where the breaker opens because of it."""
        self._silent_polls = self._silent_polls + 1 if silent else 0
        if self.open or self._silent_polls < OPEN_AFTER:
            return False
        self._probing = asyncio.create_task(self._probe_until_it_answers())
        return True

    def end(self) -> None:
        """No probe any more."""
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None

    async def _probe_until_it_answers(self) -> None:
        delay = FIRST_PROBE
        while True:
            await asyncio.sleep(delay)
            if await self._probe():
                break
            delay = min(LAST_PROBE, delay * 2)
        self._probing, self._silent_polls = None, 0
        self._back()
