"""A BACnet stack that we did not write reads, writes and subscribes: what it sees is what we have, and the reverse."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from peer.bacnet_client import CLIENT_PORT, PORT, until

from apart import outside
from bacpipes.simulator import Building

SOURCE = Path(__file__).parent / "peer"
PRESENT_VALUE, PRIORITY_ARRAY, STATUS_FLAGS, UNITS, NAME, STATE_TEXT, OBJECT_LIST = 85, 87, 111, 117, 77, 110, 76
AI, AV, BV, DEVICE, MSV = 0, 2, 5, 8, 19
NULL, REAL, ENUMERATED, UNSIGNED = 0, 4, 9, 2  # BACnet's application tags


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The peer's folder with its stack installed, by npm as the host has it configured."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: no foreign BACnet stack to test against")
    folder = tmp_path_factory.mktemp("peer")
    for name in ("package.json", "peer.js"):
        shutil.copy(SOURCE / name, folder)
    command = ["npm", "install", "--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"]
    environment = os.environ | {"npm_config_update_notifier": "false"}
    result = subprocess.run(outside(command), cwd=folder, env=environment, capture_output=True, text=True, timeout=180)
    if result.returncode:
        pytest.skip(f"npm cannot install the foreign BACnet stack: {result.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
async def building() -> AsyncIterator[Building]:
    async with Building(base="127.0.20.1", port=PORT, vavs=1, tick=0.05, speed=100) as running:
        yield running


async def ask(peer: Path, address: str, *operations: dict[str, Any]) -> list[dict[str, Any]]:
    """Have the peer carry out operations on one device."""
    request = {"address": address, "interface": "127.0.20.250", "port": CLIENT_PORT, "operations": operations}
    process = await asyncio.create_subprocess_exec(
        "node",
        "peer.js",
        cwd=peer,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(json.dumps(request).encode()), 60)
    assert process.returncode == 0, errors.decode()
    answers: list[dict[str, Any]] = json.loads(out)
    return answers


def read(kind: int, instance: int, prop: int = PRESENT_VALUE, **more: Any) -> dict[str, Any]:
    return {"do": "read", "type": kind, "instance": instance, "property": prop, **more}


def write(kind: int, instance: int, tag: int, value: Any, priority: int = 8) -> dict[str, Any]:
    wanted = {"type": tag, "value": value}
    return {"do": "write", "type": kind, "instance": instance, "property": 85, "value": wanted, "priority": priority}


def values(answer: dict[str, Any]) -> list[Any]:
    return [item["value"] for item in answer["ok"]["values"]]


async def test_it_finds_each_device(peer: Path, building: Building) -> None:
    for device_id in (12345, 67890, 40001):
        (found,) = await ask(peer, building.address(device_id), {"do": "whoIs"})
        assert (found["ok"]["deviceId"], found["ok"]["maxApdu"]) == (device_id, 1476)


async def test_it_reads_every_point_as_we_have_it(peer: Path, building: Building) -> None:
    for device in building.devices.values():
        numbers = [(point.type.number, point.instance) for point in device.plan.points]
        wanted = [{"type": t, "instance": i, "properties": [PRESENT_VALUE, NAME, STATUS_FLAGS]} for t, i in numbers]
        batches = [{"do": "readMultiple", "objects": wanted[n : n + 20]} for n in range(0, len(wanted), 20)]
        answers = await ask(peer, device.plan.address, *batches, read(DEVICE, device.device_id, OBJECT_LIST))
        seen = {
            (o["objectId"]["type"], o["objectId"]["instance"]): [item["value"][0]["value"] for item in o["values"]]
            for answer in answers[:-1]
            for o in answer["ok"]["values"]
        }
        assert list(seen) == numbers
        for point in device.plan.points:
            value, name, flags = seen[point.type.number, point.instance]
            assert name == point.name
            assert flags["value"] == [0]
            ours = device.points[point.object].value
            assert value == pytest.approx(ours, rel=0.05, abs=3), point.name  # it moved on meanwhile
        assert len(values(answers[-1])) == len(numbers) + 1


async def test_what_it_writes_we_see_and_what_it_reads_back_we_have(peer: Path, building: Building) -> None:
    answers = await ask(
        peer,
        building.address(12345),
        read(AV, 120, PRIORITY_ARRAY),
        write(AV, 120, REAL, 44.5),
        write(AV, 121, REAL, 16.5, 10),
        write(BV, 322, ENUMERATED, 0),
        write(MSV, 403, UNSIGNED, 3),
        read(AV, 120, PRIORITY_ARRAY),
        read(AV, 120),
        read(MSV, 403, STATE_TEXT),
        read(AV, 120, UNITS),
    )
    assert [a for a in answers if "error" in a] == []
    assert values(answers[0]) == [None] * 16
    assert values(answers[5]) == [None] * 7 + [44.5] + [None] * 8
    assert values(answers[6]) == [44.5]
    assert values(answers[7]) == ["occupied", "standby", "unoccupied"]
    assert values(answers[8]) == [29]  # percent-relative-humidity
    assert building.commanded(12345, "analog-value", 120).slot(8) == 44.5
    assert building.commanded(12345, "analog-value", 121).slot(10) == 16.5
    assert building.commanded(12345, "binary-value", 322).slot(8) == 0
    assert building.commanded(12345, "multi-state-value", 403).slot(8) == 3
    (released,) = await ask(peer, building.address(12345), write(AV, 120, NULL, None))
    assert released == {"ok": None}
    assert building.object(12345, "analog-value", 120).value == 60
    assert [(w.object, w.value, w.priority, w.outcome) for w in building.writes] == [
        ("analog-value:120", 44.5, 8, "ok"),
        ("analog-value:121", 16.5, 10, "ok"),
        ("binary-value:322", 0, 8, "ok"),
        ("multi-state-value:403", 3, 8, "ok"),
        ("analog-value:120", None, 8, "ok"),
    ]


async def test_it_is_refused_with_the_standard_s_numbers(peer: Path, building: Building) -> None:
    answers = await ask(
        peer,
        building.address(12345),
        write(AI, 101, REAL, 20),
        write(AV, 120, REAL, 120),
        write(MSV, 403, UNSIGNED, 9),
        write(AV, 120, UNSIGNED, 50),
        read(AV, 999),
    )
    # ErrorClass property is 2 and object is 1; write-access-denied 40, value-out-of-range 37, invalid-data-type 9,
    # unknown-object 31 (ASHRAE 135, clause 21).
    assert [a["error"] for a in answers] == [
        "BacnetError - Class:2 - Code:40",
        "BacnetError - Class:2 - Code:37",
        "BacnetError - Class:2 - Code:37",
        "BacnetError - Class:2 - Code:9",
        "BacnetError - Class:1 - Code:31",
    ]
    assert all(w.outcome != "ok" for w in building.writes)


async def test_it_is_told_of_changes(peer: Path, building: Building) -> None:
    subscription = {"do": "subscribe", "type": AV, "instance": 120, "notifications": 2, "milliseconds": 10000}
    asking = asyncio.create_task(ask(peer, building.address(12345), subscription))
    device = building.devices[12345]
    await until(lambda: device._cov_detections)
    building.commanded(12345, "analog-value", 120).command(8, 71.0)
    (answer,) = await asking
    told = [n["values"][0]["value"][0]["value"] for n in answer["ok"]]
    assert told[-1] == 71
    assert answer["ok"][0]["initiatingDeviceId"]["instance"] == 12345


async def test_it_sees_the_faults(peer: Path, building: Building) -> None:
    building.fault("unreliable", "12345:analog-input:101")
    building.fault("nan", "12345:analog-input:102")
    building.fault("no-rpm", 67890)
    (flags, value) = await ask(peer, building.address(12345), read(AI, 101, STATUS_FLAGS), read(AI, 102))
    assert values(flags)[0]["value"] == [2]  # bit 1 of in-alarm, fault, overridden, out-of-service
    assert values(value) == ["NaN"]
    many = {"do": "readMultiple", "objects": [{"type": AI, "instance": 501, "properties": [PRESENT_VALUE]}]}
    refused, alone = await ask(peer, building.address(67890), many, read(AI, 501))
    assert "error" in refused
    assert "ok" in alone
    building.fault("silent", 67890)
    (gone,) = await ask(peer, building.address(67890), read(AI, 501))
    assert "error" in gone
