"""What the tests of our MQTT client share: its configuration, a client that runs, and what an observer saw of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from bacpipes.mqtt.client import Backoff, MqttClient
from bacpipes.mqtt.config import MqttConfig
from bacpipes.mqtt.message import ReceivedMessage
from mqtt_parts import Observer, until
from pki import Authority

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


def tls_config(port: int, authority: Authority, **more: Any) -> MqttConfig:
    return config_for(port, **({"tls_enabled": True, "ca_certificate": authority.certificate} | more))
