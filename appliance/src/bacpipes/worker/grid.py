"""The polling grid: slots aligned to the clock, numbered since the epoch (docs/architecture.md)."""

import math
from dataclasses import dataclass

ENOUGH = 10.0  # seconds of a slot that are enough to read what can be read in it


@dataclass(frozen=True, slots=True)
class Grid:
    """Slots every ``interval`` seconds, ``phase`` seconds (0 ≤ phase < interval) after the multiples of it."""

    interval: int
    phase: float = 0.0

    def cycle(self, moment: float) -> int:
        """The number of the slot that ``moment`` (seconds since the epoch) lies in; becomes ``poll_cycle``."""
        return math.floor((moment - self.phase) / self.interval)

    def start(self, cycle: int) -> float:
        """When a slot begins, in seconds since the epoch."""
        return cycle * self.interval + self.phase

    def first(self, now: float) -> int:
        """The slot that polling begins with: the present one, where enough of it is left, else the next as a whole."""
        present = self.cycle(now)
        return present if self.start(present + 1) - now >= min(ENOUGH, self.interval / 2) else present + 1
