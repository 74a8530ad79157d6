"""What is on the BACnet network: Who-Is, then each device's objects with what a person needs to tag them.

An async generator of events, so that the command line and a web page can show progress on long work. Nothing is
written to any device.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bacpipes.bacnet.application import IAm
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import AbortedError, BacnetError, MalformedError, NoAnswerError, RefusedError, RejectedError
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.errors import UnavailableError
from bacpipes.objects import MAX_INSTANCE, OBJECT_TYPES, Kind
from bacpipes.points.rows import DEFAULT_INTERVAL, NO_TAGS, PointRow, tidy_text
from bacpipes.points.units import unit_text

PARALLEL_DEVICES = 16
PARALLEL_WHO_IS = 64
BATCH = 20  # objects in one request to a device that can answer in segments
OCTETS_PER_OBJECT = 150  # of an answer, roughly, with all the properties below
NO_LIMIT = 1e30  # vendors write "no limit" as the largest float or about that

_DEVICE_PROPERTIES = ("object-name", "vendor-name", "model-name")
_COMMON = ("object-name", "description", "status-flags")
_OF_KIND = {
    Kind.ANALOG: ("units", "min-pres-value", "max-pres-value"),
    Kind.BINARY: (),
    Kind.MULTISTATE: ("number-of-states",),
}
_FLAGS = ("in alarm", "fault", "overridden", "out of service")  # BACnetStatusFlags, in the standard's order
_SEGMENTED = ("segmented-both", "segmented-transmit")


@dataclass(frozen=True, slots=True)
class DeviceFound:
    """A device answered Who-Is."""

    device: IAm


@dataclass(frozen=True, slots=True)
class DeviceRead:
    """A device said who it is and which objects it has; ``others`` counts the types that are no points."""

    device_id: int
    address: str
    name: str
    vendor: str
    model: str
    points: int
    others: Counter[str]


@dataclass(frozen=True, slots=True)
class ObjectRead:
    """An object of one of our types, as a row for a points file, and the flags of its status that are set."""

    row: PointRow
    status: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something could not be found out; the rest goes on. ``device_id`` is None where it concerns no device."""

    device_id: int | None
    text: str


