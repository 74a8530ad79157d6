"""A slot that begins while the worker starts is polled, or a gap: the moment that counts is taken once."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bacpipes.events import end_all
from bacpipes.points import Point
from bacpipes.reading import Batch, Reading
from bacpipes.worker.poller import DevicePoller
from bacpipes.worker.pollers import polled_until
from point_parts import DEVICE, no_cov, point


class Reader:
    """A device that answers at once."""

    device = DEVICE
    silent = False

    async def read(self, points: list[Point], *_: object) -> list[Reading]:
        return [Reading(one.id, time.time_ns() // 1_000_000, 1.0) for one in points]

    async def probe(self) -> bool:
        return True


def test_the_present_slot_is_polled_unless_an_earlier_run_has() -> None:
    points = [point(id=7), point(id=8)]

    def done(last: dict[int, float]) -> dict[int, int]:
        return polled_until(points, last, 6030.0, lambda _interval: 0.0)

    assert done({}) == {60: 99}
    assert done({7: 6060.0, 8: 6060.0}) == {60: 100}
    assert done({7: 6060.0, 8: 6000.0}) == {60: 99}
    assert polled_until(points, {}, 6055.0, lambda _interval: 0.0) == {60: 100}, "too little is left of it"


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
    assert gap.reason == "polling was only beginning"
    assert not poller.behind, "it is not the device's fault"
    assert [reading.point_id for reading in batch.readings] == [7]
    assert (gap.start.timestamp() / 3600, gap.end.timestamp() / 3600) == (began, batch.cycle)


async def test_what_a_poll_that_is_cut_short_had_missed_is_left_to_the_next() -> None:
    """A device's address changes while it is polled: neither the slots before nor the present one may be forgotten."""
    asked = asyncio.Event()

    class Hanging(Reader):
        async def read(self, _points: list[Point], *_: object) -> list[Reading]:
            asked.set()
            await asyncio.Event().wait()
            return []

    batches: asyncio.Queue[Batch] = asyncio.Queue()
    first = DevicePoller(Hanging(), lambda _interval: 0.0, batches.put_nowait, no_cov)  # type: ignore[arg-type]
    first.update([point(id=7, interval=3600)])
    began = int(time.time() // 3600) - 2
    first.polled = {3600: began - 1}
    running = asyncio.create_task(first.run())
    await asyncio.wait_for(asked.wait(), 10)
    await end_all([running])
    assert batches.empty()
    assert first.finished == {3600: began - 1}


async def test_a_shorter_interval_is_read_between_two_requests_of_a_longer_one() -> None:
    order: list[int] = []

    class Slow(Reader):
        async def read(
            self, points: list[Point], _until: float = 0.0, between: Callable[[], Awaitable[None]] | None = None
        ) -> list[Reading]:
            order.append(points[0].interval)
            if points[0].interval == 3600 and between is not None:
                for _ in range(3):
                    poller.polled[1] -= 1  # a second has passed
                    await between()
            return await super().read(points)

    batches: asyncio.Queue[Batch] = asyncio.Queue()
    poller = DevicePoller(Slow(), lambda _interval: 0.0, batches.put_nowait, no_cov)  # type: ignore[arg-type]
    poller.update([point(id=7, interval=3600), point(id=8, interval=1, object_instance=2)])
    now = time.time()
    poller.polled = {3600: int(now // 3600) - 1, 1: int(now)}
    running = asyncio.create_task(poller.run())
    found = [await asyncio.wait_for(batches.get(), 10) for _ in range(4)]
    poller.finish()
    await running
    assert order[:4] == [3600, 1, 1, 1]
    assert [batch.interval for batch in found][:3] == [1, 1, 1]
