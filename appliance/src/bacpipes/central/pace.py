"""Keeps a flow of readings below a rate, so that catching up leaves room on a thin link for everything else."""

import asyncio
import time


class Pace:
    """``await pace.keep(n)`` after each ``n`` readings that were sent."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_at = 0.0

    async def keep(self, readings: int) -> None:
        """Wait for as long as these readings may take, counted from the end of the last ones' time."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now - 1.0) + readings / self._per_second
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
