"""Notices that the clock was set: polling bears it, but people must know."""

import asyncio
import time

from bacpipes.events import first_of
from bacpipes.log import get_logger
from bacpipes.metrics import WorkerMetrics

logger = get_logger(__name__)

LOOK_EVERY = 1.0  # seconds
STEP = 0.5  # seconds between two looks that no clock drifts


async def watch(stop: asyncio.Event, metrics: WorkerMetrics) -> None:
    """Until ``stop``: log and count each step of the clock, forwards or backwards."""
    last = _offset()
    while not stop.is_set():
        await first_of(stop, within=LOOK_EVERY)
        offset = _offset()
        if abs(offset - last) > STEP:
            logger.warning("the clock was set", seconds=round(offset - last, 1))
            metrics.clock_steps.inc()
        last = offset


def _offset() -> float:
    return time.time() - time.monotonic()
