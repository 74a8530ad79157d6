"""Discovery of the simulated building, whole and broken in several ways, over real UDP."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from bacpypes3.local.analog import AnalogValueObject
from click.testing import CliRunner, Result

from bacpipes.bacnet.answers import PropertyResult
from bacpipes.bacnet.application import IAm
from bacpipes.bacnet.client import BacnetClient
from bacpipes.cli.discover import discover as command
from bacpipes.discovery import DeviceFound, DeviceRead, Event, ObjectRead, Problem, Scope, discover
from bacpipes.errors import UnavailableError
from bacpipes.points.csv_file import read_points
from bacpipes.points.importer import import_points
from bacpipes.points.rows import Key, PointRow
from bacpipes.simulator import Building

US = "127.0.21.200/32:47809"
BASE = "127.0.21.1"
DEAD = "127.0.21.99"


@pytest.fixture
async def building() -> AsyncIterator[Building]:
    async with Building(base=BASE, vavs=1, tick=60) as building:
        yield building


@pytest.fixture
async def client() -> AsyncIterator[BacnetClient]:
    async with BacnetClient(US, timeout=0.5, retries=1) as client:
        yield client


def scope(building: Building, *devices: int, more: tuple[str, ...] = (), timeout: float = 2.0) -> Scope:
    addresses = [building.address(number) for number in devices or building.devices]
    return Scope(addresses=(*addresses, *more), timeout=timeout)


async def events_of(client: BacnetClient, where: Scope) -> list[Event]:
    return [event async for event in discover(client, where)]


def rows(events: list[Event]) -> dict[Key, PointRow]:
    return {event.row.key: event.row for event in events if isinstance(event, ObjectRead)}


def problems(events: list[Event]) -> list[tuple[int | None, str]]:
    return [(event.device_id, event.text) for event in events if isinstance(event, Problem)]


def declared(building: Building, tmp_path: Path) -> dict[Key, PointRow]:
    """The building's points as its own CSV file declares them."""
    path = tmp_path / "declared.csv"
    building.write_points(path)
    file = read_points(io.BytesIO(path.read_bytes()), "declared.csv", building.plan.site)
    assert file.problems.errors == 0
    return {row.key: row for row in file.rows}


async def test_finds_what_the_building_declares(building: Building, client: BacnetClient, tmp_path: Path) -> None:
    events = await events_of(client, scope(building))
    found, wanted = rows(events), declared(building, tmp_path)
    assert problems(events) == []
    assert found.keys() == wanted.keys()
    for key, row in found.items():
        expected = wanted[key]
        assert (row.device_name, row.address) == (expected.device_name, expected.address)
        assert (row.name, row.dis, row.units, row.states) == (
            expected.name, expected.dis, expected.units, expected.states,
        )  # fmt: skip
        assert row.equipment is None
        assert row.enabled is None
    for device in building.plan.devices:
        for point in device.points:
            row = found[device.device_id, point.object.split(":")[0], int(point.object.split(":")[1])]
            assert row.writable == point.commandable, row
            if expected_limits := wanted[row.key].minimum is not None:
                assert expected_limits
                assert (row.minimum, row.maximum) == (wanted[row.key].minimum, wanted[row.key].maximum)


async def test_tells_who_the_devices_are_before_their_objects(building: Building, client: BacnetClient) -> None:
    events = await events_of(client, scope(building, 12345))
    assert [type(event) for event in events[:3]] == [DeviceFound, DeviceRead, ObjectRead]
    read = events[1]
    assert isinstance(read, DeviceRead)
    assert (read.name, read.vendor, read.points) == ("AHU-1", "BacPipes", len(events) - 2)


@pytest.mark.parametrize("fault", [("no-rpm",), ("small-apdu", 480), ("small-apdu", 128), ("small-apdu", 50)])
async def test_falls_back_as_far_as_a_device_needs_it(
    building: Building, client: BacnetClient, fault: tuple[str, ...]
) -> None:
    whole = rows(await events_of(client, scope(building, 12345)))
    building.fault(fault[0], 12345, *fault[1:])
    events = await events_of(client, scope(building, 12345))
    assert problems(events) == []
    assert rows(events) == whole


