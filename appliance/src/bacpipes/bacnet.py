"""Our BACnet/IP client: bacpypes3's stack behind exceptions and plain values.

bacpypes3 raises what derives from BaseException, returns errors as values, and freezes when 257 requests are
outstanding to one address; nothing of that leaves this module.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Self

from bacpypes3.apdu import (
    APDU,
    AbortPDU,
    AbortReason,
    APCISequence,
    ComplexAckPDU,
    ConfirmedRequestPDU,
    ErrorPDU,
    ErrorRejectAbortNack,
    IAmRequest,
    ReadPropertyACK,
    ReadPropertyRequest,
    RejectPDU,
    RejectReason,
    WhoIsRequest,
)
from bacpypes3.app import Application
from bacpypes3.appservice import ApplicationServiceAccessPoint
from bacpypes3.basetypes import ErrorType, HostNPort, IPMode, PropertyIdentifier
from bacpypes3.constructeddata import Array
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject
from bacpypes3.pdu import PDU, Address, GlobalBroadcast, IPv4Address
from bacpypes3.primitivedata import Atomic, ObjectIdentifier, Unsigned
from bacpypes3.service.object import ReadWritePropertyMultipleServices
from bacpypes3.vendor import get_vendor_info

from bacpipes import notifications, rpm
from bacpipes.complaints import Complaints
from bacpipes.errors import BacpipesError, UnavailableError
from bacpipes.foreign import Registration
from bacpipes.manners import Manners, Transactions
from bacpipes.rpm_client import Counts, LibraryIds, NeedsLibraryError, Peer, RpmClient, SilenceError
from bacpipes.settings import Settings

VENDOR_ID = 999  # unassigned: no vendor's proprietary meanings
SILENCE = "no answer from the device"
SEGMENTS_WITHIN = 15.0  # seconds more than for one answer, for one in many segments
MOST_ANSWERS = 10_000  # to one Who-Is, that wait to be looked at
MAX_APDU = 1476  # octets, the most that BACnet/IP carries (ASHRAE 135, annex J)

ObjectId = rpm.ObjectId


class BacnetError(BacpipesError):
    """A request that brought no answer that we can use; ``str()`` is the reason, for people."""


class NoAnswerError(BacnetError):
    """The device did not answer within time-out and retries."""


class RefusedError(BacnetError):
    """The device answered with an Error: ``error_class`` and ``error_code`` in the standard's words (clause 18)."""

    def __init__(self, error_class: str, error_code: str) -> None:
        super().__init__(f"{error_class}: {error_code}")
        self.error_class, self.error_code = error_class, error_code


class RejectedError(BacnetError):
    """The device rejected the request (clause 18.8), as one does that does not know the service."""


class AbortedError(BacnetError):
    """The device aborted (clause 18.9), as one does whose answer would be too long."""


class MalformedError(BacnetError):
    """The answer can't be decoded, or is not for what was asked."""


@dataclass(frozen=True, slots=True)
class IAm:
    """A device's answer to Who-Is."""

    device_id: int
    address: str
    max_apdu: int
    segmentation: str
    vendor_id: int


class PropertyResult(NamedTuple):
    """One property of a ReadPropertyMultiple answer: ``value`` is a bacpypes3 value, or a `BacnetError`."""

    object_id: ObjectId
    property: str
    value: Any


