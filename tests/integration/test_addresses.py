"""Devices that move, numbers that stand twice, and I-Am that anybody may send."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from bacpypes3.pdu import Address

from accounts import account, gaps_of_another_reason, lost, settled
from bacpipes.doctor import examine
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.points.rows import canonical_address
from bacpipes.settings import Settings
from bacpipes.simulator.building import Building
from bacpipes.worker import addresses
from mqtt_parts import until
from site_parts import AHU, BASE, Site

OTHER_BASE = BASE.rsplit(".", 1)[0] + ".101"
MOVED = "SELECT address FROM device WHERE device_id = %s"


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(addresses, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(addresses, "AGAIN", 0.5)
    quick = settings.model_copy(update={"bacnet_timeout": 0.5, "bacnet_retries": 0})
    async with Site(quick, broker) as site:
        site.start_worker()
        await site.readings(2)
        yield site


@pytest.fixture
async def other() -> AsyncIterator[Building]:
    """A second building, whose devices have the same numbers at other addresses."""
    async with Building(base=OTHER_BASE, vavs=1, tick=0.1) as building:
        yield building


def where(building: Building) -> str:
    """Its device's address as a points file has it."""
    return canonical_address(building.address(AHU))


def announce(building: Building, site: Site) -> None:
    building.devices[AHU].i_am(Address(site.settings.bacnet_address))


async def metrics(site: Site) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text


async def shows(site: Site, text: str) -> None:
    for _ in range(1000):
        if text in await metrics(site):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"{text} is not in the metrics")


async def test_a_number_at_a_second_address_is_reported_and_not_followed(site: Site, other: Building) -> None:
    announce(other, site)
    await shows(site, f'bacpipes_device_double{{address="{where(other)}",device="{AHU}"}} 1.0')
    found = [one.text for one in await examine(site.settings) if one.subject == "device"]
    assert any(f"another device with this number is at {where(other)}" in text for text in found), found
    assert site.one(MOVED, AHU) == (where(site.building),)
    moment = await settled(site)
    assert (account(site, moment).lost, gaps_of_another_reason(site)) == (0, [])


async def test_a_device_that_moved_is_followed_and_loses_nothing(site: Site, other: Building) -> None:
    site.building.fault("silent", AHU)
    announce(other, site)  # before the polls have seen that it is gone
    await until(lambda: site.one(MOVED, AHU) == (where(other),), "its new address is kept", 30)
    good = "SELECT count(*) FROM last_value WHERE quality = 0"
    points = site.one("SELECT count(*) FROM point WHERE enabled")
    await until(lambda: site.one(good) == points, "it is polled there", 30)
    detail = {"from": where(site.building), "to": where(other)}
    assert site.one("SELECT detail FROM audit WHERE action = 'device.moved'") == (detail,)
    moment = await settled(site)
    found = account(site, moment)
    assert (found.lost, found.twice) == (0, 0), lost(site, moment)


async def test_another_make_under_its_number_is_not_followed(site: Site, other: Building) -> None:
    """Somebody else's device takes the number while ours is switched off: it must not be written to."""
    await until(lambda: site.one("SELECT vendor FROM device") != (None,), "the device said who it is")
    site.database.execute("UPDATE device SET model = 'something else'")
    site.building.fault("silent", AHU)
    silent = "SELECT count(*) FROM last_value WHERE reason LIKE 'silent device%%'"
    await until(lambda: site.one(silent)[0] > 0, "it is silent", 30)
    for _ in range(20):
        announce(other, site)
        await asyncio.sleep(0.1)
    assert site.one(MOVED, AHU) == (where(site.building),)
    assert len(other.writes) == 0


def i_am(number: int) -> bytes:
    """An I-Am as it is on the wire (ASHRAE 135, clause 16.10.1)."""
    identifier = ((8 << 22) | number).to_bytes(4, "big")
    return bytes.fromhex("810b0018 0120ffff00ff1000c4".replace(" ", "")) + identifier + bytes.fromhex("2201e09103210f")


async def test_a_flood_of_i_am_is_counted_and_polling_goes_on(settings: Settings, broker: EmbeddedBroker) -> None:
    async with Site(settings, broker) as site:
        worker = site.spawn_worker(BACPIPES_BACNET_TIMEOUT="1", BACPIPES_BACNET_RETRIES="5")
        await site.readings(2)
        host, port = site.settings.bacnet_address.split(":")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((f"{BASE.rsplit('.', 1)[0]}.200", 0))
            sent = 0
            while await heard(site) < 3000:  # a socket's buffer holds only so many at once
                for number in range(sent, sent + 100):
                    sender.sendto(i_am(number if number % 3 else AHU), (host, int(port)))
                sent += 100
                assert sent < 100_000
                await asyncio.sleep(0.05)  # two thousand a second
        assert "bacpipes_device_double{" not in await metrics(site), "nobody answers where they came from"
        moment = await settled(site)
        found = account(site, moment)
        assert (found.lost, found.twice) == (0, 0), lost(site, moment)
        odd = "SELECT count(*) FROM reading WHERE quality <> 0 AND reason !~ '^(no answer|silent device)'"
        assert site.one(odd) == (0,), "an answer may have had no room beside all that; nothing else may be"
        assert site.one(MOVED, AHU) == (where(site.building),)
        worker.terminate()
        _, log = await asyncio.to_thread(worker.communicate)
        assert log.count("flood of I-Am: failed") <= 2, log[-4000:]  # not one for each
        assert len(log.splitlines()) < 30, log[-4000:]


async def heard(site: Site) -> float:
    (line,) = [line for line in (await metrics(site)).splitlines() if line.startswith("bacpipes_i_am_total")]
    return float(line.split()[1])
