"""A site and its central, whole, each part a process of its own: building, worker, brokers, Telegraf, databases.

Between both sides are two relays (tests/wan.py). `System.begin` counts from then on (tests/fault_count.py).
"""

import asyncio
import csv
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import live_parts
import telegraf
from bacpipes import migrate
from bacpipes.central import link
from bacpipes.central.reconcile import Report, reconcile
from bacpipes.database import connect
from bacpipes.embedded import LOOPBACK, EmbeddedPostgres, free_port, wait_for_port
from bacpipes.mqtt.check import DROPPED
from bacpipes.points import importer as points_import
from bacpipes.points.csv_file import read_points
from bacpipes.settings import Settings
from central_server import Central
from engines import NoServerError
from fault_count import Span
from live_parts import Broker, Client, Program, wait
from pki import Authority
from wan import Relay

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's package faketime
SITE = "macau"
WORKER, TELEGRAF, DISPATCHER, OPTIMISER = "bacpipes_worker", "bacpipes_telegraf", "bacpipes_central", "optimiser"
ITS_RULES = [{"topic": "bacnet/write/command", "access": "write"}, {"topic": "bacnet/write/result", "access": "read"}]
DEVICES = {12345, 67890, 30001}  # 66 points, each second
# What the lanes offer, also what is rolled back and what is there already. Sequences: nothing takes them back.
OFFERED = """
    CREATE SEQUENCE offered_live; CREATE SEQUENCE offered_complete;
    CREATE FUNCTION offer() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF TG_TABLE_NAME = 'live' THEN PERFORM nextval('public.offered_live');
        ELSE PERFORM count(nextval('public.offered_complete')) FROM unnest(NEW.point_id); END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER a_offer BEFORE INSERT ON landing.live FOR EACH ROW EXECUTE FUNCTION offer();
    CREATE TRIGGER a_offer BEFORE INSERT ON reading_batch FOR EACH ROW EXECUTE FUNCTION offer();
    ALTER TABLE reading_batch ENABLE ALWAYS TRIGGER a_offer;
"""

ARRIVED = """
    SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM offered_live),
           (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM offered_complete),
           (SELECT count(*) FROM reading),
           (SELECT coalesce(sum(count), 0)::bigint FROM quarantine)
"""


def bacpipes(*words: object) -> list[str]:
    """Our command line."""
    return [sys.executable, "-m", "bacpipes", *map(str, words)]


class Process(Program):
    """A program with variables of its own; ``name`` tells its log from others'."""

    def __init__(self, folder: Path, name: str, environment: dict[str, str], *command: object) -> None:
        super().__init__(folder, *command)
        self.environment = environment
        self._log = folder / f"{name}.log"

    def start(self) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("BACPIPES_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=kept | self.environment, start_new_session=True
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """It has to run."""
        assert self._process is not None
        return self._process


class OtherClock(Central):
    """Central's server with a clock of its own: libfaketime adds what the file `clock` says, in seconds."""

    def set_clock(self, seconds: int) -> None:
        """From now on it is so far ahead."""
        write_clock(self._data / "clock", seconds)

    def _initialise(self) -> None:
        self.set_clock(0)
        shutil.copy(FAKETIME, self._data)
        for name in ("clock", FAKETIME.name):
            (self._data / name).chmod(0o644)
        super()._initialise()

    def _inside(self, program: str, *arguments: str) -> list[str]:
        command = super()._inside(program, *arguments)
        if program == "initdb":
            return command
        at = command.index("--") + 1
        variables = clock_variables(self._inner(FAKETIME.name), self._inner("clock"))
        return [*command[:at], "/usr/bin/env", *(f"{k}={v}" for k, v in variables.items()), *command[at:]]


def clock_variables(library: str | Path, clock: str | Path) -> dict[str, str]:
    """For a process whose clock is that of the file ``clock``; durations are measured as ever."""
    own = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock)}
    return own | {"FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def write_clock(file: Path, seconds: int) -> None:
    """In one step: nobody may read half of it."""
    if not file.exists():
        file.write_text(f"{seconds:+d}\n")
        return
    with file.open("r+b") as there:
        os.pwrite(there.fileno(), f"{seconds:+08d}\n".encode(), 0)


class SmallDisk(Central):
    """Central's server on a disk of its own, in memory, that can be full."""

    MEGABYTES = 400

    def _initialise(self) -> None:
        password, owner = (self._data / "password").read_text(), self._data.stat()
        options = f"size={self.MEGABYTES}m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "bacpipes-test", self._data], check=True)
        (self._data / "password").write_text(password)
        os.chown(self._data / "password", owner.st_uid, owner.st_gid)
        super()._initialise()
        with (self._data / "data" / "postgresql.conf").open("a") as file:
            file.write("min_wal_size = 32MB\nmax_wal_size = 64MB\n")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        subprocess.run(["umount", self._data], check=True)
        super().__exit__(kind, error, tb)

    def fill(self) -> None:
        """Not an octet is free any more."""
        with (self._data / "ballast").open("ab") as file, suppress(OSError):
            while True:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), 1 << 20)
                file.truncate((file.seek(0, os.SEEK_END) + 4095) & ~4095)
        with (self._data / "rest").open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def make_room(self) -> None:
        """Somebody has deleted something; a server that gave up is started again, as Docker does it."""
        for name in ("ballast", "rest"):
            (self._data / name).unlink()
        assert self._process is not None
        if self._process.poll() is not None:
            self.start(preload=True)

    @property
    def free(self) -> int:
        """Octets."""
        return shutil.disk_usage(self._data).free


