"""What a user would take instead, on the same responder in one run: BAC0, and a plain loop of ReadProperty with one
UPDATE for each point, as the first BacPipes had it.

Run: python tests/bench/peers.py [points a device]. BAC0 comes from the package index into an environment of its own,
which is kept (`.venv-bench`); the appliance does not depend on it.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import costs
import psycopg
import responder
import rpm

from bacpipes.bacnet.client import BacnetClient
from bacpipes.embedded import EmbeddedPostgres

BAC0 = "BAC0==2026.7.25"
ENVIRONMENT = Path(__file__).parents[2] / ".venv-bench"
DEVICES = 10
OF_BAC0 = """
import asyncio, json, sys, time
import BAC0
BAC0.log_level("silence")

async def device(client, address, points):
    read = 0
    for first in range(0, points, 20):
        objects = {f"analog-input:{n}": ["present-value", "status-flags"] for n in range(first, first + 20)}
        rows = await client.readMultiple("", request_dict={"address": address, "objects": objects})
        read += sum(map(len, rows.values()))
    assert read == 2 * points, read

async def main(addresses, points):
    async with BAC0.start(ip="127.0.0.1/8", port=47933) as client:
        await asyncio.gather(*(device(client, each, 20) for each in addresses))
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(device(client, each, points) for each in addresses))
        print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]), flush=True)

asyncio.run(main(sys.argv[2:], int(sys.argv[1])))
"""


def main(points: int = 100) -> None:
    with responder.running():
        ours = asyncio.run(fast_path(points))
        tell("our fast path", points, *ours)
        found = {"BAC0": bac0(points), "ReadProperty and UPDATE, one by one": asyncio.run(one_by_one(points))}
    for name, (wall, cpu) in found.items():
        tell(name, points, wall, cpu)
        print(f"  ours beside it: {wall / ours[0]:.0f} × the points/s, 1/{cpu / ours[1]:.0f} of the CPU")
    costs.note("rpm_rate_beside_bac0", found["BAC0"][0] / ours[0])


def tell(name: str, points: int, wall: float, cpu: float) -> None:
    total = DEVICES * points
    print(f"{name}: {total / wall:,.0f} points/s, {cpu / total * 1e6:.1f} ms of CPU per 1,000")


async def fast_path(points: int) -> tuple[float, float]:
    """Read only, 20 points a request; the best of three."""
    async with BacnetClient(rpm.LOCAL) as client:
        asked = rpm.requests(DEVICES, points)
        await rpm.read(client, asked)
        wall, cpu = min([await rpm.read(client, asked) for _ in range(3)])
    return wall * DEVICES * points / 1000, cpu * DEVICES * points / 1000


def bac0(points: int) -> tuple[float, float]:
    """Read only, 20 points a request, all devices at once."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", BAC0]
        subprocess.run(command, check=True)
    addresses = [responder.address(number) for number in range(1, DEVICES + 1)]
    with tempfile.TemporaryDirectory() as home:  # it writes a log there
        run = subprocess.run(
            [python, "-c", OF_BAC0, str(points), *addresses],
            capture_output=True, text=True, env={"HOME": home, "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
    if run.returncode:
        sys.exit(f"BAC0: {run.stderr[-500:]}")
    wall, cpu = json.loads(run.stdout.splitlines()[-1])
    return wall, cpu


async def one_by_one(points: int) -> tuple[float, float]:
    """Each point is read by itself and stored by itself, one after the other."""
    points = points // 5  # it takes long enough
    with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name, EmbeddedPostgres(Path(name)) as server:
        async with BacnetClient(rpm.LOCAL) as client:
            wall, cpu = await _loop(client, server.url(), points)
    return wall * 5, cpu * 5


async def _loop(client: BacnetClient, url: str, points: int) -> tuple[float, float]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE point (id int PRIMARY KEY, value float8, time timestamptz)")
        connection.execute("INSERT INTO point SELECT n FROM generate_series(0, %s) AS n", [DEVICES * points])
        wall, cpu = time.perf_counter(), time.process_time()
        for number in range(DEVICES):
            for n in range(points):
                place, object_id = responder.address(number + 1), ("analog-input", n)
                value = float(await client.read_property(place, object_id, "present-value"))
                connection.execute(
                    "UPDATE point SET value = %s, time = now() WHERE id = %s", [value, number * points + n]
                )
        return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
