"""What the worker costs: reads a simulated building, commits, and publishes with QoS 1, all on this machine.

Run: PYTHONPATH=tests python tests/bench/worker.py [seconds] [interval] [VAV boxes]
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

from bacpipes.embedded import LOOPBACK, EmbeddedBroker, EmbeddedPostgres, free_port, stop

PROGRAM = [sys.executable, "-m", "bacpipes"]
BASE = "127.0.30.1"


def main(seconds: int = 60, interval: int = 1, boxes: int = 4) -> None:
    with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name:
        directory = Path(name)
        with (
            EmbeddedPostgres(directory / "pg") as server,
            EmbeddedBroker(directory / "broker", "bench", os.urandom(9).hex()) as broker,
        ):
            measure(directory, server.url(), broker, seconds, interval, boxes)


def measure(directory: Path, url: str, broker: EmbeddedBroker, seconds: int, interval: int, boxes: int) -> None:
    environment = os.environ | {
        "BACPIPES_SITE_ID": "duxton",
        "BACPIPES_DATABASE_URL": url,
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
    points = directory / "points.csv"
    building_of = ["simulate", "--base", BASE, "--vavs", str(boxes)]
    subprocess.run([*PROGRAM, *building_of, "--points", str(points)], check=True, capture_output=True)
    count = set_interval(points, interval)
    for command in (["migrate"], ["points", "import", str(points)]):
        subprocess.run([*PROGRAM, *command], check=True, capture_output=True, env=environment)
    building = subprocess.Popen([*PROGRAM, *building_of], stdout=subprocess.DEVNULL)
    worker = subprocess.Popen([*PROGRAM, "worker"], env=environment)
    try:
        report(psutil.Process(worker.pid), url, seconds, interval, count)
    finally:
        stop(worker)
        stop(building)


def set_interval(path: Path, interval: int) -> int:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows([row | {"interval": str(interval)} for row in rows])
    return len(rows)


def report(worker: psutil.Process, url: str, seconds: int, interval: int, points: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while counted(connection)[0] < 3 * points:  # warm
            time.sleep(0.5)
        rows, published, began = *counted(connection), time.monotonic()
        cpu = sum(worker.cpu_times()[:2])
        time.sleep(seconds)
        rows_then, published_then = counted(connection)
        elapsed, used = time.monotonic() - began, sum(worker.cpu_times()[:2]) - cpu
        bad = connection.execute("SELECT count(*) FROM reading WHERE quality <> 0").fetchone()
        gaps = connection.execute("SELECT count(*) FROM gap").fetchone()
    readings = rows_then - rows
    print(f"{points} points every {interval} s, {elapsed:.0f} s: {readings} readings, {readings / elapsed:.0f}/s")
    print(f"published in that time: {published_then - published} batches; bad rows {bad}, gaps {gaps}")
    print(f"worker: {used / readings * 1e6:.0f} ms CPU per 1,000 readings, {used / elapsed:.1%} of a core, "
          f"{worker.memory_info().rss / 1e6:.0f} MB resident")  # fmt: skip


def counted(connection: psycopg.Connection) -> tuple[int, int]:
    row = connection.execute(
        "SELECT (SELECT count(*) FROM reading), (SELECT seq FROM follower WHERE name = 'publisher')"
    ).fetchone()
    assert row is not None
    return row


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
