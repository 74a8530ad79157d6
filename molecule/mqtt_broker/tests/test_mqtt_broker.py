"""The broker, as its clients see it: real MQTT clients on another machine, over TLS."""

import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from paho.mqtt import client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule" / "mqtt_broker"
CERTIFICATES = ROOT / ".lab" / "molecule" / "mqtt_broker"
OPERATOR = "correct horse battery"
PATIENCE = 30.0  # a machine that runs many things at once is slow


@dataclass
class Client:
    """One MQTT 5 client over TLS, and what it was told."""

    address: str
    user: str | None = None
    password: str | None = None
    certificate: str | None = "client"
    ca: str = "ca"
    client_id: str = ""
    expiry: int = 0
    clean: bool = True
    heard: list[tuple[str, str]] = field(default_factory=list)
    reason: str = ""
    published: dict[int, str] = field(default_factory=dict)
    lost: bool = False

    def __enter__(self) -> "Client":
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=self.client_id, protocol=mqtt.MQTTv5)
        context = ssl.create_default_context(cafile=str(CERTIFICATES / f"{self.ca}.pem"))
        if self.certificate:
            chain = CERTIFICATES / f"{self.certificate}.pem"
            context.load_cert_chain(chain, CERTIFICATES / f"{self.certificate}.key")
        self.mqtt.tls_set_context(context)
        if self.user is not None:
            self.mqtt.username_pw_set(self.user, self.password)
        self.mqtt.on_connect = lambda _c, _u, _f, reason, _p: setattr(self, "reason", str(reason))
        self.mqtt.on_disconnect = lambda *_: setattr(self, "lost", True)
        self.mqtt.on_message = lambda _c, _u, message: self.heard.append((message.topic, message.payload.decode()))
        self.mqtt.on_publish = lambda _c, _u, mid, reason, _p: self.published.update({mid: str(reason)})
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = self.expiry
        self.mqtt.connect(self.address, 8883, clean_start=self.clean, properties=properties)
        self.mqtt.loop_start()
        until(lambda: self.reason or self.lost)
        return self

    def __exit__(self, *_: object) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()

    def publish(self, topic: str, payload: str, retain: bool = False) -> str:
        """Publish with QoS 1; what the broker said to it."""
        sent = self.mqtt.publish(topic, payload, qos=1, retain=retain)
        until(lambda: sent.mid in self.published)
        return self.published[sent.mid]

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1, and wait for the acknowledgement."""
        done: list[int] = []
        self.mqtt.on_subscribe = lambda _c, _u, mid, _r, _p: done.append(mid)
        _, mid = self.mqtt.subscribe(topic, qos=1)
        until(lambda: mid in done)


def until(condition: Callable[[], Any]) -> None:
    """Wait for it, or fail."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


