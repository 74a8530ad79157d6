"""One simulated controller: a BACnet application with its objects, its faults, and a log of every write."""

import asyncio
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from bacpypes3.apdu import AbortPDU, AbortReason, ComplexAckPDU, SimpleAckPDU, WritePropertyMultipleError
from bacpypes3.app import Application
from bacpypes3.appservice import ApplicationServiceAccessPoint
from bacpypes3.basetypes import (
    ErrorType,
    ObjectPropertyReference,
    ObjectTypesSupported,
    Segmentation,
    ServicesSupported,
)
from bacpypes3.comm import bind
from bacpypes3.constructeddata import Array
from bacpypes3.errors import ExecutionError, ObjectError, ParameterOutOfRange, PropertyError, UnrecognizedService
from bacpypes3.local.device import DeviceObject
from bacpypes3.netservice import NetworkServiceAccessPoint, NetworkServiceElement
from bacpypes3.primitivedata import Null, ObjectIdentifier, ObjectType, PropertyIdentifier, Unsigned

from bacpipes import __version__
from bacpipes.objects import OBJECT_TYPES
from bacpipes.simulator.objects import Simulated, make_object
from bacpipes.simulator.plan import DevicePlan
from bacpipes.simulator.wire import Wire

MAX_APDU = 1476  # octets: the most that BACnet/IP carries (ASHRAE 135, annex J)
SEGMENT_HEADER = 3  # octets of a ComplexACK before its service data
WILDCARD = (ObjectType.device, 4194303)
VENDOR = 999  # bacpypes3 knows its own objects under this number


@dataclass(frozen=True, slots=True)
class Write:
    """One attempt to write. ``value`` None is a release (or unreadable); ``outcome`` is ``ok`` or the error's code."""

    at: float
    device_id: int
    object: str
    property: str
    value: float | str | None
    priority: int | None
    source: str
    outcome: str


@dataclass
class DeviceFaults:
    """What a person has broken on this device; see `bacpipes.simulator.faults`."""

    no_rpm: bool = False
    no_cov: bool = False
    max_apdu: int | None = None
    missing: set[Any] = field(default_factory=set)


class SimulatedDeviceObject(DeviceObject):
    """The device object; nothing in it can be written over the network."""

    @property
    def protocolObjectTypesSupported(self) -> ObjectTypesSupported:  # noqa: N802
        """The nine point types, and the device itself."""
        supported = ObjectTypesSupported([0] * 60)
        for number in (8, *(t.number for t in OBJECT_TYPES.values())):
            supported[number] = 1
        return supported

    @protocolObjectTypesSupported.setter
    def protocolObjectTypesSupported(self, value: Any) -> None:  # noqa: N802
        """Computed: ignored."""

    async def write_property(self, *_: Any, **__: Any) -> None:
        """Refuse."""
        raise PropertyError("writeAccessDenied")