async def test_a_service_that_a_device_does_not_know_is_asked_for_once(
    building: Building, client: BacnetClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    original = client.read_multiple

    async def counting(address: str, wanted: Any) -> list[PropertyResult]:
        asked.append(address)
        return await original(address, wanted)

    monkeypatch.setattr(client, "read_multiple", counting)
    building.fault("no-rpm", 12345)
    await events_of(client, scope(building, 12345))
    assert len(asked) == 1


async def test_a_device_that_stops_answering_is_told_and_the_others_go_on(
    building: Building, client: BacnetClient
) -> None:
    events: list[Event] = []
    async for event in discover(client, scope(building)):
        events.append(event)
        if isinstance(event, ObjectRead) and event.row.device_id == 12345 and not building.faults:
            building.fault("silent", 12345)
    [(device, text)] = problems(events)
    assert device == 12345
    assert text.startswith("stopped answering after 20 of ")
    expected = {number: len(device.points) for number, device in building.devices.items()} | {12345: 20}
    counts = dict.fromkeys(expected, 0)
    for key in rows(events):
        counts[key[0]] += 1
    assert counts == expected


async def test_an_object_that_is_listed_but_missing_is_told(building: Building, client: BacnetClient) -> None:
    building.fault("missing", "12345:analog-input:101")
    events = await events_of(client, scope(building, 12345))
    assert len(rows(events)) == len(building.devices[12345].points) - len(problems(events))
    assert all("analog-input:101" in text for _, text in problems(events))
    assert (12345, "analog-input", 101) not in rows(events)


async def test_the_flags_of_a_status_are_told(building: Building, client: BacnetClient) -> None:
    building.fault("out-of-service", "12345:analog-input:101")
    events = await events_of(client, scope(building, 12345))
    status = {e.row.key: e.status for e in events if isinstance(e, ObjectRead) and e.status}
    assert status == {(12345, "analog-input", 101): ("out of service",)}


async def test_one_number_at_two_addresses_is_told_and_read_once(building: Building, client: BacnetClient) -> None:
    async with Building(base="127.0.21.31", vavs=1, tick=60) as second:
        where = scope(building, 22011, more=(second.address(22011),))
        events = await events_of(client, where)
    assert len([event for event in events if isinstance(event, DeviceFound)]) == 2
    [(device, text)] = problems(events)
    assert device == 22011
    assert "127.0.21.3 (read) and 127.0.21.33 (left out)" in text
    assert {row.address for row in rows(events).values()} == {"127.0.21.3"}


async def test_a_range_of_numbers_and_a_dead_address(building: Building, client: BacnetClient) -> None:
    everyone = scope(building, more=(DEAD,), timeout=1.0)
    where = Scope(22000, 22011, everyone.addresses, 1.0)
    assert {row.device_id for row in rows(await events_of(client, where)).values()} == {22011}


async def test_without_broadcast_addresses_are_asked_for(client: BacnetClient) -> None:
    with pytest.raises(UnavailableError, match="has no broadcast address"):
        await events_of(client, Scope())


async def test_nothing_is_written(building: Building, client: BacnetClient) -> None:
    await events_of(client, scope(building))
    assert building.writes == []


async def test_leaving_early_ends_all_reading(building: Building, client: BacnetClient) -> None:
    before = asyncio.all_tasks()
    events = discover(client, scope(building))
    async for event in events:
        if isinstance(event, ObjectRead):
            break
    await events.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() - before if "read" in repr(task.get_coro())} == set()


# The command


async def invoke(*arguments: str) -> Result:
    everything = ["--interface", US, "--timeout", "1", *arguments]
    return await asyncio.to_thread(lambda: CliRunner().invoke(command, everything, standalone_mode=False))


async def test_command_writes_a_file_that_only_needs_its_tags(
    building: Building, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACPIPES_BACNET_TIMEOUT", "1")
    path = tmp_path / "found.csv"
    result = await invoke("--range", f"{BASE}-127.0.21.7", "--output", str(path))
    assert result.exit_code == 0, result.output
    total = sum(len(device.points) for device in building.devices.values())
    assert f"7 devices answered, 7 read: {total} of {total} points read." in result.stderr
    file = read_points(io.BytesIO(path.read_bytes()), "found.csv", "duxton")
    assert (len(file.rows), file.problems.kept) == (total, [])
    with psycopg.connect(database_url, autocommit=True) as connection:
        assert len(import_points(connection, file, "duxton").added) == total
        assert connection.execute("SELECT count(*) FROM point WHERE enabled").fetchone() == (0,)
    tagged = path.read_text().replace(",,,,,,,,,60,", ",,ahu,1,,,,,,60,")
    assert tagged != path.read_text()
    assert all(row.enabled is None for row in read_points(io.BytesIO(tagged.encode()), "t", "duxton").rows)


async def test_command_lists_devices_only(building: Building) -> None:
    result = await invoke("--address", "127.0.21.1", "--devices-only")
    [row] = csv.DictReader(io.StringIO(result.stdout))
    assert (row["device_id"], row["device_name"], row["address"]) == ("12345", "AHU-1", "127.0.21.1")
    assert row["points"] == str(len(building.devices[12345].points))


async def test_command_says_when_nobody_answers() -> None:
    result = await invoke("--address", DEAD)
    assert result.return_value == 1
    assert "No device answered" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--low", "5", "--high", "4"), "above --high"),
        (("--range", "127.0.21.9-127.0.21.1"), "begins after its end"),
        (("--range", "127.0.0.0-127.0.255.255"), "at most 4096"),
        (("--range", "127.0.21.1"), "is not FIRST-LAST"),
        (("--address", "plc.example"), "is not ip, ip:port or network:mac"),
        (("--low", "4194303"), "4194302"),
    ],
)
async def test_command_refuses_bad_input(arguments: tuple[str, ...], words: str) -> None:
    result = await invoke(*arguments)
    assert words in str(result.exception)


def i_am(device_id: int, address: str) -> IAm:
    return IAm(device_id, address, 1476, "segmented-both", 999)


def test_two_numbers_at_one_address_are_told() -> None:
    from bacpipes.discovery import _without_doubles

    devices, said = _without_doubles([i_am(1, "10.0.0.1"), i_am(2, "10.0.0.1"), i_am(3, "10.0.0.3")])
    assert [one.device_id for one in devices] == [1, 3]
    assert [problem.device_id for problem in said] == [2]


@pytest.mark.parametrize("fault", [None, ("small-apdu", 480)], ids=["by segments", "by index"])
async def test_an_object_list_of_thousands(
    building: Building, client: BacnetClient, fault: tuple[str, int] | None
) -> None:
    """Twelve thousand octets do not fit one answer: it comes in segments, or element by element."""
    device = building.devices[22011]
    more = [AnalogValueObject(objectIdentifier=f"analog-value,{n}", objectName=f"more-{n}") for n in range(5000, 7400)]
    for one in more:
        device.add_object(one)
    if fault is not None:
        building.fault(fault[0], 22011, str(fault[1]))
    found = [event async for event in discover(client, scope(building, 22011), devices_only=True)]
    (read,) = [event for event in found if isinstance(event, DeviceRead)]
    assert read.points == len(building.devices[22011].points) + len(more)
    assert problems(found) == []
