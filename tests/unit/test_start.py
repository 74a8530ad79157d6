"""A slot that begins while the worker starts is polled, or a gap: the moment that counts is taken once."""

import asyncio
import time
from pathlib import Path

from bacpipes.points import Point
from bacpipes.reading import Batch, Reading
from bacpipes.worker.poller import DevicePoller
from bacpipes.worker.service import Worker
from conftest import make_settings
from point_parts import DEVICE, no_cov, point


class Reader:
    """A device that answers at once."""

    device = DEVICE
    silent = False

    async def read(self, points: list[Point], *_: object) -> list[Reading]:
        return [Reading(one.id, time.time_ns() // 1_000_000, 1.0) for one in points]

    async def probe(self) -> bool:
        return True


def test_the_present_slot_is_polled_unless_an_earlier_run_has(tmp_path: Path) -> None:
    worker, points = Worker(make_settings("postgresql:///none", tmp_path)), [point(id=7), point(id=8)]
    assert worker._polled(points, {}, 6030.0) == {60: 99}
    assert worker._polled(points, {7: 6060.0, 8: 6060.0}, 6030.0) == {60: 100}
    assert worker._polled(points, {7: 6060.0, 8: 6000.0}, 6030.0) == {60: 99}


async def test_what_began_before_the_first_poll_is_a_gap() -> None:
    batches: asyncio.Queue[Batch] = asyncio.Queue()
    poller = DevicePoller(Reader(), lambda _interval: 0.0, batches.put_nowait, no_cov)  # type: ignore[arg-type]
    poller.update([point(id=7, interval=3600)])
    began = int(time.time() // 3600) - 2  # the worker started two slots ago
    poller.polled = {3600: began - 1}
    running = asyncio.create_task(poller.run())
    batch = await asyncio.wait_for(batches.get(), 10)
    poller.finish()
    await running
    (gap,) = batch.gaps
    assert [reading.point_id for reading in batch.readings] == [7]
    assert (gap.start.timestamp() / 3600, gap.end.timestamp() / 3600) == (began, batch.cycle)
