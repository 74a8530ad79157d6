"""Which address a device has: it may change, and two devices may have the same number by mistake.

What the worker hears of its devices' numbers (I-Am) from elsewhere is looked into: while the device answers where it is
polled, the other one is a double, and reported; where it is silent there, it is followed.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from bacpipes.bacnet.application import IAm
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError
from bacpipes.database import connect, first_line, query
from bacpipes.errors import UnavailableError
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.points import Device
from bacpipes.settings import Settings
from bacpipes.worker.poller import DevicePoller

logger = get_logger(__name__)

LOOK_EVERY = 5.0  # seconds between looks at what was heard
ASK_EVERY = 60.0  # seconds between questions for silent devices
SURVEY_EVERY = 6 * 3600.0  # seconds between questions for all
AGAIN = 60.0  # seconds before the same address is looked into again
FORGET = 3600.0  # seconds after which a double that was not heard again is no longer reported
MOST = 5  # addresses of one number that are kept
FLOOD = 200  # I-Am a second
WAIT = 2.0  # seconds for answers; they come by way of `heard`


@dataclass(slots=True)
class _Heard:
    """A number at an address where it is not polled. Times are the event loop's."""

    at: float
    looked: float | None = None
    double: bool = False
    stranger: bool = False


class Addresses:
    """``pollers`` are those of this moment."""

    def __init__(
        self,
        settings: Settings,
        client: BacnetClient,
        metrics: WorkerMetrics,
        pollers: Iterable[DevicePoller],
    ) -> None:
        self._settings, self._client, self._metrics, self._pollers = settings, client, metrics, pollers
        self._elsewhere: dict[int, dict[str, _Heard]] = {}
        self._known: dict[int, str] = {}
        self._count = 0
        self._flood = Transition(logger, "flood of I-Am")

    @property
    def doubles(self) -> list[tuple[int, str, str]]:
        """Devices whose number another one has: number, where it is polled, where else it answers."""
        return [
            (number, self._known[number], address)
            for number, addresses in self._elsewhere.items()
            for address, heard in addresses.items()
            if heard.double and number in self._known
        ]

    def heard(self, found: IAm) -> None:
        """An I-Am; whoever sent it. Only what concerns one of our devices is kept."""
        self._count += 1
        self._metrics.i_am.inc()
        if self._known.get(found.device_id, found.address) == found.address:
            return
        addresses = self._elsewhere.setdefault(found.device_id, {})
        if found.address in addresses or len(addresses) < MOST:
            addresses.setdefault(found.address, _Heard(self._now())).at = self._now()

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop``."""
        self._client.on_i_am(self.heard)
        asked, surveyed = self._now(), -SURVEY_EVERY
        while not stop.is_set():
            pollers = list(self._pollers)
            self._known = {poller.device.device_id: poller.device.address for poller in pollers}
            self._judge_flood()
            for poller in pollers:
                await self._look(poller)
            silent = [poller.device.device_id for poller in pollers if poller.silent]
            if silent and self._now() > asked + ASK_EVERY:
                asked = self._now()
                await self._ask(min(silent), max(silent))
            elif pollers and self._now() > surveyed + SURVEY_EVERY:
                surveyed = self._now()
                await self._ask(min(self._known), max(self._known))
            await first_of(stop, within=LOOK_EVERY)

    async def _ask(self, low: int, high: int) -> None:
        if not self._client.broadcasts:
            return
        try:
            await self._client.who_is(low, high, timeout=WAIT)
        except (BacnetError, OSError) as error:
            logger.debug("Who-Is could not be sent", reason=str(error))

    async def _look(self, poller: DevicePoller) -> None:
        addresses = self._elsewhere.get(poller.device.device_id, {})
        for address, heard in list(addresses.items()):
            if heard.at < self._now() - FORGET or address == poller.device.address:
                del addresses[address]
            elif heard.looked is None or heard.looked < heard.at - AGAIN or (poller.silent and heard.double):
                heard.looked = self._now()
                await self._judge(poller, address, heard)

    async def _judge(self, poller: DevicePoller, address: str, heard: _Heard) -> None:
        device = poller.device
        if await poller.answers():
            said = await self._said(device, address, ("object-identifier",))
            if said is not None and not heard.double:
                logger.warning(
                    "two devices have this number", device=device.device_id, polled=device.address, other=address
                )
            heard.double = said is not None
        elif not poller.silent:
            heard.looked = None  # it has just fallen silent: looked at again when the polls have seen it
        elif self._settings.bacnet_follow and await self._is_same(device, address, heard):
            await self._follow(device, address)

    async def _said(self, device: Device, address: str, names: tuple[str, ...]) -> list[str] | None:
        """What a device of this number says of itself at another address; None where there is none."""
        try:
            return [str(await self._client.read_property(address, ("device", device.device_id), n)) for n in names]
        except BacnetError:
            return None

    async def _is_same(self, device: Device, address: str, heard: _Heard) -> bool:
        """Does a device of this number, vendor and model answer there?"""
        said = await self._said(device, address, ("vendor-name", "model-name"))
        if said is None:
            return False
        try:
            async with await connect(self._settings, "addresses") as connection:
                cursor = await connection.execute("SELECT vendor, model FROM device WHERE id = %s", [device.id])
                row = await cursor.fetchone() or (None, None)
        except (psycopg.Error, UnavailableError):
            return False  # it is looked at again
        same = all(known is None or known == told for known, told in zip(row, said, strict=True))
        if not same and not heard.stranger:
            logger.warning("another device answers under this number", device=device.device_id, address=address)
        heard.stranger = not same
        return same

    async def _follow(self, device: Device, address: str) -> None:
        try:
            async with await connect(self._settings, "addresses") as connection:
                values = {"id": device.id, "before": device.address, "address": address}
                moved = (await connection.execute(query("device_moved"), values)).rowcount
        except (psycopg.Error, UnavailableError) as error:
            logger.warning("a device's new address was not kept", device=device.device_id, reason=first_line(error))
            return
        if moved:
            self._metrics.devices_moved.inc()
            logger.warning("device has another address", device=device.device_id, before=device.address, now=address)

    def _judge_flood(self) -> None:
        rate, self._count = self._count / LOOK_EVERY, 0
        if rate > FLOOD:
            self._flood.failed("more than 200 a second; polling goes on", rate=round(rate))
        else:
            self._flood.recovered()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
