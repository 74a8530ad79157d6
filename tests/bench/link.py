"""What a site's link carries in a month: TCP, IP and TLS counted, each lane by itself, and both idle.

Polls of 500 points go through the real publisher, broker A, its bridge and broker B, and through the real shipper's
steps into central's PostgreSQL, with the files that the playbooks render. They are committed faster than they would be
polled, each one waited for; what the lanes say while nothing is polled is counted over two minutes and added. In a
network namespace of its own, with an MTU of 1500 and no segmentation offload, nftables counts IP packets by port.

Run as root: PYTHONPATH=tests python tests/bench/link.py
"""

import asyncio
import json
import math
import os
import random
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

import live_parts
from bacpipes import migrate
from bacpipes.central import link, shipping
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.client import MqttClient
from bacpipes.mqtt.config import MqttConfig
from bacpipes.points.directory import Directory
from bacpipes.reading import Batch, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from bacpipes.worker.publisher import READINGS, Publisher
from bacpipes.worker.shipper import Shipper
from central_server import Central
from live_parts import Broker, Client
from pki import Authority

SITE = "macau"
POINTS = 500
ANALOG = 400  # the others are binary
MONTH = 30 * 86400
INSIDE = "BACPIPES_BENCH_NAMESPACE"
IDLE = 120.0  # seconds


def main() -> None:
    if not os.environ.get(INSIDE):
        os.environ[INSIDE] = "yes"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])  # noqa: S606
    subprocess.run(["ip", "link", "set", "lo", "up", "mtu", "1500", "gso_max_segs", "1"], check=True)
    random.seed(7)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bacpipes-bench-")))
        folder.chmod(0o755)
        asyncio.run(measure(folder, stack))