class System:
    """``with System(folder, stack_of, …) as system``: reads flow, by both lanes, when it is entered."""

    def __init__(self, folder: Path, central: Central, *, queue: int = 100_000, **site: str) -> None:
        self.folder, self.central, self._queue, self._more = folder, central, queue, site
        self._stack = ExitStack()
        self.base = f"127.0.{30 + os.getpid() % 200}.1"

    def __enter__(self) -> "System":
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        enter, folder = self._stack.enter_context, self.folder
        self.authority = Authority()
        enter(self.central)
        self.central.become_central(folder, self.authority)
        self.central_url = self.central.url("bacpipes")
        with psycopg.connect(self.central_url, autocommit=True) as connection:
            connection.execute("ALTER ROLE central_telegraf LOGIN PASSWORD 'telegraf'")
            connection.execute(OFFERED.encode())
        self._brokers()
        port = int(str(conninfo_to_dict(self.central_url)["port"]))
        self.sql = enter(Relay((LOOPBACK, port)))
        self.site_url = self._site_database()
        self.database = enter(psycopg.connect(self.site_url, autocommit=True))
        words = ("simulate", "--site", SITE, "--base", self.base, "--vavs", "1")
        self._import_points(*words)
        enter(Process(folder, "building", {}, *bacpipes(*words)))
        self.worker = enter(Process(folder, "worker", self._environment(), *bacpipes("worker")))
        own = make_conninfo(self.central_url, user="central_telegraf", password="telegraf")
        self.telegraf = enter(live_parts.run_telegraf(folder / "central", self.b, self.passwords[TELEGRAF], own))
        wait(lambda: all(self.arrived()[:3]), "both lanes bring readings", 90)

    def _brokers(self) -> None:
        enter, folder = self._stack.enter_context, self.folder
        names = (SITE, WORKER, TELEGRAF, "bacpipes_exporter", DISPATCHER, "bacpipes_verify", OPTIMISER)
        self.passwords = {name: secrets.token_urlsafe(24) for name in names}
        files = ["broker/mosquitto/mosquitto.conf", "broker/mosquitto/acl"]
        engine = {"broker": {"engine": "mosquitto", "users": [{"name": OPTIMISER, "acl": ITS_RULES}]}}
        live_parts.render(folder, "central", ["mqtt_broker", "telegraf"], [*files, "telegraf/telegraf.conf"], engine)
        files.append("broker/mosquitto/bridge/central.conf")
        extra = {"test_password": self.passwords[SITE], "mqtt_broker_max_queued_messages": self._queue}
        live_parts.render(folder, SITE, ["mqtt_broker"], files, **extra)
        self.b = enter(Broker(folder / "central", self.passwords, self.authority, "localhost"))
        self.mqtt = enter(Relay((LOOPBACK, self.b.tls)))
        self.a = Broker(folder / SITE, self.passwords, self.authority, "localhost")
        self.a.bridge(self.mqtt.port, self.authority, SITE)
        enter(self.a)
        self._ear = enter(Client(self.a.plain, WORKER, self.passwords[WORKER]))
        self._ear.subscribe(DROPPED)

    def _site_database(self) -> str:
        """A server whose log can be followed, with a bound on the WAL that it keeps for a slot."""
        data = Path(self._stack.enter_context(TemporaryDirectory(prefix="bacpipes-site-")))  # pytest's are root's alone
        with EmbeddedPostgres(data) as server, psycopg.connect(server.url(), autocommit=True) as connection:
            for setting in ("wal_level = logical", "max_slot_wal_keep_size = '1MB'", "min_wal_size = '32MB'",
                            "max_wal_size = '32MB'"):  # fmt: skip
                connection.execute(f"ALTER SYSTEM SET {setting}".encode())
            connection.execute("CREATE DATABASE site")
        self.site_server = self._stack.enter_context(EmbeddedPostgres(data))
        self.settings = Settings(
            site_id=SITE,
            database_url=self.site_server.url("site"),
            state_dir=self.folder,
            clock_check=False,
            central_database_url=self._url_of_central(),
            worker_http_port=free_port(),
            time_zone="Asia/Macau",
        )  # type: ignore[arg-type,call-arg]
        migrate.migrate(self.settings)
        return self.site_server.url("site")

    def _url_of_central(self) -> str:
        """The site's way to central: TLS, by its certificate, the server's name verified."""
        certificate, key = self.authority.client(SITE).write(self.folder, "site")
        (self.folder / "ca.pem").write_text(self.authority.certificate)
        own = {"user": f"site_{SITE}", "host": "localhost", "port": self.sql.port, "sslmode": "verify-full"}
        files = {"sslrootcert": str(self.folder / "ca.pem"), "sslcert": str(certificate), "sslkey": str(key)}
        return make_conninfo("dbname=bacpipes", **own, **files)

    def _environment(self) -> dict[str, str]:
        assert self.settings.central_database_url is not None
        ours = {
            "SITE_ID": SITE,
            "DATABASE_URL": self.site_url,
            "CENTRAL_DATABASE_URL": self.settings.central_database_url.get_secret_value(),
            "STATE_DIR": str(self.folder),
            "BACNET_ADDRESS": f"{LOOPBACK}:{47900 + os.getpid() % 90}",
            "WORKER_HTTP_PORT": str(self.settings.worker_http_port),
            "CLOCK_CHECK": "false",
            "POLL_PHASE": "0",
            "LOG_FORMAT": "json",
            "MQTT_ENABLED": "true",
            "MQTT_BROKER": LOOPBACK,
            "MQTT_PORT": str(self.a.plain),
            "MQTT_USERNAME": WORKER,
            "MQTT_PASSWORD": self.passwords[WORKER],
        }
        return {f"BACPIPES_{name}": value for name, value in (ours | self._more).items()}

    def _import_points(self, *words: str) -> None:
        path = self.folder / "points.csv"
        subprocess.run(bacpipes(*words, "--points", path), check=True, capture_output=True)
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["device_id"]) in DEVICES]
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows([row | {"interval": "1"} for row in rows])
        with path.open("rb") as stream:
            source = read_points(stream, "points.csv", SITE)
        plan = points_import.import_points(self.database, source, SITE, actor="test")
        assert plan.applied, plan.problems.errors

    # --- what it does

    def one(self, sql: str, *values: object, central: bool = False) -> Any:
        """The first row of a query, at the site or at central."""
        if not central:
            return self.database.execute(sql.encode(), list(values)).fetchone()
        with psycopg.connect(self.central_url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(sql.encode(), list(values)).fetchone()

    def now(self) -> datetime:
        """The site's database's clock."""
        return self.one("SELECT now()")[0]  # type: ignore[no-any-return]

    def arrived(self) -> tuple[int, int, int, int]:
        """Readings that each lane has offered to central so far (live, complete), those stored, those quarantined."""
        return self.one(ARRIVED, central=True)  # type: ignore[no-any-return]

    def flow(self, seconds: float) -> None:
        """Wait until the site has stored readings that are so much younger than now."""
        moment = self.now() + timedelta(seconds=seconds)
        newest = "SELECT max(time) > %s FROM reading"
        wait(lambda: self.one(newest, moment)[0], f"{seconds} s of readings", seconds + 30)

    def metric(self, name: str) -> float:
        """A number of the worker's own page."""
        text = httpx.get(f"http://{LOOPBACK}:{self.settings.worker_http_port}/metrics").text
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))

    def compare(self, since: datetime) -> Report:
        """What the comparison does every night, up to now and without waiting for what is young."""
        assert self.settings.central_database_url is not None
        url = self.settings.central_database_url.get_secret_value()

        async def main() -> Report:
            async with await connect(self.settings, "test") as site, await link.connect(url, "test") as central:
                return await reconcile(site, central, Report(SITE, since, self.now()), rate=1e9)

        return asyncio.run(main())

    def restart_worker(self, **variables: str) -> None:
        """With other variables."""
        self.worker.stop()
        self.worker.environment |= {f"BACPIPES_{name}": value for name, value in variables.items()}
        self.worker.start()

    def lag(self) -> tuple[float, float]:
        """Seconds that central's newest reading of each lane is behind the site's: live, complete."""
        newest = self.one("SELECT max(time) FROM reading")[0]
        last = "SELECT max(l.last_time) FILTER (WHERE l.name = 'live'), max(l.last_time) FILTER (WHERE l.name ="
        last += " 'complete') FROM lane l JOIN site s ON s.number = l.site WHERE s.id = 'macau'"
        live, complete = ((newest - at).total_seconds() for at in self.one(last, central=True))
        return live, complete

    def live_lane_drained(self, within: float = 60) -> None:
        """Wait until it has brought what was published up to now: it keeps the order."""
        moment = self.now()
        brought = "SELECT l.last_time > %s FROM lane l JOIN site s ON s.number = l.site"
        brought += " WHERE l.name = 'live' AND s.id = 'macau'"
        wait(lambda: self.one(brought, moment, central=True)[0], "the live lane is open, and its queue empty", within)

    def cut(self) -> None:
        """The WAN: both lanes."""
        self.mqtt.cut()
        self.sql.cut()

    def mend(self) -> None:
        """The WAN is there again."""
        self.mqtt.mend()
        self.sql.mend()

    def dropped(self) -> int:
        """Messages that broker A has dropped, by what it told of itself last: it does so every 10 s."""
        wait(lambda: self._ear.heard, "its word")
        return int(self._ear.heard[-1][1])

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """`bacpipes …` at the site."""
        return subprocess.run(
            bacpipes(*words),
            env=os.environ | self._environment() | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def exporter(self) -> Iterator[str]:
        """The site's exporter, while the block lasts; gives its address."""
        port = free_port()
        own = {"BACPIPES_HTTP_PORT": str(port)}
        with Process(self.folder, "exporter", self._environment() | own, *bacpipes("exporter")) as process:
            wait_for_port(port, process.process, self.folder / "exporter.log")
            yield f"http://{LOOPBACK}:{port}"

    def not_ready(self) -> dict[str, str]:
        """What the worker says that keeps it from its work."""
        body = httpx.get(f"http://{LOOPBACK}:{self.settings.worker_http_port}/readyz").json()
        return {reason["component"]: reason["reason"] for reason in body["reasons"]}

    @contextmanager
    def central_service(self) -> Iterator[str]:
        """Central's API and dispatcher, while the block lasts; gives its address."""
        port = free_port()
        ours = {
            "DATABASE_URL": self.central_url,
            "STATE_DIR": str(self.folder),
            "HTTP_PORT": str(port),
            "CLOCK_CHECK": "false",
            "MQTT_BROKER": LOOPBACK,
            "MQTT_PORT": str(self.b.plain),
            "MQTT_USERNAME": DISPATCHER,
            "MQTT_PASSWORD": self.passwords[DISPATCHER],
        }
        variables = {f"BACPIPES_{name}": value for name, value in ours.items()}
        with Process(self.folder, "service", variables, *bacpipes("central", "serve")) as process:
            wait_for_port(port, process.process, self.folder / "service.log")
            yield f"http://{LOOPBACK}:{port}"

    def optimiser(self) -> Client:
        """Any client of broker B's that may send commands, over TLS."""
        return Client(
            self.b.tls, OPTIMISER, self.passwords[OPTIMISER], folder=self.folder, trust=self.authority,
            authority=self.authority,
        )  # fmt: skip

    def begin(self) -> Span:
        """Count from here on; readings have to flow."""
        self.flow(0)
        return Span(self)


@contextmanager
def running(folder: Path, what: str, server: type[Central] = Central, *, queue: int = 100_000) -> Iterator[System]:
    """A whole system with such a server for central; where this host can't have it, the test is skipped and says that
    ``what`` is not tested."""
    try:
        telegraf.telegraf()
        central = server()
    except (telegraf.NoTelegrafError, NoServerError) as error:
        pytest.skip(f"{what} NOT TESTED: {error}")
    with System(folder, central, queue=queue) as system:
        yield system
