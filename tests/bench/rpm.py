"""ReadPropertyMultiple on our fast path beside bacpypes3's own, same responder, in one run; and one full read of a big
site, with the longest time that the event loop was held up.

Run: python tests/bench/rpm.py [rounds]
"""

import asyncio
import sys
import time

import costs
import responder
from turns import watched

from bacpipes import memory
from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.events import Turnstile
from bacpipes.points import Device, Point
from bacpipes.reading import Reading
from bacpipes.worker.poller import AT_ONCE
from bacpipes.worker.reader import DeviceReader

LOCAL = "127.0.0.1:47931"
POINTS_A_REQUEST = 20
DEVICES, POINTS = 250, 200  # of the full read
NAMES = ("present-value", "status-flags")
KINDS = ("analog-input", "analog-output", "analog-value")

Asked = list[tuple[int, list[tuple[ObjectId, tuple[str, ...]]]]]


def requests(devices: int, points: int) -> Asked:
    """Device numbers, and what is asked of each in one request."""
    found: Asked = []
    for first in range(0, points, POINTS_A_REQUEST):
        objects = [(KINDS[n % 3], n) for n in range(first, min(points, first + POINTS_A_REQUEST))]
        found += [(device, [(each, NAMES) for each in objects]) for device in range(1, devices + 1)]
    return found


async def read(client: BacnetClient, asked: Asked) -> tuple[float, float]:
    """Read all, one request at a time to each device: seconds, and seconds of CPU, for 1,000 points."""
    devices: dict[int, list[list[tuple[ObjectId, tuple[str, ...]]]]] = {}
    for number, wanted in asked:
        devices.setdefault(number, []).append(wanted)
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(_read_device(client, *each) for each in devices.items()))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    points = sum(len(wanted) for _, wanted in asked)
    return wall / points * 1000, cpu / points * 1000


async def _read_device(
    client: BacnetClient, number: int, requests: list[list[tuple[ObjectId, tuple[str, ...]]]]
) -> None:
    for wanted in requests:
        rows = await client.read_multiple(responder.address(number), wanted)
        for row in rows:
            if row.property == "present-value":
                assert row.value == responder.value(number, row.object_id[1])


async def compare(rounds: int) -> None:
    best: dict[bool, tuple[float, float]] = {}
    for turn in range(rounds * 2):
        fast = turn % 2 == 0
        async with BacnetClient(LOCAL, fast=fast) as client:
            asked = requests(10, 2000 if fast else 200)
            await read(client, requests(10, 40))  # warm
            found = await read(client, asked)
            best[fast] = min(found, best.get(fast, found))
    for fast, (wall, cpu) in best.items():
        name = "fast path" if fast else "bacpypes3"
        print(
            f"{name}: {1000 / wall:,.0f} points/s, {cpu * 1000:.1f} ms of CPU per 1,000 ({POINTS_A_REQUEST} a request)"
        )
    rate, work = best[False][0] / best[True][0], best[False][1] / best[True][1]
    print(f"the fast path: {rate:.1f} × the points/s, 1/{work:.1f} of the CPU")
    costs.note("rpm_rate_beside_bacpypes3", rate)
    costs.note("rpm_cpu_beside_bacpypes3", 1 / work)


async def full_read(rounds: int) -> None:
    points = []
    for number in range(1, DEVICES + 1):
        place = responder.address(number)
        device = Device(number, number, f"device {number}", place, place.partition(":")[0], 1476, True)
        points.append((device, [a_point(device, n) for n in range(POINTS)]))
    async with BacnetClient(LOCAL) as client:
        readers = [(DeviceReader(client, device), its) for device, its in points]
        memory.settle()  # this, and that few polls begin at once, as in the worker
        starts = Turnstile(AT_ONCE)
        results = []
        for _ in range(rounds + 1):
            with watched() as watch:
                began, cpu = time.perf_counter(), time.process_time()
                readings = await asyncio.gather(*(_poll(reader, its, starts) for reader, its in readers))
                results.append((time.perf_counter() - began, time.process_time() - cpu, *watch.longest))
            assert all(
                r.value == responder.value(number, n)
                for number, its in enumerate(readings, 1)
                for n, r in enumerate(its)
            )
    for name, runs in (("the first", results[:1]), ("best of the next", results[1:])):
        seconds, cpu, waited, worked = (min(column) for column in zip(*runs, strict=True))
        print(f"{DEVICES} devices × {POINTS} points, one full read ({name}): {seconds:.2f} s, {cpu:.2f} s of CPU;")
        print(f"  event loop held up for {waited * 1000:.1f} ms at most, by our own work for {worked * 1000:.1f} ms")
    costs.note("full_read_held_up_ms", min(each[3] for each in results[1:]) * 1000)
    costs.note("full_read_cpu_ms_per_1000", min(each[1] for each in results) / DEVICES / POINTS * 1e6)


async def _poll(reader: DeviceReader, points: list[Point], starts: Turnstile) -> list[Reading]:
    await starts.through()
    return await reader.read(points)


def a_point(device: Device, n: int) -> Point:
    return Point(
        device.id * POINTS + n, device, KINDS[n % 3], n, f"p{n}", "", "", "bench", None, None, None, None, 15, True,
        False, None, None, None,
    )  # fmt: skip


def main(rounds: int = 3) -> None:
    with responder.running():
        asyncio.run(compare(rounds))
        asyncio.run(full_read(rounds))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