Event = DeviceFound | DeviceRead | ObjectRead | Problem
Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom to ask: device numbers from ``low`` to ``high``, at ``addresses`` or (none) by a broadcast.

    ``timeout`` is how many seconds answers to Who-Is are waited for.
    """

    low: int | None = None
    high: int | None = None
    addresses: tuple[str, ...] = ()
    timeout: float = 3.0


async def discover(client: BacnetClient, scope: Scope, *, devices_only: bool = False) -> AsyncIterator[Event]:
    """Find devices and read what they are and have; many devices at once, each with one request at a time.

    With ``devices_only`` the object lists are counted but no object is read. Raise `UnavailableError`
    where there is no way to ask: no addresses, and an interface without a broadcast.
    """
    found = await find_devices(client, scope)
    for one in found:
        yield DeviceFound(one)
    devices, problems = _without_doubles(found)
    for problem in problems:
        yield problem
    events: asyncio.Queue[Event | None] = asyncio.Queue(maxsize=1000)
    turns = _Turns()

    async def read(device: IAm) -> None:
        try:
            async with turns.of(device.address):
                await _DeviceReader(client, device, events.put).read(devices_only)
        finally:
            await events.put(None)

    tasks = [asyncio.create_task(read(device)) for device in devices]
    try:
        reading = len(tasks)
        while reading:
            event = await events.get()
            if event is None:
                reading -= 1
            else:
                yield event
        for task in tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def find_devices(client: BacnetClient, scope: Scope) -> list[IAm]:
    """All answers to Who-Is within the scope, by device number. The question is asked twice: a datagram may be lost."""
    if not scope.addresses:
        _check_broadcast(client)
    limit = asyncio.Semaphore(PARALLEL_WHO_IS)
    bounded = scope.low is not None or scope.high is not None
    low = (scope.low or 0) if bounded else None
    high = (MAX_INSTANCE if scope.high is None else scope.high) if bounded else None

    async def ask(address: str | None) -> list[IAm]:
        async with limit:
            answers = await client.who_is(low, high, address, scope.timeout / 2)
            if address is None or not answers:
                answers += await client.who_is(low, high, address, scope.timeout / 2)
            return answers

    answers = await asyncio.gather(*(ask(address) for address in scope.addresses or (None,)))
    unique = dict.fromkeys(one for some in answers for one in some)
    return sorted(unique, key=lambda one: (one.device_id, one.address))


def _check_broadcast(client: BacnetClient) -> None:
    if not client.broadcasts:
        remedy = "Give its prefix (as 10.1.2.3/24), or the addresses to ask."
        raise UnavailableError(f"The interface {client.address} has no broadcast address.", remedy)


def _without_doubles(found: Iterable[IAm]) -> tuple[list[IAm], list[Problem]]:
    """Each device number and each address once; a number at two addresses is a fault that only a person can mend."""
    numbers: dict[int, IAm] = {}
    addresses: dict[str, IAm] = {}
    problems = []
    for one in found:
        first = numbers.setdefault(one.device_id, one)
        other = addresses.setdefault(one.address, one)
        if first.address != one.address:
            text = (
                f"two devices have this number: {first.address} (read) and {one.address} (left out); give one another"
            )
            problems.append(Problem(one.device_id, text))
        elif other.device_id != one.device_id:
            del numbers[one.device_id]
            text = f"{one.address} also answers as device {other.device_id}; only that is read"
            problems.append(Problem(one.device_id, text))
    return list(numbers.values()), problems


class _Turns:
    """Bounds how many devices are read at once: one on each network behind a router (a slow trunk), and in all."""

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(PARALLEL_DEVICES)
        self._networks: dict[str, asyncio.Semaphore] = {}

    @contextlib.asynccontextmanager
    async def of(self, address: str) -> AsyncIterator[None]:
        network = address.split(":")[0]
        routed = "." not in network
        async with self._networks.setdefault(network if routed else address, asyncio.Semaphore(1)), self._all:
            yield


class _GoneError(Exception):
    """The device does not answer any more."""


@dataclass(slots=True)
class _DeviceReader:
    """Reads one device. Starts with large requests and falls back as far as the device needs it."""

    client: BacnetClient
    device: IAm
    emit: Emit
    name: str = ""
    multiple: bool = True
    batch: int = field(default=0)

    def __post_init__(self) -> None:
        fitting = max(1, (self.device.max_apdu - 20) // OCTETS_PER_OBJECT)
        self.batch = BATCH if self.device.segmentation in _SEGMENTED else min(BATCH, fitting)

    async def read(self, devices_only: bool) -> None:
        done, points = 0, []
        try:
            itself: ObjectId = ("device", self.device.device_id)
            facts = (await self._read([(itself, _DEVICE_PROPERTIES)]))[itself]
            self.name = tidy_text(facts.get("object-name"))
            objects = await self._object_list(itself)
            points = [one for one in objects if one[0] in OBJECT_TYPES and one[1] <= MAX_INSTANCE]
            others = Counter(kind for kind, _ in objects if kind not in OBJECT_TYPES and kind != "device")
            vendor, model = (tidy_text(facts.get(name)) for name in ("vendor-name", "model-name"))
            identity = (self.device.device_id, self.device.address)
            await self.emit(DeviceRead(*identity, self.name, vendor, model, len(points), others))
            while not devices_only and done < len(points):
                done += await self._read_some(points[done : done + self.batch])
        except _GoneError as error:
            progress = f" after {done} of {len(points)} points" if points else ""
            await self._problem(f"stopped answering{progress} ({error}); the rest is missing")
        except BacnetError as error:
            await self._problem(f"can't be read: {error}")

    async def _read_some(self, objects: Sequence[ObjectId]) -> int:
        values = await self._read([(one, _properties(one)) for one in objects])
        for one in objects:
            if "object-name" in values[one]:
                await self.emit(self._object(one, values[one]))
            else:
                await self._problem(f"{one[0]}:{one[1]} is in the object list but can't be read; left out")
        return len(objects)

    async def _object_list(self, itself: ObjectId) -> list[ObjectId]:
        """The whole list or, where the answer is too long for the device, element by element."""
        try:
            found = await self._ask(self.client.read_property(self.device.address, itself, "object-list"))
        except (AbortedError, RejectedError, RefusedError, MalformedError):
            found = await self._object_list_by_index(itself)
        return list(dict.fromkeys((str(one[0]), int(one[1])) for one in found))

    async def _object_list_by_index(self, itself: ObjectId) -> list[Any]:
        address = self.device.address
        length = int(await self._ask(self.client.read_property(address, itself, "object-list", 0)))
        found = []
        for index in range(1, length + 1):
            try:
                found.append(await self._ask(self.client.read_property(address, itself, "object-list", index)))
            except (RefusedError, MalformedError) as error:
                await self._problem(f"object-list[{index}] can't be read: {error}")
        return found

    async def _read(self, wanted: Sequence[tuple[ObjectId, Sequence[str]]]) -> dict[ObjectId, dict[str, Any]]:
        """The properties that the device has, of each object; what it does not have is absent."""
        if self.multiple and (values := await self._read_multiple(wanted)) is not None:
            return values
        if len(wanted) == 1:
            return {wanted[0][0]: await self._read_singly(*wanted[0])}
        middle = len(wanted) // 2
        return await self._read(wanted[:middle]) | await self._read(wanted[middle:])

    async def _read_multiple(
        self, wanted: Sequence[tuple[ObjectId, Sequence[str]]]
    ) -> dict[ObjectId, dict[str, Any]] | None:
        """In one request, or None where that has to be tried with fewer objects or without it."""
        try:
            results = await self._ask(self.client.read_multiple(self.device.address, wanted), big=True)
        except RejectedError as error:
            self.multiple = "unrecognized-service" not in str(error)
            return None
        except BacnetError:  # too long, or one object spoils the whole
            self.batch = max(1, min(self.batch, len(wanted) // 2))
            return None
        values: dict[ObjectId, dict[str, Any]] = {object_id: {} for object_id, _ in wanted}
        for result in results:
            if result.object_id in values and not isinstance(result.value, BacnetError):
                values[result.object_id][result.property] = result.value
        return values

    async def _read_singly(self, object_id: ObjectId, names: Sequence[str]) -> dict[str, Any]:
        values = {}
        for name in names:
            with contextlib.suppress(RefusedError, RejectedError, AbortedError, MalformedError):
                values[name] = await self._ask(self.client.read_property(self.device.address, object_id, name))
        return values

    async def _ask(self, request: Awaitable[Any], big: bool = False) -> Any:
        """An answer, or `_GoneError`. A big request may also be lost for its size: then the device itself is asked."""
        try:
            return await request
        except NoAnswerError as error:
            if big and await self._is_alive():
                raise
            raise _GoneError(str(error)) from None

    async def _is_alive(self) -> bool:
        itself = ("device", self.device.device_id)
        try:
            await self.client.read_property(self.device.address, itself, "object-identifier")
        except NoAnswerError:
            return False
        except BacnetError:
            return True
        return True

    def _object(self, object_id: ObjectId, values: dict[str, Any]) -> ObjectRead:
        low, high = _limits(values)
        states = values.get("number-of-states")
        row = PointRow(
            line=0,
            device_id=self.device.device_id,
            device_name=self.name,
            address=self.device.address,
            object_type=object_id[0],
            object_instance=object_id[1],
            name=tidy_text(values["object-name"]),
            dis=tidy_text(values.get("description")),
            units=unit_text(str(values["units"])) if "units" in values else "",
            tags=NO_TAGS,
            interval=DEFAULT_INTERVAL,
            enabled=None,
            writable=OBJECT_TYPES[object_id[0]].writable and "priority-array" in values,
            minimum=low,
            maximum=high,
            states=int(states) if states is not None and int(states) >= 1 else None,
        )
        return ObjectRead(row, _status(values.get("status-flags")))

    async def _problem(self, text: str) -> None:
        await self.emit(Problem(self.device.device_id, text))


def _properties(object_id: ObjectId) -> tuple[str, ...]:
    known = OBJECT_TYPES[object_id[0]]
    return (*_COMMON, *_OF_KIND[known.kind], *(("priority-array",) if known.writable else ()))


def _limits(values: dict[str, Any]) -> tuple[float | None, float | None]:
    """The device's limits, without what vendors write for "none": the largest float, or the same for both."""
    low, high = (_limit(values.get(name)) for name in ("min-pres-value", "max-pres-value"))
    return (None, None) if low is not None and high is not None and low >= high else (low, high)


def _limit(value: Any) -> float | None:
    if value is None or not math.isfinite(value) or abs(value) >= NO_LIMIT:
        return None
    return float(f"{value:.7g}")  # a Real holds seven digits; the rest is noise


def _status(flags: Any) -> tuple[str, ...]:
    return tuple(name for name, is_set in zip(_FLAGS, flags or (), strict=False) if is_set)
