"""Faults on command, each seen from the network: as it is while it lasts, and as it was afterwards."""

import asyncio
import math
import time
from collections.abc import AsyncIterator

import pytest
from bacpypes3.apdu import ReadPropertyRequest
from bacpypes3.pdu import Address
from bacpypes3.primitivedata import Null
from peer.bacnet_client import PORT, RELEASE, Client, answer, until

from bacpipes.errors import InputError
from bacpipes.objects import Kind
from bacpipes.simulator import Building

AHU, OTHER = 12345, 12346
SUPPLY, HUMIDITY_SP = "analog-input,101", "analog-value,120"


@pytest.fixture
async def building() -> AsyncIterator[Building]:
    async with Building(base="127.0.20.1", port=PORT, vavs=1, tick=0.05, speed=100) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client() as running:
        yield running


async def flags(client: Client, building: Building, obj: str) -> list[int]:
    return list(await client.read(building.address(AHU), obj, "status-flags"))


async def test_silent(building: Building, client: Client) -> None:
    client.impatient()
    building.fault("silent", AHU)
    assert await client.who_is(building.address(AHU), AHU, 0.3) == []
    assert await answer(client.read(building.address(AHU), SUPPLY)) == "no-response"
    assert await answer(client.write(building.address(AHU), HUMIDITY_SP, 50.0, 8)) == "no-response"
    assert building.writes == []  # it did not even hear it
    assert len(await client.who_is(building.address(OTHER), OTHER)) == 1
    building.clear("silent")
    assert len(await client.who_is(building.address(AHU), AHU)) == 1


async def test_a_silent_device_tells_its_subscribers_nothing(building: Building, client: Client) -> None:
    identifier = await client.app.parse_object_identifier(HUMIDITY_SP)
    address = Address(building.address(AHU))
    async with client.app.change_of_value(address, identifier, 1, False, 60) as subscription:
        for _ in range(2):
            await subscription.get_value()
        building.fault("silent", AHU)
        building.commanded(AHU, "analog-value", 120).command(8, 70)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(subscription.get_value(), 0.5)
        building.clear()


