"""The simulated building over real BACnet/IP packets: what a controller does, answers and refuses."""

import math
from collections.abc import AsyncIterator

import pytest
from bacpypes3.apdu import WritePropertyMultipleRequest
from bacpypes3.basetypes import PropertyValue, WriteAccessSpecification
from bacpypes3.constructeddata import Any as AnyValue
from bacpypes3.pdu import Address
from bacpypes3.primitivedata import CharacterString, Real
from peer.bacnet_client import PORT, RELEASE, Client, answer, until

from bacpipes.errors import InputError, UnavailableError
from bacpipes.simulator import Building
from bacpipes.simulator.objects import Commanded

AHU, CHILLER, BOX = 12345, 67890, 30001
HUMIDITY_SP = "analog-value,120"


@pytest.fixture
async def building() -> AsyncIterator[Building]:
    async with Building(base="127.0.20.1", port=PORT, vavs=1, tick=0.05, speed=100) as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with Client() as running:
        yield running


async def test_every_device_answers_who_is_with_its_number(building: Building, client: Client) -> None:
    for device_id in building.devices:
        assert await client.who_is(building.address(device_id), device_id) == [(device_id, 1476, "segmented-both")]


async def test_every_point_reads_as_declared(building: Building, client: Client) -> None:
    for device in building.devices.values():
        objects: list[object] = []
        for point in device.plan.points:
            objects += [point.object.replace(":", ","), ["present-value", "object-name", "status-flags"]]
        answers = await client.read_many(device.plan.address, *objects)
        assert len(answers) == 3 * len(device.plan.points)
        names = [value for _, prop, _, value in answers if str(prop) == "object-name"]
        assert names == [point.name for point in device.plan.points]
        for _, prop, _, value in answers:
            if str(prop) == "present-value":
                assert math.isfinite(float(value))
            if str(prop) == "status-flags":
                assert list(value) == [0, 0, 0, 0]


async def test_properties_of_a_setpoint(building: Building, client: Client) -> None:
    address = building.address(AHU)
    assert await client.read(address, HUMIDITY_SP) == 60
    assert await client.read(address, HUMIDITY_SP, "min-pres-value") == 0
    assert await client.read(address, HUMIDITY_SP, "max-pres-value") == 100
    assert await client.read(address, HUMIDITY_SP, "relinquish-default") == 60
    assert str(await client.read(address, HUMIDITY_SP, "units")) == "percent-relative-humidity"
    assert len(await client.read(address, HUMIDITY_SP, "priority-array")) == 16
    assert await client.read(address, "multi-state-value,403", "number-of-states") == 3
    assert list(await client.read(address, "multi-state-value,403", "state-text")) == [
        "occupied",
        "standby",
        "unoccupied",
    ]
    assert await answer(client.read(address, "analog-input,101", "priority-array")) == "unknown-property"
    assert await answer(client.read(address, "analog-input,999")) == "unknown-object"


async def test_the_device_says_what_it_can(building: Building, client: Client) -> None:
    address = building.address(AHU)
    assert len(await client.read(address, f"device,{AHU}", "object-list")) == 48
    types = await client.read(address, f"device,{AHU}", "protocol-object-types-supported")
    assert [number for number, bit in enumerate(types) if bit] == [0, 1, 2, 3, 4, 5, 8, 13, 14, 19]
    services = await client.read(address, f"device,{AHU}", "protocol-services-supported")
    assert (services[14], services[15], services[35]) == (1, 1, 0)
    assert await client.read(address, "device,4194303", "object-name") == "AHU-1"


async def test_the_highest_priority_wins_and_a_release_gives_way(building: Building, client: Client) -> None:
    address = building.address(AHU)
    for obj, value in (
        ("analog-value,120", 45.5),
        ("analog-output,203", 75.0),
        ("binary-value,322", 0),
        ("binary-output,311", 0),
        ("multi-state-value,403", 3),
        ("multi-state-output,402", 3),
    ):
        point = building.commanded(AHU, *_split(obj))
        await client.write(address, obj, value, priority=8)
        await client.write(address, obj, value, priority=3)
        assert await client.read(address, obj) == value, obj
        assert (point.slot(3), point.slot(8)) == (value, value), obj
        await client.write(address, obj, RELEASE, priority=3)
        assert (point.slot(3), point.value) == (None, value), obj
        await client.write(address, obj, RELEASE, priority=8)
        assert all(point.slot(priority) is None for priority in range(1, 16)), obj
    assert [w.outcome for w in building.writes] == ["ok"] * 24