async def measure(folder: Path, stack: ExitStack) -> None:
    authority = Authority()
    central = stack.enter_context(Central())
    (folder / "db").mkdir()
    central.become_central(folder / "db", authority)
    a, b, passwords = brokers(folder, authority)
    stack.enter_context(b)
    stack.enter_context(a)
    ears = stack.enter_context(Client(b.plain, "bacpipes_telegraf", passwords["bacpipes_telegraf"]))
    ears.subscribe(f"{SITE}/+/+/presentValue")
    server = stack.enter_context(EmbeddedPostgres(folder / "site"))
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE site")
    url = site_url(folder, central, authority)
    settings = Settings(
        site_id=SITE, database_url=server.url("site"), state_dir=folder, central_database_url=url, clock_check=False
    )  # type: ignore[arg-type,call-arg]
    migrate.migrate(settings)
    prepare(server.url("site"))
    mqtt = MqttConfig.model_validate(
        {"broker": "127.0.0.1", "port": a.plain, "enabled": True, "username": "bacpipes_worker",
         "password": passwords["bacpipes_worker"]}
    )  # fmt: skip
    wire = {"live": counter(b.tls), "complete": counter(port_of(central))}
    print(f"{POINTS} points; bytes of IP packets, both directions; a month is 30 days")
    every = await live(settings, mqtt, ears, wire["live"], "every", 15, polls=20)
    every_60 = await live(settings, mqtt, ears, wire["live"], "every", 60, polls=20)
    change = await live(settings, mqtt, ears, wire["live"], "change", 15, polls=240)
    change_60 = await live(settings, mqtt, ears, wire["live"], "change", 60, polls=60)
    shipped = {n: await complete(settings, wire["complete"], n) for n in (1, 4, 20)}
    idle = {look: await idling(settings.model_copy(update={"command_look_every": look}), wire) for look in (5.0, 60.0)}
    for interval, live_every, live_change in ((15, every, change), (60, every_60, change_60)):
        polls = MONTH / interval
        for name, messages, together, look in (
            ("every read, shipped at once", live_every, 1, 5.0),
            ("LTE: on change, shipped every minute", live_change, max(1, 60 // interval), 60.0),
        ):
            parts = [messages * polls, shipped[together] * polls, idle[look] * MONTH]
            print(
                f"{interval} s, {name}: live {parts[0] / 1e9:.2f} + complete {parts[1] / 1e9:.2f} + idle "
                f"{parts[2] / 1e9:.2f} = {sum(parts) / 1e9:.2f} GB a month; complete alone "
                f"{sum(parts[1:]) / 1e9:.2f}"
            )


def brokers(folder: Path, authority: Authority) -> tuple[Broker, Broker, dict[str, str]]:
    """A with its bridge to B, as the playbooks render them."""
    passwords = {name: secrets.token_urlsafe(24) for name in (SITE, "bacpipes_telegraf", "bacpipes_worker")}
    files = ["broker/mosquitto/mosquitto.conf", "broker/mosquitto/acl"]
    live_parts.render(folder, "central", ["mqtt_broker"], files, {"broker": {"engine": "mosquitto"}})
    files.append("broker/mosquitto/bridge/central.conf")
    live_parts.render(folder, SITE, ["mqtt_broker"], files, test_password=passwords[SITE])
    b = Broker(folder / "central", passwords, authority, "localhost")
    a = Broker(folder / SITE, passwords, authority, "localhost")
    a.bridge(b.tls, authority, SITE)
    return a, b, passwords


def site_url(folder: Path, central: Central, authority: Authority) -> str:
    """The site's way to central: TLS, by its certificate, the server's name verified."""
    certificate, key = authority.client(SITE).write(folder, "site")
    (folder / "ca.pem").write_text(authority.certificate)
    own = {"user": f"site_{SITE}", "host": "localhost", "sslmode": "verify-full", "password": ""}
    files = {"sslrootcert": str(folder / "ca.pem"), "sslcert": str(certificate), "sslkey": str(key)}
    return make_conninfo(central.url("bacpipes"), **own, **files)


def port_of(central: Central) -> int:
    return int(str(psycopg.conninfo.conninfo_to_dict(central.url())["port"]))


def prepare(url: str) -> None:
    """The site's points: analog ones with a deadband, and binary ones."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO device (site_id, device_id, name, address) VALUES (%s, 7, 'AHU 1', '192.168.1.37')", [SITE]
        )
        connection.execute(
            "INSERT INTO point (device, object_type, object_instance, dis, units, site, equip, equip_ref, function,"
            " quantity, substance, location, qualifier, topic, deadband)"
            " SELECT 1, CASE WHEN n <= %(analog)s THEN 'analog-input' ELSE 'binary-input' END, n,"
            " 'Supply air temperature', CASE WHEN n <= %(analog)s THEN 'degreesCelsius' ELSE '' END, %(site)s, 'ahu',"
            " '1', 'sensor', 'temp', 'air', 'supply', 'actual' || n,"
            " %(site)s || '/ahu_1/analoginput' || n || '/presentValue',"
            " CASE WHEN n <= %(analog)s THEN 0.3 END FROM generate_series(1, %(points)s) AS n",
            {"analog": ANALOG, "points": POINTS, "site": SITE},
        )


def counter(port: int) -> Callable[[], int]:
    """Bytes of IP packets from and to a port so far."""
    name = f"port{port}"
    chain = f"add chain inet {name} out {{ type filter hook output priority 0; }}"
    rules = [f"add rule inet {name} out tcp {end} {port} counter" for end in ("dport", "sport")]
    text = "\n".join([f"add table inet {name}", chain, *rules, ""])
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    def count() -> int:
        found = subprocess.run(["nft", "-j", "list", "table", "inet", name], check=True, capture_output=True)
        rules = [entry["rule"] for entry in json.loads(found.stdout)["nftables"] if "rule" in entry]
        counters = [part["counter"] for rule in rules for part in rule["expr"] if "counter" in part]
        assert all(one["bytes"] <= 1500 * one["packets"] for one in counters), "packets are segmented by the stack"
        return sum(one["bytes"] for one in counters)

    return count


class Building:
    """Values as a building's: analog ones wander with the day and have noise, binary ones are switched now and then."""

    def __init__(self) -> None:
        self._level = [20 + random.uniform(-3, 3) for _ in range(POINTS)]  # noqa: S311
        self._state = [0.0] * POINTS

    def values(self, seconds: float) -> list[float]:
        slow = 4 * math.sin(seconds / 86400 * 2 * math.pi)
        analog = [round(level + slow + random.gauss(0, 0.05), 2) for level in self._level[:ANALOG]]
        for n in range(POINTS):
            if random.random() < 15 / 1800:  # noqa: S311 - twice an hour
                self._state[n] = 1 - self._state[n]
        return analog + self._state[ANALOG:]


def poll(building: Building, number: int, interval: int, start: float) -> Batch:
    at = round((start + number * interval) * 1000)
    values = building.values(number * interval)
    return Batch(interval, number, 900, [Reading(n + 1, at + n * 2, value) for n, value in enumerate(values)])


@asynccontextmanager
async def publisher_on(settings: Settings, mqtt: MqttConfig) -> AsyncIterator[tuple[Publisher, WorkerMetrics]]:
    """A publisher with its connection to broker A."""
    directory, metrics, stop = Directory(), WorkerMetrics(), asyncio.Event()
    async with await connect(settings, "bench") as site:
        await directory.load(site)
    client = MqttClient(mqtt, site_id=SITE, on_command=lambda _: None)
    publisher = Publisher(settings, directory, metrics, client)
    running = asyncio.create_task(publisher.run(stop)), asyncio.create_task(client.run(stop))
    await client.wait_connected()
    yield publisher, metrics
    stop.set()
    await asyncio.gather(*running)


async def live(
    settings: Settings, mqtt: MqttConfig, ears: Client, count: Callable[[], int], policy: str, interval: int, polls: int
) -> float:
    """Bytes of the live lane for one poll; with a quarter of an hour before it, with heartbeats as later."""
    settings = settings.model_copy(update={"publish_policy": policy})
    building, start, warm = Building(), time.time() - 86400, 900 // interval if policy == "change" else 1
    async with await connect(settings, "bench") as site:
        await site.execute("UPDATE point SET interval_seconds = %s", [interval])
        await site.execute("DELETE FROM published")
        async with publisher_on(settings, mqtt) as (publisher, metrics):
            base, before = len(ears.heard), 0
            sent = 0.0
            for number in range(warm + polls):
                if number == warm:
                    before, first = count(), metrics.published._value.get()
                await log_store.commit(site, SITE, [poll(building, number, interval, start)])
                newest = await (await site.execute("SELECT max(seq) FROM reading_batch")).fetchone()
                publisher.wake()
                while await log_store.cursor_of(site, READINGS) < (newest or [0])[0]:
                    await asyncio.sleep(0.005)
                sent = metrics.published._value.get()
                while len(ears.heard) - base < sent:
                    await asyncio.sleep(0.005)
            each = (count() - before) / polls
            messages = sent - first
    print(
        f"live, {policy}, {interval} s: {messages / polls:.1f} messages a poll,"
        f" {each * polls / messages:.0f} bytes a message, {each / POINTS:.1f} bytes a reading"
    )
    return each


async def complete(settings: Settings, count: Callable[[], int], together: int) -> float:
    """Bytes of the complete lane for one poll, where so many share a shipment."""
    assert settings.central_database_url is not None
    building, start, polls = Building(), time.time() - 7200, 60
    async with (
        await connect(settings, "bench") as site,
        await link.connect(settings.central_database_url.get_secret_value(), "bench") as central,
    ):
        await shipping.activate(site)
        await shipping.send_metadata(site, central, SITE)
        while (await shipping.send_batches(site, central)).batches:
            pass
        before = count()
        for number in range(polls):
            await log_store.commit(site, SITE, [poll(building, number, 15, start + together)])
            if (number + 1) % together == 0:
                while (await shipping.send_batches(site, central)).batches:
                    pass
        each = (count() - before) / polls
    print(f"complete, {together} polls a shipment: {each / POINTS:.1f} bytes a reading")
    return each


async def idling(settings: Settings, wire: dict[str, Callable[[], int]]) -> float:
    """Bytes a second of both lanes while nothing is polled."""
    shipper, stop = Shipper(settings, WorkerMetrics()), asyncio.Event()
    running = asyncio.create_task(shipper.run(stop))
    await asyncio.sleep(10)
    before = {lane: count() for lane, count in wire.items()}
    await asyncio.sleep(IDLE)
    rates = {lane: (count() - before[lane]) / IDLE for lane, count in wire.items()}
    stop.set()
    await running
    looks = settings.command_look_every
    print(f"idle, looks every {looks:.0f} s: live {rates['live']:.1f}, complete {rates['complete']:.1f} bytes/s")
    return sum(rates.values())


if __name__ == "__main__":
    main()
