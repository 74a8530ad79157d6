"""What an export costs beside a row-by-row loop in Python, in one run, and whether its memory stays flat.

The best of two loops and of three exports each. Run: PYTHONPATH=tests python tests/bench/export.py [rows]
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import costs
import httpx
import psutil
import psycopg

from bacpipes import migrate
from bacpipes.embedded import LOOPBACK, EmbeddedPostgres, free_port, stop, wait_for_port
from bacpipes.settings import Settings
from exporter_parts import add_building

PROGRAM = [sys.executable, "-m", "bacpipes"]
DEVICES, POINTS = 10, 50
QUERY = (
    "SELECT time, haystack_name, dis, value, units, quality, device_name, device_ip, object_type, object_instance"
    " FROM sensor_readings ORDER BY time DESC"
)


def main(rows: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name, EmbeddedPostgres(Path(name)) as server:
        settings = Settings(site_id="duxton", database_url=server.url(), state_dir=Path(name))  # type: ignore[arg-type]
        migrate.migrate(settings)
        fill(server.url(), rows)
        environment = os.environ | {
            "BACPIPES_SITE_ID": "duxton",
            "BACPIPES_DATABASE_URL": server.url(),
            "BACPIPES_STATE_DIR": name,
            "BACPIPES_HTTP_PORT": str(free_port()),
            "BACPIPES_LOG_LEVEL": "warning",
        }
        command = [*PROGRAM, "token", "create", "bench", "--role", "viewer"]
        token = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
        exporter = subprocess.Popen([*PROGRAM, "exporter"], env=environment)
        try:
            port = int(environment["BACPIPES_HTTP_PORT"])
            wait_for_port(port, exporter, Path(os.devnull))
            loop = min(row_by_row(server.url(), Path(name) / "loop.csv") for _ in range(2))
            print(f"row by row in Python: {loop:.1f} s")
            for form in ("csv", "json"):
                report(form, loop, [export(exporter.pid, f"http://{LOOPBACK}:{port}", token, form) for _ in range(3)])
        finally:
            stop(exporter)


def fill(url: str, rows: int) -> None:
    """As polls leave it: `DEVICES` devices with `POINTS` points, every 15 s; a device's answer has one time."""
    add_building(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO point (device, object_type, object_instance, name, dis, units, site, equip, equip_ref,"
            " function, quantity, substance, location, qualifier, topic)"
            " SELECT 1, 'analog-value', 1000 + n, 'P' || n, 'Zone air temperature ' || n, '°C', 'duxton', 'vav', n,"
            " 'sensor', 'temp', 'air', 'zone', 'actual', 'duxton/vav_' || n FROM generate_series(1, %s) AS n",
            [DEVICES * POINTS],
        )
        connection.execute(
            "INSERT INTO reading (time, point_id, value, quality)"
            " SELECT date_trunc('ms', now()) - n / %(all)s * INTERVAL '15 s'"
            " - n %% %(all)s / %(of_one)s * INTERVAL '3 ms',"
            " (SELECT min(id) FROM point WHERE object_instance = 1001) + n %% %(all)s, 20 + random(), 0"
            " FROM generate_series(0, %(rows)s - 1) AS n",
            {"all": DEVICES * POINTS, "of_one": POINTS, "rows": rows},
        )
        connection.execute("VACUUM ANALYZE reading")


def row_by_row(url: str, path: Path) -> float:
    began = time.monotonic()
    with psycopg.connect(url) as connection, path.open("w", newline="") as file:
        writer = csv.writer(file)
        with connection.cursor("rows") as cursor:
            cursor.itersize = 2000
            cursor.execute(QUERY)
            for row in cursor:
                writer.writerow(row)
    return time.monotonic() - began


def export(exporter: int, url: str, token: str, form: str) -> tuple[float, float, int, int, float]:
    """Seconds, seconds of CPU in the exporter, bytes, lines, and megabytes that it grew by."""
    process = psutil.Process(exporter)
    before, cpu, began = process.memory_info().rss, sum(process.cpu_times()[:2]), time.monotonic()
    size = lines = 0
    query = {"start": "2000-01-01", "format": form}
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.stream("GET", f"{url}/api/timeseries/export", params=query, headers=headers, timeout=600) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_raw():
            size += len(chunk)
            lines += chunk.count(b"\n")
    elapsed, used = time.monotonic() - began, sum(process.cpu_times()[:2]) - cpu
    return elapsed, used, size, lines, (process.memory_info().rss - before) / 1e6


def report(form: str, loop: float, runs: list[tuple[float, float, int, int, float]]) -> None:
    elapsed, used, size, lines, _ = min(runs)
    print(f"{form}: {elapsed:.1f} s, {loop / elapsed:.1f} × the loop, {used:.1f} s CPU in the exporter, "
          f"{size / 1e6:.0f} MB, {lines} lines, memory grew by {sum(run[4] for run in runs):.1f} MB")  # fmt: skip
    if form == "csv":
        costs.note("export_beside_loop", loop / elapsed)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