class _ClientApplication(LibraryIds, notifications.Notifications, Application):  # type: ignore[misc,unused-ignore]
    """Collects every I-Am, also a second device with the same number."""

    i_am_queues: set[asyncio.Queue[IAm]]
    on_i_am: Callable[[IAm], None] | None = None

    async def do_IAmRequest(self, apdu: IAmRequest) -> None:  # noqa: N802 - bacpypes3's naming
        with contextlib.suppress(Exception):  # a malformed I-Am is nobody's answer
            found = IAm(
                apdu.iAmDeviceIdentifier[1],
                str(apdu.pduSource),
                int(apdu.maxAPDULengthAccepted),
                str(apdu.segmentationSupported),
                int(apdu.vendorID),
            )
            if self.on_i_am is not None:
                self.on_i_am(found)
            if not self.i_am_queues:  # nobody asked: what anyone may send must not change how a device is asked
                return
            for queue in self.i_am_queues:
                queue.put_nowait(found)
            await self.device_info_cache.set_device_info(apdu)


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
            port.fdBBMDAddress = HostNPort(str(_bbmd(self._bbmd)))
            port.fdSubscriptionLifetime = self._bbmd_ttl
        self.complaints.install()
        self._application = _ClientApplication.from_object_list([device, port])
        self._application.i_am_queues = set()
        asap = self._application.asap
        asap.clientTransactions = Transactions(self._manners)
        if self._fast:
            _hand_over_undecoded(self._application.asap)
            await self._rpm.attach(self._application)
        if self._bbmd:
            (link,) = self._application.link_layers.values()
            self._registration = Registration(link, str(_bbmd(self._bbmd)), self._bbmd_ttl)
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
            _raise_returned(answer)
            return _property_value(answer, object_id, name, index)

    async def read_multiple(
        self, address: str, wanted: Sequence[tuple[ObjectId, Sequence[str]]]
    ) -> list[PropertyResult]:
        """Properties of several objects in one request (ReadPropertyMultiple, clause 15.7), errors in place.

        Raise a `BacnetError` where the request as a whole brought nothing.
        """
        if self._fast:
            if peer := _peer(address):
                with contextlib.suppress(NeedsLibraryError):
                    return await self._read_express(address, peer, wanted)
            return await self._read_fast(address, _question(wanted))
        async with self._request(address):
            answer = await self._application.read_property_multiple(Address(address), _arguments(wanted))
        _raise_returned(answer)
        return [_result(*row) for row in answer or []]

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
            return [_from_rpm(*row) for row in question.decode_apdu(apdu)]
        except rpm.UnexpectedAnswerError:
            rows = await _apdu_by_library(apdu, address, question.wanted)
        return [_result(*row) for row in rows or []]

    async def _read_fast(self, address: str, question: rpm.Question) -> list[PropertyResult]:
        """By our own codec through bacpypes3's layers, which can do segments and routers."""
        async with self._request(address):
            request = ConfirmedRequestPDU(rpm.SERVICE, destination=_address(address))
            request.put_data(question.request)
            answer = await self._application.request(request)
            _raise_returned(answer)
            try:
                return [_from_rpm(*row) for row in question.decode(bytes(answer.pduData))]
            except rpm.UnexpectedAnswerError:
                rows = await _decoded_by_library(answer, question.wanted)
        return [_result(*row) for row in rows or []]

    async def write_property(
        self, address: str, object_id: ObjectId, name: str, value: Atomic, priority: int | None = None
    ) -> None:
        """Write one property (clause 15.9); raise a `BacnetError` where the device did not accept it."""
        async with self._request(address):
            answer = await self._application.write_property(
                Address(address), ObjectIdentifier(object_id), PropertyIdentifier(name), value, priority=priority
            )
        _raise_returned(answer)

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
        request.pduDestination = _address(address)
        async with self._request(address):
            answer = await self._application.request(request)
        _raise_returned(answer)
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
        network = _network(address)
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
                raise _translate(error) from None
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


def _network(address: str) -> str | None:
    """The remote network of ``network:mac``; None for an address that is reached directly."""
    network, colon, _ = address.partition(":")
    return network if colon and network.isdecimal() else None


def _hand_over_undecoded(asap: Any) -> None:
    """Let answers to ReadPropertyMultiple come up as bytes; time-outs, retries and segments stay bacpypes3's."""
    decode_and_hand_over = asap.sap_response

    async def sap_response(apdu: Any) -> None:
        if type(apdu) is ComplexAckPDU and apdu.apduService == rpm.SERVICE:
            await super(ApplicationServiceAccessPoint, asap).sap_response(apdu)
        else:
            await decode_and_hand_over(apdu)

    asap.sap_response = sap_response


