"""PostgreSQL servers for the three history engines (docs/history.md).

The plain one is the embedded server of conftest.py. The Apache edition is Debian trixie's package: its root is made
once by debootstrap in the cache folder and entered by chroot. The Community edition is in no registry:
BACPIPES_TEST_POSTGRES_COMMUNITY names a server, as a libpq URI, where the tests may create databases.
"""

import fcntl
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import psycopg
from psycopg.conninfo import make_conninfo

from apart import outside
from bacpipes.embedded import LOOPBACK, free_port

RELEASE = "trixie"
PACKAGES = ("postgresql-17", "postgresql-17-timescaledb")
COMPLETE = "bacpipes-complete"  # in the root, written last: what the root was made from
BINARIES = Path("usr/lib/postgresql/17/bin")
COMMUNITY_VARIABLE = "BACPIPES_TEST_POSTGRES_COMMUNITY"
READY_WITHIN = 30.0  # seconds
SETTINGS = {
    "fsync": "off",
    "max_worker_processes": "64",  # each test database has a scheduler of its own
    "timescaledb.max_background_workers": "32",
    "timescaledb.telemetry_level": "off",
}
_numbers = itertools.count(1)


class NoServerError(Exception):
    """This host can't have the server; the text says what is missing."""


class Server(Protocol):
    """Something that holds databases."""

    def url(self, database: str = "postgres") -> str:
        """A libpq connection string of one of them."""
        ...


@dataclass(frozen=True)
class GivenServer:
    """A server that somebody else runs."""

    conninfo: str

    def url(self, database: str = "postgres") -> str:
        """A libpq connection string."""
        return make_conninfo(self.conninfo, dbname=database)


class TrixieServer:
    """Debian trixie's PostgreSQL with TimescaleDB (Apache licence) on a loopback port, with a password of its own.

    Its data lives as long as the object's ``with`` block; in it the server can be restarted.
    """

    def __init__(self, *, preload: bool = True) -> None:
        self._root = trixie_root()
        self._port = free_port()
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self._preload = preload
        self._data = Path()

    def __enter__(self) -> Self:
        user, group = _ids(self._root)
        self._data = Path(tempfile.mkdtemp(prefix="test-", dir=self._root / "var/lib/postgresql"))
        os.chown(self._data, user, group)
        password_file = self._data / "password"
        password_file.write_text(self._password)
        os.chown(password_file, user, group)
        try:
            self._initialise()
            self.start(preload=self._preload)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        shutil.rmtree(self._data)

    def start(self, *, preload: bool) -> None:
        """Start it, with or without the TimescaleDB library, and wait until it answers."""
        settings = SETTINGS | {"shared_preload_libraries": "timescaledb" if preload else ""}
        settings |= {"port": str(self._port), "listen_addresses": LOOPBACK, "unix_socket_directories": ""}
        if not preload:
            settings = {name: value for name, value in settings.items() if not name.startswith("timescaledb.")}
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        command = self._inside("postgres", "-D", self._inner("data"), *arguments)
        with (self._data / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self._wait()

    def stop(self) -> None:
        """A fast shutdown of the process that we started."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def log(self) -> str:
        """What it has said."""
        return (self._data / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """The server's process; it has to run."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        """A libpq URI."""
        return f"postgresql://postgres:{self._password}@{LOOPBACK}:{self._port}/{database}"

    def _initialise(self) -> None:
        options = ["--auth=scram-sha-256", f"--pwfile={self._inner('password')}", "--encoding=UTF8", "--no-sync"]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        command = self._inside("initdb", "-D", self._inner("data"), "-U", "postgres", *options, *locale)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def _inside(self, program: str, *arguments: str) -> list[str]:
        """A command line that runs a program as postgres in the root, and ends it when we are killed."""
        become = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=INT", "--reset-env"]
        return ["chroot", str(self._root), *become, "--", str("/" / BINARIES / program), *arguments]

    def _inner(self, name: str) -> str:
        return "/" + str(self._data.relative_to(self._root) / name)

    def _wait(self) -> None:
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                assert self._process is not None
                if self._process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.1)
                    continue
                tail = (self._data / "log").read_text(errors="replace")[-1000:]
                raise RuntimeError(f"PostgreSQL did not start: {error}. It said: {tail}") from None


def community_server() -> GivenServer:
    """The server that the environment names."""
    conninfo = os.environ.get(COMMUNITY_VARIABLE)
    if not conninfo:
        raise NoServerError(f"{COMMUNITY_VARIABLE} names no server with TimescaleDB's Community edition")
    return GivenServer(conninfo)


