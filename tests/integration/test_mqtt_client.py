"""The connection to a real broker: Mosquitto for both protocols and TLS, amqtt for 3.1.1, a script for the rest."""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bacpipes.embedded import EmbeddedBroker, free_port
from bacpipes.mqtt import certificates
from bacpipes.mqtt import session as mqtt_session
from bacpipes.mqtt.client import Backoff, MqttClient, NotConnectedError, ReceivedMessage
from bacpipes.mqtt.config import MqttConfig
from mqtt_parts import (
    CONNACK_OK,
    CONNACK_OK_5,
    Link,
    Mosquitto,
    Observer,
    open_descriptors,
    puback,
    scripted_broker,
    suback,
    until,
)
from pki import DAY, Authority

PASSWORD = "correct horse"
STATUS = "duxton/appliance/status"
COMMAND = "bacnet/write/command"
QUICK = Backoff(first=0.05, last=0.2, patient=0.05)


def config_for(port: int, **more: Any) -> MqttConfig:
    values: dict[str, Any] = {"broker": "127.0.0.1", "port": port, "tls_port": port, "enabled": True}
    return MqttConfig.model_validate(values | more)


@contextlib.asynccontextmanager
async def running(
    config: MqttConfig, commands: list[ReceivedMessage] | None = None, **more: Any
) -> AsyncIterator[MqttClient]:
    """A client that runs; it is stopped at the end, and must then end by itself."""
    received = [] if commands is None else commands
    client = MqttClient(config, site_id="duxton", on_command=received.append, **({"backoff": QUICK} | more))
    stop = asyncio.Event()
    task = asyncio.create_task(client.run(stop))
    try:
        yield client
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await task


async def reason_of(config: MqttConfig) -> str:
    """Run a client until it has a reason other than that it has not begun."""
    async with running(config) as client:
        await until(lambda: client.reason not in (None, "not connected yet"), "a reason")
        assert not client.connected
        return str(client.reason)


def statuses(observer: Observer) -> list[str]:
    return [json.loads(payload)["status"] for payload in observer.payloads(STATUS)]


# --- connecting ---


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_connects_announces_itself_and_says_goodbye(tmp_path: Path, protocol: str) -> None:
    with Mosquitto(tmp_path) as broker:
        async with Observer(broker.port) as observer:
            async with running(config_for(broker.port, protocol=protocol)) as client:
                await until(lambda: client.connected, "connected")
                assert client.reason is None
                assert not client.authenticated
                assert not client.encrypted
                await until(lambda: statuses(observer) == ["online"], "online")
            await until(lambda: statuses(observer) == ["online", "offline"], "offline")
            payload = json.loads(observer.payloads(STATUS)[0])
            assert payload["siteId"] == "duxton"
            assert payload["timestamp"].endswith("Z")
        async with Observer(broker.port) as late:
            await until(lambda: late.messages, "the status is retained")
            topic, last, retained = late.messages[0]
            assert (topic, json.loads(last)["status"], retained) == (STATUS, "offline", True)
        assert "(p5," in broker.log() or protocol == "3.1.1"


async def test_speaks_311_with_amqtt(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, "bacpipes", PASSWORD)
    broker.program = None  # as where Mosquitto is not installed
    with broker:
        credentials = {"username": "bacpipes", "password": PASSWORD}
        async with running(config_for(broker.port, protocol="3.1.1", **credentials)) as client:
            await until(lambda: client.connected, "connected")
            assert await client.publish_all([("duxton/a/b/presentValue", b"1")]) == []
        reason = await reason_of(config_for(broker.port, protocol="3.1.1", username="bacpipes", password="wrong"))
        assert "wrong username or password" in reason