@dataclass
class Broker:
    """The machine's broker, and how its role is played again."""

    host: Any
    address: str
    inventory: str
    changed: ClassVar[bool] = False  # by a test; the next one that wants converge.yml's state plays that first

    def password(self, user: str) -> str:
        """The password that was born on the machine."""
        return str(self.host.file(f"/opt/bacpipes/secrets/mqtt_{user}.password").content_string)

    def client(self, user: str | None, **options: Any) -> Client:
        """A client that has this user's password."""
        if user is not None and "password" not in options:
            options["password"] = OPERATOR if user == "operator" else self.password(user)
        return Client(self.address, user, **options)

    def play(self, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Play the scenario's converge.yml with other variables."""
        command = ["ansible-playbook", "-i", self.inventory, SCENARIO / "converge.yml", "-e", json.dumps(variables)]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
        return subprocess.run(
            [*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    def converge(self, **variables: Any) -> str:
        """Play it; it has to work."""
        Broker.changed = True
        run = self.play(**variables)
        assert run.returncode == 0, run.stdout + run.stderr
        Broker.changed = bool(variables)
        return run.stdout

    def started(self) -> str:
        """When the container was started."""
        return str(self.host.check_output("docker inspect --format '{{.State.StartedAt}}' bacpipes-broker-1"))


@pytest.fixture
def any_broker(host: Any, request: pytest.FixtureRequest) -> Broker:
    """The broker as the last test left it, for those that change it themselves."""
    inventory = Path(str(request.config.getoption("--ansible-inventory"))).resolve()
    command = ["ansible-inventory", "-i", inventory, "--list"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    machine = listed["machines"]["hosts"][0]
    return Broker(host, listed["_meta"]["hostvars"][machine]["ansible_host"], str(inventory))


@pytest.fixture
def broker(any_broker: Broker) -> Broker:
    """The broker as converge.yml has it."""
    if Broker.changed:
        any_broker.converge()
    return any_broker


@pytest.fixture
def users() -> list[dict[str, Any]]:
    """The users of converge.yml, to be changed."""
    play = yaml.safe_load((SCENARIO / "converge.yml").read_text())[0]
    users: list[dict[str, Any]] = play["vars"]["users"]
    users[1]["password"] = OPERATOR
    return users


def test_known_users_come_in(broker: Broker) -> None:
    for user in ("bacpipes_worker", "operator", "watcher"):
        with broker.client(user) as client:
            assert client.reason == "Success"


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (None, None),
        ("operator", "wrong"),
        ("operator", ""),
        ("operator", None),
        ("nobody", OPERATOR),
        ("healthcheck", ""),
    ],
)
def test_others_are_refused(broker: Broker, user: str | None, password: str | None) -> None:
    with Client(broker.address, user, password) as client:
        assert client.reason == "Not authorized"


def test_users_stay_within_their_topics(broker: Broker) -> None:
    with broker.client("watcher") as watcher, broker.client("bacpipes_worker") as worker:
        watcher.subscribe("#")
        assert worker.publish("other/ahu_1/analoginput1/presentValue", "1") == "Not authorized"
        assert worker.publish("bacnet/write/command", "2") == "Not authorized"
        assert worker.publish("demo/ahu_1/analoginput1/presentValue", "3") in ("Success", "No matching subscribers")
        assert worker.publish("bacnet/write/result", "4") in ("Success", "No matching subscribers")
        until(lambda: len(watcher.heard) >= 2)
        assert [payload for _, payload in watcher.heard] == ["3", "4"]


def test_users_hear_only_their_topics_and_deny_stands_over_the_rest(broker: Broker) -> None:
    with broker.client("operator") as operator, broker.client("bacpipes_worker") as worker:
        operator.subscribe("#")
        for topic in ("bacnet/write/result", "demo/secret/x", "demo/open/x"):
            worker.publish(topic, topic)
        until(lambda: operator.heard)
        time.sleep(0.3)
        assert operator.heard == [("demo/open/x", "demo/open/x")]
        assert operator.publish("demo/open/x", "mine") == "Not authorized"


def test_a_client_refuses_a_broker_of_another_ca(broker: Broker) -> None:
    with pytest.raises(ssl.SSLCertVerificationError), broker.client("operator", ca="other"):
        pass


@pytest.mark.parametrize("certificate", [None, "stranger", "revoked"])
def test_clients_need_a_certificate_that_holds(broker: Broker, certificate: str | None) -> None:
    assert refused(broker, certificate)
    assert not refused(broker, "client")


def refused(broker: Broker, certificate: str | None) -> bool:
    """Whether the broker ends the connection for the certificate's sake (TLS 1.3: after the handshake)."""
    try:
        with broker.client("operator", certificate=certificate) as client:
            return client.lost and not client.reason
    except ssl.SSLError:
        return True


def test_old_tls_is_refused(broker: Broker) -> None:
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    context.load_cert_chain(CERTIFICATES / "client.pem", CERTIFICATES / "client.key")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((broker.address, 8883), 5) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(plain, server_hostname=broker.address)


CONNECT = """
import socket, sys
user, password = sys.argv[1].encode(), open(sys.argv[2], "rb").read()
text = lambda data: len(data).to_bytes(2, "big") + data
body = text(b"MQTT") + bytes([4, 0xC2, 0, 30]) + text(b"") + text(user) + text(password)
with socket.create_connection(("127.0.0.1", 1883), 5) as connection:
    connection.sendall(bytes([0x10, len(body)]) + body)
    print(connection.recv(4).hex())
"""


def test_the_plain_port_is_for_the_machine_alone(broker: Broker) -> None:
    secret = "/opt/bacpipes/secrets/mqtt_bacpipes_worker.password"
    answer = broker.host.run("python3 -c %s bacpipes_worker %s", CONNECT, secret)
    assert answer.stdout.strip() == "20020000", answer.stderr
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((broker.address, 1883), 3)
    ports = broker.host.check_output("docker port bacpipes-broker-1").splitlines()
    assert sorted(ports) == ["1883/tcp -> 127.0.0.1:1883", f"8883/tcp -> {broker.address}:8883"]


def test_what_is_kept_survives_a_restart(broker: Broker) -> None:
    # With clean_start Mosquitto 2.0 keeps the session only while it runs.
    session = {"client_id": "sleeper", "expiry": 600, "clean": False}
    with broker.client("watcher", **session) as sleeper:
        sleeper.subscribe("demo/queue")
    with broker.client("bacpipes_worker") as worker:
        assert worker.publish("demo/kept", "retained", retain=True) in ("Success", "No matching subscribers")
        # More than the engine's own default would keep.
        sent = [f"queued {number}" for number in range(1500)]
        for payload in sent:
            worker.mqtt.publish("demo/queue", payload, qos=1)
        until(lambda: len(worker.published) == 1501)
    broker.host.check_output("docker restart bacpipes-broker-1")
    health = "docker inspect --format '{{.State.Health.Status}}' bacpipes-broker-1"
    until(lambda: broker.host.run(health).stdout == "healthy\n")
    with broker.client("watcher", **session) as sleeper:
        until(lambda: len(sleeper.heard) == 1500)
        assert [payload for _, payload in sleeper.heard] == sent
    with broker.client("watcher", client_id="sleeper") as watcher:
        watcher.subscribe("demo/kept")
        until(lambda: watcher.heard)
        assert watcher.heard == [("demo/kept", "retained")]
    with broker.client("bacpipes_worker") as worker:
        worker.publish("demo/kept", "", retain=True)


def test_a_new_password_counts_at_once_and_disturbs_no_one_else(broker: Broker) -> None:
    started = broker.started()
    born = broker.password("watcher")
    with broker.client("watcher") as watcher, broker.client("bacpipes_worker") as worker:
        watcher.subscribe("#")
        report = broker.converge(operator_password="another good password")
        assert "another good password" not in report
        with broker.client("operator") as client:
            assert client.reason == "Not authorized"
        with broker.client("operator", password="another good password") as client:
            assert client.reason == "Success"
        worker.publish("demo/still/here", "yes")
        until(lambda: watcher.heard)
        assert not watcher.lost
    assert broker.started() == started
    assert broker.password("watcher") == born


def test_users_and_rules_change_without_a_restart(any_broker: Broker, users: list[dict[str, Any]]) -> None:
    started = any_broker.started()
    users[0]["acl"].append({"topic": "fresh/#", "access": "write"})
    users[2]["state"] = "absent"
    users.append({"name": "newcomer", "acl": [{"topic": "fresh/#", "access": "read"}]})
    gone = any_broker.password("watcher")
    any_broker.converge(users=users)
    with any_broker.client("newcomer") as newcomer, any_broker.client("bacpipes_worker") as worker:
        newcomer.subscribe("fresh/#")
        assert worker.publish("fresh/x", "1") in ("Success", "No matching subscribers")
        until(lambda: newcomer.heard)
    with any_broker.client("watcher", password=gone) as client:
        assert client.reason == "Not authorized"
    assert not any_broker.host.file("/opt/bacpipes/secrets/mqtt_watcher.password").exists
    assert any_broker.started() == started


def test_a_certificate_revoked_later_is_refused_too(any_broker: Broker) -> None:
    assert not refused(any_broker, "later")
    listed = CERTIFICATES / "revoked.txt"
    before = listed.read_text()
    command = [sys.executable, SCENARIO / "certificates.py", CERTIFICATES, any_broker.address, "revoke"]
    try:
        subprocess.run([*command, "later"], check=True)
        any_broker.converge()
        assert refused(any_broker, "later")
        assert not refused(any_broker, "client")
    finally:
        listed.write_text(before)
        subprocess.run(command, check=True)
        Broker.changed = True


def test_a_run_that_was_cut_off_is_made_up_for(any_broker: Broker) -> None:
    """It ends between the new password and the broker's reload: here because its image is missing."""
    cut = any_broker.play(operator_password="a password of the second run", mqtt_broker_image="missing:1")
    assert cut.returncode == 2
    with any_broker.client("operator") as client:
        assert client.reason == "Success"  # the broker has not heard of it
    any_broker.converge(operator_password="a password of the second run")
    with any_broker.client("operator", password="a password of the second run") as client:
        assert client.reason == "Success"


def test_renewed_certificates_are_served_without_a_restart(broker: Broker) -> None:
    started, old = broker.started(), served(broker)
    with broker.client("watcher") as watcher:
        command = [sys.executable, SCENARIO / "certificates.py", CERTIFICATES, broker.address, "renew"]
        subprocess.run(command, check=True)
        broker.converge(part="tls")
        assert served(broker) != old
        assert not watcher.lost
    assert broker.started() == started


def served(broker: Broker) -> bytes | None:
    """The certificate that the broker shows."""
    context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
    plain = socket.create_connection((broker.address, 8883), 5)
    with context.wrap_socket(plain, server_hostname=broker.address) as connection:
        return connection.getpeercert(binary_form=True)


def test_a_second_run_changes_nothing(broker: Broker) -> None:
    assert "changed=0" in broker.converge()


def test_a_check_changes_nothing_either(broker: Broker) -> None:
    run = broker.play("--check", "--diff")
    assert run.returncode == 0, run.stdout
    assert "changed=0" in run.stdout


def test_secrets_are_for_their_owners(broker: Broker) -> None:
    for path, uid in {
        "secrets/mqtt_bacpipes_worker.password": 10001,
        "secrets/mqtt_operator.password": 0,
        "broker/mosquitto/passwd": 1883,
        "broker/tls/server.key": 1883,
    }.items():
        file = broker.host.file(f"/opt/bacpipes/{path}")
        assert (file.uid, file.mode) == (uid, 0o400), path
    everything = broker.host.check_output(
        "docker inspect bacpipes-broker-1; cat /opt/bacpipes/broker/mosquitto/*; docker logs bacpipes-broker-1 2>&1"
    )
    for user in ("bacpipes_worker", "watcher"):
        secret = broker.password(user)
        assert len(secret) >= 32
        assert secret not in everything
    assert OPERATOR not in everything


def test_the_container_can_do_little(broker: Broker) -> None:
    state = json.loads(broker.host.check_output("docker inspect bacpipes-broker-1"))[0]
    assert state["HostConfig"]["ReadonlyRootfs"]
    status = broker.host.check_output(f"cat /proc/{state['State']['Pid']}/status")
    seen = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(seen["CapEff"], 16) == 0
    assert seen["NoNewPrivs"] == "1"
    assert seen["Uid"].split()[0] == "1883"
    assert broker.host.run("docker exec bacpipes-broker-1 touch /mosquitto/config/x /etc/x").rc != 0


def test_emqx_gets_the_same_users_and_rules(broker: Broker) -> None:
    """Its image can't be had here: the run ends where the container would start, and its files are looked at."""
    folder = "/opt/bacpipes-emqx"
    run = broker.play(mqtt_broker_engine="emqx", mqtt_broker_image="missing:1", mqtt_broker_dir=folder)
    try:
        assert "No such image: missing:1" in run.stdout
        broker.host.check_output(f"docker compose --file {folder}/broker.yaml config --quiet")
        rules = broker.host.file(f"{folder}/broker/emqx/acl.conf").content_string.splitlines()
        operator = [rule for rule in rules if '"operator"' in rule]
        assert operator == [
            '{deny, {user, "operator"}, all, ["demo/secret/#"]}.',
            '{allow, {user, "operator"}, subscribe, ["demo/#"]}.',
            '{allow, {user, "operator"}, publish, ["bacnet/write/command"]}.',
        ]
        assert rules[-1] == "{deny, all}."
        lines = broker.host.file(f"{folder}/broker/emqx/users.csv").content_string.splitlines()
        users = {line.split(",")[0]: line.split(",")[1:] for line in lines[1:]}
        assert users.keys() == {"bacpipes_worker", "operator", "watcher"}
        digest, salt, superuser = users["operator"]
        assert digest == hashlib.pbkdf2_hmac("sha512", OPERATOR.encode(), salt.encode(), 10_000).hex()
        assert superuser == "false"
        settings = broker.host.file(f"{folder}/broker/emqx/emqx.conf")
        assert (settings.uid, settings.mode) == (1000, 0o400)
        for secret in ("emqx_node.cookie", "emqx_dashboard.password"):
            assert broker.host.file(f"{folder}/secrets/{secret}").content_string in settings.content_string
    finally:
        broker.host.run(f"rm -r {folder}; docker volume rm bacpipes_broker_emqx")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"mqtt_broker_users": []}, "at least one user"),
        ({"mqtt_broker_users": [{"name": "a"}, {"name": "a"}]}, "each name once"),
        ({"mqtt_broker_users": [{"name": "a b"}]}, "digits, _ and -"),
        ({"mqtt_broker_users": [{"name": "a", "password": "short"}]}, "shorter than 12"),
        ({"mqtt_broker_users": [{"name": "a", "acl": [{"topic": "a/#/b", "access": "read"}]}]}, "a/#/b"),
        (
            {"mqtt_broker_users": [{"name": "a", "acl": [{"topic": "a\nuser b", "access": "read"}]}]},
            "not a topic filter",
        ),
        ({"mqtt_broker_users": [{"name": "a", "acl": [{"topic": "a", "access": "all"}]}]}, "access"),
        ({"mqtt_broker_users": [{"name": "a", "acls": []}]}, "acls"),
        ({"mqtt_broker_tls_client_certificate": "optional"}, "need emqx"),
        ({"mqtt_broker_tls_addresses": ["broker.example"]}, "addresses (not names)"),
        ({"mqtt_broker_tls_source": "/nowhere"}, "/nowhere"),
        ({"mqtt_broker_memory": "lots"}, "mqtt_broker_memory=lots"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(broker: Broker, variables: dict[str, Any], message: str) -> None:
    run = broker.play("--tags", "mqtt_broker_preflight", **variables)
    assert run.returncode == 2
    assert message in " ".join(run.stdout.split())
    assert "short" not in run.stdout.replace("shorter", "")
    assert "changed=0" in run.stdout
