"""One site while it is verified: its machine, its database, its broker and its web interface."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from verification import ports
from verification.fleet import FleetError, Point, Site
from verification.listener import Listener
from verification.machine import SCRIPTS, Machine
from verification.outcome import Found, fail, wait_for
from verification.report import SiteFacts

READER = "bacpipes_reader"
SETTLE_SECONDS = 40  # for services that have just been started
HTTP_SECONDS = 45  # a write is answered within 30


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Tunnelled(HTTPSConnection):
    """HTTPS to ``address``, whose certificate is checked, by way of a port of this host."""

    def __init__(self, address: str, port: int, authority: ssl.SSLContext) -> None:
        super().__init__(address, timeout=HTTP_SECONDS, context=authority)
        self._address, self._authority, self._port = address, authority, port

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self._port), HTTP_SECONDS)
        self.sock = self._authority.wrap_socket(plain, server_hostname=self._address)


class Observed:
    """Everything that the checks of one site share. `prepare` begins to listen; it never raises."""

    def __init__(self, site: Site, folder: Path, threads: Executor) -> None:
        self.site = site
        self.machine = Machine(site.connection, folder)
        self._folder, self._central = folder, None  # type: Path, Machine | None
        self._threads = threads
        self.listener = Listener(site.site)
        self.record = SiteFacts(site.host, site.site, site.title, site.http_address)
        self.scan: Future[Any] | None = None
        self.bacnet: Future[bytes | None] | None = None
        self.database_from_outside: dict[str, Future[bool]] = {}  # address: whether its port takes a connection
        self.trial: Future[str] | None = None  # of the setpoint
        self.old_row: tuple[int, datetime] | None = None
        self.services_down = ""  # what the first check found; waiting for readings is in vain then
        self._began: datetime | None = None
        self._listening_since = time.monotonic()
        self._problem: BaseException | None = None
        self._points: list[Point] | None = None
        self._passwords: dict[str, str] = {}

    # -- the beginning and the end

    def prepare(self) -> None:
        """Connect, note the time, listen. What goes wrong is told by the checks that need it."""
        try:
            self.record.expected_devices = len(self.site.devices)
            self.record.expected_points = len(self.site.points)
            self.machine.open()
            self.listen()
            _ = self.began
        except (AssertionError, psycopg.Error, OSError, FleetError, subprocess.SubprocessError) as error:
            self._problem = error

    def begin(self, look: Callable[..., Found], *arguments: Any) -> Future[Found]:
        """Look in the background, while checks go on."""
        return self._threads.submit(look, *arguments)

    def look_from_outside(self) -> None:
        """Begin to wait for what should stay silent, so that no check has to wait for it."""
        site = self.site
        self.bacnet = self.begin(ports.bacnet_answer, site.http_address, site.bacnet_port)
        declared = [address for address in site.database_addresses if not address.startswith("127.")]
        self.database_from_outside = {
            address: self.begin(ports.opens, address, site.database_port) for address in declared or [site.http_address]
        }

    def close(self) -> None:
        if self.trial is not None:
            wait([self.trial])  # what it wrote, it releases over this connection
        self.listener.close()
        self.machine.close()
        if self._central is not None:
            self._central.close()

    @property
    def problem(self) -> BaseException | None:
        """What `prepare` ran into."""
        return self._problem

    # -- the points

    @property
    def points(self) -> list[Point]:
        """The points that should be polled: as the points file says, else as the page left them in the database."""
        if self._points is None:
            self._points = self.site.points or self._stored_points()
            self.record.expected_points = len(self._points)
            self.record.expected_devices = len({point.device_id for point in self._points})
        return self._points

    @property
    def devices(self) -> dict[int, list[Point]]:
        found: dict[int, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.device_id, []).append(point)
        return found

    def _stored_points(self) -> list[Point]:
        rows = self.admin(
            "SELECT d.device_id, p.object_type, p.object_instance, p.haystack_name, p.function, "
            "p.interval_seconds AS interval, p.writable, ARRAY[p.topic] AS topics "
            "FROM point p JOIN device d ON d.id = p.device WHERE p.enabled"
        )
        return [Point(**row | {"topics": tuple(row["topics"])}) for row in rows]

    # -- the database

    @property
    def began(self) -> datetime:
        """When the verification began, by the site's own clock: what is later is fresh."""
        if self._began is None:
            self._began = self.sql("SELECT now() AS now")[0]["now"]
        return self._began

    def begin_anew(self) -> None:
        """What was read so far counts as fresh no more."""
        self._began = None
        self._listening_since = time.monotonic()
        self.listener.forget()
        _ = self.began

    def sql(self, statement: str, parameters: Any = None, user: str = READER) -> list[dict[str, Any]]:
        """A query as a client of the site would make it, over TCP with a password; as the reader unless said."""
        with self.connect(user) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def connect(self, user: str = READER, password: str | None = None, **more: Any) -> psycopg.Connection[Any]:
        """A connection by way of the machine's loopback address."""
        place = {"host": "127.0.0.1", "port": self.machine.tunnel("127.0.0.1", self.site.database_port)}
        return psycopg.connect(
            **(place | more), user=user, password=password or self.password(user), dbname=self.site.database,
            connect_timeout=10, autocommit=True, row_factory=dict_row, application_name="bacpipes verify",
        )  # fmt: skip

    def password(self, user: str) -> str:
        """What the machine's password file for a PostgreSQL role says."""
        if user not in self._passwords:
            line = self.machine.secret(f"{self.site.secrets}/{user}.pgpass").splitlines()[0]
            self._passwords[user] = line.rsplit(":", 1)[-1]
        return self._passwords[user]

    def admin(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """A query as PostgreSQL's superuser, who exists inside the container only."""
        printed = self.psql(f"SELECT row_to_json(q) FROM ({query}) q", **values)  # noqa: S608 - values are literals
        return [json.loads(line) for line in printed.splitlines() if line]

    def psql(self, statement: str, **values: Any) -> str:
        """One statement as PostgreSQL's superuser, ``{name}`` standing for a value; what psql prints."""
        return _psql(self.machine, self.container("database")["name"], self.site.database, statement, values)

    def central(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """A query at central, as its PostgreSQL's superuser."""
        assert self.site.central_connection is not None
        if self._central is None:
            (self._folder / "central").mkdir(exist_ok=True)
            self._central = Machine(self.site.central_connection, self._folder / "central")
        self._central.open()
        text = f"SELECT row_to_json(q) FROM ({query}) q"  # noqa: S608 - values are literals
        printed = _psql(self._central, f"{self.site.project}-database-1", self.site.database, text, values)
        return [json.loads(line) for line in printed.splitlines() if line]

    def moment(self, text: str) -> datetime:
        """A time as `admin` and `central` give it."""
        return datetime.fromisoformat(text)

    def in_worker(self, script: str, attempts: dict[str, Any]) -> dict[str, str]:
        """Run ``main`` of a script of ``on_machine`` in the worker's container; its answer to each attempt."""
        text = (
            SCRIPTS / f"{script}.py"
        ).read_text() + f"\nimport json\nprint(json.dumps(main({list(attempts.values())!r})))"
        name = self.container("worker")["name"]
        answers = json.loads(self.machine.run("docker", "exec", "-i", name, "python", "-", data=text))
        return dict(zip(attempts, answers, strict=True))

    # -- the containers

    def containers(self) -> list[dict[str, Any]]:
        """The project's containers as they run now."""
        found: list[dict[str, Any]] = self.machine.python("containers", {"project": self.site.project})
        return found

    def container(self, service: str) -> dict[str, Any]:
        """The container of one service."""
        for each in self.containers():
            if each["service"] == service:
                return each
        raise AssertionError(
            f"expected: a container of the service {service}\nseen: none\n"
            f"next: `docker compose ps -a` in {self.site.directory}"
        )

    def services_problem(self) -> str:
        """What keeps the stack from being up; empty where it is."""
        by_service = {each["service"]: each for each in self.containers()}
        problems = []
        for service in self.site.services:
            each = by_service.get(service)
            if each is None:
                problems.append(f"{service}: no container")
            elif each["status"] != "running" or each["health"] not in ("healthy", "none"):
                problems.append(f"{service}: {each['status']}, {each['health']}")
        for service in self.site.one_shot_services:
            each = by_service.get(service)
            if each is not None and (each["status"] != "exited" or each["exit_code"] != 0):
                problems.append(f"{service}: {each['status']}, exit code {each['exit_code']}")
        return "; ".join(problems)

    def wait_for_services(self, seconds: float = SETTLE_SECONDS) -> str:
        """Wait until the stack is up; what still is wrong then."""
        last = "not looked at"

        def up() -> bool:
            nonlocal last
            try:
                last = self.services_problem()
            except (AssertionError, subprocess.SubprocessError, ValueError) as error:
                last = str(error)
            return not last

        wait_for(up, seconds, every=1.0)
        return last

    # -- the broker

    def listen(self) -> None:
        """Subscribe to all that the site publishes."""
        user = self.site.broker_user
        password = self.machine.secret(f"{self.site.secrets}/mqtt_{user}.password")
        self.listener.connect(self.machine.tunnel("127.0.0.1", self.site.broker_port), user, password)

    # -- the web interface

    @cached_property
    def _authority(self) -> ssl.SSLContext:
        """The fleet's CA, as the machine has it (that it is the right one is a check of its own)."""
        return ssl.create_default_context(cadata=self.machine.secret(f"{self.site.directory}/tls/ca.pem"))

    @property
    def token(self) -> str:
        """The token that provisioning left for verification."""
        return self.machine.secret(self.site.token_file or f"{self.site.secrets}/operator.token")

    def http(self, method: str, path: str, token: str | None = None, body: Any = None) -> Answer:
        """One request over the tunnel; any status is an answer."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
        tunnel = self.machine.tunnel(self.site.http_address, self.site.http_port)
        try:
            with closing(Tunnelled(self.site.http_address, tunnel, self._authority)) as connection:
                connection.request(method, path, None if body is None else json.dumps(body), headers)
                answer = connection.getresponse()
                return Answer(answer.status, answer.read())
        except (OSError, HTTPException) as error:
            place = f"{self.site.http_address}:{self.site.http_port}"
            fail(
                f"an answer of the web interface at {place}",
                str(error),
                "`docker compose logs exporter` on the machine",
            )

    # -- readings

    def fresh(self) -> dict[int, dict[str, Any]]:
        """By device: points with a usable reading since the beginning, points tried, and the newest time."""
        rows = self.sql(
            "SELECT device_id, count(DISTINCT point_id) FILTER (WHERE quality <> 'bad') AS good, "
            "count(DISTINCT point_id) AS tried, max(time) AS newest "
            "FROM sensor_readings WHERE time >= %s AND site_id = %s GROUP BY device_id",
            [self.began, self.site.site],
        )
        return {row["device_id"]: row for row in rows}

    @property
    def quick(self) -> dict[int, list[Point]]:
        """The devices that are read often enough to wait for."""
        longest = self.site.patience / 2
        found = {device: [p for p in points if p.interval <= longest] for device, points in self.devices.items()}
        return {device: points for device, points in found.items() if points}

    @property
    def patience(self) -> float:
        """Seconds in which each quick device must have been read: two of its intervals, and a start."""
        slowest = max((min(p.interval for p in points) for points in self.quick.values()), default=0)
        return min(self.site.patience, 2 * slowest + 30)

    @property
    def patience_left(self) -> float:
        """The same, less the time for which it has been listening already; little where a service is down."""
        if self.services_down:
            return 5.0
        return max(5.0, self.patience - (time.monotonic() - self._listening_since))

    def wait_for_readings(self, seconds: float) -> tuple[dict[int, dict[str, Any]], list[int]]:
        """Wait for a usable reading of every quick device; what there is, and the devices that are missing."""
        found: dict[int, dict[str, Any]] = {}

        def all_there() -> bool:
            nonlocal found
            try:
                found = self.fresh()
            except psycopg.OperationalError:  # on its way up
                return False
            return all(found.get(device, {}).get("good") for device in self.quick)

        wait_for(all_there, seconds, every=1.0)
        return found, sorted(device for device in self.quick if not found.get(device, {}).get("good"))

    def building(self) -> list[str]:
        """What the simulated building says of every write that reached it (laboratory only)."""
        done = subprocess.run(
            ["/bin/sh", "-c", self.site.building_command], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode:
            raise AssertionError(f"verify_building_command ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout.splitlines()


def _psql(machine: Machine, container: str, database: str, statement: str, values: dict[str, Any]) -> str:
    literals = {name: sql.Literal(value) for name, value in values.items()}
    text = sql.SQL(statement).format(**literals).as_string(None)
    return machine.run(
        "docker", "exec", "-i", container, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database,
        data=text + ";\n",
    )  # fmt: skip


def some(things: Sequence[Any], most: int = 5) -> str:
    """The first few, and how many more."""
    text = ", ".join(str(thing) for thing in things[:most])
    return text + (f" and {len(things) - most} more" if len(things) > most else "")
