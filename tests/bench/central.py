"""What central's landing tables take, beside a bare COPY into the same hypertable in the same run, and what a shipped
reading weighs on the wire.

Run: PYTHONPATH=tests python tests/bench/central.py [readings]
Engines: plain (embedded) and Apache (Debian trixie); Community where BACPIPES_TEST_POSTGRES_COMMUNITY names a server.
"""

import asyncio
import base64
import json
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg.conninfo import make_conninfo

import engines
from bacpipes import migrate
from bacpipes.central import link, shipping
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.reading import Batch, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from central_parts import AHU, SAT, central_database, register, site_url

POINTS = 500
START = datetime.now(UTC).replace(microsecond=0) - timedelta(
    minutes=110
)  # later than what the aggregates count as late
MONTH = 30 * 86400


def single(value: float) -> float:
    """As a BACnet Real says it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def points() -> list[dict[str, Any]]:
    """Points 1 to 500 of one device."""
    return [
        SAT | {"id": n, "object_instance": n, "topic": f"duxton/ahu_1/analoginput{n}/presentValue"}
        for n in range(1, POINTS + 1)
    ]


def main(readings: int = 200_000) -> None:
    random.seed(1)
    print(f"{readings} readings, {POINTS} points; rows a second, and CPU of the server's process for 1,000 rows")
    with (
        tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name,
        EmbeddedPostgres(Path(name)) as server,
        central_database(server) as url,
    ):
        measure("plain", url, readings)
    for engine, make in (("apache", engines.TrixieServer), ("community", engines.community_server)):
        try:
            found = make()
        except engines.NoServerError as error:
            print(f"{engine}: left out, {error}")
            continue
        if isinstance(found, engines.TrixieServer):
            with found, central_database(found) as url:
                measure(engine, url, readings)
                wire(found, url)
        else:
            with central_database(found) as url:
                measure(engine, url, readings)


def measure(engine: str, url: str, readings: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        register(connection)
        connection.execute(
            "INSERT INTO site_metadata (site_id, digest, devices, points) VALUES ('duxton', '', %s, %s)",
            [json.dumps([AHU]), json.dumps(points())],
        )
        connection.execute("ANALYZE point")  # as autovacuum does in the first minutes; the live lane looks points up
        polls = readings // POINTS
        for name, work in (("bare COPY", bare), ("reading_batch", batches), ("live", live)):
            connection.execute("TRUNCATE reading")
            timed(engine, name, connection, readings, lambda work=work: work(connection, polls))
        # both lanes bring every reading: the complete lane completes what the live lane brought
        timed(engine, "reading_batch after live", connection, readings, lambda: batches(connection, polls))
        (rows,) = connection.execute("SELECT count(*) FROM reading").fetchone() or (0,)
        assert rows == polls * POINTS, rows
        assert connection.execute("SELECT count(*) FROM quarantine").fetchone() == (0,)


def timed(engine: str, name: str, connection: psycopg.Connection[Any], readings: int, work: Callable[[], None]) -> None:
    backend = psutil.Process(connection.info.backend_pid)
    cpu, began = sum(backend.cpu_times()[:2]), time.monotonic()
    work()
    seconds, used = time.monotonic() - began, sum(backend.cpu_times()[:2]) - cpu
    print(f"{engine:<10} {name:<26} {readings / seconds:>9,.0f} rows/s {used / readings * 1e6:>7.1f} ms CPU")


def at(poll: int) -> datetime:
    return START + timedelta(seconds=15 * poll)


def bare(connection: psycopg.Connection[Any], polls: int) -> None:
    number = connection.execute("SELECT number FROM site").fetchone()
    assert number is not None
    lines = [
        f"{at(poll).isoformat()}\t{number[0]}\t{point}\t{20 + point / 100}\t0\t\\N\t12\t{poll}\n"
        for poll in range(polls)
        for point in range(1, POINTS + 1)
    ]
    copy_in(connection, "COPY reading (time, site, point_id, value, quality, reason, poll_duration, poll_cycle)", lines)


def batches(connection: psycopg.Connection[Any], polls: int) -> None:
    numbers = ",".join(str(point) for point in range(1, POINTS + 1))
    zeros = ",".join("0" for _ in range(POINTS))
    values = ",".join(str(20 + point / 100) for point in range(1, POINTS + 1))
    lines = [
        f"{poll}\tduxton\t{at(poll).isoformat()}\t{poll}\t12\t{{{numbers}}}\t{{{zeros}}}\t{{{values}}}\n"
        for poll in range(polls)
    ]
    columns = "seq, site_id, base_time, poll_cycle, poll_duration, point_id, offset_ms, value"
    copy_in(connection, f"COPY reading_batch ({columns})", lines)


def live(connection: psycopg.Connection[Any], polls: int) -> None:
    """Messages as the publisher makes them, in COPYs of 1,000 as Telegraf does."""
    lines = []
    for poll in range(polls):
        moment = at(poll).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        for point in range(1, POINTS + 1):
            message = {
                "value": 20 + point / 100, "timestamp": moment, "units": "°C", "quality": "good", "dis": "Supply air",
                "haystackName": SAT["haystack_name"], "deviceIp": "10.0.0.7", "deviceId": 7,
                "objectType": "analog-input", "objectInstance": point,
            }  # fmt: skip
            payload = base64.b64encode(json.dumps(message, ensure_ascii=False).encode()).decode()
            lines.append(f"{moment}\tduxton/ahu_1/analoginput{point}/presentValue\t{payload}\n")
    for first in range(0, len(lines), 1000):
        copy_in(connection, "COPY landing.live", lines[first : first + 1000])


def copy_in(connection: psycopg.Connection[Any], statement: str, lines: list[str]) -> None:
    with connection.cursor().copy(f"{statement} FROM STDIN".encode()) as copy:
        for first in range(0, len(lines), 500):
            copy.write("".join(lines[first : first + 500]))


# --- the wire


def wire(server: engines.TrixieServer, central_url: str) -> None:
    """A site ships 100 polls of 500 points over a relay that counts."""
    with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name, EmbeddedPostgres(Path(name)) as site_server:
        settings = Settings(  # type: ignore[call-arg]
            site_id="duxton", database_url=site_server.url(), state_dir=Path(name)
        )
        migrate.migrate(settings)
        with psycopg.connect(site_server.url(), autocommit=True) as connection:
            connection.execute("INSERT INTO device (site_id, device_id, address) VALUES ('duxton', 7, '10.0.0.7')")
            connection.execute(
                "INSERT INTO point (device, object_type, object_instance, site, enabled)"
                " SELECT 1, 'analog-input', n, 'duxton', false FROM generate_series(1, %s) AS n",
                [POINTS],
            )
        with psycopg.connect(central_url, autocommit=True) as connection:
            connection.execute("TRUNCATE reading")
        for kind, digits in (("one decimal", 1), ("full single precision", 7)):
            octets, readings = asyncio.run(shipped(settings, site_url(central_url, "duxton"), digits))
            each = octets / readings
            month = [POINTS * MONTH / interval * each / 1e9 for interval in (15, 60)]
            print(
                f"ship: values of {kind:<22} {each:5.1f} bytes a reading (both directions, without TLS);"
                f" 500 points: {month[0]:.2f} GB a month at 15 s, {month[1]:.2f} GB at 60 s"
            )
    assert server is not None


async def shipped(settings: Settings, url: str, digits: int) -> tuple[int, int]:
    """Bytes on the wire and readings, poll by poll, each in its own COPY as in steady life."""
    with counting(url) as (relayed, count):
        async with await connect(settings, "bench") as site:
            port = await relayed
            async with await link.connect(make_conninfo(url, port=port, sslmode="disable"), "bench") as central:
                await shipping.activate(site)
                before, readings = count(), 0
                for poll in range(100):
                    begin = int(time.time() * 1000) - 3_000_000 + digits * 1_500_000 // 8 + poll * 15_000
                    batch = Batch(15, poll, 12, [
                        Reading(n, begin + n // 20, single(round(random.uniform(15, 30), digits)))  # noqa: S311
                        for n in range(1, POINTS + 1)
                    ])  # fmt: skip
                    await log_store.commit(site, settings.site_id, [batch])
                    readings += (await shipping.send_batches(site, central)).readings
                return count() - before, readings


@contextmanager
def counting(url: str) -> Iterator[tuple[Any, Callable[[], int]]]:
    """A relay to the server of ``url``: its port, awaited, and the bytes that passed."""
    total = 0
    target = psycopg.conninfo.conninfo_to_dict(url)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        while block := await reader.read(65536):
            total += len(block)
            writer.write(block)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(str(target["host"]), int(str(target["port"])))
        with suppress(asyncio.CancelledError, ConnectionError):
            await asyncio.gather(pump(reader, forth), pump(back, writer))

    async def start() -> int:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    yield start(), lambda: total


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