async def test_a_protocol_that_the_broker_does_not_speak_is_said() -> None:
    async with scripted_broker(lambda _kind, _body: bytes.fromhex("20020001")) as port:
        reason = await reason_of(config_for(port))
    assert "protocol version not supported" in reason


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(
    ("credentials", "expected"),
    [
        ({"username": "bacpipes", "password": "wrong"}, "not authorised (wrong username or password?)"),
        ({}, "wants a username and password"),
    ],
)
async def test_wrong_credentials(
    tmp_path: Path, protocol: str, credentials: dict[str, str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Mosquitto(tmp_path, users={"bacpipes": PASSWORD}) as broker, capture_logs() as logs:
        assert expected in await reason_of(config_for(broker.port, protocol=protocol, **credentials))
    failures = [entry for entry in logs if entry["log_level"] == "error"]
    assert len(failures) == 1
    assert expected in failures[0]["reason"]
    assert "'wrong'" not in str(logs)


async def test_right_credentials(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, users={"bacpipes": PASSWORD}) as broker:
        async with running(config_for(broker.port, username="bacpipes", password=PASSWORD)) as client:
            await until(lambda: client.connected, "connected")
            assert client.authenticated


async def test_nobody_listens() -> None:
    assert "connection refused" in await reason_of(config_for(free_port()))


async def test_a_name_that_does_not_exist() -> None:
    assert "name can't be resolved" in await reason_of(config_for(1883, broker="broker.invalid"))


async def test_a_broker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_session, "ANSWER_WITHIN", 0.2)
    async with scripted_broker(lambda _kind, _body: b"") as port:
        assert "no answer to CONNECT" in await reason_of(config_for(port))


async def test_something_else_than_a_broker() -> None:
    async with scripted_broker(lambda _kind, _body: b"close") as port:
        assert "closed the connection before it answered" in await reason_of(config_for(port))


async def test_what_is_no_mqtt_at_all_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_session, "ANSWER_WITHIN", 0.5)
    async with scripted_broker(lambda _kind, _body: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert f":{port}" in await reason_of(config_for(port))


async def test_disabled_means_no_connection(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with running(config_for(broker.port, enabled=False)) as client:
            assert client.reason == "MQTT is disabled"
            with pytest.raises(NotConnectedError, match="disabled"):
                await client.publish_all([("a", b"b")])
            client.reconfigure(config_for(broker.port))
            await until(lambda: client.connected, "enabled at run time")


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def tls_config(port: int, authority: Authority, **more: Any) -> MqttConfig:
    return config_for(port, **({"tls_enabled": True, "ca_certificate": authority.certificate} | more))


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_tls(tmp_path: Path, authority: Authority, protocol: str) -> None:
    with Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as broker:
        async with running(tls_config(broker.port, authority, protocol=protocol)) as client:
            await until(lambda: client.connected, "connected")
            assert client.encrypted
            assert await client.publish_all([(f"duxton/t/{n}", b"x" * 2000) for n in range(200)]) == []


def limit_tls_to(version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    make = certificates.tls_context

    def limited(identity: certificates.Identity) -> ssl.SSLContext:
        context = make(identity)
        context.maximum_version = version
        return context

    monkeypatch.setattr(certificates, "tls_context", limited)


async def test_a_broker_with_old_tls_only_is_refused(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Mosquitto(tmp_path, tls=authority.server("127.0.0.1"), more=("tls_version tlsv1.3",)) as broker:
        limit_tls_to(ssl.TLSVersion.TLSv1_2, monkeypatch)
        assert "TLS" in await reason_of(tls_config(broker.port, authority))
    context = certificates.tls_context(certificates.Identity())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname


async def test_unknown_ca(tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path, tls=Authority("Other CA").server("127.0.0.1")) as broker:
        reason = await reason_of(tls_config(broker.port, authority))
        assert "certificate of the broker is not signed by the configured CA" in reason


async def test_without_a_ca_the_systems_are_asked(tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as broker:
        reason = await reason_of(tls_config(broker.port, authority, ca_certificate=None))
        assert "not signed by a CA that this system trusts" in reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_wrong_host_name(tmp_path: Path, authority: Authority, host: str) -> None:
    with Mosquitto(tmp_path, tls=authority.server("broker.example")) as broker:
        assert "host name mismatch" in await reason_of(tls_config(broker.port, authority, broker=host))


async def test_expired_certificate_of_the_broker(tmp_path: Path, authority: Authority) -> None:
    expired = authority.server("127.0.0.1", begins=-2 * DAY, ends=-timedelta(hours=1))
    with Mosquitto(tmp_path, tls=expired) as broker:
        assert "the broker's certificate has expired" in await reason_of(tls_config(broker.port, authority))


async def test_certificate_of_the_broker_from_the_future(tmp_path: Path, authority: Authority) -> None:
    early = authority.server("127.0.0.1", begins=DAY, ends=2 * DAY)
    with Mosquitto(tmp_path, tls=early) as broker:
        assert "not valid yet" in await reason_of(tls_config(broker.port, authority))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificate(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tls_to(version, monkeypatch)
    ours, strange = authority.client(), Authority("Stranger").client()
    with Mosquitto(
        tmp_path,
        tls=authority.server("127.0.0.1"),
        client_ca=authority.certificate,
    ) as broker:
        pair = {"client_certificate": ours.certificate, "client_key": ours.key}
        async with running(tls_config(broker.port, authority, **pair)) as client:
            await until(lambda: client.connected, "connected")
            assert client.authenticated
            assert not [name for name in open_descriptors() if "bacpipes-client" in name]
        reason = await reason_of(tls_config(broker.port, authority))
        assert "the broker requires a client certificate" in reason or "does it require a client cert" in reason
        pair = {"client_certificate": strange.certificate, "client_key": strange.key}
        assert "does not trust the CA of our client certificate" in await reason_of(
            tls_config(broker.port, authority, **pair)
        )


async def test_tls_against_a_plain_port_and_the_reverse(tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path) as plain, Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as secure:
        assert "TLS" in await reason_of(tls_config(plain.port, authority))
        async with running(config_for(secure.port)) as client:
            await until(lambda: client.remedy and "Does this port expect TLS?" in client.remedy, "the remedy")


async def test_a_server_that_stays_silent_in_the_handshake(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "CONNECT_WITHIN", 0.2)
    server = await asyncio.start_server(lambda _r, _w: asyncio.sleep(30), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "no answer to the TLS handshake" in await reason_of(tls_config(port, authority))


async def test_a_certificate_that_can_not_be_used_is_a_reason_and_no_crash(authority: Authority) -> None:
    pair = {"client_certificate": authority.client().certificate, "client_key": authority.client().key}
    reason = await reason_of(tls_config(free_port(), authority, **pair))
    assert "client certificate and key can't be used" in reason


# --- losing and finding the broker ---


async def test_broker_killed_and_back(tmp_path: Path) -> None:
    commands: list[ReceivedMessage] = []
    with Mosquitto(tmp_path) as broker, capture_logs() as logs:
        async with running(config_for(broker.port), commands) as client:
            await until(lambda: client.connected, "connected")
            since = client.since
            broker.kill()
            await until(lambda: not client.connected, "noticed")
            await until(lambda: "connection refused" in str(client.reason), "the reason")
            broker.start()
            await until(lambda: client.connected, "connected again")
            assert client.since > since
            assert client.reason is None
            async with Observer(broker.port) as observer:
                observer.publish(COMMAND, b"after")
                await until(lambda: [c.payload for c in commands] == [b"after"], "subscribed again")
    texts = [entry["event"] for entry in logs if entry["log_level"] in ("error", "info")]
    assert texts.count("MQTT connection: recovered") == 1
    assert texts.count("MQTT connection: failed") <= 3  # lost, (reset,) refused: each once, however many tries


async def test_last_will_when_the_line_is_cut(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with (
            Observer(broker.port) as observer,
            Link(broker.port) as link,
            running(config_for(link.port)) as client,
        ):
            await until(lambda: statuses(observer) == ["online"], "online")
            link.open = False
            link.cut()
            await until(lambda: statuses(observer) == ["online", "offline"], "the last will")
            await until(lambda: not client.connected, "noticed")
            link.open = True
            await until(lambda: statuses(observer) == ["online", "offline", "online"], "back")


async def test_back_off_spaces_the_tries() -> None:
    async with Link(1) as link:
        link.open = False
        async with running(config_for(link.port), backoff=Backoff(first=0.2, last=0.4, patient=0.2)) as client:
            began = asyncio.get_running_loop().time()
            await until(lambda: link.connections >= 5, "five tries")
            passed = asyncio.get_running_loop().time() - began
        assert passed > 0.1 + 3 * 0.2  # each pause is at least half of its nominal value
        assert not client.connected


@pytest.mark.parametrize("answer", [b"close", bytes.fromhex("2003008700"), b"\xff\xff\xff\xff\xff\xff"])
async def test_failed_tries_leave_no_socket_and_no_thread_behind(answer: bytes) -> None:
    tries = 0

    def script(_kind: int, _body: bytes) -> bytes:
        nonlocal tries
        tries += 1
        return answer

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    hasty = Backoff(first=0.001, last=0.001, patient=0.001)
    async with scripted_broker(script) as port, running(config_for(port), backoff=hasty):
        await until(lambda: tries >= 3, "it has begun")
        before = descriptors()
        await until(lambda: tries >= 60, "sixty tries")
        await until(lambda: descriptors() <= before + 4, "no more descriptors than before")
        assert threading.active_count() < 10


async def test_another_client_with_our_id_is_said(tmp_path: Path) -> None:
    """Mosquitto 2.0.11 only closes the connection, so it has to be guessed."""
    with Mosquitto(tmp_path) as broker:
        patient = Backoff(first=0.05, last=30, patient=30)
        async with running(config_for(broker.port), backoff=patient) as first:
            await until(lambda: first.connected, "connected")
            async with running(config_for(broker.port), backoff=patient) as second:
                await until(
                    lambda: any("Does another client use the client id" in str(c.remedy) for c in (first, second)),
                    "one of them says why",
                )


@pytest.mark.parametrize(("code", "text"), [(0x8E, "took over"), (0x8B, "shutting down"), (0x98, "administrator")])
async def test_the_brokers_own_reason_for_the_end_is_said(code: int, text: str) -> None:
    def script(kind: int, body: bytes) -> bytes:
        if kind == 1:
            return CONNACK_OK_5
        if kind == 8:
            return bytes([0x90, 4]) + body[:2] + bytes([0, 1]) + bytes([0xE0, 1, code])
        return puback(body) if kind == 3 else b""

    async with scripted_broker(script) as port, running(config_for(port), backoff=Backoff(30, 30, 30)) as client:
        await until(lambda: text in str(client.reason), "the reason")
        assert not client.connected


async def test_reconfigure_goes_over_to_another_broker(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as old, Mosquitto(tmp_path) as new:
        async with (
            Observer(old.port) as left,
            Observer(new.port) as joined,
            running(config_for(old.port)) as client,
        ):
            await until(lambda: client.connected, "connected")
            client.reconfigure(config_for(new.port))
            await until(lambda: statuses(joined) == ["online"], "online at the new one")
            assert statuses(left) == ["online", "offline"]
            await until(lambda: client.connected, "connected to the new one")
            client.reconfigure(config_for(new.port))  # the same: nothing happens
            assert await client.publish_all([("x", b"1")]) == []
            assert statuses(joined) == ["online"]


async def test_reconfigure_interrupts_the_back_off(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        slow = Backoff(first=60, last=60, patient=60)
        async with running(config_for(free_port()), backoff=slow) as client:
            await until(lambda: "refused" in str(client.reason), "refused")
            client.reconfigure(config_for(broker.port))
            await until(lambda: client.connected, "connected at once", within=5)


async def test_stop_while_connecting_is_prompt() -> None:
    seen: list[int] = []

    def script(kind: int, _body: bytes) -> bytes:
        seen.append(kind)
        return b""

    async with scripted_broker(script) as port:
        async with running(config_for(port)):
            await until(lambda: seen, "CONNECT has been sent")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < 2


# --- publishing ---


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_publish_all_arrives_in_order(tmp_path: Path, protocol: str) -> None:
    messages = [("duxton/ahu_1/analoginput1/presentValue", str(n).encode()) for n in range(2000)]
    with Mosquitto(tmp_path, more=("max_queued_messages 0",)) as broker:
        async with Observer(broker.port) as observer, running(config_for(broker.port, protocol=protocol)) as client:
            await client.wait_connected()
            assert await client.publish_all(messages) == []
            await until(lambda: len(observer.payloads(messages[0][0])) >= len(messages), "all arrive")
            assert observer.payloads(messages[0][0]) == [payload for _, payload in messages]


async def test_publish_all_returns_only_after_the_acknowledgement() -> None:
    held: list[bytes] = []

    def script(kind: int, body: bytes) -> bytes:
        if kind == 1:
            return CONNACK_OK
        if kind == 8:
            return suback(body, 1)
        if kind == 3 and b"hold" in body:
            held.append(puback(body))
            return held.pop() if len(held) == 2 else b""
        return puback(body) if kind == 3 else b""

    async with scripted_broker(script) as port, running(config_for(port, protocol="3.1.1")) as client:
        await client.wait_connected()
        first = asyncio.create_task(client.publish_all([("hold", b"1")]))
        assert await client.publish_all([("free", b"2")]) == []
        assert not first.done()
        first.cancel()


@pytest.mark.parametrize(
    ("connack", "window"),
    [(bytes.fromhex("2006000003210005"), 5), (bytes.fromhex("2006000003210064"), 8), (CONNACK_OK_5, 8)],
    ids=["receive maximum 5", "receive maximum 100", "no receive maximum"],
)
async def test_window_is_bounded_and_the_broker_may_ask_for_less(
    connack: bytes, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_session, "IN_FLIGHT", 8)
    seen: list[bytes] = []

    def script(kind: int, body: bytes) -> bytes:
        if kind == 1:
            return connack
        if kind == 8:
            return bytes([0x90, 4]) + body[:2] + bytes([0, 1])
        if kind == 3 and b"status" not in body:
            seen.append(body)
            return b""
        return puback(body) if kind == 3 else b""

    async with scripted_broker(script) as port, running(config_for(port)) as client:
        await client.wait_connected()
        task = asyncio.create_task(client.publish_all([("t", b"%d" % n) for n in range(50)]))
        await until(lambda: len(seen) >= window, "the window is full")
        await asyncio.sleep(0.2)  # another would come in this time
        assert len(seen) == window
        task.cancel()


async def test_publish_all_during_the_brokers_death(tmp_path: Path) -> None:
    messages = [(f"duxton/p/{n}", b"x" * 500) for n in range(50_000)]
    with Mosquitto(tmp_path) as broker:
        async with Observer(broker.port) as observer, running(config_for(broker.port)) as client:
            await client.wait_connected()
            task = asyncio.create_task(client.publish_all(messages))
            await until(lambda: len(observer.messages) > 50, "it has begun")
            broker.kill()
            with pytest.raises(NotConnectedError):
                async with asyncio.timeout(5):
                    await task
            with pytest.raises(NotConnectedError):
                await client.publish_all([("a", b"b")])


async def test_a_broker_that_stops_acknowledging_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_session, "ACKNOWLEDGE_WITHIN", 0.3)
    monkeypatch.setattr(mqtt_session, "TICK", 0.05)
    with Mosquitto(tmp_path) as broker:
        async with Link(broker.port) as link, running(config_for(link.port)) as client:
            await client.wait_connected()
            link.deaf.set()
            with pytest.raises(NotConnectedError, match="no acknowledgement within"):
                async with asyncio.timeout(5):
                    await client.publish_all([("duxton/p/1", b"1")])
            link.deaf.clear()
            await until(lambda: client.connected, "connected again")
            assert await client.publish_all([("duxton/p/1", b"1")]) == []


async def test_an_access_list_refuses_one_topic_and_the_rest_goes_through(tmp_path: Path) -> None:
    acl = "user bacpipes\ntopic write duxton/#\ntopic read bacnet/write/command\nuser watcher\ntopic read #\n"
    users = {"bacpipes": PASSWORD, "watcher": PASSWORD}
    with Mosquitto(tmp_path, users=users, acl=acl) as broker:
        config = config_for(broker.port, username="bacpipes", password=PASSWORD)
        async with Observer(broker.port, "watcher", PASSWORD) as observer, running(config) as client:
            await client.wait_connected()
            refused = await client.publish_all([("duxton/a", b"1"), ("other/b", b"2"), ("duxton/c", b"3")])
            assert [(each.topic, each.code, each.reason) for each in refused] == [("other/b", 0x87, "not authorized")]
            await until(lambda: observer.payloads("duxton/c"), "the last")
            assert observer.payloads("duxton/a") == [b"1"]
            assert observer.payloads("other/b") == []
            assert client.connected


async def test_an_invalid_topic_is_refused_alone(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with running(config_for(broker.port)) as client:
            await client.wait_connected()
            refused = await client.publish_all([("a/+/b", b"1"), ("a/b", b"2"), ("x" * 70_000, b"3")])
            assert [(each.topic[:5], each.code) for each in refused] == [("a/+/b", 0x90), ("xxxxx", 0x90)]


async def test_a_message_over_the_brokers_limit_is_refused_alone(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, more=("max_packet_size 2000",)) as broker:
        async with running(config_for(broker.port)) as client:
            await client.wait_connected()
            refused = await client.publish_all([("big", b"x" * 5000), ("small", b"x")])
            assert [(each.topic, each.code) for each in refused] == [("big", 0x95)]
            assert client.connected


async def test_a_cancelled_caller_does_not_block_the_next(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with running(config_for(broker.port)) as client:
            await client.wait_connected()
            task = asyncio.create_task(client.publish_all([("t", b"x")] * 50_000))
            await asyncio.sleep(0.05)
            task.cancel()
            async with asyncio.timeout(5):
                assert await client.publish_all([("u", b"y")]) == []


async def test_nothing_to_publish(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        async with running(config_for(broker.port)) as client:
            await client.wait_connected()
            assert await client.publish_all([]) == []


# --- commands ---


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_commands_come_in(tmp_path: Path, protocol: str) -> None:
    commands: list[ReceivedMessage] = []
    with Mosquitto(tmp_path) as broker:
        async with Observer(broker.port) as observer:
            observer.publish(COMMAND, b"kept", retain=True)
            await until(lambda: observer.payloads(COMMAND), "it is kept")
            async with running(config_for(broker.port, protocol=protocol), commands) as client:
                await client.wait_connected()
                await until(lambda: commands, "the retained one")
                observer.publish(COMMAND, b"fresh")
                await until(lambda: len(commands) == 2, "the fresh one")
    assert commands == [
        ReceivedMessage(COMMAND, b"kept", retain=True),
        ReceivedMessage(COMMAND, b"fresh", retain=False),
    ]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_ten_megabytes_do_no_harm(tmp_path: Path, authority: Authority, protocol: str, encrypted: bool) -> None:
    commands: list[ReceivedMessage] = []
    with Mosquitto(tmp_path) as broker, Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as secure:
        if encrypted:
            port, config = secure.port, tls_config(secure.port, authority, protocol=protocol)
        else:
            port, config = broker.port, config_for(broker.port, protocol=protocol)
        async with running(config, commands) as client:
            await client.wait_connected()
            payload = b"x" * 10_000_000
            assert await client.publish_all([(COMMAND, payload)]) == []
            await until(lambda: commands, "it comes in")
            assert commands == [ReceivedMessage(COMMAND, payload[: 64 * 1024], oversized=True)]
            assert await client.publish_all([(COMMAND, b"{}")]) == []
            await until(lambda: len(commands) == 2, "and the next")
            assert commands[1] == ReceivedMessage(COMMAND, b"{}")
            assert client.connected
        assert port


async def test_a_handler_that_raises_does_not_cost_the_connection(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def handler(message: ReceivedMessage) -> None:
        seen.append(message.payload)
        if message.payload == b"bad":
            raise ValueError("no such thing")

    with Mosquitto(tmp_path) as broker, capture_logs() as logs:
        client = MqttClient(config_for(broker.port), site_id="duxton", on_command=handler, backoff=QUICK)
        stop = asyncio.Event()
        task = asyncio.create_task(client.run(stop))
        await client.wait_connected()
        since = client.since
        await client.publish_all([(COMMAND, b"bad"), (COMMAND, b"good")])
        await until(lambda: seen == [b"bad", b"good"], "both")
        assert client.connected
        assert client.since == since
        stop.set()
        await task
    assert any("no such thing" in str(entry.get("reason")) for entry in logs)


async def test_a_refused_subscription_is_said_and_tried_again() -> None:
    codes = [0x80, 0x01]

    def script(kind: int, body: bytes) -> bytes:
        if kind == 1:
            return CONNACK_OK
        if kind == 8:
            return suback(body, codes.pop(0) if codes else 1)
        return puback(body) if kind == 3 else b""

    async with (
        scripted_broker(script) as port,
        running(config_for(port, protocol="3.1.1"), backoff=Backoff(0.5, 0.5, 0.5)) as client,
    ):
        await client.wait_connected()
        assert f"may not subscribe to {COMMAND}" in str(client.reason)
        assert client.connected
        await until(lambda: client.reason is None, "subscribed in the end")


async def test_an_access_list_that_refuses_our_status_is_said(tmp_path: Path) -> None:
    with Mosquitto(tmp_path, users={"bacpipes": PASSWORD}, acl="user bacpipes\ntopic read #\n") as broker:
        async with running(config_for(broker.port, username="bacpipes", password=PASSWORD)) as client:
            await client.wait_connected()
            assert f"may not publish to {STATUS}" in str(client.reason)


async def test_garbage_after_the_welcome_ends_the_connection_and_no_more() -> None:
    connections = 0

    def script(kind: int, body: bytes) -> bytes:
        nonlocal connections
        if kind == 1:
            connections += 1
            return CONNACK_OK_5
        if kind == 8:
            garbage = b"\x30\x03\x00\xff\x00" if connections == 1 else b""
            return bytes([0x90, 4]) + body[:2] + bytes([0, 1]) + garbage
        return puback(body) if kind == 3 else b""

    async with scripted_broker(script) as port, running(config_for(port)) as client:
        await until(lambda: connections >= 2 and client.connected, "connected anew")


async def test_an_acknowledgement_that_says_nothing_ends_the_connection_and_no_more() -> None:
    subscriptions = 0

    def script(kind: int, body: bytes) -> bytes:
        nonlocal subscriptions
        if kind == 1:
            return CONNACK_OK
        if kind == 8:
            subscriptions += 1
            return suback(body, 1) if subscriptions > 1 else bytes([0x90, 2]) + body[:2]  # no code at all
        return puback(body) if kind == 3 else b""

    async with scripted_broker(script) as port, running(config_for(port, protocol="3.1.1")) as client:
        await until(lambda: subscriptions == 2 and client.connected, "connected anew", within=5)


async def test_messages_that_share_a_tls_record_all_come_in(tmp_path: Path, authority: Authority) -> None:
    """The socket shows nothing more once TLS has taken the record in: who waits for it would wait for ever."""
    one = b"\x30" + bytes([len(COMMAND) + 3]) + len(COMMAND).to_bytes(2, "big") + COMMAND.encode() + b"x"

    def script(kind: int, body: bytes) -> bytes:
        if kind == 1:
            return CONNACK_OK
        return suback(body, 1) + one * 50 if kind == 8 else puback(body) if kind == 3 else b""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server("127.0.0.1").write(tmp_path, "broker"))
    commands: list[ReceivedMessage] = []
    async with (
        scripted_broker(script, context) as port,
        running(tls_config(port, authority, protocol="3.1.1"), commands),
    ):
        await until(lambda: len(commands) == 50, "all fifty", within=5)
