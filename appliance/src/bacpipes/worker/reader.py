"""Reads a device's points: ReadPropertyMultiple first, ReadProperty where a device can't, and never an exception.

Whatever happens, every point that was asked for comes back as a reading: a value, or the reason why there is none.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError, NoAnswerError
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.points import Device, Point
from bacpipes.reading import Reading
from bacpipes.worker.abilities import Abilities
from bacpipes.worker.facts import Facts
from bacpipes.worker.judgement import (
    FLAGS,
    RELIABILITY,
    VALUE,
    Properties,
    bad,
    failures,
    is_faulty,
    judge,
    object_id_of,
)
from bacpipes.worker.quarantine import Quarantine

BUSY = "aborted"  # a device that aborts the read of a single point has too much to do; the point is not at fault
PATIENCE = 9  # requests in a row without an answer, where one mute object is looked for (halving 63 points takes 7)

ASKED = (VALUE, FLAGS)


async def _nothing() -> None:
    """Between two requests, where nobody else waits."""


class DeviceReader:
    """Polls one device; what was learnt about it stands in ``abilities``."""

    def __init__(
        self,
        client: BacnetClient,
        device: Device,
        on_learnt: Callable[[Facts], None] = lambda _facts: None,
        parallel: int = 1,
    ) -> None:
        self._client = client
        self._parallel = parallel  # requests at once
        self.device = device
        self.abilities = Abilities(client, device, on_learnt)
        self.requests = 0
        self._silent: NoAnswerError | None = None
        self._alive = False  # it answered a probe after it had been silent
        self._patience = PATIENCE
        self._suspects: list[tuple[Point, str | None]] = []  # of this poll
        self.quarantine = Quarantine(device)

    async def read(
        self, points: Sequence[Point], until: float = math.inf, between: Callable[[], Awaitable[None]] = _nothing
    ) -> list[Reading]:
        """A reading for each point, in their order; times are when the answer came.

        ``between`` is awaited between two requests, and may read others meanwhile. Points whose turn has not come
        ``until`` then (seconds since the epoch) are left out; one request is always made.
        """
        outer = (self._patience, self._suspects)
        self._silent, self._patience, self._suspects = None, PATIENCE, []
        try:
            return await self._read(points, until, between)
        finally:
            self._patience, self._suspects = outer

    async def _read(
        self, points: Sequence[Point], until: float, between: Callable[[], Awaitable[None]]
    ) -> list[Reading]:
        try:
            await self.abilities.learn()
        except NoAnswerError as error:
            self._silent = error
        todo = self.quarantine.sort(points)
        found: dict[int, Reading] = {}
        remaining = todo.together
        while remaining:
            size = self.abilities.batch.points if self.abilities.read_multiple else 1
            some, remaining = remaining[: size * self._parallel], remaining[size * self._parallel :]
            found |= {reading.point_id: reading for reading in await self._side_by_side(some, size)}
            if remaining or todo.alone:
                await between()
            if self._late(until):
                break
        for point in todo.alone:
            if self._late(until) and found:
                break
            found[point.id] = await self._read_alone(point)
        if self._silent is None:
            self._alive = False  # whatever made it fall silent is found, or over
        if any(reading.value is not None for reading in found.values()):  # else it is the device's fault
            for point, reason in self._suspects:
                self.quarantine.add(point, reason)
        found |= {key: bad(key, reason) for key, reason in todo.waiting.items()}
        return [found[point.id] for point in points if point.id in found]

    async def _side_by_side(self, points: list[Point], size: int) -> list[Reading]:
        """As many requests at once as the device is to have."""
        if len(points) <= size:
            return await self._read_batch(points)
        batches = [points[first : first + size] for first in range(0, len(points), size)]
        return [one for readings in await asyncio.gather(*map(self._read_batch, batches)) for one in readings]

    def _late(self, until: float) -> bool:
        """Is the time up, with a device that answers? Of one that does not, the rest is known without asking."""
        return self._silent is None and time.time() >= until

    async def probe(self) -> bool:
        """Does the device answer at all? Then a poll that has no answer is looked into: one object may be mute."""
        try:
            await self._client.read_property(
                self.device.address, ("device", self.device.device_id), "object-identifier"
            )
        except NoAnswerError:
            return False
        except BacnetError:
            pass  # it refuses, so it is there
        self._alive = True
        return True

    @property
    def silent(self) -> bool:
        """True where the device did not answer in the latest poll."""
        return self._silent is not None

    async def _read_batch(self, points: list[Point]) -> list[Reading]:
        if self._silent is not None:  # the rest of this poll: do not wait for each batch again
            return failures(points, self._silent)
        if len(points) == 1 or not self.abilities.read_multiple:
            return [await self._read_single(point) for point in points]
        try:
            answers = await self._ask([((point.object_type, point.object_instance), ASKED) for point in points])
        except NoAnswerError as error:
            self.abilities.batch.unanswered(len(points))
            if not self._may_look_into(error):
                return failures(points, error)
        except BacnetError as error:  # one bad point must not cost the others
            if self.abilities.refused(error, len(points)):
                return [one for half in _halves(points) for one in await self._read_batch(half)]
        else:
            self._patience = PATIENCE
            self.abilities.answered(len(points))
            return await self._judge(points, answers)
        return (await self._bisect(points))[0]

    def _may_look_into(self, error: NoAnswerError) -> bool:
        """A request had no answer: is it worth while to look for one mute object, because the device answered else?"""
        self._patience -= 1
        if self._alive and self._patience > 0:
            return True
        self._silent = error
        return False

    async def _bisect(self, points: list[Point]) -> tuple[list[Reading], bool]:
        """Read what failed as a whole in halves, until the bad point stands alone: the readings, and was it found?"""
        readings: list[Reading] = []
        found, good = False, []
        for half in _halves(points):
            if len(half) > 1:
                suspects = len(self._suspects)
                readings += await self._read_batch(half)
                found = found or len(self._suspects) > suspects
                continue
            reading = await self._read_single(half[0])
            readings.append(reading)
            if self._silent is not None:
                continue
            if reading.value is None:
                found = True
                if not (reading.reason or "").startswith(BUSY):
                    self._suspects.append((half[0], reading.reason))
            else:
                good.append(half[0])
        if not found and self._silent is None:
            self._suspects += [(point, None) for point in good]  # by itself it can be read
        return readings, found

    async def _read_alone(self, point: Point) -> Reading:
        """A point of the quarantine; that it is mute says nothing of the device."""
        if self._silent is not None:
            return failures([point], self._silent)[0]
        reading = await self._read_single(point)
        mute, self._silent = self._silent, None
        if mute is None and reading.value is not None:
            self.quarantine.release(point)
        else:
            self.quarantine.add(point, reading.reason)
        return reading

    async def _read_single(self, point: Point) -> Reading:
        if self._silent is not None:
            return failures([point], self._silent)[0]
        object_id = object_id_of(point)
        answers: Properties = {}
        try:
            for name in (VALUE, FLAGS):
                self.requests += 1
                answers[object_id, name] = await self._client.read_property(self.device.address, object_id, name)
                self._patience = PATIENCE
        except NoAnswerError as error:
            self._may_look_into(error)
            return failures([point], error)[0]
        except BacnetError as error:
            answers.setdefault((object_id, VALUE), error)  # without status flags a value is still a value
        return (await self._judge([point], answers))[0]

    async def _ask(self, wanted: list[tuple[ObjectId, tuple[str, ...]]]) -> Properties:
        self.requests += 1
        rows = await self._client.read_multiple(self.device.address, wanted)
        return {(row.object_id, row.property): row.value for row in rows}

    async def _judge(self, points: list[Point], answers: Properties) -> list[Reading]:
        at = time.time_ns() // 1_000_000
        faulty = [point for point in points if is_faulty(answers.get((object_id_of(point), FLAGS)))]
        if faulty:
            answers |= await self._reliabilities(faulty)
        return [judge(point, at, answers) for point in points]

    async def _reliabilities(self, points: list[Point]) -> Properties:
        try:
            if self.abilities.read_multiple:
                return await self._ask([(object_id_of(point), (RELIABILITY,)) for point in points])
            object_id = object_id_of(points[0])
            value = await self._client.read_property(self.device.address, object_id, RELIABILITY)
        except BacnetError:  # optional in most objects; the fault flag alone says enough
            return {}
        return {(object_id, RELIABILITY): value}


def _halves(points: list[Point]) -> tuple[list[Point], list[Point]]:
    middle = (len(points) + 1) // 2
    return points[:middle], points[middle:]


def by_device(points: Sequence[Point]) -> Iterator[tuple[Device, list[Point]]]:
    """Points grouped by their device, in order."""
    groups: dict[int, tuple[Device, list[Point]]] = {}
    for point in points:
        groups.setdefault(point.device.id, (point.device, []))[1].append(point)
    yield from groups.values()