async def test_no_rpm(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("no-rpm", AHU)
    assert await answer(client.read_many(address, SUPPLY, ["present-value"])) == "unrecognized-service"
    assert (await client.read(address, f"device,{AHU}", "protocol-services-supported"))[14] == 0
    assert math.isfinite(await client.read(address, SUPPLY))
    building.clear("no-rpm", AHU)
    assert len(await client.read_many(address, SUPPLY, ["present-value"])) == 1


async def test_small_apdu_answers_too_long_are_aborted(building: Building, client: Client) -> None:
    address = building.address(AHU)
    objects = [point.object.replace(":", ",") for point in building.devices[AHU].plan.points if point.instance < 120]

    def batch(count: int) -> list[object]:
        return [item for obj in objects[:count] for item in (obj, ["present-value", "status-flags"])]

    assert await answer(client.read_many(address, *batch(19))) == "ok"
    building.fault("small-apdu", AHU, 206)
    assert await answer(client.read_many(address, *batch(8))) == "ok"
    assert await answer(client.read_many(address, *batch(9))) == "segmentation-not-supported"
    assert await answer(client.read(address, f"device,{AHU}", "object-list")) == "segmentation-not-supported"
    assert await client.read(address, f"device,{AHU}", "max-apdu-length-accepted") == 206
    assert str(await client.read(address, f"device,{AHU}", "segmentation-supported")) == "no-segmentation"
    building.clear()
    assert await answer(client.read_many(address, *batch(19))) == "ok"


async def test_small_apdu_requests_too_long_are_aborted(building: Building, client: Client) -> None:
    address = building.address(AHU)
    many = [item for _ in range(40) for item in (SUPPLY, ["present-value"])]
    building.fault("small-apdu", AHU, 128)
    assert await answer(client.read_many(address, *many)) == "buffer-overflow"
    assert await answer(client.read(address, SUPPLY)) == "ok"


async def test_small_apdu_is_480_by_default_and_seen_in_i_am(building: Building, client: Client) -> None:
    building.fault("small-apdu", AHU)
    assert await client.who_is(building.address(AHU), AHU) == [(AHU, 480, "no-segmentation")]


async def test_late(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("late", AHU, 1.5)
    begin = time.monotonic()
    await client.read(address, SUPPLY)
    assert time.monotonic() - begin >= 1.5
    building.clear()
    begin = time.monotonic()
    await client.read(address, SUPPLY)
    assert time.monotonic() - begin < 1.4


async def test_later_than_the_client_waits_a_write_has_happened_all_the_same(
    building: Building, client: Client
) -> None:
    client.impatient()
    building.fault("late", AHU, 30)
    assert await answer(client.write(building.address(AHU), HUMIDITY_SP, 50.0, 8)) == "no-response"
    await until(lambda: building.commanded(AHU, "analog-value", 120).slot(8) == 50)


async def test_unreliable(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("unreliable", f"{AHU}:analog-input:101")
    assert await flags(client, building, SUPPLY) == [0, 1, 0, 0]
    assert str(await client.read(address, SUPPLY, "reliability")) == "no-sensor"
    building.commanded(AHU, "analog-value", 121).command(8, 20)
    await until(lambda: building.devices[AHU].plan.parts[0].model.supply_temp > 18)  # type: ignore[attr-defined]
    assert await client.read(address, SUPPLY) == pytest.approx(14, abs=0.5)  # the last good value stands still
    building.fault("unreliable", f"{AHU}:analog-input:101", "over-range")
    assert str(await client.read(address, SUPPLY, "reliability")) == "over-range"
    assert len(building.faults) == 1
    building.clear()
    assert await flags(client, building, SUPPLY) == [0, 0, 0, 0]
    await until(lambda: building.object(AHU, "analog-input", 101).value > 18)


async def test_deny_write(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("deny-write", f"{AHU}:analog-value:120")
    assert await answer(client.write(address, HUMIDITY_SP, 50.0, 8)) == "write-access-denied"
    assert await answer(client.write(address, HUMIDITY_SP, RELEASE, 8)) == "write-access-denied"
    assert await answer(client.write(address, "analog-value,121", 15.0, 8)) == "ok"
    assert await client.read(address, HUMIDITY_SP) == 60
    building.clear("deny-write")
    assert await answer(client.write(address, HUMIDITY_SP, 50.0, 8)) == "ok"


async def test_nan(building: Building, client: Client) -> None:
    for obj in (SUPPLY, HUMIDITY_SP):
        await _nan(building, client, obj)


async def _nan(building: Building, client: Client, obj: str) -> None:
    address = building.address(AHU)
    building.fault("nan", f"{AHU}:{obj.replace(',', ':')}")
    assert math.isnan(await client.read(address, obj))
    ((_, _, _, value),) = await client.read_many(address, obj, ["present-value"])
    assert math.isnan(value)
    await asyncio.sleep(0.2)  # several steps of the physics
    assert math.isnan(await client.read(address, obj))
    building.clear("nan")
    kind, instance = obj.split(",")
    await until(lambda: math.isfinite(building.object(AHU, kind, int(instance)).value))
    assert building.object(AHU, "analog-input", 101).value == pytest.approx(14, abs=1)


async def test_nan_in_any_commandable_does_not_break_the_physics(building: Building) -> None:
    targets = [
        f"{device.device_id}:{point.object}"
        for device in building.devices.values()
        for point in device.plan.points
        if point.commandable and point.type.kind is Kind.ANALOG
    ]
    for target in targets:
        building.fault("nan", target)
    for _ in range(5):
        building.step(5)
    building.clear()
    building.step(5)
    assert all(math.isfinite(p.value) for device in building.devices.values() for p in device.points.values())
    await until(lambda: abs(building.object(AHU, "analog-input", 101).value - 14) < 0.5)


async def test_null(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("null", f"{AHU}:analog-input:101")
    assert isinstance(await client.read(address, SUPPLY), Null)
    building.clear()
    assert math.isfinite(await client.read(address, SUPPLY))


async def test_missing(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("missing", f"{AHU}:analog-input:101")
    assert await answer(client.read(address, SUPPLY)) == "unknown-object"
    many = await client.read_many(address, SUPPLY, ["present-value"], HUMIDITY_SP, ["present-value"])
    assert str(many[0][3].errorCode) == "unknown-object"
    assert many[1][3] == 60
    building.clear()
    assert await answer(client.read(address, SUPPLY)) == "ok"


async def test_hold_is_somebody_else(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("hold", f"{AHU}:analog-value:120", 8, 55)
    assert await client.read(address, HUMIDITY_SP) == 55
    await client.write(address, HUMIDITY_SP, 70.0, 10)
    assert await client.read(address, HUMIDITY_SP) == 55
    assert [w.priority for w in building.writes] == [10]  # the hold is not counted: nobody wrote it over the network
    building.fault("hold", f"{AHU}:analog-value:120", 5, 52)
    assert len(building.faults) == 2
    assert await client.read(address, HUMIDITY_SP) == 52
    building.clear("hold")
    assert await client.read(address, HUMIDITY_SP) == 70


async def test_hold_on_an_output_moves_the_physics(building: Building) -> None:
    building.fault("hold", f"{AHU}:ao:203", 8, 0)
    await until(lambda: building.object(AHU, "analog-input", 101).value > 18)
    building.clear()
    await until(lambda: building.object(AHU, "analog-input", 101).value < 15)


async def test_overridden(building: Building, client: Client) -> None:
    address = building.address(AHU)
    building.fault("overridden", f"{AHU}:analog-value:120", 33)
    assert await flags(client, building, HUMIDITY_SP) == [0, 0, 1, 0]
    assert await answer(client.write(address, HUMIDITY_SP, 70.0, 1)) == "ok"  # accepted, and without effect
    assert await client.read(address, HUMIDITY_SP) == 33
    building.clear()
    assert await flags(client, building, HUMIDITY_SP) == [0, 0, 0, 0]
    assert await client.read(address, HUMIDITY_SP) == 70


async def test_a_fan_switched_off_by_hand_stops(building: Building) -> None:
    building.fault("overridden", f"{AHU}:binary-output:311", 0)
    await until(lambda: building.object(AHU, "binary-input", 301).value == 0)
    building.clear()
    await until(lambda: building.object(AHU, "binary-input", 301).value == 1)


async def test_out_of_service(building: Building, client: Client) -> None:
    building.fault("out-of-service", f"{AHU}:analog-input:101", 99)
    assert await flags(client, building, SUPPLY) == [0, 0, 0, 1]
    await asyncio.sleep(0.2)
    assert await client.read(building.address(AHU), SUPPLY) == 99
    building.clear()
    assert await flags(client, building, SUPPLY) == [0, 0, 0, 0]
    await until(lambda: building.object(AHU, "analog-input", 101).value < 20)


async def test_a_point_by_its_haystack_name(building: Building) -> None:
    fault = building.fault("nan", "duxton.ahu.1.sensor.temp.air.supply.actual")
    assert str(fault) == f"nan {AHU}:analog-input:101"
    assert math.isnan(building.object(AHU, "analog-input", 101).value)


async def test_clear_takes_only_what_it_is_told(building: Building) -> None:
    for kind, target in (("silent", AHU), ("no-rpm", AHU), ("silent", OTHER), ("nan", f"{AHU}:ai:101")):
        building.fault(kind, target)
    assert [str(f) for f in building.clear("silent", OTHER)] == [f"silent {OTHER}"]
    assert [f.kind for f in building.clear(target=AHU)] == ["silent", "no-rpm", "nan"]
    assert building.clear() == []


NONSENSE: tuple[tuple[str, int | str, tuple[str | float, ...]], ...] = (
    ("silent", 99, ()),
    ("silent", "12345:analog-input:101", ()),
    ("silent", AHU, ("now",)),
    ("small-apdu", AHU, ("few",)),
    ("small-apdu", AHU, (20,)),
    ("late", AHU, ()),
    ("late", AHU, (-1,)),
    ("nan", AHU, ()),
    ("nan", "12345:analog-input:9999", ()),
    ("nan", "12345:binary-input:301", ()),
    ("nan", "no.such.point.in.this.building.at.all", ()),
    ("unreliable", "12345:analog-input:101", ("tired",)),
    ("unreliable", "12345:analog-input:101", ("no-fault-detected",)),
    ("hold", "12345:analog-value:120", (8,)),
    ("hold", "12345:analog-value:120", (17, 50)),
    ("hold", "12345:analog-input:101", (8, 50)),
    ("hold", "12345:multi-state-value:403", (8, 4)),
    ("overridden", "12345:binary-output:311", (5,)),
    ("explode", AHU, ()),
)


async def test_nonsense_is_refused_and_changes_nothing(building: Building) -> None:
    for kind, target, arguments in NONSENSE:
        with pytest.raises(InputError):
            building.fault(kind, target, *arguments)
        assert building.faults == [], (kind, target)
    with pytest.raises(InputError):
        building.clear("explode")


async def test_a_late_device_is_late_for_each_request_alone(building: Building, client: Client) -> None:
    building.fault("late", AHU, 1)
    begin = time.monotonic()
    requests = [
        client.app.request(
            ReadPropertyRequest(
                objectIdentifier=SUPPLY,
                propertyIdentifier="present-value",
                destination=Address(building.address(AHU)),
            )
        )
        for _ in range(5)
    ]
    await asyncio.gather(*requests)
    assert 1 <= time.monotonic() - begin < 4  # five of them one after the other would take 5 s
