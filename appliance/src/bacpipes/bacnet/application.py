"""bacpypes3's application as ours is: it hears every I-Am, and hands answers to ReadPropertyMultiple over as bytes."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bacpypes3.apdu import ComplexAckPDU, IAmRequest
from bacpypes3.app import Application
from bacpypes3.appservice import ApplicationServiceAccessPoint

from bacpipes.bacnet import notifications, rpm
from bacpipes.bacnet.rpm_client import LibraryIds


@dataclass(frozen=True, slots=True)
class IAm:
    """A device's answer to Who-Is."""

    device_id: int
    address: str
    max_apdu: int
    segmentation: str
    vendor_id: int


class _Unsupported:
    """A service that we do not have: rejected as unrecognised, and not among those that our device object names."""

    def __get__(self, _instance: object, _owner: type | None = None) -> None:
        raise AttributeError("not supported")


class ClientApplication(LibraryIds, notifications.Notifications, Application):  # type: ignore[misc,unused-ignore]
    """Collects every I-Am, also a second device with the same number."""

    i_am_queues: set[asyncio.Queue[IAm]]
    on_i_am: Callable[[IAm], None] | None = None

    # We are asked who we are, and no more: whoever could write to our device object would set how we ask all others.
    do_WritePropertyRequest = do_WritePropertyMultipleRequest = do_SubscribeCOVRequest = _Unsupported()  # noqa: N815
    do_ReadRangeRequest = do_WhoHasRequest = _Unsupported()  # noqa: N815

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


def hand_over_undecoded(asap: Any) -> None:
    """Let answers to ReadPropertyMultiple come up as bytes; time-outs, retries and segments stay bacpypes3's."""
    decode_and_hand_over = asap.sap_response

    async def sap_response(apdu: Any) -> None:
        if type(apdu) is ComplexAckPDU and apdu.apduService == rpm.SERVICE:
            await super(ApplicationServiceAccessPoint, asap).sap_response(apdu)
        else:
            await decode_and_hand_over(apdu)

    asap.sap_response = sap_response
