"""Our BACnet/IP client: bacpypes3's stack behind exceptions and plain values.

bacpypes3 raises what derives from BaseException, returns errors as values, and freezes when 257 requests are
outstanding to one address; nothing of that leaves this module.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Self

from bacpypes3.apdu import ConfirmedRequestPDU, ErrorRejectAbortNack, ReadPropertyRequest, WhoIsRequest
from bacpypes3.basetypes import HostNPort, IPMode, PropertyIdentifier
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.pdu import Address, GlobalBroadcast
from bacpypes3.primitivedata import Atomic, ObjectIdentifier

from bacpipes.bacnet import notifications, rpm
from bacpipes.bacnet.answers import (
    SILENCE,
    PropertyResult,
    arguments_of,
    decoded_apdu,
    decoded_by_library,
    from_rpm,
    property_value,
    raise_returned,
    result_of,
    translate,
)
from bacpipes.bacnet.application import ClientApplication, IAm, hand_over_undecoded
from bacpipes.bacnet.complaints import Complaints
from bacpipes.bacnet.errors import BacnetError, MalformedError, NoAnswerError
from bacpipes.bacnet.foreign import Registration
from bacpipes.bacnet.interface import (
    check_bindable,
    network_of,
    parse_address,
    parse_bbmd,
    parse_interface,
    peer_at,
)
from bacpipes.bacnet.manners import Manners, Transactions
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.bacnet.rpm_client import Counts, NeedsLibraryError, Peer, RpmClient, SilenceError
from bacpipes.settings import Settings

VENDOR_ID = 999  # unassigned: no vendor's proprietary meanings
SEGMENTS_WITHIN = 15.0  # seconds more than for one answer, for one in many segments
MOST_ANSWERS = 10_000  # to one Who-Is, that wait to be looked at
MAX_APDU = 1476  # octets, the most that BACnet/IP carries (ASHRAE 135, annex J)


class BacnetClient:
    """Reads, writes and finds devices from one local address.

    At most ``concurrency`` requests are outstanding to one device, and ``trunk`` to all devices of one remote network
    (an MS/TP trunk behind a router, mostly).
    """

    def __init__(
        self,
        address: str,
        device_id: int = 4194000,
        *,
        timeout: float = 3.0,
        retries: int = 1,
        concurrency: int = 1,
        trunk: int = 2,
        fast: bool = True,
        bbmd: str = "",
        bbmd_ttl: int = 60,
    ) -> None:
        self.address = address
        self._device_id = device_id
        self._timeout, self._retries = timeout, retries
        self._concurrency, self._trunk = concurrency, trunk
        self._fast = fast
        self._bbmd, self._bbmd_ttl = bbmd, bbmd_ttl
        self._registration: Registration | None = None
        self._manners: dict[str, Manners] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._trunks: dict[str, asyncio.Semaphore] = {}
        self._application: Any = None
        self.complaints = Complaints()  # of the library, about packets
        self.malformed = 0  # answers that could not be used
        self._rpm = RpmClient()

    @property
    def counts(self) -> Counts:
        """Datagrams that came in and were of no use."""
        return self._rpm.counts

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A client as the settings' ``bacnet_…`` fields say."""
        return cls(
            settings.bacnet_address,
            settings.bacnet_device_id,
            timeout=settings.bacnet_timeout,
            retries=settings.bacnet_retries,
            concurrency=settings.bacnet_device_concurrency,
            trunk=settings.bacnet_trunk_concurrency,
            fast=settings.bacnet_fast_codec,
            bbmd=settings.bacnet_bbmd,
            bbmd_ttl=settings.bacnet_bbmd_ttl,
        )

    async def __aenter__(self) -> Self:
        local = parse_interface(self.address)
        check_bindable(local)
        device = DeviceObject(
            objectIdentifier=("device", self._device_id),
            objectName="BacPipes",
            vendorIdentifier=VENDOR_ID,
            maxApduLengthAccepted=MAX_APDU,
            segmentationSupported="segmentedBoth",
            apduTimeout=int(self._timeout * 1000),
            numberOfApduRetries=self._retries,
        )
        port = NetworkPortObject(local, objectIdentifier=("network-port", 1), objectName="BACnet/IP")
        if self._bbmd:
            port.bacnetIPMode = IPMode.foreign
            port.fdBBMDAddress = HostNPort(str(parse_bbmd(self._bbmd)))
            port.fdSubscriptionLifetime = self._bbmd_ttl
        self.complaints.install()
        self._application = ClientApplication.from_object_list([device, port])
        self._application.i_am_queues = set()
        asap = self._application.asap
        asap.clientTransactions = Transactions(self._manners)
        if self._fast:
            hand_over_undecoded(self._application.asap)
            await self._rpm.attach(self._application)
        if self._bbmd:
            (link,) = self._application.link_layers.values()
            self._registration = Registration(link, str(parse_bbmd(self._bbmd)), self._bbmd_ttl)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._registration is not None:
            await self._registration.close()
        self._rpm.close()
        self._application.close()
        self.complaints.remove()
        await asyncio.sleep(0)  # the socket is closed in the loop's next turn

    @property
    def broadcasts(self) -> bool:
        """Is there a way to ask all devices: a broadcast address, or a BBMD?"""
        local = parse_interface(self.address)
        return bool(self._bbmd) or local.addrBroadcastTuple != local.addrTuple

    @property
    def unregistered(self) -> str | None:
        """Why the BBMD does not know us as a foreign device; None where it does, or none is set."""
        return self._registration.reason if self._registration else None

    async def who_is(
        self, low: int | None = None, high: int | None = None, address: str | None = None, timeout: float = 3.0
    ) -> list[IAm]:
        """Send Who-Is, to one address or to all networks, and return what answers within ``timeout`` seconds.

        A single address is waited for only until it has answered. Duplicates (two addresses with one number) are kept.
        """
        destination = Address(address) if address else GlobalBroadcast()
        if address is None and not self.broadcasts:
            raise BacnetError(f"{self.address} has no broadcast address.", "Give a prefix (10.1.2.3/24) or addresses.")
        request = WhoIsRequest(destination=destination)
        if low is not None and high is not None:
            request.deviceInstanceRangeLowLimit, request.deviceInstanceRangeHighLimit = low, high
        expected = str(destination) if address else None
        answers: asyncio.Queue[IAm] = asyncio.Queue(MOST_ANSWERS)
        self._application.i_am_queues.add(answers)
        found: dict[IAm, None] = {}
        try:
            self._application.request(request)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    while expected is None or expected not in {one.address for one in found}:
                        found[await answers.get()] = None
        finally:
            self._application.i_am_queues.discard(answers)
        return [one for one in found if expected in (None, one.address)]

    async def read_property(self, address: str, object_id: ObjectId, name: str, index: int | None = None) -> Any:
        """One property's value as bacpypes3 has it; raise a `BacnetError`."""
        request = ReadPropertyRequest(
            objectIdentifier=ObjectIdentifier(object_id),
            propertyIdentifier=PropertyIdentifier(name),
            destination=Address(address),
        )
        if index is not None:
            request.propertyArrayIndex = index
        async with self._request(address):
            answer = await self._application.request(request)
            raise_returned(answer)
            return property_value(answer, object_id, name, index)

    async def read_multiple(
        self, address: str, wanted: Sequence[tuple[ObjectId, Sequence[str]]]
    ) -> list[PropertyResult]:
        """Properties of several objects in one request (ReadPropertyMultiple, clause 15.7), errors in place.

        Raise a `BacnetError` where the request as a whole brought nothing.
        """
        if self._fast:
            if peer := peer_at(address):
                with contextlib.suppress(NeedsLibraryError):
                    return await self._read_express(address, peer, wanted)
            return await self._read_fast(address, _question(wanted))
        async with self._request(address):
            answer = await self._application.read_property_multiple(Address(address), arguments_of(wanted))
        raise_returned(answer)
        return [result_of(*row) for row in answer or []]

    async def _read_express(
        self, address: str, peer: Peer, wanted: Sequence[tuple[ObjectId, Sequence[str]]]
    ) -> list[PropertyResult]:
        """By our own codec and past bacpypes3's layers; what the codec does not know is decoded by bacpypes3."""
        async with self._turn_of(address), self._rpm.place() as place:
            question = _question(wanted)
            try:
                apdu = await self._rpm.ask(peer, question.request, *self._tries(address), place)
            except SilenceError:
                raise NoAnswerError(SILENCE) from None
        try:
            return [from_rpm(*row) for row in question.decode_apdu(apdu)]
        except rpm.UnexpectedAnswerError:
            rows = await decoded_apdu(apdu, address, question.wanted)
        return [result_of(*row) for row in rows or []]

    async def _read_fast(self, address: str, question: rpm.Question) -> list[PropertyResult]:
        """By our own codec through bacpypes3's layers, which can do segments and routers."""
        async with self._request(address):
            request = ConfirmedRequestPDU(rpm.SERVICE, destination=parse_address(address))
            request.put_data(question.request)
            answer = await self._application.request(request)
            raise_returned(answer)
            try:
                return [from_rpm(*row) for row in question.decode(bytes(answer.pduData))]
            except rpm.UnexpectedAnswerError:
                rows = await decoded_by_library(answer, question.wanted)
        return [result_of(*row) for row in rows or []]

    async def write_property(
        self, address: str, object_id: ObjectId, name: str, value: Atomic, priority: int | None = None
    ) -> None:
        """Write one property (clause 15.9); raise a `BacnetError` where the device did not accept it."""
        async with self._request(address):
            answer = await self._application.write_property(
                Address(address), ObjectIdentifier(object_id), PropertyIdentifier(name), value, priority=priority
            )
        raise_returned(answer)

    @property
    def notifications(self) -> notifications.Notifications:
        """What devices tell by themselves."""
        found: notifications.Notifications = self._application
        return found

    def on_i_am(self, listener: Callable[[IAm], None]) -> None:
        """Tell every I-Am, asked for or not."""
        self._application.on_i_am = listener

    async def request(self, address: str, request: Any) -> Any:
        """Send any confirmed request of bacpypes3's; its answer, or raise a `BacnetError`."""
        request.pduDestination = parse_address(address)
        async with self._request(address):
            answer = await self._application.request(request)
        raise_returned(answer)
        return answer

    def configure(self, address: str, manners: Manners) -> None:
        """How a device is asked from now on."""
        if self._manners.get(address, Manners()).concurrency != manners.concurrency:
            self._turns.pop(address, None)
        self._manners[address] = manners

    def _patience_with(self, address: str) -> float:
        """The longest that an answer may take, over all retries, in seconds."""
        timeout, retries = self._tries(address)
        return timeout * (retries + 1) + SEGMENTS_WITHIN

    def _tries(self, address: str) -> tuple[float, int]:
        """Seconds for one try, and how often it is repeated."""
        manners = self._manners.get(address, Manners())
        timeout = self._timeout if manners.timeout is None else manners.timeout
        return timeout, self._retries if manners.retries is None else manners.retries

    def _turn_of(self, address: str) -> asyncio.Semaphore:
        """The turn at the device itself."""
        most = self._manners.get(address, Manners()).concurrency or self._concurrency
        return self._turns.setdefault(address, asyncio.Semaphore(most))

    def _trunk_of(self, address: str) -> contextlib.AbstractAsyncContextManager[None]:
        """The turn on the device's trunk; none is needed where it is reached directly."""
        network = network_of(address)
        if network is None:
            return contextlib.nullcontext()
        return self._trunks.setdefault(network, asyncio.Semaphore(self._trunk))

    @contextlib.asynccontextmanager
    async def _request(self, address: str) -> AsyncIterator[None]:
        async with self._turn_of(address), self._trunk_of(address):
            try:
                # bacpypes3 leaves a request open for ever whose answer it can't decode
                async with asyncio.timeout(self._patience_with(address)):
                    yield
            except ErrorRejectAbortNack as error:  # a BaseException
                raise translate(error) from None
            except TimeoutError:
                self.malformed += 1
                raise MalformedError("no answer that can be decoded") from None
            except MalformedError:
                self.malformed += 1
                raise
            except (BacnetError, asyncio.CancelledError):
                raise
            except Exception as error:  # bacpypes3's decoder raises whatever it trips over
                self.malformed += 1
                raise MalformedError(f"answer can't be decoded ({type(error).__name__}: {error})") from error


def _question(wanted: Sequence[tuple[ObjectId, Sequence[str]]]) -> rpm.Question:
    return rpm.question(tuple([(object_id, tuple(names)) for object_id, names in wanted]))
