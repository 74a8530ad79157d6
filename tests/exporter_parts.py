"""What the exporter's tests share: a small building, its history, an exporter in this process or in its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import psycopg
from fastapi import FastAPI

from bacpipes import tokens
from bacpipes.embedded import free_port
from bacpipes.exporter.app import create_app
from bacpipes.settings import Settings
from bacpipes.tokens import Role

TEMPERATURE = "duxton.ahu.1.sensor.temp.air.supply.actual"
SETPOINT = "duxton.ahu.1.sp.humidity.air.return.effective"
DAY = datetime(2025, 12, 7, tzinfo=UTC)
COLUMNS = "time,haystack_name,dis,value,units,quality,device_name,device_ip,object_type,object_instance"
PATIENCE = 90.0  # seconds that a condition may take; a machine that runs other things too needs them


def execute(url: str, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    """Run one statement and return its rows."""
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def add_building(url: str) -> None:
    """Device 12345 with a temperature (point 1), a humidity setpoint (point 2) and a pump (point 3)."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO device (site_id, device_id, name, address)"
            " VALUES ('duxton', 12345, 'AHU-1 controller', '192.168.1.37:47808')"
        )
        connection.execute(
            "INSERT INTO point (device, object_type, object_instance, name, dis, units, site, equip, equip_ref,"
            " function, quantity, substance, location, qualifier, topic, writable, minimum, maximum) VALUES"
            " (1, 'analog-input', 101, 'SAT', 'SupplyAirTemp', '°C', 'duxton', 'ahu', '1', 'sensor', 'temp', 'air',"
            "  'supply', 'actual', 'duxton/ahu_1/analoginput101/presentValue', false, NULL, NULL),"
            " (1, 'analog-value', 120, 'RHSP', 'HumiditySetpoint', '%', 'duxton', 'ahu', '1', 'sp', 'humidity', 'air',"
            "  'return', 'effective', 'duxton/ahu_1/analogvalue120/presentValue', true, 0, 100),"
            " (1, 'binary-value', 7, 'PUMP', 'Pump', '', 'duxton', 'ahu', '1', 'sp', 'cmd', 'water', 'supply',"
            "  'effective', 'duxton/ahu_1/binaryvalue7/presentValue', true, NULL, NULL)"
        )


def add_points(url: str, count: int) -> None:
    """So many analog inputs more, spread over 25 air handling units, polled each minute."""
    execute(
        url,
        "INSERT INTO point (device, object_type, object_instance, name, dis, units, site, equip, equip_ref, topic)"
        " SELECT 1, 'analog-input', 1000 + n, 'P' || n, 'Point ' || n, '°C', 'duxton', 'ahu', n %% 25 + 1,"
        " 'duxton/x/' || n FROM generate_series(1, %s) AS n",
        [count],
    )


def add_reading(url: str, point: int, at: datetime, value: float | None, quality: int = 0) -> None:
    """One row of history."""
    execute(
        url, "INSERT INTO reading (time, point_id, value, quality) VALUES (%s, %s, %s, %s)", [at, point, value, quality]
    )


def add_history(url: str, rows: int) -> None:
    """This many readings of point 1, one each millisecond of the last hours, newest now."""
    execute(
        url,
        "INSERT INTO reading (time, point_id, value, quality)"
        " SELECT date_trunc('ms', now()) - n * interval '1 ms', 1, 20 + random(), 0 FROM generate_series(1, %s) AS n",
        [rows],
    )


async def make_token(url: str, name: str, role: Role) -> dict[str, str]:
    """A token's headers."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return {"Authorization": f"Bearer {await tokens.create(connection, name, role, None, 'test')}"}


def make_token_now(url: str, name: str, role: Role) -> dict[str, str]:
    """The same, for a test that is not asynchronous."""
    return asyncio.run(make_token(url, name, role))


@asynccontextmanager
async def in_process(settings: Settings, client: str = "127.0.0.1") -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The application with its tasks, and a client that seems to come from this address."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app, client=(client, 50000))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://site") as http:
        yield app, http


class Exporter:
    """`bacpipes exporter` as a process of its own."""

    def __init__(self, settings: Settings, **environment: str) -> None:
        self.port = free_port()
        scheme = "https" if "HTTP_CERTIFICATE" in environment else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.log = settings.state_dir / f"exporter_{self.port}.log"
        variables = {
            "SITE_ID": settings.site_id,
            "TIME_ZONE": settings.time_zone,
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "STATE_DIR": str(settings.state_dir),
            "HTTP_PORT": str(self.port),
            "WORKER_HTTP_PORT": str(settings.worker_http_port),
        }
        self._environment = {f"BACPIPES_{name}": value for name, value in (variables | environment).items()}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Exporter":
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from bacpipes.cli import main; main()", "exporter"],
                env=os.environ | self._environment,
                stdout=log,
                stderr=log,
            )
        wait_for(lambda: self._answers() or self.process is None or self.process.poll() is not None)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> float:
        """SIGTERM; the seconds until it ended."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        return time.monotonic() - began

    def records(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", verify=False).status_code == 200  # noqa: S501 - whether it answers
        except httpx.TransportError:
            return False


@contextmanager
def worker_page(answers: dict[str, tuple[int, str]]) -> Iterator[int]:
    """Something that answers as the worker's status page does; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path, (404, ""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:
    """Return what the condition gives once it is true; fail when time is up."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def exports_on_server(url: str) -> int:
    """Connections of exports that the server has."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'bacpipes exporter export' AND datname = current_database()"
    )
    return int(execute(url, statement)[0][0])