REFUSED: tuple[tuple[str, float, int | None, str], ...] = (
    ("analog-input,101", 20.0, 8, "write-access-denied"),
    ("binary-input,301", 1, 8, "write-access-denied"),
    ("multi-state-input,401", 1, 8, "write-access-denied"),
    ("analog-value,126", 20.0, None, "write-access-denied"),
    ("analog-value,120", 100.1, 8, "value-out-of-range"),
    ("analog-value,120", -0.1, 8, "value-out-of-range"),
    ("analog-value,120", math.nan, 8, "value-out-of-range"),
    ("analog-value,120", math.inf, 8, "value-out-of-range"),
    ("analog-output,203", 101.0, 8, "value-out-of-range"),
    ("binary-value,321", 7, 8, "value-out-of-range"),
    ("binary-value,321", 1, 6, "write-access-denied"),
    ("multi-state-value,403", 0, 8, "value-out-of-range"),
    ("multi-state-value,403", 4, 8, "value-out-of-range"),
    ("analog-value,120", 50.0, 17, "parameter-out-of-range"),
    ("analog-value,999", 50.0, 8, "unknown-object"),
)


async def test_what_a_controller_refuses(building: Building, client: Client) -> None:
    for obj, value, priority, expected in REFUSED:
        assert await answer(client.write(building.address(AHU), obj, value, priority)) == expected, (obj, value)
    assert len(building.writes) == len(REFUSED)
    assert all(w.outcome != "ok" for w in building.writes)
    for device in building.devices.values():
        for point in device.points.values():
            if isinstance(point, Commanded):
                assert all(point.slot(priority) is None for priority in range(1, 16))


async def test_other_properties_cannot_be_written(building: Building, client: Client) -> None:
    address = building.address(AHU)
    assert await answer(client.write(address, HUMIDITY_SP, 10.0, prop="relinquish-default")) == "write-access-denied"
    name = CharacterString("mine")
    assert await answer(client.write(address, HUMIDITY_SP, name, prop="object-name")) == "write-access-denied"
    assert await answer(client.write(address, f"device,{AHU}", name, prop="object-name")) == "write-access-denied"
    assert await answer(client.write(address, "analog-input,101", 9.0, prop="high-limit")) == "write-access-denied"


async def test_a_wrong_data_type_is_named(building: Building, client: Client) -> None:
    request = _multiple(building.address(AHU), "analog-value,120", CharacterString("hot"))
    assert await answer(client.app.request(request)) == "invalid-data-type"
    assert building.object(AHU, "analog-value", 120).value == 60


async def test_several_writes_at_once(building: Building, client: Client) -> None:
    good = _multiple(building.address(AHU), "analog-value,120", Real(52.0))
    assert await answer(client.app.request(good)) == "ok"
    assert building.commanded(AHU, "analog-value", 120).slot(8) == 52
    bad = _multiple(building.address(AHU), "analog-input,101", Real(52.0))
    assert await answer(client.app.request(bad)) == "write-access-denied"
    assert [w.outcome for w in building.writes] == ["ok", "writeAccessDenied"]


async def test_reading_is_no_writing(building: Building, client: Client) -> None:
    await client.read(building.address(AHU), HUMIDITY_SP)
    await client.read_many(building.address(AHU), HUMIDITY_SP, ["all"])
    assert building.writes == []


async def test_an_input_out_of_service_can_be_set(building: Building, client: Client) -> None:
    address = building.address(AHU)
    await client.write(address, "analog-input,101", True, prop="out-of-service")
    await client.write(address, "analog-input,101", 42.0)
    assert await client.read(address, "analog-input,101") == 42
    assert list(await client.read(address, "analog-input,101", "status-flags"))[3] == 1
    await client.write(address, "analog-input,101", False, prop="out-of-service")
    await until(lambda: building.object(AHU, "analog-input", 101).value < 20)


# --- physics over the network ---


async def test_a_moved_setpoint_moves_the_temperature_that_follows_it(building: Building, client: Client) -> None:
    supply = building.object(AHU, "analog-input", 101)
    assert supply.value == pytest.approx(14, abs=0.5)
    await client.write(building.address(AHU), "analog-value,121", 18.0, priority=8)
    await until(lambda: abs(supply.value - 18) < 0.2)
    await client.write(building.address(AHU), "analog-value,121", RELEASE, priority=8)
    await until(lambda: abs(supply.value - 14) < 0.2)


async def test_a_room_and_the_humidity_follow_too(building: Building, client: Client) -> None:
    await client.write(building.address(BOX), "analog-value,21", 24.0, priority=8)
    await client.write(building.address(AHU), HUMIDITY_SP, 50.0, priority=8)
    await until(lambda: building.object(BOX, "analog-input", 1).value > 23.5)
    await until(lambda: building.object(AHU, "analog-input", 105).value < 50.5)


