"""What a fleet costs at central: 1,000 sites that publish through broker B; 50 subscriptions; 50 shippers.

Run: PYTHONPATH=tests python tests/bench/fleet.py [sites] [seconds]
Broker B is Mosquitto, with TLS and a client certificate for each connection, and central TimescaleDB (Apache); for the
complete lane central is plain PostgreSQL, and the sites are databases of one other server.
"""

import asyncio
import json
import secrets
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

import live_parts
import telegraf
from bacpipes import migrate
from bacpipes.central import replication
from bacpipes.database import Connection, connect
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.metrics import WorkerMetrics
from bacpipes.reading import Batch, Reading, iso_milliseconds
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from bacpipes.worker.shipper import Shipper
from central_parts import AHU, SAT, central_database, central_settings, site_url
from engines import TrixieServer
from live_parts import Broker, Program
from pki import Authority

POINTS = 100  # of a publishing site, one message of each a minute
FEW, READINGS, EVERY, ROUNDS = 50, 500, 15.0, 4  # sites of the complete lane: so many readings every 15 s
COMMON = {"max_connections": "300", "max_replication_slots": "60", "fsync": "off"}
SITES = COMMON | {"wal_level": "logical", "max_wal_senders": "60"}
CENTRAL = COMMON | {
    "max_logical_replication_workers": "60", "max_worker_processes": "80", "max_active_replication_origins": "60",
}  # fmt: skip


def main(sites: int = 1000, seconds: int = 60) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bacpipes-bench-")))
        folder.chmod(0o755)
        with many(folder / "hub", CENTRAL) as central, central_database(central) as url:
            asyncio.run(complete(folder, url))
        with TrixieServer() as server, central_database(server) as url:
            publishing(folder, stack, url, sites, seconds)


def execute(url: str, statement: str, values: Any = None) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []


def used(pids: list[int]) -> tuple[float, float]:
    """Seconds of CPU, and MB of memory (shared pages by their part), of some processes."""
    cpu = sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return cpu, sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


# --- the live lane


def publishing(folder: Path, stack: ExitStack, url: str, sites: int, seconds: int) -> None:
    try:
        telegraf.telegraf()
    except telegraf.NoTelegrafError as error:
        print(f"{sites} publishing sites: left out, {error}")
        return
    authority, names = Authority(), [f"site{n}" for n in range(sites)]
    passwords = {name: secrets.token_urlsafe(24) for name in (*names, "bacpipes_telegraf")}
    files = ["broker/mosquitto/mosquitto.conf", "broker/mosquitto/acl", "telegraf/telegraf.conf"]
    engine = {"broker": {"engine": "mosquitto"}}
    live_parts.render(folder, "central", ["mqtt_broker", "telegraf"], files, engine)
    execute(url, "ALTER ROLE central_telegraf LOGIN PASSWORD 'bench'")
    register(url, names)
    broker = stack.enter_context(Broker(folder / "central", passwords, authority, "localhost"))
    own = make_conninfo(url, user="central_telegraf", password="bench")
    reader = live_parts.run_telegraf(folder / "central", broker, passwords["bacpipes_telegraf"], own)
    stack.enter_context(reader)
    live_parts.wait(lambda: "Connected" in reader.log(), "Telegraf is connected")
    asyncio.run(publish(folder, url, authority, broker, reader, {name: passwords[name] for name in names}, seconds))


