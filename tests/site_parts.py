"""A whole site for a test: simulated building, database, broker, and the worker, in this process or one of its own."""

import asyncio
import csv
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg

from bacpipes.database import connect
from bacpipes.embedded import LOOPBACK, EmbeddedBroker, EmbeddedPostgres, free_port
from bacpipes.mqtt import config as mqtt_config
from bacpipes.points import importer as points_import
from bacpipes.points.csv_file import read_points
from bacpipes.settings import Settings
from bacpipes.simulator.building import Building
from bacpipes.worker import restart
from mqtt_parts import WITHIN, Observer, until

BASE = f"127.0.{30 + os.getpid() % 200}.1"  # so that two runs on one machine do not meet
AHU = 12345
BOXES = range(30001, 30015)
EVERYTHING = (AHU, 67890, 40001, *BOXES)  # 500 points and more
SETPOINT = {"deviceId": AHU, "objectType": "analog-value", "objectInstance": 120}
SENSOR = {"deviceId": AHU, "objectType": "analog-input", "objectInstance": 101}
SETPOINT_TOPIC = "duxton/ahu_1/analogvalue120/presentValue"
SENSOR_TOPIC = "duxton/ahu_1/analoginput101/presentValue"


class Site:
    """``async with Site(settings, broker) as site``: points of the named devices, polled every second."""

    def __init__(
        self, settings: Settings, broker: EmbeddedBroker, *, devices: Iterable[int] = (AHU,), boxes: int = 1
    ) -> None:
        ports = {"bacnet_address": f"{LOOPBACK}:{47900 + os.getpid() % 90}", "worker_http_port": free_port()}
        self.settings = settings.model_copy(update=ports)
        self.broker = broker
        self._devices = set(devices)
        self._boxes = boxes
        self._stack = AsyncExitStack()
        self._stop = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.building = await self._stack.enter_async_context(Building(base=BASE, vavs=self._boxes, tick=0.1))
        await asyncio.to_thread(self.import_points)
        username, password = self.broker.credentials
        async with await connect(self.settings, "test") as connection:
            changes = {"enabled": True, "broker": LOOPBACK, "port": self.broker.port}
            changes |= {"username": username, "password": password}
            await mqtt_config.save(connection, self.settings, changes, actor="test")
        self.reconnect()
        self._stack.callback(self._disconnect)
        self.observer = await self._stack.enter_async_context(Observer(self.broker.port, username, password))
        self._stack.push_async_callback(self.stop_worker)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- the worker

    def start_worker(self) -> None:
        """In this process."""
        self._stop = asyncio.Event()
        self._worker = asyncio.create_task(restart.run(self.settings, self._stop))

    async def stop_worker(self) -> None:
        """Stop it as SIGTERM does; raise what it raised."""
        self._stop.set()
        if self._worker is not None:
            worker, self._worker = self._worker, None
            await worker

    def spawn_worker(self, **environment: str) -> subprocess.Popen[str]:
        """In a process of its own, which ends with the site at the latest; its log comes on standard error."""
        worker = subprocess.Popen(
            [sys.executable, "-m", "bacpipes", "worker"],
            env=self.environment() | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stack.callback(worker.kill)
        return worker

    def environment(self) -> dict[str, str]:
        """The settings as variables."""
        ours = {
            "SITE_ID": self.settings.site_id,
            "DATABASE_URL": self.settings.database_url.get_secret_value(),
            "STATE_DIR": str(self.settings.state_dir),
            "BACNET_ADDRESS": self.settings.bacnet_address,
            "WORKER_HTTP_PORT": str(self.settings.worker_http_port),
            "CLOCK_CHECK": "false",
            "POLL_PHASE": "0",
            "LOG_FORMAT": "json",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BACPIPES_")}
        return kept | {f"BACPIPES_{name}": value for name, value in ours.items()}

    # --- points and data

    def reconnect(self) -> None:
        """Connect to the database (again)."""
        self.database = psycopg.connect(self.settings.database_url.get_secret_value(), autocommit=True)

    def _disconnect(self) -> None:
        self.database.close()

    def import_points(self, **changes: str) -> None:
        """The building's points, every second; ``changes`` go into every row."""
        path = Path(self.settings.state_dir) / "points.csv"
        self.building.write_points(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["device_id"]) in self._devices]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([row | {"interval": "1"} | changes for row in rows])
        with path.open("rb") as stream:
            source = read_points(stream, "points.csv", self.settings.site_id)
        url = self.settings.database_url.get_secret_value()
        with psycopg.connect(url, autocommit=True) as connection:
            plan = points_import.import_points(connection, source, self.settings.site_id, actor="test")
        assert plan.applied, plan.problems.errors

    def one(self, sql: str, *parameters: object) -> Any:
        """The first row of a query."""
        return self.database.execute(sql, list(parameters)).fetchone()

    async def readings(self, count: int = 1, within: float = WITHIN) -> None:
        """Wait until every enabled point has this many rows in history, and as many were published."""

        def enough() -> bool:
            polled = self.one(
                "SELECT min(n) FROM (SELECT count(r.time) AS n FROM point p LEFT JOIN reading r ON r.point_id = p.id"
                " WHERE p.enabled GROUP BY p.id) AS counted"
            )[0]
            return bool(polled >= count and len(self.published(SETPOINT_TOPIC)) >= count)

        await until(enough, f"{count} readings of every point", within)

    def published(self, topic: str) -> list[dict[str, Any]]:
        """The payloads that came on a topic, in order."""
        return [json.loads(payload) for payload in self.observer.payloads(topic)]

    def results(self, job: str) -> list[dict[str, Any]]:
        """The results of one job that were published."""
        return [result for result in self.published("bacnet/write/result") if result["jobId"] == job]

    def command(self, **fields: Any) -> str:
        """Publish a command; returns its job id."""
        job = fields.setdefault("jobId", str(uuid.uuid4()))
        self.observer.publish("bacnet/write/command", json.dumps(fields).encode())
        return str(job)

    async def result(self, job: str, number: int = 1) -> dict[str, Any]:
        """The job's result from the broker; the ``number``-th, where it is sent again."""
        await until(lambda: len(self.results(job)) >= number, f"a result of {job}")
        return self.results(job)[number - 1]

    async def write(self, **fields: Any) -> dict[str, Any]:
        """Publish a command and return its result."""
        return await self.result(self.command(**fields))


@contextmanager
def database_away(server: EmbeddedPostgres, settings: Settings) -> Iterator[None]:
    """Cut every connection to the site's database and let no new one in."""
    name = psycopg.conninfo.conninfo_to_dict(settings.database_url.get_secret_value())["dbname"]
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        try:
            yield
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
