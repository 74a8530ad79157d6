"""What the worker costs: reads a big site, commits, and publishes each reading with QoS 1, all on this machine.

Run: python tests/bench/worker.py [seconds interval devices points]; without arguments, the loads of `LOADS`. The
devices are `responder.py`'s, each with so many points.
"""

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import costs
import psutil
import psycopg
import responder
import turns

from bacpipes.embedded import LOOPBACK, EmbeddedBroker, EmbeddedPostgres, free_port, stop

PROGRAM = [sys.executable, "-m", "bacpipes"]
TURNS = [sys.executable, str(Path(__file__).with_name("turns.py"))]  # the worker, with a watch on its event loop
WATCHED = (60, 15, 250, 200)  # as in `LOADS`
SETTLED_AFTER = 70.0  # seconds; by then what stays has been put aside (`bacpipes.memory`)
START_WITHIN = 180.0  # seconds
LOADS = {  # name: seconds, interval, devices, points
    "sustained": (30, 1, 25, 200),
    "large": (90, 15, 250, 200),
    "usual": (60, 15, 5, 100),
}
TYPES = ("analog-input", "analog-output", "analog-value")


def main(*load: int) -> None:
    loads = {"load": load} if load else LOADS
    with responder.running():
        for name, each in loads.items():
            with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as directory:
                run(Path(directory), name, *each)
        if not load:
            with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as directory:
                watch_turns(Path(directory), *WATCHED)


def run(directory: Path, name: str, seconds: int, interval: int, devices: int, points: int) -> None:
    with site(directory, interval, devices, points) as (environment, url):
        worker = subprocess.Popen([*PROGRAM, "worker"], env=environment)
        try:
            cost = measure(psutil.Process(worker.pid), url, seconds, interval, devices * points)
        finally:
            stop(worker)
    print(f"{name}: {cost}", flush=True)
    if name not in LOADS:
        return
    costs.note(f"worker_{name}_cpu_ms_per_1000", cost.cpu / cost.readings * 1e6)
    costs.note(f"worker_{name}_megabytes", cost.resident)


def watch_turns(directory: Path, seconds: int, interval: int, devices: int, points: int) -> None:
    """How long the event loop is held up; a run of its own, as looking each millisecond costs something, too."""
    found = directory / "turns"
    with site(directory, interval, devices, points) as (environment, url), psycopg.connect(url, autocommit=True) as db:
        worker = subprocess.Popen([*TURNS, str(found)], env=environment)
        try:
            warm_up(db, devices * points)
            time.sleep(SETTLED_AFTER)
            worker.send_signal(signal.SIGUSR1)
            time.sleep(seconds)
            worker.send_signal(signal.SIGUSR2)
            while not found.exists():
                assert worker.poll() is None, "the worker ended"
                time.sleep(0.1)
        finally:
            stop(worker)
    waited, worked = turns.read(found)
    print(
        f"{devices * points} points every {interval} s, {seconds} s: event loop held up for {waited * 1000:.1f} ms at "
        f"most, by our own work for {worked * 1000:.1f} ms",
        flush=True,
    )
    costs.note("worker_large_held_up_ms", worked * 1000)


@contextmanager
def site(directory: Path, interval: int, devices: int, points: int) -> Iterator[tuple[dict[str, str], str]]:
    """A database with the points, and a broker: the worker's environment and the database's URL."""
    with (
        EmbeddedPostgres(directory / "pg") as server,
        EmbeddedBroker(directory / "broker", "bench", os.urandom(9).hex()) as broker,
    ):
        environment = os.environ | {
            "BACPIPES_SITE_ID": "bench",
            "BACPIPES_DATABASE_URL": server.url(),
            "BACPIPES_STATE_DIR": str(directory / "state"),
            "BACPIPES_BACNET_ADDRESS": f"{LOOPBACK}:47931",
            "BACPIPES_WORKER_HTTP_PORT": str(free_port()),
            "BACPIPES_LOG_LEVEL": "warning",
            "BACPIPES_MQTT_ENABLED": "true",
            "BACPIPES_MQTT_BROKER": LOOPBACK,
            "BACPIPES_MQTT_PORT": str(broker.port),
            "BACPIPES_MQTT_USERNAME": broker.credentials[0],
            "BACPIPES_MQTT_PASSWORD": broker.credentials[1],
            "BACPIPES_MQTT_PROTOCOL": broker.protocol,
        }
        path = directory / "points.csv"
        write_points(path, interval, devices, points)
        for command in (["migrate"], ["points", "import", str(path)]):
            subprocess.run([*PROGRAM, *command], check=True, capture_output=True, env=environment)
        yield environment, server.url()