def register(url: str, names: list[str]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for name in names:
            connection.execute("INSERT INTO site (id) VALUES (%s)", [name])
            points = [
                SAT | {"id": n, "object_instance": n, "topic": f"{name}/ahu_1/analoginput{n}/presentValue"}
                for n in range(1, POINTS + 1)
            ]
            connection.execute(
                "INSERT INTO site_metadata (site_id, digest, devices, points) VALUES (%s, '', %s, %s)",
                [name, json.dumps([AHU]), json.dumps(points)],
            )
        connection.execute("ANALYZE")


class Site:
    """An MQTT 3.1.1 client that connects and publishes with QoS 1, and no more: a thousand of them fit here."""

    def __init__(self, name: str, password: str) -> None:
        self.name, self._password, self._number, self.acknowledged = name, password, 0, 0

    async def connect(self, port: int, context: ssl.SSLContext) -> None:
        self._reader, self._writer = await asyncio.open_connection("localhost", port, ssl=context)
        fields = b"".join(map(_text, (f"bridge-{self.name}", self.name, self._password)))
        body = _text("MQTT") + bytes([4, 0xC2, 0, 60]) + fields
        self._writer.write(bytes([0x10]) + _length(len(body)) + body)
        assert (await self._reader.readexactly(4))[3] == 0, "not accepted"
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while await self._reader.readexactly(4):  # PUBACKs
            self.acknowledged += 1

    def publish(self, topic: str, payload: bytes) -> None:
        self._number = self._number % 65535 + 1
        body = _text(topic) + struct.pack(">H", self._number) + payload
        self._writer.write(bytes([0x32]) + _length(len(body)) + body)

    def reading(self, point: int) -> float:
        """Publish one, and return its time."""
        now = time.time()
        keys = {
            "value": 20.0 + point / 10, "timestamp": iso_milliseconds(datetime.fromtimestamp(now, UTC)),
            "units": "degreesCelsius", "quality": "good", "dis": "Supply air temperature",
            "haystackName": f"{self.name}.ahu.1.sensor.temp.air.supply.actual", "deviceIp": "192.168.1.37",
            "deviceId": AHU["device_id"], "objectType": "analog-input", "objectInstance": point,
        }  # fmt: skip
        self.publish(f"{self.name}/ahu_1/analoginput{point}/presentValue", json.dumps(keys).encode())
        return now


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _length(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 | 128, number // 128])


async def publish(
    folder: Path, url: str, authority: Authority, broker: Broker, reader: Program, users: dict[str, str], seconds: int
) -> None:
    (folder / "ca.pem").write_text(authority.certificate)
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(*authority.client("fleet").write(folder, "fleet"))
    before = used([broker.pid])[1]
    sites = [Site(name, password) for name, password in users.items()]
    for begin in range(0, len(sites), 20):
        await asyncio.gather(*(site.connect(broker.tls, context) for site in sites[begin : begin + 20]))
    connected = used([broker.pid])[1]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        pids = [row[0] for row in execute(url, "SELECT pid FROM pg_stat_activity WHERE usename = 'central_telegraf'")]
        cpu = [used([broker.pid])[0], used([reader.pid])[0], used(pids)[0]]
        lags: list[float] = []
        sampling: list[asyncio.Task[None]] = []
        began, sent = time.monotonic(), 0
        rate = len(sites) * POINTS / 60
        while (elapsed := time.monotonic() - began) < seconds:
            while sent < elapsed * rate:
                site = sites[sent % len(sites)]
                at = site.reading(sent // len(sites) % POINTS + 1)
                sent += 1
                if sent % 400 == 0:
                    sampling.append(asyncio.create_task(_lag(connection, site.name, at, lags)))
            await asyncio.sleep(0.005)
        waiting = sent - await _rows(connection)
        while await _rows(connection) < sent:
            await asyncio.sleep(0.2)
            assert time.monotonic() - began < seconds + 300, "not all arrived"
        await asyncio.gather(*sampling)
        cpu = [
            after - b
            for after, b in zip((used([broker.pid])[0], used([reader.pid])[0], used(pids)[0]), cpu, strict=True)
        ]
    lags.sort()
    half, most = lags[len(lags) // 2], lags[len(lags) * 95 // 100]
    print(
        f"{len(sites)} sites, {sent / seconds:,.0f} messages/s for {seconds} s: lag p50 {half:.2f} s, p95 {most:.2f} s"
    )
    print(f"  not stored when the last was sent: {waiting}; the longest lag {lags[-1]:.2f} s")
    memory = f"{before:.0f} MB without sites, {connected:.0f} MB connected, {used([broker.pid])[1]:.0f} MB after"
    print(f"  broker B {memory}; Telegraf {used([reader.pid])[1]:.0f} MB")
    named = zip(("broker B", "Telegraf", "PostgreSQL"), cpu, strict=True)
    print("  CPU for 1,000 messages: " + ", ".join(f"{name} {one / sent * 1e6:.1f} ms" for name, one in named))


async def _rows(connection: psycopg.AsyncConnection[Any]) -> int:
    row = await (await connection.execute("SELECT count(*) FROM reading")).fetchone()
    return int(row[0]) if row else 0


async def _lag(connection: psycopg.AsyncConnection[Any], site: str, at: float, lags: list[float]) -> None:
    """How long until a reading of that time is a row."""
    moment = datetime.fromtimestamp(int(at * 1000) / 1000, UTC)
    found = "SELECT FROM reading r JOIN site s ON s.number = r.site WHERE s.id = %s AND r.time >= %s"
    while await (await connection.execute(found, [site, moment])).fetchone() is None:
        await asyncio.sleep(0.05)
    lags.append(time.time() - at)


# --- the complete lane


async def complete(folder: Path, url: str) -> None:
    with many(folder / "sites", SITES) as server:
        execute(server.url(), "CREATE DATABASE template_site")
        settings = Settings(site_id="x", database_url=server.url("template_site"), state_dir=folder)  # type: ignore[arg-type]
        migrate.migrate(settings)
        sites = [make_site(server, url, folder, f"fleet{n}") for n in range(FEW)]
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(await connect(site, "bench")) for site in sites]
            central = await stack.enter_async_context(await connect(central_settings(url), "bench"))
            for site, connection in zip(sites, connections, strict=True):
                await replication.publish(connection, site.site_id)
                await replication.subscribe(connection, central, site.site_id, site.database_url.get_secret_value())
            applying = "SELECT pid FROM pg_stat_subscription WHERE pid IS NOT NULL"
            while len(pids := [row[0] for row in execute(url, applying)]) < FEW:
                await asyncio.sleep(0.5)
            await load(f"{FEW} subscriptions", url, sites, connections, pids)
            for site in sites:
                await replication.drop(central, site.site_id)
            await central.execute("TRUNCATE reading")
            stop = asyncio.Event()
            shippers = [Shipper(site, WorkerMetrics()) for site in sites]
            running = [asyncio.create_task(shipper.run(stop)) for shipper in shippers]
            shipping = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'bacpipes shipper%'"
            while len(pids := [row[0] for row in execute(url, shipping)]) < FEW:
                await asyncio.sleep(0.5)
            await asyncio.sleep(10)  # the first comparison, and what was shipped once more
            await central.execute("TRUNCATE reading")
            pids = [row[0] for row in execute(url, shipping)]
            await load(f"{FEW} shippers", url, sites, connections, pids)
            stop.set()
            await asyncio.gather(*running)


async def load(name: str, url: str, sites: list[Settings], connections: list[Connection], pids: list[int]) -> None:
    """Each site commits a poll every 15 s; what the processes at central that take them cost, idle and loaded."""
    fresh = used(pids)[1]
    for number in range(2):  # plans are made once in each process
        await poll_all(sites, connections, number)
    await asyncio.sleep(10)
    cpu = used(pids)[0]
    await asyncio.sleep(20)
    idle = (used(pids)[0] - cpu) / 20
    cpu, began = used(pids)[0], time.monotonic()
    for number in range(2, 2 + ROUNDS):
        await poll_all(sites, connections, number)
        await asyncio.sleep(max(0.0, began + (number - 1) * EVERY - time.monotonic()))
    rows_there = FEW * READINGS * ROUNDS
    while (there := execute(url, "SELECT count(*) FROM reading")[0][0]) < FEW * READINGS * (2 + ROUNDS):
        assert time.monotonic() - began < 300, there
        await asyncio.sleep(0.2)
    after, memory = used(pids)
    busy = after - cpu - idle * (time.monotonic() - began)
    print(f"{name}: {fresh / FEW:.1f} MB each when new, {memory / FEW:.1f} MB after {rows_there // FEW} rows each;")
    print(f"  idle {idle * 100:.2f} % of a core together, {busy / rows_there * 1e6:.1f} ms of CPU for 1,000 rows")


async def poll_all(sites: list[Settings], connections: list[Connection], number: int) -> None:
    at = int(time.time() * 1000)
    for site, connection in zip(sites, connections, strict=True):
        rows = [Reading(n, at + n, 20 + n / 64) for n in range(1, READINGS + 1)]
        await log_store.commit(connection, site.site_id, [Batch(15, number, 9, rows)])


@contextmanager
def many(place: Path, settings: dict[str, str]) -> Iterator[EmbeddedPostgres]:
    """A server for many; the second start takes what needs one."""
    with EmbeddedPostgres(place) as server:
        for name, value in settings.items():
            execute(server.url(), f"ALTER SYSTEM SET {name} = {value}")
    with EmbeddedPostgres(place) as server:
        yield server


def make_site(server: EmbeddedPostgres, central: str, folder: Path, name: str) -> Settings:
    execute(server.url(), f"CREATE DATABASE {name} TEMPLATE template_site")
    execute(server.url(name), "INSERT INTO device (site_id, device_id, address) VALUES (%s, 7, '10.0.0.7')", [name])
    execute(
        server.url(name),
        "INSERT INTO point (device, object_type, object_instance, site, enabled) SELECT 1, 'analog-input', n, %s, false"
        " FROM generate_series(1, %s) AS n",
        [name, READINGS],
    )
    execute(central, "INSERT INTO site (id) VALUES (%s)", [name])
    return Settings(
        site_id=name, database_url=server.url(name), state_dir=folder, clock_check=False,
        central_database_url=site_url(central, name), reconcile_every_hours=0,
    )  # type: ignore[arg-type,call-arg]  # fmt: skip


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