async def test_switching_the_unit_off_is_seen_in_all_that_hangs_on_it(building: Building, client: Client) -> None:
    await client.write(building.address(AHU), "binary-value,321", 0, priority=8)
    await until(lambda: building.object(AHU, "binary-input", 301).value == 0)
    await until(lambda: building.object(AHU, "analog-input", 101).value > 22)
    await until(lambda: building.object(BOX, "analog-input", 3).value < 5)
    assert building.object(AHU, "multi-state-input", 401).value == 1


async def test_an_alarm_limit_raises_the_in_alarm_flag(building: Building, client: Client) -> None:
    building.commanded(AHU, "analog-value", 120).command(8, 96.0)  # return humidity is in alarm above 90 %
    humidity = building.object(AHU, "analog-input", 105)
    await until(lambda: humidity.value > 90)
    address = building.address(AHU)
    assert list(await client.read(address, "analog-input,105", "status-flags")) == [1, 0, 0, 0]
    assert str(await client.read(address, "analog-input,105", "event-state")) == "high-limit"


async def test_speed_nought_stops_time() -> None:
    async with Building(base="127.0.20.1", port=PORT, tick=0.01, speed=0) as still:
        meter = still.object(40001, "analog-input", 2)
        before, clock = meter.value, still.plan.weather.clock
        for _ in range(5):
            still.step(0)
        assert (meter.value, still.plan.weather.clock) == (before, clock)


# --- change of value ---


async def test_a_subscriber_hears_of_a_changed_value(building: Building, client: Client) -> None:
    address = Address(building.address(AHU))
    identifier = await client.app.parse_object_identifier(HUMIDITY_SP)
    async with client.app.change_of_value(address, identifier, 1, False, 60) as subscription:
        first = [await subscription.get_value() for _ in range(2)]
        assert {str(prop): value for prop, value in first}["present-value"] == 60
        building.commanded(AHU, "analog-value", 120).command(8, 70)
        second = [await subscription.get_value() for _ in range(2)]
        assert {str(prop): value for prop, value in second}["present-value"] == 70


async def test_a_subscriber_hears_of_a_fault_though_the_value_stands_still(building: Building, client: Client) -> None:
    address = Address(building.address(AHU))
    identifier = await client.app.parse_object_identifier("binary-value,322")
    async with client.app.change_of_value(address, identifier, 2, True, 60) as subscription:
        first = dict([await subscription.get_value() for _ in range(2)])
        building.fault("unreliable", f"{AHU}:binary-value:322")
        second = dict([await subscription.get_value() for _ in range(2)])
    flags = [
        {str(prop): list(value) for prop, value in seen.items() if str(prop) == "status-flags"}
        for seen in (first, second)
    ]
    assert flags == [{"status-flags": [0, 0, 0, 0]}, {"status-flags": [0, 1, 0, 0]}]


async def test_less_than_the_increment_is_not_told(building: Building, client: Client) -> None:
    address = Address(building.address(AHU))
    identifier = await client.app.parse_object_identifier("analog-value,120")  # increment 0.1
    point = building.commanded(AHU, "analog-value", 120)
    async with client.app.change_of_value(address, identifier, 3, False, 60) as subscription:
        for _ in range(2):
            await subscription.get_value()
        point.command(8, 60.05)
        point.command(8, 60.5)
        told = dict([await subscription.get_value() for _ in range(2)])
        assert {str(prop): value for prop, value in told.items()}["present-value"] == pytest.approx(60.5)
        assert subscription.queue.empty()


# --- the building itself ---


async def test_two_buildings_cannot_share_an_address(building: Building) -> None:
    with pytest.raises(UnavailableError, match=rf"127\.0\.20\.1:{PORT}"):
        async with Building(base="127.0.20.1", port=PORT):
            pass
    async with Building(base="127.0.20.101", port=PORT, vavs=1) as other:  # the first one's failure left nothing behind
        assert len(other.devices) == 7
    assert len(building.devices) == 7


async def test_the_address_is_free_again_afterwards() -> None:
    for _ in range(2):
        async with Building(base="127.0.20.1", port=PORT, vavs=1):
            pass


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError):
        Building(tick=0)
    with pytest.raises(InputError):
        Building(speed=-1)


def _split(obj: str) -> tuple[str, int]:
    kind, instance = obj.split(",")
    return kind, int(instance)


def _multiple(address: str, obj: str, value: object) -> WritePropertyMultipleRequest:
    item = PropertyValue(propertyIdentifier="present-value", value=AnyValue(value), priority=8)
    spec = WriteAccessSpecification(objectIdentifier=obj, listOfProperties=[item])
    return WritePropertyMultipleRequest(listOfWriteAccessSpecs=[spec], destination=Address(address))