class _Answered(ReadWritePropertyMultipleServices):  # type: ignore[misc,unused-ignore]
    """bacpypes3's reader of ReadPropertyMultiple, for an answer that is here already."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def request(self, _request: Any) -> Any:
        return APCISequence.decode(self._answer)


async def _decoded_by_library(answer: Any, wanted: rpm.Wanted) -> Any:
    source = answer.pduSource
    return await _Answered(answer).read_property_multiple(source, _arguments(wanted), vendor_info=get_vendor_info(0))


async def _apdu_by_library(apdu: bytes, address: str, wanted: rpm.Wanted) -> Any:
    """What bacpypes3 makes of an answer: rows; raise a `BacnetError` for an Error, Reject or Abort, or for nonsense."""
    try:
        answer = APDU.decode(PDU(apdu, source=_address(address)))
        if isinstance(answer, ErrorPDU):
            answer = APCISequence.decode(answer)
        _raise_returned(answer)
        return await _decoded_by_library(answer, wanted)
    except ErrorRejectAbortNack as error:  # a BaseException
        raise _translate(error) from None
    except BacnetError:
        raise
    except Exception as error:  # bacpypes3's decoder raises whatever it trips over
        raise MalformedError(f"answer can't be decoded ({type(error).__name__}: {error})") from error


def _arguments(wanted: Sequence[tuple[ObjectId, Sequence[str]]]) -> list[Any]:
    arguments: list[Any] = []
    for object_id, names in wanted:
        arguments += [ObjectIdentifier(object_id), [PropertyIdentifier(name) for name in names]]
    return arguments


@lru_cache(maxsize=4096)
def _address(address: str) -> Address:
    return Address(address)


@lru_cache(maxsize=4096)
def _peer(address: str) -> Peer | None:
    """Where to send a datagram to a device on our own network; None for one behind a router."""
    parsed = _address(address)
    direct = parsed.addrType == Address.localStationAddr and parsed.addrRoute is None
    peer: Peer | None = getattr(parsed, "addrTuple", None) if direct else None
    return peer


def _question(wanted: Sequence[tuple[ObjectId, Sequence[str]]]) -> rpm.Question:
    return rpm.question(tuple([(object_id, tuple(names)) for object_id, names in wanted]))


def _from_rpm(object_id: ObjectId, name: str, value: rpm.Value) -> PropertyResult:
    if type(value) is rpm.AccessError:
        return PropertyResult(object_id, name, RefusedError(value.error_class, value.error_code))
    return PropertyResult(object_id, name, value)


def parse_interface(address: str) -> IPv4Address:
    """``address[/prefix][:port]`` of our interface; raise where it is not one."""
    try:
        parsed = IPv4Address(address)
        if not 0 < parsed.addrTuple[1] < 65536:
            raise ValueError("its port is not 1 to 65535")
        return parsed
    except (ValueError, TypeError, RuntimeError) as error:
        raise UnavailableError(
            f"BACnet interface {address!r} is not an address ({error}).",
            "Set BACPIPES_BACNET_ADDRESS, for example to 10.1.2.3/24:47808.",
        ) from None


def _bbmd(address: str) -> IPv4Address:
    try:
        return IPv4Address(address)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UnavailableError(
            f"BBMD {address!r} is not an address ({error}).", "Set BACPIPES_BACNET_BBMD, for example to 10.1.2.3:47808."
        ) from None


def check_bindable(local: IPv4Address) -> None:
    """Raise where the address is not ours or another program has the port.

    bacpypes3 shares a port silently (SO_REUSEPORT), and each of the two would get half of the answers.
    """
    host, port = local.addrTuple
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UnavailableError(
                    f"UDP {host}:{port} is in use by another program.",
                    "Stop it, or give BACPIPES_BACNET_ADDRESS another port.",
                ) from None
            raise UnavailableError(
                f"BACnet interface {host}:{port} can't be opened: {error.strerror}.",
                "Is BACPIPES_BACNET_ADDRESS an address of this machine?",
            ) from None


def to_number(value: Any) -> float | None:
    """A present value as the number that we store: reals, enumerations (inactive 0, active 1) and states.

    None for a Null; raise `MalformedError` for what is no number.
    """
    if isinstance(value, bool | int | float):
        return float(value)
    if value is None or value == ():  # Null
        return None
    raise MalformedError(f"value of type {type(value).__name__} where a number was expected")


def _property_value(answer: Any, object_id: ObjectId, name: str, index: int | None) -> Any:
    """The value in an answer to ReadProperty; bacpypes3 itself does not look what the answer is for."""
    if not isinstance(answer, ReadPropertyACK):
        raise MalformedError(f"not an answer to ReadProperty ({type(answer).__name__})")
    asked = (ObjectIdentifier(object_id), PropertyIdentifier(name), index)
    if (answer.objectIdentifier, answer.propertyIdentifier, answer.propertyArrayIndex) != asked:
        raise MalformedError("the answer is for another object or property")
    object_class = get_vendor_info(0).get_object_class(asked[0][0])
    kind = object_class.get_property_type(asked[1]) if object_class else None
    if kind is None:
        raise MalformedError(f"bacpypes3 knows no {name} of {object_id[0]}")
    if issubclass(kind, Array) and index is not None:
        kind = Unsigned if index == 0 else kind._subtype
    return answer.propertyValue.cast_out(kind, null=issubclass(kind, Atomic))


def _result(object_id: Any, name: Any, _index: Any, value: Any) -> PropertyResult:
    if isinstance(value, ErrorType):
        value = RefusedError(str(value.errorClass), str(value.errorCode))
    return PropertyResult((str(object_id[0]), int(object_id[1])), str(name), value)


def _raise_returned(value: Any) -> None:
    if isinstance(value, ErrorRejectAbortNack):
        raise _translate(value)
    if isinstance(value, ErrorType):
        raise RefusedError(str(value.errorClass), str(value.errorCode))
    if isinstance(value, str) and value.startswith("-no "):  # "-no object class-", "-no property type-"
        raise MalformedError(f"bacpypes3 knows no such object or property ({value.strip('-')})")


def _translate(error: Any) -> BacnetError:
    if isinstance(error, ErrorPDU):
        return RefusedError(str(error.errorClass), str(error.errorCode))
    if isinstance(error, RejectPDU):
        return RejectedError(f"rejected: {RejectReason(error.apduAbortRejectReason)}")
    if isinstance(error, AbortPDU):
        if error.apduAbortRejectReason in (AbortReason.noResponse, AbortReason.tsmTimeout):
            return NoAnswerError(SILENCE)
        return AbortedError(f"aborted: {AbortReason(error.apduAbortRejectReason)}")
    return BacnetError(f"not delivered: {error}")
