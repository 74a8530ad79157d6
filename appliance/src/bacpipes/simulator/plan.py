"""Which devices stand in the building: a declaration, from which the models, the objects and the CSV file follow."""

import ipaddress
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

from bacpipes.errors import InputError
from bacpipes.haystack import BadNameError, HaystackName, normalise
from bacpipes.simulator import equipment
from bacpipes.simulator.models import AirHandler, Box, Chiller, Drive, Meter, Model, WaterMeter, Weather
from bacpipes.simulator.points import Point

DEFAULT_SITE, DEFAULT_BASE, DEFAULT_PORT, DEFAULT_BOXES = "duxton", "127.0.1.1", 47808, 4
MAX_BOXES = 2000
AIR_HANDLERS = (12345, 12346)  # BACnet device numbers
DRIVES = (22011, 22012)
CHILLER = 67890
FIRST_BOX = 30001
METERS = 40001


@dataclass(frozen=True)
class Part:
    """A piece of equipment behind a device: its model, and the points that show it."""

    model: Model
    points: tuple[Point, ...]


@dataclass(frozen=True)
class DevicePlan:
    """A controller on the network. ``address`` is ``ip:port``; ``equip`` and ``equip_ref`` are its equipment's."""

    device_id: int
    name: str
    description: str
    address: str
    equip: str
    equip_ref: str
    parts: tuple[Part, ...]

    @property
    def points(self) -> tuple[Point, ...]:
        """All points of all parts."""
        return tuple(chain.from_iterable(part.points for part in self.parts))


@dataclass(frozen=True)
class SitePlan:
    """The whole building."""

    site: str
    weather: Weather
    devices: tuple[DevicePlan, ...]

    def haystack(self, device: DevicePlan, point: Point) -> HaystackName:
        """The full haystack name of one point."""
        return point.haystack(self.site, device.equip, device.equip_ref)

    def models(self) -> Iterator[Model]:
        """Every model, air before water before meters, so that each sees what caused its load."""
        return (part.model for device in self.devices for part in device.parts)


def plan_site(
    site: str = DEFAULT_SITE,
    base: str = DEFAULT_BASE,
    port: int = DEFAULT_PORT,
    boxes: int = DEFAULT_BOXES,
    seed: int = 1,
) -> SitePlan:
    """Lay out a building with so many VAV boxes, settled to a normal morning."""
    _check(site, port, boxes)
    weather = Weather(random.Random(seed))  # noqa: S311 (sensor noise, nothing secret)
    plant = _Plant(weather, boxes)
    devices = [plant.air_handler(0), plant.air_handler(1), *plant.drive_pair(), plant.chiller_device()]
    devices += [plant.box(number) for number in range(boxes)]
    devices.append(plant.meters())
    addressed = [
        replace(d, address=f"{a}:{port}") for d, a in zip(devices, _addresses(base, len(devices)), strict=True)
    ]
    plan = SitePlan(site, weather, tuple(addressed))
    _settle(plan)
    return plan


def _check(site: str, port: int, boxes: int) -> None:
    try:
        if normalise("site", site) != site:
            raise InputError(f"Site {site!r}: lower case letters, digits, _ and - only.")
    except BadNameError as error:
        raise InputError(f"{error}.") from None
    if not 1 <= port <= 65535:
        raise InputError(f"Port {port}: 1 to 65535 expected.")
    if not 1 <= boxes <= MAX_BOXES:
        raise InputError(f"{boxes} VAV boxes: 1 to {MAX_BOXES} expected.")


