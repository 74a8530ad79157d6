"""Publishing with QoS 1: in order, bounded, to the end, and what the broker refuses."""

import asyncio
from pathlib import Path

import pytest

from bacpipes.mqtt import session as mqtt_session
from bacpipes.mqtt import window as mqtt_window
from bacpipes.mqtt.failures import NotConnectedError
from mqtt_client_parts import PASSWORD, config_for, running
from mqtt_parts import CONNACK_OK, CONNACK_OK_5, Link, Mosquitto, Observer, puback, scripted_broker, suback, until


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
    monkeypatch.setattr(mqtt_window, "IN_FLIGHT", 8)
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
    monkeypatch.setattr(mqtt_window, "ACKNOWLEDGE_WITHIN", 0.3)
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