class Device(Application):
    """A controller on its own address. ``writes`` holds every attempt to write that reached it."""

    def __init__(self, plan: DevicePlan, udp: socket.socket) -> None:
        super().__init__()
        self.plan = plan
        self.faults = DeviceFaults()
        self.writes: list[Write] = []
        self.points: dict[str, Simulated] = {}
        self._device = _device_object(plan)
        self.asap = ApplicationServiceAccessPoint(self._device, self.device_info_cache)
        self.nsap = NetworkServiceAccessPoint()
        self.nse = NetworkServiceElement()
        bind(self.nse, self.nsap)
        bind(self, self.asap, self.nsap)
        self.wire = Wire(plan.address, udp)
        self.nsap.bind(self.wire, address=self.wire.address)
        self.add_object(self._device)
        for part in plan.parts:
            for point in part.points:
                self._add(make_object(point, float(getattr(part.model, point.field))))

    def _add(self, simulated: Simulated) -> None:
        self.points[simulated._point.object] = simulated
        self.add_object(simulated)

    @property
    def device_id(self) -> int:
        """The BACnet device number."""
        return self.plan.device_id

    async def ready(self) -> None:
        """Return when the device answers."""
        await self.wire.datagrams.ready()

    def close(self) -> None:
        """Leave the network."""
        for detection in list(self._cov_detections.values()):
            for subscription in list(detection.cov_subscriptions):
                self.cancel_subscription(subscription)
        self.wire.datagrams.close()

    # --- faults ---

    def limit_apdu(self, octets: int | None) -> None:
        """Take and give no more than so many octets at a time, without segmentation; None ends it."""
        self.faults.max_apdu = octets
        self._device.maxApduLengthAccepted = octets or MAX_APDU
        self._device.segmentationSupported = Segmentation.noSegmentation if octets else Segmentation.segmentedBoth

    def get_object_id(self, objid: Any) -> Any:
        """The object, unless it is one of those that are missing."""
        return None if objid in self.faults.missing else super().get_object_id(objid)

    async def indication(self, apdu: Any) -> None:
        """A request came in; one that is longer than the device can take is aborted."""
        limit = self.faults.max_apdu
        if limit and hasattr(apdu, "apduInvokeID") and len(apdu.encode().pduData) + SEGMENT_HEADER + 1 > limit:
            await super().response(_abort(apdu.pduSource, apdu.apduInvokeID, AbortReason.bufferOverflow))
            return
        await super().indication(apdu)

    async def response(self, apdu: Any) -> None:
        """An answer goes out; one that is longer than the device can give becomes an abort."""
        limit = self.faults.max_apdu
        if limit and isinstance(apdu, ComplexAckPDU):
            length = len(apdu.encode().pduData) + SEGMENT_HEADER
            if length > limit:
                reason = AbortReason.segmentationNotSupported
                await super().response(_abort(apdu.pduDestination, apdu.apduInvokeID, reason))
                return
        await super().response(apdu)

    @property
    def subscribed(self) -> list[tuple[str, int, str]]:
        """COV subscriptions in force: subscriber's address, its number, object."""
        return sorted(
            (str(one.client_addr), int(one.proc_id), f"{one.obj_id[0]}:{one.obj_id[1]}")
            for detection in self._cov_detections.values()
            for one in detection.cov_subscriptions
        )

    def forget_subscriptions(self) -> None:
        """As a restart does."""
        for detection in list(self._cov_detections.values()):
            for one in list(detection.cov_subscriptions):
                self.cancel_subscription(one)

    # --- services ---

    def get_services_supported(self) -> ServicesSupported:
        """The services that bacpypes3 finds in us, less those that we refuse."""
        services = super().get_services_supported()
        services[ServicesSupported.readRange] = 0
        if self.faults.no_rpm:
            services[ServicesSupported.readPropertyMultiple] = 0
        if self.faults.no_cov:
            services[ServicesSupported.subscribeCOV] = 0
        return services

    async def do_ReadRangeRequest(self, _apdu: Any) -> None:  # noqa: N802
        """No logs here."""
        raise UnrecognizedService("ReadRange")

    def _myself(self, objid: Any) -> Any:
        """The wildcard instance means this device, whatever its number (ASHRAE 135, 15.5.2)."""
        return self._device.objectIdentifier if tuple(objid) == WILDCARD else objid

    async def do_ReadPropertyRequest(self, apdu: Any) -> None:  # noqa: N802
        """Answer."""
        apdu.objectIdentifier = self._myself(apdu.objectIdentifier)
        await super().do_ReadPropertyRequest(apdu)

    async def do_ReadPropertyMultipleRequest(self, apdu: Any) -> None:  # noqa: N802
        """Answer, or reject as a device does that never learned it."""
        if self.faults.no_rpm:
            raise UnrecognizedService("ReadPropertyMultiple")
        for spec in apdu.listOfReadAccessSpecs:
            spec.objectIdentifier = self._myself(spec.objectIdentifier)
        await super().do_ReadPropertyMultipleRequest(apdu)

    async def do_SubscribeCOVRequest(self, apdu: Any) -> None:  # noqa: N802
        """Subscribe, or reject as a device does that never learned it."""
        if self.faults.no_cov:
            raise UnrecognizedService("SubscribeCOV")
        await super().do_SubscribeCOVRequest(apdu)

    async def do_WritePropertyRequest(self, apdu: Any) -> None:  # noqa: N802
        """Write, and note what came of it."""
        await self._write(
            apdu.objectIdentifier,
            apdu.propertyIdentifier,
            apdu.propertyArrayIndex,
            apdu.propertyValue,
            apdu.priority,
            str(apdu.pduSource),
        )
        await self.response(SimpleAckPDU(context=apdu))

    async def do_WritePropertyMultipleRequest(self, apdu: Any) -> None:  # noqa: N802
        """Write one after the other; the first failure ends it and is named."""
        for spec in apdu.listOfWriteAccessSpecs:
            for item in spec.listOfProperties:
                where = (spec.objectIdentifier, item.propertyIdentifier, item.propertyArrayIndex)
                try:
                    await self._write(*where, item.value, item.priority, str(apdu.pduSource))
                except ExecutionError as error:
                    await self.response(_multiple_error(apdu, where, error))
                    return
        await self.response(SimpleAckPDU(context=apdu))

    async def _write(
        self, objid: Any, prop: Any, index: int | None, value: Any, priority: int | None, source: str
    ) -> None:
        decoded: Any = None
        outcome = "ok"
        try:
            if priority is not None and not 1 <= priority <= 16:
                raise ParameterOutOfRange("priority")
            obj = self.get_object_id(objid)
            if obj is None:
                raise ObjectError("unknownObject")
            decoded = _decode(obj, prop, index, value)
            await obj.write_property(prop, decoded, index, priority)
        except ExecutionError as error:
            outcome = error.errorCode
            raise
        except ParameterOutOfRange:
            outcome = "parameterOutOfRange"
            raise
        finally:
            name = f"{objid[0]}:{objid[1]}"
            at = time.time()
            self.writes.append(Write(at, self.device_id, name, str(prop), _plain(decoded), priority, source, outcome))

    def cov_confirmation(self, _cov: Any, future: asyncio.Future[Any]) -> None:
        """What a subscriber answered to a notification; one that is gone or refuses is its own affair."""
        if not future.cancelled():
            future.exception()


