"""Our registration as a foreign device: made, renewed, recovered, and used for broadcasts; with a BBMD by script."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from bacpipes.bacnet import foreign
from bacpipes.bacnet.client import BacnetClient
from bacpipes.discovery import Scope, find_devices
from bacpipes.embedded import LOOPBACK
from bacpipes.errors import UnavailableError
from mqtt_parts import until

OURS, BBMD = 47975, 47976
REGISTER, DISTRIBUTE = 0x05, 0x09
TTL = 5
# I-Am of device 777: max APDU 1476, no segmentation, vendor 999 (ASHRAE 135, clause 20.1.3 and 16.10.1)
I_AM = bytes.fromhex("0120ffff00ff 1000 c402000309 2205c4 9103 2203e7".replace(" ", ""))


class Bbmd(asyncio.DatagramProtocol):
    """Answers registrations as it is told (``answer`` None: not at all), and a broadcast with a device's I-Am."""

    def __init__(self) -> None:
        self.answer: int | None = 0
        self.registrations: list[int] = []  # time to live, each
        self.broadcasts = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        assert self._transport is not None
        if data[1] == REGISTER:
            self.registrations.append(int.from_bytes(data[4:6], "big"))
            if self.answer is not None:
                self._transport.sendto(bytes.fromhex("81000006") + self.answer.to_bytes(2, "big"), source)
        elif data[1] == DISTRIBUTE:
            self.broadcasts += 1
            origin = bytes([127, 0, 0, 77]) + (47808).to_bytes(2, "big")
            self._transport.sendto(bytes.fromhex("8104") + (10 + len(I_AM)).to_bytes(2, "big") + origin + I_AM, source)


@pytest.fixture
async def bbmd() -> AsyncIterator[Bbmd]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Bbmd, local_addr=(LOOPBACK, BBMD))
    yield protocol
    transport.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(foreign, "RETRY", 0.5)
    monkeypatch.setattr(foreign, "OVERDUE", 1.0)


def client() -> BacnetClient:
    return BacnetClient(f"{LOOPBACK}:{OURS}", bbmd=f"{LOOPBACK}:{BBMD}", bbmd_ttl=TTL)


async def registered(ours: BacnetClient) -> None:
    await until(lambda: ours.unregistered is None, "we are registered")


async def test_it_registers_renews_and_takes_leave(bbmd: Bbmd) -> None:
    async with client() as ours:
        await registered(ours)
        first = len(bbmd.registrations)
        await until(lambda: len(bbmd.registrations) > first, "it is renewed")
        assert set(bbmd.registrations) == {TTL}
        assert ours.unregistered is None
    await until(lambda: bbmd.registrations[-1] == 0, "the BBMD is told to forget us")


async def test_a_broadcast_crosses_the_bbmd(bbmd: Bbmd) -> None:
    """Our interface has no broadcast address of its own."""
    async with client() as ours:
        await registered(ours)
        (found,) = await find_devices(ours, Scope(timeout=1.0))
        assert (found.device_id, found.address) == (777, "127.0.0.77")
        assert bbmd.broadcasts == 2


@pytest.mark.parametrize("refusal", [0x30, None], ids=["refused", "silent"])
async def test_a_registration_that_fails_is_told_and_made_later(bbmd: Bbmd, refusal: int | None) -> None:
    """bacpypes3 alone stays deaf after a refusal: every later acknowledgement is ignored."""
    bbmd.answer = refusal
    async with client() as ours:
        word = "refused the registration (result 0x0030)" if refusal else "does not answer"
        await until(lambda: word in (ours.unregistered or ""), "it is told")
        await until(lambda: len(bbmd.registrations) > 3, "it is tried again")
        assert ours.unregistered is not None
        bbmd.answer = 0
        await registered(ours)


@pytest.mark.parametrize("refusal", [0x30, None], ids=["refused", "silent"])
async def test_a_registration_that_is_lost_is_told_and_made_again(bbmd: Bbmd, refusal: int | None) -> None:
    async with client() as ours:
        await registered(ours)
        bbmd.answer = refusal
        await until(lambda: ours.unregistered is not None, "its loss is seen")
        bbmd.answer = 0
        await registered(ours)
        before = len(bbmd.registrations)
        await until(lambda: len(bbmd.registrations) > before, "and it is renewed again")
        assert ours.unregistered is None


async def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(UnavailableError, match="BACPIPES_BACNET_BBMD"):
        async with BacnetClient(f"{LOOPBACK}:{OURS}", bbmd="banana"):
            pass