def write_points(path: Path, interval: int, devices: int, points: int) -> None:
    rows = [
        {
            "device_id": device,
            "device_name": f"VAV-{device}",
            "address": responder.address(device),
            "object_type": TYPES[n % len(TYPES)],
            "object_instance": n,
            "name": f"P{n}",
            "dis": f"Zone air temperature {n}",
            "units": "°C",
            "site": "bench",
            "equip": "vav",
            "equip_ref": device,
            "function": "sensor",
            "quantity": "temp",
            "substance": "air",
            "location": "zone",
            "qualifier": f"p{n}",
            "interval": interval,
            "enabled": "true",
            "writable": "false",
        }
        for device in range(1, devices + 1)
        for n in range(points)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass
class Cost:
    """``cpu`` seconds of the worker; megabytes resident at the end and at the beginning."""

    points: int
    interval: int
    elapsed: float
    readings: int
    waiting: int
    bad: int
    gaps: int
    cpu: float
    resident: float
    before: float

    def __str__(self) -> str:
        return (
            f"{self.points} points every {self.interval} s, {self.elapsed:.0f} s: {self.readings} readings, "
            f"{self.readings / self.elapsed:,.0f}/s; bad {self.bad}, gaps {self.gaps}, batches not yet published "
            f"{self.waiting}\n  worker: {self.cpu / self.readings * 1e6:.1f} ms CPU per 1,000 readings, "
            f"{self.cpu / self.elapsed:.1%} of a core, {self.resident:.0f} MB resident ({self.before:.0f} at first)"
        )


def measure(worker: psutil.Process, url: str, seconds: int, interval: int, points: int) -> Cost:
    with psycopg.connect(url, autocommit=True) as connection:
        warm_up(connection, points)
        time.sleep(interval / 3)  # amid two polls, so that whole polls are counted
        rows, _ = counted(connection)
        cpu, before, began = sum(worker.cpu_times()[:2]), worker.memory_info().rss, time.monotonic()
        time.sleep(seconds)
        used, elapsed = sum(worker.cpu_times()[:2]) - cpu, time.monotonic() - began
        rows_then, waiting = counted(connection)
        resident = worker.memory_info().rss
        bad = one(connection, "SELECT count(*) FROM reading WHERE quality <> 0")
        gaps = one(connection, "SELECT count(*) FROM gap")
    return Cost(
        points, interval, elapsed, rows_then - rows, waiting, bad, gaps, used, resident / 1e6, before / 1e6
    )  # fmt: skip


def warm_up(connection: psycopg.Connection, points: int) -> None:
    """Until each point was polled twice."""
    deadline = time.monotonic() + START_WITHIN
    while counted(connection)[0] < 2 * points:
        assert time.monotonic() < deadline, "the worker did not get going"
        time.sleep(0.5)


def counted(connection: psycopg.Connection) -> tuple[int, int]:
    """Rows in history, and batches that wait to be published."""
    return (
        one(connection, "SELECT count(*) FROM reading"),
        one(connection, "SELECT count(*) FROM reading_batch WHERE seq > (SELECT seq FROM follower"
            " WHERE name = 'publisher')"),
    )  # fmt: skip


def one(connection: psycopg.Connection, sql: str) -> int:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    return int(row[0])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
