"""All devices' pollers: begun, kept and ended as the points change."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.manners import Manners
from bacpipes.events import Turnstile
from bacpipes.log import get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.points import Device, Point
from bacpipes.reading import Batch
from bacpipes.settings import Settings
from bacpipes.worker.cov import CovWatch
from bacpipes.worker.facts import FactsKeeper
from bacpipes.worker.gaps import INSTANT
from bacpipes.worker.grid import Grid
from bacpipes.worker.poller import AT_ONCE, DevicePoller
from bacpipes.worker.reader import DeviceReader, by_device

logger = get_logger(__name__)

POLL_PATIENCE = 1.0  # seconds that polls under way get at the end


class Pollers:
    """``deliver`` takes each poll's batch; ``on_failure`` is told when a poller ends by itself."""

    def __init__(
        self,
        settings: Settings,
        client: BacnetClient,
        metrics: WorkerMetrics,
        deliver: Callable[[Batch], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._settings, self._client, self._metrics = settings, client, metrics
        self._deliver, self._on_failure = deliver, on_failure
        self._facts = FactsKeeper(settings)
        self._starts = Turnstile(AT_ONCE)
        self._running: dict[int, tuple[DevicePoller, asyncio.Task[None]]] = {}
        self._leaving: dict[int, asyncio.Task[None]] = {}  # devices whose subscriptions are being cancelled
        self._ending = False

    def __iter__(self) -> Iterator[DevicePoller]:
        return (poller for poller, _ in self._running.values())

    def __len__(self) -> int:
        return len(self._running)

    async def follow(self, points: Sequence[Point], last: Mapping[int, float], now: float) -> None:
        """Poll these points from now on: one poller a device; those that go on keep their place in the grid.

        ``last`` is the end of each point's last polled slot, in seconds since the epoch.
        """
        groups = dict(by_device(points))
        before = self._end_others({device.place for device in groups})
        for device, its in groups.items():
            await asyncio.sleep(0)  # polls go on meanwhile
            if self._ending:
                return
            if device.id not in self._running:
                done = before.get(device.id) or polled_until(its, last, now, self._settings.phase_of)
                self._begin(device, done)
            self._running[device.id][0].update(its)

    def _end_others(self, places: set[tuple[Any, ...]]) -> dict[int, dict[int, int]]:
        """End those whose device is gone, or asked elsewhere or otherwise: by device, the last cycles they finished."""
        before: dict[int, dict[int, int]] = {}
        for key, (poller, task) in list(self._running.items()):
            if poller.device.place not in places:
                poller.finish()  # beside the cancellation, which may get lost (see events.end_all)
                task.cancel()
                del self._running[key]
                before[key] = poller.finished  # what was under way is polled again, or becomes a gap
                self._leaving[key] = asyncio.create_task(poller.cov.close())
                logger.info("device is no longer polled as before", device=poller.device.device_id)
        return before

    def _begin(self, device: Device, done: dict[int, int]) -> None:
        self._client.configure(device.address, Manners(device.timeout, device.retries, device.concurrency))
        parallel = device.concurrency or self._settings.bacnet_device_concurrency
        reader = DeviceReader(self._client, device, self._facts.learn, parallel)
        watch = partial(CovWatch, self._client, device, self._settings, self._metrics)
        poller = DevicePoller(reader, self._settings.phase_of, self._deliver, watch, self._starts)
        poller.cov.after = self._leaving.get(device.id)
        poller.polled = done
        task = asyncio.create_task(poller.run(), name=f"poller {device.device_id}")
        task.add_done_callback(self._ended)
        self._running[device.id] = (poller, task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Polling that ends by itself must not be missed in silence."""
        if not task.cancelled() and (error := task.exception()):
            logger.error("a poller ended", task=task.get_name(), exc_info=error)
            self._on_failure(error)

    def show(self) -> None:
        """Put what is known of the devices into the metrics."""
        self._metrics.show_devices((one.device.device_id, one.silent, one.quarantined) for one in self)
        self._metrics.show_pace((one.device.device_id, one.behind, one.reads_shed) for one in self)
        states = [(one.device.device_id, one.cov.states) for one in self]
        self._metrics.show_cov(states, self._client.notifications.strays)

    @property
    def cov(self) -> list[dict[str, Any]]:
        """Points that ask for COV, and why those are polled that are."""
        return [
            {"device": one.device.device_id, "object": name, "reason": reason}
            for one in self
            for name, reason in one.cov.states.items()
        ]

    async def stop(self) -> None:
        """Polls under way get a moment; what they do not bring is a gap at the next start."""
        self._ending = True
        tasks = [task for _, task in self._running.values()]
        leaves = [asyncio.create_task(poller.cov.close()) for poller in self]
        leaves.append(asyncio.create_task(self._facts.close()))
        for poller in self:
            poller.finish()
        await asyncio.wait([*tasks, *leaves], timeout=POLL_PATIENCE)
        for task in [*tasks, *leaves]:
            task.cancel()


def polled_until(
    points: Sequence[Point], last: Mapping[int, float], now: float, phase_of: Callable[[int], float]
) -> dict[int, int]:
    """The last slot of each interval that is done with: the present one, where an earlier run has polled it, else the
    one before that which polling begins with."""
    slots = {interval: Grid(interval, phase_of(interval)) for interval in {point.interval for point in points}}
    done: dict[int, int] = {}
    for interval, grid in slots.items():
        present = grid.cycle(now)
        ends = (last.get(point.id, 0) - INSTANT for point in points if point.interval == interval)
        done[interval] = present if all(grid.cycle(end) >= present for end in ends) else grid.first(now) - 1
    return done
