"""A BACnet client for the tests: bacpypes3 on an address and a port of its own, errors as words."""

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any, Self

from bacpypes3.apdu import ErrorRejectAbortNack, WritePropertyMultipleError
from bacpypes3.ipv4.app import NormalApplication
from bacpypes3.local.device import DeviceObject
from bacpypes3.pdu import Address, IPv4Address
from bacpypes3.primitivedata import Null

RELEASE = Null(())


def _free_port() -> int:
    """A UDP port that nobody has, so that two test runs on one machine do not meet."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 (only to ask the kernel)
        port: int = probe.getsockname()[1]
        return port


PORT, CLIENT_PORT = _free_port(), _free_port()  # of every simulated device, and of its client


class Client:
    """``address`` is ``ip:port``; one time-out of ``timeout`` seconds, no retries."""

    def __init__(self, address: str = f"127.0.20.250:{CLIENT_PORT}", timeout: float = 5.0) -> None:
        ip, port = address.split(":")
        own = DeviceObject(
            objectIdentifier="device,4194001",
            objectName="test client",
            vendorIdentifier=999,
            apduTimeout=int(timeout * 1000),
            numberOfApduRetries=0,
            maxApduLengthAccepted=1476,
            maxSegmentsAccepted=64,
        )
        self.app = NormalApplication(own, IPv4Address(f"{ip}/32:{port}"))

    async def __aenter__(self) -> Self:
        await self.app.normal.server._local_transport_ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.app.close()
        await asyncio.sleep(0)

    async def read(self, address: str, obj: str, prop: str = "present-value", index: int | None = None) -> Any:
        return await self.app.read_property(Address(address), obj, prop, index)

    async def read_many(self, address: str, *objects_and_properties: Any) -> list[Any]:
        result: list[Any] = await self.app.read_property_multiple(Address(address), list(objects_and_properties))
        return result

    async def write(
        self, address: str, obj: str, value: Any, priority: int | None = None, prop: str = "present-value"
    ) -> None:
        await self.app.write_property(Address(address), obj, prop, value, priority=priority)

    async def who_is(self, address: str, device_id: int, timeout: float = 5.0) -> list[tuple[int, int, str]]:
        """Number, longest APDU and segmentation of the device, as soon as it answers; nothing after the time-out."""
        found = await self.app.who_is(device_id, device_id, address=Address(address), timeout=timeout)
        return [(i.iAmDeviceIdentifier[1], i.maxAPDULengthAccepted, str(i.segmentationSupported)) for i in found]

    def impatient(self) -> None:
        """Wait no longer than 0.3 s for an answer that will not come."""
        self.app.device_object.apduTimeout = 300


async def answer(call: Awaitable[Any]) -> str:
    """``ok``, or the reason that came back: an error's code, a reject's or abort's reason."""
    try:
        await call
    except WritePropertyMultipleError as error:
        return str(error.errorType.errorCode)
    except ErrorRejectAbortNack as error:
        return str(error.reason)
    return "ok"


async def until(condition: Any, timeout: float = 60.0) -> None:
    """Wait until ``condition()`` is true; fail when it never becomes so."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.02)
