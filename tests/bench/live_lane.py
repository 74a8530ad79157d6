"""What the live lane takes at central: broker B ▶ Telegraf ▶ landing table ▶ hypertable, with the rendered files.

Messages wait in Telegraf's session at the broker; the clock runs from Telegraf's start to the last row, so that the
publisher's work is not in it. Before that the same messages go into broker A, whose bridge carries them meanwhile.

Run: PYTHONPATH=tests python tests/bench/live_lane.py [messages]
"""

import json
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

import live_parts
import telegraf
from central_parts import AHU, SAT, central_database, register
from engines import TrixieServer
from live_parts import Broker, Client, wait
from pki import Authority

POINTS = 500
SITE = "macau"
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def main(messages: int = 50_000) -> None:
    try:
        telegraf.telegraf()
    except telegraf.NoTelegrafError as error:
        print(f"live lane: left out, {error}")
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bacpipes-bench-")))
        server = stack.enter_context(TrixieServer())
        url = stack.enter_context(central_database(server))
        connection = stack.enter_context(psycopg.connect(url, autocommit=True))
        prepare(connection)
        measure(folder, stack, connection, url, messages)


def prepare(connection: psycopg.Connection[Any]) -> None:
    """Central knows the site and its points, and Telegraf may come in."""
    register(connection, SITE)
    points = [
        SAT | {"id": n, "object_instance": n, "topic": f"{SITE}/ahu_1/analoginput{n}/presentValue"}
        for n in range(1, POINTS + 1)
    ]
    connection.execute(
        "INSERT INTO site_metadata (site_id, digest, devices, points) VALUES (%s, '', %s, %s)",
        [SITE, json.dumps([AHU]), json.dumps(points)],
    )
    connection.execute("ANALYZE point")  # as autovacuum does in the first minutes
    connection.execute("ALTER ROLE central_telegraf LOGIN PASSWORD 'bench'")


def measure(folder: Path, stack: ExitStack, database: psycopg.Connection[Any], url: str, messages: int) -> None:
    authority = Authority()
    names = (SITE, "bacpipes_telegraf", "bacpipes_worker")
    passwords = {name: secrets.token_urlsafe(24) for name in names}
    files = ["broker/mosquitto/mosquitto.conf", "broker/mosquitto/acl"]
    engine = {"broker": {"engine": "mosquitto"}}
    live_parts.render(folder, "central", ["mqtt_broker", "telegraf"], [*files, "telegraf/telegraf.conf"], engine)
    files.append("broker/mosquitto/bridge/central.conf")
    live_parts.render(folder, SITE, ["mqtt_broker"], files, test_password=passwords[SITE])
    b = stack.enter_context(Broker(folder / "central", passwords, authority, "localhost"))
    own = make_conninfo(url, user="central_telegraf", password="bench")
    reader = live_parts.run_telegraf(folder / "central", b, passwords["bacpipes_telegraf"], own)
    a = Broker(folder / SITE, passwords, authority, "localhost")
    a.bridge(b.tls, authority, SITE)

    def rows() -> int:
        (count,) = database.execute("SELECT count(*) FROM reading").fetchone() or (0,)
        return int(count)

    with a, reader:
        worker = stack.enter_context(Client(a.plain, "bacpipes_worker", passwords["bacpipes_worker"]))
        wait(lambda: (worker.publish(*message(-1)), rows())[1], "the lane is open", 60)
        reader.stop()  # its session stays, and the messages wait in it
        before, began = rows(), time.perf_counter()
        worker.publish_all(message(n) for n in range(messages))
        report(
            "into broker A, its bridge (TLS) to broker B beside it",
            messages,
            time.perf_counter() - began,
            {"A": a, "B": b},
        )
        reader.start()
        busy, began = cpu(b.pid), time.perf_counter()
        wait(lambda: rows() >= before + messages, "every row", 600)
        seconds = time.perf_counter() - began
        report("broker B, Telegraf, landing trigger, hypertable", messages, seconds, {"Telegraf": reader})
        print(f"  B: {(cpu(b.pid) - busy) / messages * 1e6:.1f} ms of CPU for 1,000")
        assert rows() == before + messages, "stored once"


def message(number: int) -> tuple[str, str]:
    """Topic and payload of a reading, about 400 bytes."""
    point, poll = number % POINTS + 1, number // POINTS
    keys = {
        "value": 20.0 + number % 97 / 10, "timestamp": f"{START + timedelta(seconds=poll):%Y-%m-%dT%H:%M:%S}.000Z",
        "units": "degreesCelsius", "quality": "good", "dis": "Supply air temperature",
        "haystackName": f"{SITE}.ahu.1.sensor.temp.air.supply.actual", "deviceIp": "192.168.1.37",
        "deviceId": AHU["device_id"], "objectType": "analog-input", "objectInstance": point,
    }  # fmt: skip
    return f"{SITE}/ahu_1/analoginput{point}/presentValue", json.dumps(keys)


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has taken."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def report(what: str, messages: int, seconds: float, programs: dict[str, Any]) -> None:
    print(f"{what}: {messages / seconds:,.0f} messages/s")
    for name, program in programs.items():
        resident = psutil.Process(program.pid).memory_info().rss / 1e6
        print(f"  {name}: {cpu(program.pid) / messages * 1e6:.1f} ms of CPU for 1,000, {resident:.0f} MB resident")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