@contextmanager
def database(server: Server, options: str = "TEMPLATE template0") -> Iterator[str]:
    """A database of its own, for as long as the ``with`` block; yields its connection string.

    From template0: TimescaleDB's launcher looks into template1 now and then, which then can't be copied.
    """
    name = f"bacpipes_test_{os.getpid()}_{next(_numbers)}"
    _run(server, f"CREATE DATABASE {name} {options}")
    try:
        yield server.url(name)
    finally:
        _run(server, f"DROP DATABASE {name} WITH (FORCE)")


def _run(server: Server, statement: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(statement.encode())


def add_point(connection: psycopg.Connection[Any]) -> int:
    """One device with one point; returns the point's id."""
    connection.execute(
        "INSERT INTO device (site_id, device_id, name, address) VALUES ('duxton', 7, 'AHU 1', '10.0.0.7:47808')"
    )
    row = connection.execute(
        "INSERT INTO point (device, object_type, object_instance, name, dis, units, site, equip, equip_ref, function, "
        "quantity, substance, location, qualifier, topic) SELECT id, 'analog-input', 1, 'SAT', 'Supply air', '°C', "
        "'duxton', 'ahu', '1', 'sensor', 'temp', 'air', 'supply', 'actual', 'duxton/ahu_1/analoginput1/presentValue' "
        "FROM device RETURNING id"
    ).fetchone()
    assert row is not None
    return int(row[0])


def store(connection: psycopg.Connection[Any], point: int, times: Iterable[datetime], value: float = 21.5) -> int:
    """Rows of history as the worker inserts them; returns how many were new."""
    return connection.execute(
        "INSERT INTO reading (time, point_id, value, quality) SELECT t, %s, %s, 0 FROM unnest(%s::timestamptz[]) AS t "
        "ON CONFLICT DO NOTHING",
        [point, value, list(times)],
    ).rowcount


def trixie_root() -> Path:
    """The root of a small Debian trixie with PostgreSQL and TimescaleDB; made where it is missing or broken."""
    _refuse_unable_host()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bacpipes"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / RELEASE
    with (cache / f"{RELEASE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_complete(root):
            _make(root)
    return root


def _refuse_unable_host() -> None:
    if os.geteuid() != 0:
        raise NoServerError("TimescaleDB's Apache edition runs here in a chroot, which needs root")
    if shutil.which("debootstrap", path=_path()) is None:
        raise NoServerError("debootstrap is not installed. As root: apt-get install debootstrap")


def _is_complete(root: Path) -> bool:
    """True where the root was made to its end, from what we want today, and its PostgreSQL runs."""
    marker = root / COMPLETE
    if not marker.is_file() or marker.read_text() != _recipe():
        return False
    version = ["chroot", str(root), str("/" / BINARIES / "postgres"), "--version"]
    return subprocess.run(version, capture_output=True).returncode == 0


def _make(root: Path) -> None:
    """debootstrap beside the root's place, then move it there: a root that was cut short is never taken for a whole."""
    partial = root.with_name(f"{root.name}.partial")
    for old in (root, partial):
        if old.exists():
            shutil.rmtree(old)
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", RELEASE, str(partial), _mirror()]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    made = subprocess.run(outside(command), env=_environment(), text=True, **output)
    if made.returncode != 0:
        raise RuntimeError(f"debootstrap failed; its last lines: {made.stdout[-1000:]}")
    for package in (partial / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    (partial / COMPLETE).write_text(_recipe())
    partial.rename(root)


def _recipe() -> str:
    return f"{RELEASE} {' '.join(PACKAGES)}\n"


def _mirror() -> str:
    """Where the host itself gets Debian from."""
    listing = [
        "apt-get",
        "indextargets",
        "--format",
        "$(CODENAME) $(REPO_URI)",
        "Origin: Debian",
        "Created-By: Packages",
    ]
    for line in subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines():
        codename, _, uri = line.partition(" ")
        if "-" not in codename:  # as in bookworm-security, which has no whole release
            return uri
    raise NoServerError("the host's apt knows no Debian mirror; is this Debian, and did apt-get update run?")


def _environment() -> dict[str, str]:
    """Ours without the locale, and with apt's own proxy where there is one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    kept |= {"PATH": _path(), "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    shell = subprocess.run(["apt-config", "shell", "proxy", "Acquire::http::Proxy"], capture_output=True, text=True)
    proxy = shell.stdout.strip().removeprefix("proxy=").strip("'")
    return kept | ({"http_proxy": proxy} if proxy else {})


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _ids(root: Path) -> tuple[int, int]:
    """The root's own postgres user and group."""
    for line in (root / "etc/passwd").read_text().splitlines():
        fields = line.split(":")
        if fields[0] == "postgres":
            return int(fields[2]), int(fields[3])
    raise RuntimeError(f"no user postgres in {root}")
