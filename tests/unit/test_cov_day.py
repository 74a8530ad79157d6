"""A day of COV in seconds: the clock jumps from one thing to do to the next.

A device that reboots, falls silent, refuses and forgets, again and again, leaves nothing behind: no second
subscription, listener, task, or memory.
"""

import asyncio
import gc
import selectors
import signal
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bacpypes3.apdu import SubscribeCOVRequest

from bacpipes.bacnet.errors import NoAnswerError, RejectedError
from bacpipes.bacnet.notifications import Notifications, Values
from bacpipes.metrics import WorkerMetrics
from bacpipes.points import Point
from bacpipes.reading import Reading
from bacpipes.worker.cov import CovWatch
from conftest import make_settings
from point_parts import DEVICE, point

HOUR, INTERVAL = 3600, 15
LIFETIME, SLOW = 300, 60  # seconds
ANSWER, TIMEOUT = 0.02, 3.0  # seconds that the device, or its silence, takes
WITHIN = 180  # seconds of a real clock, for a whole story
TURN = 1e-6  # seconds that a turn of the loop takes
POINTS = 20


class JumpingLoop(asyncio.SelectorEventLoop):
    """Whenever it would wait for a time to come, that time has come."""

    def __init__(self) -> None:
        super().__init__(JumpingSelector(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "somebody waits for ever"
        self._loop.now += max(0.0, timeout) + TURN
        return super().select(0)


class Device:
    """Keeps subscriptions as a device does: by process number and object, until their lifetime ends."""

    def __init__(self) -> None:
        self.subscriptions: dict[tuple[int, tuple[str, int]], float] = {}
        self.notifications = Notifications()
        self.silent = self.refuses = False
        self.value = 20.0
        self.requests = self.most = 0

    async def request(self, _address: str, request: SubscribeCOVRequest) -> None:
        self.requests += 1
        await asyncio.sleep(TIMEOUT if self.silent else ANSWER)
        if self.silent:
            raise NoAnswerError("no answer from the device")
        if self.refuses:
            raise RejectedError("rejected: unrecognized-service")
        kind, instance = request.monitoredObjectIdentifier
        key = (int(request.subscriberProcessIdentifier), (str(kind), int(instance)))
        if request.lifetime is None:
            self.subscriptions.pop(key, None)
            return
        self.subscriptions[key] = asyncio.get_running_loop().time() + request.lifetime
        self.most = max(self.most, len(self.valid()))
        asyncio.get_running_loop().call_later(ANSWER, self._tell, key[0])

    def valid(self) -> list[tuple[int, tuple[str, int]]]:
        now = asyncio.get_running_loop().time()
        return [key for key, expires in self.subscriptions.items() if expires > now]

    def change(self) -> None:
        self.value += 1.0
        for process, _ in self.valid():
            self._tell(process)

    def reboot(self) -> None:
        self.subscriptions = {}

    def _tell(self, process: int) -> None:
        _, listener = self.notifications._all().get((DEVICE.address, process), (None, lambda _values: None))
        values: Values = {"present-value": self.value, "status-flags": (False,) * 4}
        if not self.silent:
            listener(values)

    async def read_property(self, *_: object) -> float:
        await asyncio.sleep(ANSWER)
        return 0.0  # the COV increment

    async def alive(self) -> bool:
        await asyncio.sleep(TIMEOUT if self.silent else ANSWER)
        return not self.silent


def in_jumps(story: Coroutine[Any, Any, None]) -> None:
    """Run it; fail where the loop is never left again, as what spins in it can't be cancelled."""

    def held_up(*_: object) -> None:
        raise AssertionError(f"the event loop is held up: {WITHIN} s for one story")

    before = signal.signal(signal.SIGALRM, held_up)
    signal.alarm(WITHIN)
    try:
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(story)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


async def poll(watch: CovWatch, device: Device, points: list[Point], slot: int) -> int:
    """What the poller does in a slot; how many were polled, the others being told by the device."""
    asked = watch.asked(points, slot - 1, slot)
    if not asked:
        return 0
    if not await device.alive():
        watch.lost()
        return len(asked)
    watch.found()
    watch.polled([Reading(one.id, slot * INTERVAL * 1000, device.value) for one in asked])
    return len(asked)


def watched(tmp_path: Path, device: Device, told: list[int]) -> tuple[CovWatch, list[Point]]:
    """A watch of the device, and the points that it is to be asked for."""
    settings = make_settings("", tmp_path, cov_lifetime=LIFETIME, cov_poll=SLOW)
    place = replace(DEVICE, cov="unconfirmed")
    client: Any = SimpleNamespace(
        request=device.request, notifications=device.notifications, read_property=device.read_property
    )
    points = [point(id=n, device=place, object_instance=n, cov=True, interval=INTERVAL) for n in range(POINTS)]

    def deliver(readings: list[Reading]) -> None:
        told.append(len(readings))

    return CovWatch(client, place, settings, WorkerMetrics(), device.alive, deliver), points


def test_a_device_that_falls_silent_while_it_is_asked_holds_nobody_up(tmp_path: Path) -> None:
    """A poll finds out that it is silent before the subscription's own request does."""

    async def story() -> None:
        device = Device()
        watch, points = watched(tmp_path, device, [])
        device.silent = True
        watch.update(points)
        await asyncio.sleep(TIMEOUT / 2)
        watch.lost()
        await asyncio.sleep(HOUR)
        assert device.requests == 1, "while it is lost it is probed by others"
        device.silent = False
        watch.found()
        await asyncio.sleep(60)
        assert len(device.valid()) == POINTS
        await watch.close()

    in_jumps(story())


def test_a_day_leaves_nothing_behind(tmp_path: Path) -> None:
    told: list[int] = []

    async def day() -> None:
        device, loop = Device(), asyncio.get_running_loop()
        watch, points = watched(tmp_path, device, told)
        watch.update(points)
        sizes, covered = [], 0
        for slot in range(1, 24 * HOUR // INTERVAL):
            minute = slot * INTERVAL // 60 % 60
            device.silent = 10 <= minute < 15
            device.refuses = 30 <= minute < 40
            if minute in (12, 20, 45) and slot * INTERVAL % 60 == 0:
                device.reboot()  # once amid its silence, twice unnoticed
            device.change()
            if minute == 50:
                watch.update(points[: POINTS // 2])  # somebody changes the points, and changes them back
            elif minute == 51:
                watch.update(points)
            covered += POINTS - await poll(watch, device, points, slot)
            assert len(device.notifications._all()) <= POINTS
            assert sum(task.get_name().startswith("cov ") for task in asyncio.all_tasks()) == 1
            if minute == 59 and slot * INTERVAL % 60 == 45:
                assert all(reason is None for reason in watch.states.values()), watch.states
                assert len(device.valid()) == POINTS
                gc.collect()
                sizes.append((len(gc.get_objects()), len(asyncio.all_tasks())))
            await asyncio.sleep(max(0.0, slot * INTERVAL - loop.time()))
        assert device.most <= POINTS
        assert covered > 0.3 * POINTS * 24 * HOUR / INTERVAL, "it was told by the device for much of the day"
        assert sizes[-1][0] - sizes[1][0] < 200, sizes
        assert sizes[-1][1] == sizes[1][1], sizes
        assert device.requests < 40 * POINTS * 24, "renewals and tries, and no storm"
        await watch.close()
        assert device.valid() == []
        assert device.notifications._all() == {}

    in_jumps(day())
    assert sum(told) > 1000
