"""Reads a device's points: ReadPropertyMultiple first, ReadProperty where a device can't, and never an exception.

Whatever happens, every point that was asked for comes back as a reading: a value, or the reason why there is none.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from bacpipes.bacnet.answers import to_number
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import AbortedError, BacnetError, MalformedError, NoAnswerError, RejectedError
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.log import get_logger
from bacpipes.points import Device, Point
from bacpipes.reading import Quality, Reading
from bacpipes.worker.facts import Facts
from bacpipes.worker.quarantine import Quarantine

logger = get_logger(__name__)

VALUE, FLAGS, RELIABILITY = "present-value", "status-flags", "reliability"
TOO_LONG = ("buffer-overflow", "segmentation-not-supported", "apdu-too-long")  # reasons of an abort
MAX_APDU = "max-apdu-length-accepted"
FACTS = (MAX_APDU, "segmentation-supported", "vendor-name", "model-name")
LONGEST_FACT = 200  # characters
# Octets of an unsegmented answer: header, and value with status flags of one object (measured, rounded up).
_ANSWER_HEADER, _ANSWER_POINT = 9, 23
_SMALLEST_APDU = 480  # where the device's own limit is not known: what fits every BACnet/IP and MS/TP device

BUSY = "aborted"  # a device that aborts the read of a single point has too much to do; the point is not at fault
PATIENCE = 9  # requests in a row without an answer, where one mute object is looked for (halving 63 points takes 7)

ASKED = (VALUE, FLAGS)
NO_FLAGS = (False, False, False, False)
_MISSING: Any = object()

Properties = dict[tuple[ObjectId, str], Any]


async def _nothing() -> None:
    """Between two requests, where nobody else waits."""


class DeviceReader:
    """Polls one device; remembers what it learned about it (``read_multiple``, ``batch`` in points a request)."""

    def __init__(
        self,
        client: BacnetClient,
        device: Device,
        on_learnt: Callable[[Facts], None] = lambda _facts: None,
        parallel: int = 1,
    ) -> None:
        self._client = client
        self._on_learnt = on_learnt
        self._parallel = parallel  # requests at once
        self.device = device
        self.read_multiple = device.read_multiple
        self.batch = _batch(device.max_apdu or _SMALLEST_APDU)
        self.requests = 0
        self._asked = device.max_apdu is not None
        self._facts = Facts(device.id, device.max_apdu, read_multiple=device.read_multiple)
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
        await self._learn()
        todo = self.quarantine.sort(points)
        found: dict[int, Reading] = {}
        remaining = todo.together
        while remaining:
            size = self.batch if self.read_multiple else 1
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
        found |= {key: _bad(key, reason) for key, reason in todo.waiting.items()}
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
            await self._ask_device("object-identifier")
        except NoAnswerError:
            return False
        except BacnetError:
            pass  # it refuses, so it is there
        self._alive = True
        return True

    async def _learn(self) -> None:
        """Ask the device once how long an answer may be, where nobody said so."""
        if self._asked:
            return
        found: dict[str, str | None] = {}
        for name in FACTS:
            try:
                found[name] = str(await self._ask_device(name))[:LONGEST_FACT].replace("\x00", "")
            except NoAnswerError as error:
                self._silent = error  # and asked again at the next poll
                return
            except BacnetError:
                found[name] = None
        self._asked = True
        size = found.pop(MAX_APDU)
        max_apdu = int(size) if size is not None and size.isdecimal() else None
        self.batch = _batch(max_apdu or _SMALLEST_APDU)
        segmentation, vendor, model = found.values()
        self._facts = Facts(self.device.id, max_apdu, segmentation, vendor, model)
        self._on_learnt(self._facts)

    async def _ask_device(self, name: str) -> Any:
        return await self._client.read_property(self.device.address, ("device", self.device.device_id), name)

    @property
    def silent(self) -> bool:
        """True where the device did not answer in the latest poll."""
        return self._silent is not None

    async def _read_batch(self, points: list[Point]) -> list[Reading]:
        if self._silent is not None:  # the rest of this poll: do not wait for each batch again
            return failures(points, self._silent)
        if len(points) == 1 or not self.read_multiple:
            return [await self._read_single(point) for point in points]
        try:
            answers = await self._ask([((point.object_type, point.object_instance), ASKED) for point in points])
        except NoAnswerError as error:
            if not self._may_look_into(error):
                return failures(points, error)
        except BacnetError as error:  # one bad point must not cost the others
            if self._learn_from(error, len(points)):
                return [one for half in _halves(points) for one in await self._read_batch(half)]
        else:
            self._patience = PATIENCE
            return await self._judge(points, answers)
        return (await self._bisect(points))[0]

    def _learn_from(self, error: BacnetError, size: int) -> bool:
        """Is it the request itself that the device can't answer, whatever the points?"""
        if isinstance(error, RejectedError) and "unrecognized-service" in str(error):
            self.read_multiple = False
            self._on_learnt(replace(self._facts, read_multiple=False))
            logger.info("device can't ReadPropertyMultiple", device=self.device.device_id)
            return True
        if isinstance(error, AbortedError) and any(reason in str(error) for reason in TOO_LONG):
            self.batch = max(1, size // 2)  # remember; a device that is only busy is asked as before
            return True
        return False

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
        object_id = _object_id(point)
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
        faulty = [point for point in points if _is_faulty(answers.get((_object_id(point), FLAGS)))]
        if faulty:
            answers |= await self._reliabilities(faulty)
        return [judge(point, at, answers) for point in points]

    async def _reliabilities(self, points: list[Point]) -> Properties:
        try:
            if self.read_multiple:
                return await self._ask([(_object_id(point), (RELIABILITY,)) for point in points])
            object_id = _object_id(points[0])
            value = await self._client.read_property(self.device.address, object_id, RELIABILITY)
        except BacnetError:  # optional in most objects; the fault flag alone says enough
            return {}
        return {(object_id, RELIABILITY): value}


def judge(point: Point, at: int, answers: Properties) -> Reading:
    """Value and quality of one point from what the device said of it.

    fault → bad, with the reliability as reason; out of service or overridden → uncertain: the value no longer follows
    the field; in alarm → good: the value is true (ASHRAE 135, Status_Flags, clause 12).
    """
    object_id = _object_id(point)
    value = answers.get((object_id, VALUE), _MISSING)
    if type(value) is float and answers.get((object_id, FLAGS)) == NO_FLAGS and math.isfinite(value):
        return Reading(point.id, at, value)  # as nearly always
    if value is _MISSING:
        value = MalformedError("the answer does not name this object")
    if isinstance(value, BacnetError):
        return Reading(point.id, at, None, Quality.BAD, str(value))
    try:
        number = to_number(value)
    except MalformedError as error:
        return Reading(point.id, at, None, Quality.BAD, str(error))
    if number is None or not math.isfinite(number):
        return Reading(
            point.id, at, None, Quality.BAD, "device sent Null" if number is None else f"device sent {number}"
        )
    flags = flag_names(answers.get((object_id, FLAGS)))
    if "fault" in flags:
        return Reading(point.id, at, number, Quality.BAD, _fault(answers.get((object_id, RELIABILITY))))
    if doubts := [name for name in ("out-of-service", "overridden") if name in flags]:
        return Reading(point.id, at, number, Quality.UNCERTAIN, ", ".join(doubts))
    return Reading(point.id, at, number)


def _is_faulty(flags: Any) -> bool:
    return flags is not None and flags != NO_FLAGS and "fault" in flag_names(flags)


def flag_names(flags: Any) -> set[str]:
    """The status flags that are set; empty where the device did not send them."""
    names = ("in-alarm", "fault", "overridden", "out-of-service")
    if flags is None or isinstance(flags, BacnetError):
        return set()
    try:
        return {name for name, flag in zip(names, flags, strict=False) if flag}
    except TypeError:
        return set()


def failures(points: Sequence[Point], error: BacnetError) -> list[Reading]:
    """A failed reading for each point, now."""
    return [_bad(point.id, str(error)) for point in points]


def _bad(point_id: int, reason: str) -> Reading:
    return Reading(point_id, time.time_ns() // 1_000_000, None, Quality.BAD, reason)


def _halves(points: list[Point]) -> tuple[list[Point], list[Point]]:
    middle = (len(points) + 1) // 2
    return points[:middle], points[middle:]


def _batch(max_apdu: int) -> int:
    return max(1, (max_apdu - _ANSWER_HEADER) // _ANSWER_POINT)


def _fault(reliability: Any) -> str:
    if reliability is None or isinstance(reliability, BacnetError) or str(reliability) == "no-fault-detected":
        return "fault"
    return f"fault: {reliability}"


def _object_id(point: Point) -> ObjectId:
    return (point.object_type, point.object_instance)


def by_device(points: Sequence[Point]) -> Iterator[tuple[Device, list[Point]]]:
    """Points grouped by their device, in order."""
    groups: dict[int, tuple[Device, list[Point]]] = {}
    for point in points:
        groups.setdefault(point.device.id, (point.device, []))[1].append(point)
    yield from groups.values()
