"""The live lane's parts for tests: brokers and Telegraf as real processes, with the files that the playbooks render."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
import yaml
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from psycopg.conninfo import conninfo_to_dict

import telegraf
from bacpipes.embedded import LOOPBACK, free_port, stop, wait_for_port
from pki import Authority, Pair

ROOT = Path(__file__).parents[1]
ANSIBLE = ROOT / ".venv-controller" / "bin" / "ansible-playbook"
TEMPLATES = ROOT / "templates" / "opt" / "bacpipes"
WITHIN = 40.0  # seconds

# Every role's defaults and every group's wiring count as on an operator's controller; nothing but templates is played.
PLAY = """
- name: Render
  hosts: {hosts}
  gather_facts: false
  connection: local
  roles: [{roles}]
  post_tasks:
    - name: Render
      ansible.builtin.template: {{src: "{templates}/{{{{ item }}}}.j2", dest: "{folder}/{{{{ inventory_hostname }}}}/{{{{ item | basename }}}}", mode: "0600"}}
      loop: {files}
      vars: {{_mqtt_broker_bridge_secret: {{content: "{{{{ lookup('ansible.builtin.vars', 'test_password', default='') | b64encode }}}}"}}}}
      tags: [render]
"""  # noqa: E501


def render(
    folder: Path, hosts: str, roles: list[str], files: list[str], change: Mapping[str, Any] | None = None, **extra: Any
) -> None:
    """Render ``files`` (below templates/opt/bacpipes) for hosts of the example inventory, into ``folder``/host/name.

    ``change`` replaces keys of ``central`` in that inventory, ``extra`` are further variables.
    """
    inventory = folder / "inventory"
    if not inventory.exists():
        shutil.copytree(ROOT / "inventory" / "example", inventory)
    central = inventory / "host_vars" / "central.yml"
    entry = yaml.safe_load(central.read_text())
    entry["central"] |= change or {}
    central.write_text(yaml.safe_dump(entry))
    for host in hosts.split(","):
        (folder / host).mkdir(exist_ok=True)
    (folder / "group_vars").unlink(missing_ok=True)
    (folder / "group_vars").symlink_to(ROOT / "playbooks" / "group_vars")
    words = {"hosts": hosts, "roles": ", ".join(roles), "templates": TEMPLATES, "folder": folder}
    (folder / "render.yml").write_text(PLAY.format(**words, files=json.dumps(files)))
    variables = {"ansible_python_interpreter": "{{ ansible_playbook_python }}", "vault_pki_ca_passphrase": "x"} | extra
    command = [ANSIBLE, "-i", inventory, folder / "render.yml", "--tags", "render", "-e", json.dumps(variables)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Program:
    """A process with a log, that can be killed and started again."""

    def __init__(self, folder: Path, *command: object, port: int | None = None) -> None:
        self.command, self.port = [str(word) for word in command], port
        self._log = folder / f"{Path(self.command[0]).name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self.command, stdout=log, stderr=log, start_new_session=True)
        if self.port is not None:
            wait_for_port(self.port, self._process, self._log)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """As `docker stop` would: it saves what it keeps."""
        assert self._process is not None
        stop(self._process)
        self._process = None

    def cpu(self) -> float:
        """Seconds of processor time that it has taken."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def pid(self) -> int:
        """Its process id; it has to run."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if self._process is not None:
            stop(self._process)


class Broker(Program):
    """Mosquitto with rendered files: only folders, ports and the user that it runs as are other ones."""

    def __init__(self, folder: Path, users: Mapping[str, str], authority: Authority, tls_name: str = "") -> None:
        self.folder, self.plain, self.tls = folder, free_port(), free_port()
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert program, "mosquitto is not installed; `make test` as root installs it"
        for name in ("data", "tls", "bridge"):
            (folder / name).mkdir()
        (folder / "tls" / "ca.pem").write_text(authority.certificate)
        (folder / "tls" / "crl.pem").write_text(authority.revocations())
        if tls_name:
            pair = authority.server(tls_name, LOOPBACK)
            self._write("tls/server.pem", pair.certificate)
            self._write("tls/server.key", pair.key)
        self._write("passwd", "".join(f"{name}:{password}\n" for name, password in users.items()))
        subprocess.run(["mosquitto_passwd", "-U", folder / "passwd"], check=True, capture_output=True)
        config = folder / "mosquitto.conf"
        text = config.read_text().replace("listener 1883", f"listener {self.plain} {LOOPBACK}")
        text = text.replace("listener 8883", f"listener {self.tls} {LOOPBACK}")
        config.write_text(self._here(text) + "user root\n")
        super().__init__(folder, program, "-c", config, port=self.plain)

    def bridge(self, port: int, authority: Authority, name: str) -> None:
        """Put the rendered bridge in its place, to a broker on loopback."""
        pair = authority.client(name)
        self._write("tls/client.pem", pair.certificate)
        self._write("tls/client.key", pair.key)
        text = (self.folder / "central.conf").read_text()
        text = re.sub(r"^address .*$", f"address localhost:{port}", text, flags=re.MULTILINE)
        text = text.replace("restart_timeout 5 60", "restart_timeout 1 1")
        self._write("bridge/central.conf", self._here(text))

    def save(self) -> None:
        """Have it write down sessions and queues, as it does by itself every minute."""
        file = self.folder / "data" / "mosquitto.db"
        before = file.stat().st_mtime_ns if file.exists() else 0
        self.signal(signal.SIGUSR1)
        wait(lambda: file.exists() and file.stat().st_mtime_ns != before, "it has saved")

    def _here(self, text: str) -> str:
        for name in ("config", "data", "tls"):
            text = text.replace(f"/mosquitto/{name}/", f"{self.folder}/{'' if name == 'config' else name + '/'}")
        return text

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text)


def run_telegraf(folder: Path, broker: Broker, password: str, database_url: str) -> Program:
    """Telegraf with its rendered configuration, on loopback; the password of ``database_url`` is its own."""
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "mqtt_password").write_text(password)
    parts = conninfo_to_dict(database_url)
    (secrets / "pgpass").write_text(f"*:*:*:*:{parts.get('password', '')}\n")
    (secrets / "pgpass").chmod(0o600)
    config = folder / "telegraf.conf"
    text = config.read_text().replace("tcp://broker:1883", f"tcp://{LOOPBACK}:{broker.plain}")
    text = text.replace("/run/secrets", str(secrets))
    text = text.replace("host=database port=5432", f"host={parts['host']} port={parts.get('port') or 5432}")
    text = text.replace("dbname=bacpipes", f"dbname={parts['dbname']}")
    config.write_text(text)
    return Program(folder, telegraf.telegraf(), "--unprotected", "--config", config)


class Client:
    """Any client of a broker, on the plain port or, with ``folder`` and ``trust``, over TLS; keeps what it hears.

    ``authority`` signs its certificate, where it does not bring a ``pair`` of its own.
    """

    def __init__(
        self,
        port: int,
        user: str,
        password: str,
        *,
        folder: Path | None = None,
        trust: Authority | None = None,
        authority: Authority | None = None,
        pair: Pair | None = None,
        session: str = "",
    ) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.reason, self.lost = "", False
        self._port = port
        protocol = MQTTProtocolVersion.MQTTv311 if session else MQTTProtocolVersion.MQTTv5
        clean = {"clean_session": False} if session else {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2, session, protocol=protocol, **clean)
        self._client.username_pw_set(user, password)
        self._client.max_inflight_messages_set(100)
        if folder is not None and trust is not None:
            (folder / "ca.crt").write_text(trust.certificate)
            shown = pair or (authority.client(user) if authority else None)
            files = shown.write(folder, f"client-{id(self)}") if shown else ()
            self._client.tls_set(str(folder / "ca.crt"), *map(str, files))
        self._client.on_connect = lambda _c, _u, _f, reason, _p: setattr(self, "reason", str(reason))
        self._client.on_disconnect = lambda *_: setattr(self, "lost", True)
        self._client.on_message = lambda _c, _u, message: self.heard.append((message.topic, bytes(message.payload)))

    def __enter__(self) -> Self:
        self._client.connect(LOOPBACK, self._port)
        self._client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> str:
        """Publish with QoS 1; the broker's answer."""
        answers: list[str] = []
        self._client.on_publish = lambda _c, _u, _m, reason, _p: answers.append(str(reason))
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(WITHIN)
        return answers[-1] if answers else ""

    def publish_all(self, messages: Iterable[tuple[str, str]]) -> None:
        """Publish with QoS 1, many on their way at once; returns when the broker has them all."""
        last = None
        for topic, payload in messages:
            last = self._client.publish(topic, payload, qos=1)
        if last is not None:
            last.wait_for_publish(600)

    def subscribe(self, topic: str) -> str:
        """Subscribe with QoS 1; the broker's answer."""
        answers: list[str] = []
        self._client.on_subscribe = lambda _c, _u, _m, reasons, _p: answers.append(str(reasons[0]))
        self._client.subscribe(topic, qos=1)
        wait(lambda: answers)
        return answers[0]


def leave_session(port: int, user: str, password: str, session: str, topic: str) -> None:
    """Subscribe in a session that the broker keeps, and go."""
    with Client(port, user, password, session=session) as client:
        client.subscribe(topic)


def wait(condition: Any, what: str = "a condition", within: float = WITHIN) -> None:
    """Wait for it, or fail."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.02)
