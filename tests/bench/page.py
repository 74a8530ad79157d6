"""What the page costs: memory of the exporter, the first page, 500 points, a trend over 30 days of a 15 s point.

Run: PYTHONPATH=tests python tests/bench/page.py
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psutil
import psycopg
from page_in_browser import measure_in_browser

from bacpipes import migrate
from bacpipes.embedded import LOOPBACK, EmbeddedPostgres, free_port, stop, wait_for_port
from bacpipes.settings import Settings
from exporter_parts import add_building, add_points

PASSWORD = "only for the bench"
POINTS, DAYS, INTERVAL = 500, 30, 15
TIMES = 7
WITH_PAGE = "from bacpipes.cli import main; main(['exporter'])"
WITHOUT = (
    "import asyncio; from bacpipes.settings import load_settings; from bacpipes.exporter.app import create_app; "
    "from bacpipes.exporter.server import listen, serve; s = load_settings(); "
    "asyncio.run(serve(create_app(s), listen(s)))"
)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name, EmbeddedPostgres(Path(name)) as server:
        settings = Settings(site_id="duxton", database_url=server.url(), state_dir=Path(name))  # type: ignore[arg-type]
        migrate.migrate(settings)
        fill(server.url())
        environment = os.environ | {
            "BACPIPES_SITE_ID": "duxton",
            "BACPIPES_DATABASE_URL": server.url(),
            "BACPIPES_STATE_DIR": name,
            "BACPIPES_LOG_LEVEL": "warning",
        }
        add = [sys.executable, "-m", "bacpipes", "user", "add", "bench", "--role", "admin"]
        subprocess.run(add, env=environment, input=PASSWORD, text=True, check=True, stdout=subprocess.DEVNULL)
        with exporter(WITHOUT, environment) as (process, _):
            print(f"exporter without the page, started: {megabytes(process):.0f} MB resident")
        with exporter(WITH_PAGE, environment) as (process, url):
            print(f"exporter with the page, started: {megabytes(process):.0f} MB resident")
            measure(url, process)
            measure_in_browser(url, "bench", PASSWORD, POINTS + 3)


def measure(url: str, process: psutil.Process) -> None:
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=60) as client:
        began = time.perf_counter()
        client.post("/login", data={"name": "bench", "password": PASSWORD})
        print(f"login (argon2id): {time.perf_counter() - began:.2f} s")
        end = datetime.now(UTC)
        trend = {"points": "1", "start": (end - timedelta(days=DAYS)).isoformat(), "end": end.isoformat()}
        values = len(client.get("/api/timeseries/trend", params=trend).json()["series"][0]["data"])
        for what, path, parameters in (
            ("dashboard's HTML", "/", {}),
            (f"points' HTML, {POINTS + 3} points", "/points", {}),
            (f"trend, {DAYS} days of a {INTERVAL} s point ({DAYS * 86400 // INTERVAL:,} rows → {values})",
             "/api/timeseries/trend", trend),
        ):  # fmt: skip
            print(f"{what}: {timed(lambda p=path, q=parameters: client.get(p, params=q)):.3f} s")
        print(f"afterwards: {megabytes(process):.0f} MB resident")


def timed(work: Callable[[], httpx.Response]) -> float:
    """Median of some runs, seconds."""
    seconds = []
    for _ in range(TIMES):
        began = time.perf_counter()
        work().raise_for_status()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 1e6)


@contextmanager
def exporter(program: str, environment: dict[str, str]) -> Iterator[tuple[psutil.Process, str]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", program], env=environment | {"BACPIPES_HTTP_PORT": str(port)})
    try:
        wait_for_port(port, process, Path(environment["BACPIPES_STATE_DIR"]) / "log")
        httpx.get(f"http://{LOOPBACK}:{port}/healthz", timeout=60).raise_for_status()
        yield psutil.Process(process.pid), f"http://{LOOPBACK}:{port}"
    finally:
        stop(process)


def fill(url: str) -> None:
    """`POINTS` points more, and 30 days of four points; all partitions are there beforehand."""
    add_building(url)
    add_points(url, POINTS)
    with psycopg.connect(url, autocommit=True) as connection:
        for day in range(DAYS + 1):
            connection.execute("SELECT history_partition((now() - %s * interval '1 day')::date)"
                               " WHERE to_regclass('reading_p' || to_char((now() - %s * interval '1 day') AT TIME ZONE"
                               " 'UTC', 'YYYYMMDD')) IS NULL", [day, day])  # fmt: skip
        connection.execute(
            "INSERT INTO reading (time, point_id, value, quality) SELECT now() - n * %s * interval '1 s', p,"
            " 20 + sin(n / 400.0) + random(), 0 FROM generate_series(0, %s) AS n, generate_series(1, 4) AS p",
            [INTERVAL, DAYS * 86400 // INTERVAL - 1],
        )
        connection.execute("VACUUM ANALYZE reading")


if __name__ == "__main__":
    main()
