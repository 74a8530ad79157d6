"""The connection to a real broker: Mosquitto for both protocols, amqtt for 3.1.1, a script for the rest."""

import asyncio
import json
import threading
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bacpipes.embedded import EmbeddedBroker, free_port
from bacpipes.mqtt import session as mqtt_session
from bacpipes.mqtt.client import Backoff
from bacpipes.mqtt.failures import NotConnectedError
from bacpipes.mqtt.message import ReceivedMessage
from mqtt_client_parts import COMMAND, PASSWORD, STATUS, config_for, reason_of, running, statuses
from mqtt_parts import CONNACK_OK_5, Link, Mosquitto, Observer, puback, scripted_broker, until


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