def _abort(to: Any, invoke_id: int, reason: Any) -> Any:
    abort = AbortPDU(True, invoke_id, reason)  # True: it comes from the server
    abort.pduDestination = to
    return abort


def _device_object(plan: DevicePlan) -> SimulatedDeviceObject:
    return SimulatedDeviceObject(
        objectIdentifier=f"device,{plan.device_id}",
        objectName=plan.name,
        description=plan.description,
        vendorName="BacPipes",
        vendorIdentifier=VENDOR,
        modelName="Simulated controller",
        firmwareRevision=__version__,
        applicationSoftwareVersion=__version__,
        protocolRevision=14,
        maxApduLengthAccepted=MAX_APDU,
        maxSegmentsAccepted=64,
        segmentationSupported=Segmentation.segmentedBoth,
    )


def _decode(obj: Any, prop: Any, index: int | None, value: Any) -> Any:
    """The value in the property's type, or invalid-data-type as a controller answers it."""
    expected = obj.get_property_type(prop)
    if expected is None or getattr(obj, PropertyIdentifier(prop).attr, None) is None:
        raise PropertyError("unknownProperty")
    if issubclass(expected, Array) and index is not None:
        expected = Unsigned if index == 0 else expected._subtype
    try:
        return value.cast_out(expected, null=prop == PropertyIdentifier.presentValue)
    except Exception:  # noqa: BLE001 (bacpypes3's decoders raise what they like)
        raise PropertyError("invalidDataType") from None


def _multiple_error(apdu: Any, where: tuple[Any, Any, int | None], error: ExecutionError) -> Any:
    objid, prop, index = where
    reference = ObjectPropertyReference(objectIdentifier=objid, propertyIdentifier=prop)
    if index is not None:
        reference.propertyArrayIndex = index
    return WritePropertyMultipleError(
        service_choice=apdu.apduService,
        errorType=ErrorType(errorClass=error.errorClass, errorCode=error.errorCode),
        firstFailedWriteAttempt=reference,
        context=apdu,
    )


def _plain(value: Any) -> float | str | None:
    if value is None or isinstance(value, Null):
        return None
    return float(value) if isinstance(value, (int, float)) else str(value)


def object_id(name: str) -> ObjectIdentifier:
    """``type:instance`` as bacpypes3's identifier."""
    return ObjectIdentifier(name.replace(":", ","))
