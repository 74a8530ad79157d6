"""The demo: an embedded PostgreSQL and broker, a simulated building, and the whole appliance, live.

Every step says what it saw; a step that does not see what it should fails by its name.
"""

import csv
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bacpipes.embedded import LOOPBACK, EmbeddedBroker, EmbeddedPostgres, free_port, stop
from bacpipes.errors import BacpipesError

SITE = "duxton"
HTTP_PORT = 3001  # where it is free
BACNET_PORT = 47809  # not the devices' own: bacpypes3 would answer itself on loopback
SETPOINT = {"deviceId": 12345, "objectType": "analog-value", "objectInstance": 120}
SENSOR = {"deviceId": 12345, "objectType": "analog-input", "objectInstance": 101}
PATIENCE = 60.0  # seconds for any one step
PAGE_USER = "demo"
SHOWN = 8  # live readings printed


class StepFailedError(BacpipesError):
    """A step did not see what it should."""


class Watcher:
    """Hears everything that the appliance publishes."""

    def __init__(self, broker: EmbeddedBroker, username: str, password: str) -> None:
        version = MQTTProtocolVersion.MQTTv5 if broker.protocol == "5" else MQTTProtocolVersion.MQTTv311
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
        self._client.username_pw_set(username, password)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self._news = threading.Condition()
        self.latest: dict[str, dict[str, Any]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.recent: deque[tuple[str, dict[str, Any]]] = deque(maxlen=200)
        self.readings = 0
        self._client.connect(LOOPBACK, broker.port)
        self._client.loop_start()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def command(self, **fields: Any) -> dict[str, Any]:
        """Publish a write command and return its result."""
        job = str(uuid.uuid4())
        self._client.publish("bacnet/write/command", json.dumps({"jobId": job, **fields}), qos=1)
        result: dict[str, Any] = self.wait(lambda: self.results.get(job), "a result on bacnet/write/result")
        return result

    def wait(self, look: Callable[[], Any], what: str) -> Any:
        """Return what ``look`` finds, looking again with every message; raise after a minute."""
        with self._news:
            if not self._news.wait_for(look, PATIENCE):
                raise StepFailedError(f"{what} did not come within {PATIENCE:.0f} s.")
            return look()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        payload = json.loads(message.payload)
        with self._news:
            if message.topic.endswith("/presentValue"):
                self.latest[message.topic] = payload
                self.recent.append((message.topic, payload))
                self.readings += 1
            elif message.topic == "bacnet/write/result":
                self.results[payload["jobId"]] = payload
            self._news.notify_all()


class Demo:
    """The parts, started in order and ended in reverse."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._directory = Path(tempfile.mkdtemp(prefix="bacpipes-demo-"))
        stack.callback(shutil.rmtree, self._directory, ignore_errors=True)
        self._program = [sys.executable, "-m", "bacpipes"]
        self._environment: dict[str, str] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""
        self._setpoint_topic = ""
        self._password = secrets.token_urlsafe(12)
        self.port = 0

    @property
    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        """Title and work of each step; the work returns what it saw."""
        return [
            ("PostgreSQL", self.start_postgres),
            ("MQTT broker", self.start_broker),
            ("Simulated building", self.start_building),
            ("Database schema", self.migrate),
            ("Points from CSV", self.import_points),
            ("Worker and exporter", self.start_appliance),
            ("Live readings", self.watch_readings),
            ("Setpoint write", self.write_setpoint),
            ("Refused write", self.refuse_write),
            ("CSV export", self.export),
            ("Page", self.open_page),
        ]

    # --- the parts

    def start_postgres(self) -> str:
        """Start the embedded PostgreSQL."""
        server = self._stack.enter_context(EmbeddedPostgres(self._directory / "postgres"))
        (self._directory / "state").mkdir()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("BACPIPES_")} | {
            "BACPIPES_SITE_ID": SITE,
            "BACPIPES_DATABASE_URL": server.url(),
            "BACPIPES_STATE_DIR": str(self._directory / "state"),
            "BACPIPES_LOG_FORMAT": "console",
        }
        return "embedded, on a private socket"

    def start_broker(self) -> str:
        """Start the broker with one user, and listen to everything on it."""
        username, password = "demo", secrets.token_urlsafe(18)
        broker = self._stack.enter_context(EmbeddedBroker(self._directory / "broker", username, password))
        self._environment |= {
            "BACPIPES_MQTT_ENABLED": "true",
            "BACPIPES_MQTT_BROKER": LOOPBACK,
            "BACPIPES_MQTT_PORT": str(broker.port),
            "BACPIPES_MQTT_USERNAME": username,
            "BACPIPES_MQTT_PASSWORD": password,
            "BACPIPES_MQTT_PROTOCOL": broker.protocol,
        }
        self.watcher = Watcher(broker, username, password)
        self._stack.callback(self.watcher.close)
        return f"{broker.name} on {LOOPBACK}:{broker.port}, MQTT {broker.protocol}"

    def start_building(self) -> str:
        """Start the simulated building in a process of its own."""
        self._run("simulate", "--points", str(self._points_file))
        self._start("building", "simulate", "--site", SITE)
        self._await(lambda: self._run("simulate", "status"), "the simulated building")
        with self._points_file.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        devices = {row["device_id"]: row["address"] for row in rows}
        return f"{len(devices)} BACnet/IP devices, {len(rows)} points, from {next(iter(devices.values()))} on"

    def migrate(self) -> str:
        """Create the schema."""
        return self._run("migrate").strip()

    def import_points(self) -> str:
        """Import the building's points."""
        self._run("points", "import", str(self._points_file))
        return "imported with their haystack names, units, limits and topics"

    def start_appliance(self) -> str:
        """Start worker and exporter, and wait until both say that they are ready."""
        self.port, status = _http_port(), free_port()
        self._environment |= {
            "BACPIPES_BACNET_ADDRESS": f"{LOOPBACK}:{_bacnet_port()}",
            "BACPIPES_HTTP_PORT": str(self.port),
            "BACPIPES_WORKER_HTTP_PORT": str(status),
        }
        printed = self._run("token", "create", "demo", "--role", "operator")
        self._token = next(word for word in printed.split() if word.startswith("bpt_"))
        self._run("user", "add", PAGE_USER, "--role", "admin", text=self._password)
        self._start("worker", "worker")
        self._start("exporter", "exporter")
        self._await(lambda: self._get("/readyz"), "the exporter")
        self._write_environment()
        return f"http://{LOOPBACK}:{self.port} is ready"

    # --- what they do

    def watch_readings(self) -> str:
        """Wait for readings of several devices, and show the newest."""
        self.watcher.wait(lambda: len({p["deviceId"] for p in self.watcher.latest.values()}) > 2, "readings over MQTT")
        self._setpoint_topic = self.watcher.wait(
            lambda: next((t for t, p in self.watcher.latest.items() if _is(p, SETPOINT)), None),
            "the setpoint's reading",
        )
        return "\n".join(_line(topic, self.watcher.latest[topic]) for topic in _one_per_equipment(self.watcher.latest))

    def write_setpoint(self) -> str:
        """Write a setpoint by MQTT, and see the value change in the next readings."""
        before = self.watcher.latest[self._setpoint_topic]["value"]
        target = 55.0 if before != 55.0 else 60.0
        sent = {"value": target, "priority": 8, "source": "demo", "reason": "round trip"}
        result = self.watcher.command(**SETPOINT, **sent)
        if not result["success"]:
            raise StepFailedError(f"The write was refused: {result['error']} {result['validationErrors']}")
        topic = self._setpoint_topic
        self.watcher.wait(lambda: self.watcher.latest[topic]["value"] == target, "the setpoint's new value")
        return "\n".join(
            [
                f"before  {before:g} %   {self._setpoint_topic}",
                f"result  {_brief(result)}",
                f"after   {self.watcher.latest[topic]['value']:g} %   read by the next poll",
            ]
        )

    def refuse_write(self) -> str:
        """Try to write a sensor, and see it refused with its reasons."""
        result = self.watcher.command(**SENSOR, value=25.0, source="demo")
        if result["success"] or not result["validationErrors"]:
            raise StepFailedError("A write to a sensor was not refused!")
        return "\n".join([f"{SENSOR['objectType']} {SENSOR['objectInstance']}: {result['error']}", *_bullets(result)])

    def export(self) -> str:
        """Export the readings as CSV over HTTP."""
        text = self._get("/api/timeseries/export?format=csv").decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        if not rows:
            raise StepFailedError("The export has no rows.")
        return f"{len(rows)} rows; the newest: {text.splitlines()[1]}"

    def open_page(self) -> str:
        """Log in on the page, and see the dashboard."""
        origin = f"http://{LOOPBACK}:{self.port}"
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        form = urllib.parse.urlencode({"name": PAGE_USER, "password": self._password}).encode()
        with browser.open(f"{origin}/login", timeout=30) as answer:
            if b"Log in" not in answer.read():
                raise StepFailedError("The login page is not there.")
        browser.addheaders.append(("Origin", origin))
        with browser.open(f"{origin}/login", form, timeout=30) as answer:
            if b"Dashboard" not in answer.read():
                raise StepFailedError("The login did not lead to the dashboard.")
        return f"{origin}/ shows the dashboard to whoever logs in"

    def summary(self) -> str:
        """Addresses to open, and commands to try."""
        program = Path(sys.executable).with_name("bacpipes")
        export, points = (f"http://{LOOPBACK}:{self.port}/api/{path}" for path in ("timeseries/export", "points"))
        return "\n".join(
            [
                f"Open the page: http://{LOOPBACK}:{self.port}/   as {PAGE_USER}, password {self._password}",
                "Or, with the token in $TOKEN:",
                f"  {export}   {points}",
                f"  http://{LOOPBACK}:{self.port}/readyz   http://{LOOPBACK}:{self.port}/metrics   (these need none)",
                "Try, in another terminal:",
                f"  . {self._environment_file}",
                f'  curl -H "Authorization: Bearer $TOKEN" {export} | head',
                f"  {program} write 12345 analog-value:120 65 --reason 'a try'",
                f"  {program} write 12345 analog-value:120 --release",
                f"  {program} simulate fault silent 12345      # and: simulate clear",
                f"  {program} doctor",
            ]
        )

    def ticker(self) -> Iterator[str]:
        """A line every few seconds while the demo stays up; ends where a part has ended."""
        while True:
            before = self.watcher.readings
            time.sleep(10)
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise StepFailedError(f"The {name} ended by itself.", self._tail(name))
            topic, payload = self.watcher.recent[-1]
            yield f"{self.watcher.readings - before:4d} readings in 10 s; the last: {_line(topic, payload)}"

    # --- helpers

    @property
    def _points_file(self) -> Path:
        return self._directory / "points.csv"

    @property
    def _environment_file(self) -> Path:
        return self._directory / "env"

    def _run(self, *arguments: str, text: str | None = None) -> str:
        done = subprocess.run(
            [*self._program, *arguments],
            env=self._child_environment(),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise StepFailedError(f"`bacpipes {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout

    def _start(self, name: str, *arguments: str) -> None:
        log = self._stack.enter_context((self._directory / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [*self._program, *arguments],
            env=self._child_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is ours; we end them in order
        )
        self._processes[name] = process
        self._stack.callback(self._end_all)

    def _end_all(self) -> None:
        """All at once: each drains by itself, and nobody waits for another."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            stop(process)
        self._processes.clear()

    def _child_environment(self) -> dict[str, str]:
        return self._environment or dict(os.environ)

    def _await(self, look: Callable[[], object], what: str) -> None:
        """Until ``look`` raises no more; fail with what it said when a part ends or a minute is over."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise StepFailedError(f"The {name} ended:", self._tail(name))
            try:
                look()
            except urllib.error.HTTPError as error:
                said = error.read().decode()
            except (StepFailedError, OSError) as error:
                said = str(error)
            else:
                return
            if time.monotonic() > deadline:
                raise StepFailedError(f"No answer from {what} within {PATIENCE:.0f} s: {said}")
            time.sleep(0.2)

    def _get(self, path: str) -> bytes:
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.port}{path}", headers={"Authorization": f"Bearer {self._token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            body: bytes = answer.read()
            return body

    def _write_environment(self) -> None:
        ours = {name: value for name, value in self._environment.items() if name.startswith("BACPIPES_")}
        lines = [f"export {name}='{value}'" for name, value in (ours | {"TOKEN": self._token}).items()]
        with os.fdopen(os.open(self._environment_file, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")

    def _tail(self, name: str) -> str:
        return "\n".join((self._directory / f"{name}.log").read_text(errors="replace").splitlines()[-6:])


def run(*, once: bool) -> None:
    """Run all steps; then stay up until Ctrl-C, or, with ``once``, end."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    with ExitStack() as stack:
        demo = Demo(stack)
        for title, work in demo.steps:
            _step(title, work, began)
        click.echo("")
        click.echo(demo.summary())
        if once:
            click.secho(f"\nAll {len(demo.steps)} steps passed in {time.monotonic() - began:.0f} s.", fg="green")
            return
        click.secho("\nThe appliance runs until Ctrl-C.", fg="green")
        try:
            for line in demo.ticker():
                click.echo(line)
        except KeyboardInterrupt:
            click.echo("\nStopping …")
    click.echo("Nothing is left running.")


def _step(title: str, work: Callable[[], str], began: float) -> None:
    try:
        seen = work()
    except (BacpipesError, OSError, KeyError, StopIteration) as error:
        click.secho(f"✗ {title}", fg="red")
        raise StepFailedError(f"Step “{title}” failed: {error}") from error
    click.echo(f"{click.style('✓', fg='green')} {title}  {click.style(f'{time.monotonic() - began:.1f} s', dim=True)}")
    for line in seen.splitlines():
        click.echo(f"    {line}")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _is(payload: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(payload[key] == value for key, value in wanted.items())


def _line(topic: str, payload: dict[str, Any]) -> str:
    value = "—" if payload["value"] is None else f"{payload['value']:.2f}"
    return f"{payload['timestamp'][11:19]}  {value:>9} {payload['units']:<6} {payload['quality']:<9} {topic}"


def _one_per_equipment(latest: dict[str, dict[str, Any]]) -> list[str]:
    """Topics to show: of each equipment a temperature, or else something with units."""
    shown: dict[str, str] = {}
    for topic in sorted(latest, key=lambda topic: (latest[topic]["units"] != "°C", topic)):
        if latest[topic]["units"]:
            shown.setdefault(topic.split("/")[1], topic)
    return list(shown.values())[:SHOWN]


def _brief(result: dict[str, Any]) -> str:
    keys = ("success", "value", "priority", "before", "after", "processingTime", "error")
    return json.dumps({key: result.get(key) for key in keys})


def _bullets(result: dict[str, Any]) -> list[str]:
    return [f"  - {text}" for text in result["validationErrors"]]


def _http_port() -> int:
    with socket.socket() as probe:
        return HTTP_PORT if probe.connect_ex((LOOPBACK, HTTP_PORT)) else free_port()


def _bacnet_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((LOOPBACK, BACNET_PORT))
        except OSError:
            probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