def _addresses(base: str, count: int) -> list[str]:
    """``count`` addresses from ``base`` on, without those that end in 0 or 255."""
    try:
        first = ipaddress.IPv4Address(base)
        last = first + count + 2 * (count // 254 + 2)
    except ValueError as error:
        raise InputError(f"Base address {base!r}: {error}.") from None
    good = (str(ipaddress.IPv4Address(n)) for n in range(int(first), int(last)) if n % 256 not in (0, 255))
    return [address for address, _ in zip(good, range(count), strict=False)]


def _settle(plan: SitePlan, hours: float = 2.0, step: float = 20.0) -> None:
    """Run the models before anybody looks, so that the building starts in balance; the clock is put back."""
    clock = plan.weather.clock
    for _ in range(int(hours * 3600 / step)):
        for model in plan.models():
            model.control()
            model.react(step)
    plan.weather.clock = clock


class _Plant:
    """Wires the models together and wraps each into a device."""

    def __init__(self, weather: Weather, boxes: int) -> None:
        self.weather = weather
        self.chiller = Chiller(weather, nominal=max(40.0, 12.0 * boxes))
        self.units = [AirHandler(weather, self.chiller) for _ in AIR_HANDLERS]
        self.chiller.air_handlers = self.units
        self.boxes = [Box(weather, self.units[number % 2]) for number in range(boxes)]
        for box in self.boxes:
            box.air_handler.boxes.append(box)

    def air_handler(self, index: int) -> DevicePlan:
        ref = str(index + 1)
        part = Part(self.units[index], equipment.AIR_HANDLER)
        return DevicePlan(AIR_HANDLERS[index], f"AHU-{ref}", f"Air handling unit {ref}", "", "ahu", ref, (part,))

    def drive_pair(self) -> list[DevicePlan]:
        """Two drives of one make on the fans of AHU 2: same equipment, same object numbers, so their topics clash."""
        return [self._drive(number, fan) for number, fan in zip(DRIVES, ("supply", "return"), strict=True)]

    def _drive(self, device_id: int, fan: str) -> DevicePlan:
        points = tuple(
            replace(point, tags=point.tags.format(fan=fan), dis=f"{fan.title()} fan drive {point.dis}")
            for point in equipment.DRIVE
        )
        part = Part(Drive(self.weather, self.units[1], fan), points)
        return DevicePlan(
            device_id, f"AHU-2-{fan.title()}-Drive", f"Drive of AHU 2's {fan} fan", "", "ahu", "2", (part,)
        )

    def chiller_device(self) -> DevicePlan:
        part = Part(self.chiller, equipment.CHILLER)
        return DevicePlan(CHILLER, "CHILLER-2", "Chiller 2 with pumps and tower", "", "chiller", "2", (part,))

    def box(self, number: int) -> DevicePlan:
        ref = f"{number % 2 + 1}{number // 2 + 1:02}"  # 101, 201, 102, 202, …: unit, then number
        part = Part(self.boxes[number], equipment.BOX)
        return DevicePlan(FIRST_BOX + number, f"VAV-{ref}", f"VAV box and room {ref}", "", "vav", ref, (part,))

    def meters(self) -> DevicePlan:
        """One gateway in front of several meters, each a piece of equipment of its own."""
        ahu = [
            Meter(self.weather, lambda u=unit: u.supply_fan_power + u.return_fan_power, 31000.0) for unit in self.units
        ]
        chiller = Meter(self.weather, lambda: self.chiller.plant_power, 203000.0)
        light = Meter(self.weather, lambda: sum(0.4 + 1.6 * box.occupied for box in self.boxes), 54000.0)
        below = [*ahu, chiller, light]
        main = Meter(self.weather, lambda: 2.0 + sum(meter.load() for meter in below), 318000.0)
        named = [("main", main), ("ahu1", ahu[0]), ("ahu2", ahu[1]), ("chiller2", chiller), ("light", light)]
        parts = [
            Part(meter, tuple(p.of("meter", ref, offset * 10, ref.title(), f"Meter {ref}:") for p in equipment.METER))
            for offset, (ref, meter) in enumerate(named)
        ]
        water = tuple(p.of("meter", "water", 100, "Water", "Meter water:") for p in equipment.WATER_METER)
        parts.append(Part(WaterMeter(self.weather, self.chiller), water))
        return DevicePlan(METERS, "METERS", "Gateway to the building's meters", "", "meter", "main", tuple(parts))
