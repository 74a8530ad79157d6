"""The publisher's cursor: it moves when the broker has acknowledged, and not before."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from bacpipes.database import Connection, connect
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.failures import NotConnectedError
from bacpipes.points.directory import Directory
from bacpipes.reading import Batch, Quality, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from bacpipes.worker.publisher import READINGS, Publisher
from engines import add_point
from mqtt_parts import until


class ClientDouble:
    """Stands in for the MQTT client: acknowledges, or loses the connection before it has, as it is told."""

    config = SimpleNamespace(enabled=True, write_result_topic="results")
    connected = True

    def __init__(self) -> None:
        self.loses = True
        self.sent: list[list[str]] = []
        self.payloads: list[bytes] = []

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> list[Any]:
        self.sent.append([topic for topic, _ in messages])
        if self.loses:
            raise NotConnectedError("lost")
        self.payloads += [payload for _, payload in messages]
        return []


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    async with await connect(settings, "test") as connection:
        yield connection


@pytest.fixture
async def point(settings: Settings, connection: Connection) -> int:
    """A point that is polled and has a topic."""
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as plain:
        point = add_point(plain)
        plain.execute("UPDATE point SET topic = 'duxton/ahu_1/a1/presentValue', enabled = true WHERE id = %s", [point])
    return point


@asynccontextmanager
async def publishing(
    settings: Settings, connection: Connection, double: ClientDouble
) -> AsyncIterator[tuple[Publisher, WorkerMetrics]]:
    """A publisher that runs for as long as the block."""
    directory = Directory()
    await directory.load(connection)
    metrics, stop = WorkerMetrics(), asyncio.Event()
    publisher = Publisher(settings, directory, metrics, double)  # type: ignore[arg-type]
    running = asyncio.create_task(publisher.run(stop))
    yield publisher, metrics
    stop.set()
    await running


async def passed(connection: Connection, seq: int) -> None:
    """Wait until the cursor is there."""
    async with asyncio.timeout(10):
        while await log_store.cursor_of(connection, READINGS) < seq:
            await asyncio.sleep(0.02)


async def commit(connection: Connection, settings: Settings, point: int, *values: float | None) -> None:
    """One poll for each value, 15 s apart, the last one now."""
    for number, value in enumerate(values):
        at = time.time_ns() // 1_000_000 - (len(values) - 1 - number) * 15_000
        reading = Reading(point, at, value, Quality.BAD if value is None else Quality.GOOD)
        await log_store.commit(connection, settings.site_id, [Batch(15, number, 5, [reading])])


async def test_a_batch_that_was_not_acknowledged_is_sent_again(
    settings: Settings, connection: Connection, point: int
) -> None:
    await commit(connection, settings, point, 1.0)
    double = ClientDouble()
    async with publishing(settings, connection, double) as (publisher, _):
        await until(lambda: len(double.sent) >= 2, "it is tried again")
        assert await log_store.cursor_of(connection, READINGS) == 0
        double.loses = False
        publisher.wake()
        await passed(connection, 1)
    assert set(map(tuple, double.sent)) == {("duxton/ahu_1/a1/presentValue",)}


def values_of(double: ClientDouble) -> list[float | None]:
    return [json.loads(payload)["value"] for payload in double.payloads]


async def test_what_the_policy_selects_goes_out_also_over_a_restart(
    settings: Settings, connection: Connection, point: int
) -> None:
    policy = "UPDATE point SET publish = 'change', deadband = 0.5, heartbeat_seconds = 3600 WHERE id = %s"
    await connection.execute(policy, [point])
    double = ClientDouble()
    double.loses = False
    await commit(connection, settings, point, 20.0, 20.4, 20.6, 20.7, None, None)
    async with publishing(settings, connection, double) as (_, metrics):
        await passed(connection, 6)
        assert values_of(double) == [20.0, 20.6, None]
        assert b"bacpipes_mqtt_withheld_total 3.0" in metrics.text()
    await commit(connection, settings, point, None, 20.9)
    await commit(connection, settings, point, 21.0)
    async with publishing(settings, connection, double):
        await passed(connection, 9)
    assert values_of(double) == [20.0, 20.6, None, 20.9]


async def test_what_was_not_acknowledged_is_selected_again(
    settings: Settings, connection: Connection, point: int
) -> None:
    await connection.execute("UPDATE point SET publish = 'change' WHERE id = %s", [point])
    await commit(connection, settings, point, 20.0, 20.0)
    double = ClientDouble()
    async with publishing(settings, connection, double) as (publisher, _):
        await until(lambda: len(double.sent) >= 2, "it is tried again")
        double.loses = False
        publisher.wake()
        await passed(connection, 2)
    assert set(values_of(double)) == {20.0}
    assert {len(one) for one in double.sent} == {1}
    assert await (await connection.execute("SELECT value FROM published")).fetchall() == [(20.0,)]
