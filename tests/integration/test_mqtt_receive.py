"""What comes in from a broker: commands, and what is no MQTT."""

import asyncio
import ssl
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bacpipes.mqtt.client import Backoff, MqttClient
from bacpipes.mqtt.message import ReceivedMessage
from mqtt_client_parts import COMMAND, PASSWORD, QUICK, STATUS, config_for, running, tls_config
from mqtt_parts import CONNACK_OK, CONNACK_OK_5, Mosquitto, Observer, puback, scripted_broker, suback, until
from pki import Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


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
