"""The running building: all devices on the network, the clock that moves the physics, and the faults."""

import asyncio
import math
import socket
from pathlib import Path
from typing import Any, Self

from bacpipes import log
from bacpipes.errors import InputError
from bacpipes.simulator import faults, kinds, table
from bacpipes.simulator.device import Device, Write
from bacpipes.simulator.faults import Fault
from bacpipes.simulator.objects import Commanded, Simulated
from bacpipes.simulator.plan import (
    DEFAULT_BASE,
    DEFAULT_BOXES,
    DEFAULT_PORT,
    DEFAULT_SITE,
    Part,
    SitePlan,
    plan_site,
)
from bacpipes.simulator.wire import open_socket

_log = log.get_logger(__name__)


class Building:
    """``async with Building() as building``: several BACnet devices, alive until the block ends.

    ``tick`` is the real time between two steps of the physics in seconds, ``speed`` how many simulated seconds pass in
    a real one. The same ``seed`` gives the same building, step by step.
    """

    def __init__(
        self,
        site: str = DEFAULT_SITE,
        base: str = DEFAULT_BASE,
        port: int = DEFAULT_PORT,
        *,
        vavs: int = DEFAULT_BOXES,
        tick: float = 1.0,
        speed: float = 1.0,
        seed: int = 1,
    ) -> None:
        if not 0.01 <= tick <= 60 or not 0 <= speed <= 3600:
            raise InputError(f"Tick {tick:g} s, speed {speed:g}: 0.01 to 60 and 0 to 3600 expected.")
        self.plan: SitePlan = plan_site(site, base, port, vavs, seed)
        self.tick = tick
        self.speed = speed
        self.devices: dict[int, Device] = {}
        self.faults: list[Fault] = []
        self._names: dict[str, tuple[Device, Simulated]] = {}
        self._clock: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        sockets = self._open_sockets()
        try:
            await self._begin(sockets)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def _begin(self, sockets: list[socket.socket]) -> None:
        for plan, udp in zip(self.plan.devices, sockets, strict=True):
            device = Device(plan, udp)
            self.devices[plan.device_id] = device
            for point in plan.points:
                self._names[str(self.plan.haystack(plan, point))] = (device, device.points[point.object])
        for device in self.devices.values():
            await device.ready()
        self.step(0)
        self._clock = asyncio.create_task(self._run())
        self._clock.add_done_callback(_say_if_failed)

    def _open_sockets(self) -> list[socket.socket]:
        opened: list[socket.socket] = []
        try:
            for plan in self.plan.devices:
                opened.append(open_socket(plan.address))
        except BaseException:
            for udp in opened:
                udp.close()
            raise
        return opened

    async def __aexit__(self, *_: Any) -> None:
        if self._clock:
            self._clock.cancel()
            await asyncio.wait([self._clock])
        for device in self.devices.values():
            device.close()
        await asyncio.sleep(0)  # lets the transports close

    # --- what is there ---

    def object(self, device_id: int, object_type: str, instance: int) -> Simulated:
        """One BACnet object: ``.presentValue``, ``.value``, ``.statusFlags``; ``.slot(8)`` where it has priorities."""
        target = faults.find_target(self, f"{device_id}:{object_type}:{instance}").point
        assert target is not None  # noqa: S101 (three parts name a point)
        return target

    def commanded(self, device_id: int, object_type: str, instance: int) -> Commanded:
        """The same, for an object with a priority array."""
        found = self.object(device_id, object_type, instance)
        if not isinstance(found, Commanded):
            raise InputError(f"{device_id}:{object_type}:{instance} has no priority array.")
        return found

    def find(self, haystack_name: str) -> tuple[Device, Simulated]:
        """Device and object of a haystack name."""
        if haystack_name not in self._names:
            raise InputError(f"No point {haystack_name!r}.")
        return self._names[haystack_name]

    def address(self, device_id: int) -> str:
        """``ip:port`` of a device."""
        return self.devices[device_id].plan.address

    @property
    def writes(self) -> list[Write]:
        """Every attempt to write that reached any device, oldest first; to prove that nothing was written, too."""
        return sorted((w for device in self.devices.values() for w in device.writes), key=lambda w: w.at)

    def write_points(self, path: Path) -> int:
        """Write the points CSV; the number of points."""
        return table.write_points(self.plan, path)

    # --- faults ---

    def fault(self, kind: str, target: int | str, *arguments: str | float) -> Fault:
        """Break something: ``fault("silent", 12345)``, ``fault("hold", "12345:analog-value:120", 8, 55)``."""
        parsed = kinds.parse([kind, str(target), *map(str, arguments)])
        fault = faults.begin(self, *parsed)
        self.faults = [old for old in self.faults if not _same(old, fault)]
        self.faults.append(fault)
        _log.info("fault begins", fault=str(fault))
        return fault

    def clear(self, kind: str = "", target: int | str = "") -> list[Fault]:
        """Put right all faults, or those of a kind, or of a target (a device's include its points'); what they were."""
        known = {"", *kinds.KINDS}
        if kind not in known:
            raise InputError(f"Unknown fault {kind!r}.", f"Kinds: {', '.join(kinds.KINDS)}.")
        name = faults.find_target(self, str(target)).name if target else ""
        ended = [
            f for f in self.faults if kind in ("", f.kind) and f"{f.target}:".startswith(f"{name}:" if name else "")
        ]
        for fault in reversed(ended):
            faults.end(self, fault)
            self.faults.remove(fault)
            _log.info("fault ends", fault=str(fault))
        return ended

    # --- time ---

    async def _run(self) -> None:
        """One step each tick, on a grid of its own; a step always has the same length, so runs can be repeated."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self.tick, loop.time())
            await asyncio.sleep(due - loop.time())
            self.step(self.tick * self.speed)

    def step(self, dt: float) -> None:
        """Move the whole building on by ``dt`` simulated seconds."""
        self.plan.weather.step(dt)
        for device in self.devices.values():
            for part in device.plan.parts:
                _step(device, part, dt)


def _say_if_failed(clock: asyncio.Task[None]) -> None:
    """The devices still answer when the physics stop, so nobody would notice."""
    if not clock.cancelled() and (error := clock.exception()):
        _log.error("the physics stopped", exc_info=error)


def _same(old: Fault, new: Fault) -> bool:
    slot = old.arguments[:1] == new.arguments[:1] if new.kind == "hold" else True
    return (old.kind, old.target) == (new.kind, new.target) and slot


def _step(device: Device, part: Part, dt: float) -> None:
    """Settings into the model, its commands into the outputs, what the outputs really are into the model, and on."""
    pairs = [(point, device.points[point.object]) for point in part.points]
    for point, simulated in pairs:
        if point.commandable and math.isfinite(simulated.value):  # a controller that reads nonsense keeps what it had
            setattr(part.model, point.field, simulated.value)
    part.model.control()
    for point, simulated in pairs:
        if point.is_output:
            simulated.measure(float(getattr(part.model, point.field)))
            if math.isfinite(simulated.value):
                setattr(part.model, point.field, simulated.value)
    part.model.react(dt)
    for point, simulated in pairs:
        if not point.commandable:
            simulated.measure(float(getattr(part.model, point.field)))
