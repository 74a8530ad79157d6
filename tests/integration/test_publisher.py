"""The publisher's cursor: it moves when the broker has acknowledged, and not before."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from bacpipes.database import Connection, connect
from bacpipes.metrics import WorkerMetrics
from bacpipes.mqtt.client import NotConnectedError
from bacpipes.points.directory import Directory
from bacpipes.reading import Batch, Reading
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

    async def publish_all(self, messages: Sequence[tuple[str, bytes]]) -> list[Any]:
        self.sent.append([topic for topic, _ in messages])
        if self.loses:
            raise NotConnectedError("lost")
        return []


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[Connection]:
    async with await connect(settings, "test") as connection:
        yield connection


async def test_a_batch_that_was_not_acknowledged_is_sent_again(settings: Settings, connection: Connection) -> None:
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as plain:
        point = add_point(plain)
        plain.execute("UPDATE point SET topic = 'duxton/ahu_1/a1/presentValue', enabled = true WHERE id = %s", [point])
    directory = Directory()
    await directory.load(connection)
    await log_store.commit(
        connection, settings.site_id, [Batch(60, 1, 5, [Reading(point, time.time_ns() // 1_000_000, 1.0)])]
    )
    double = ClientDouble()
    publisher = Publisher(settings, directory, WorkerMetrics(), double)  # type: ignore[arg-type]
    stop = asyncio.Event()
    running = asyncio.create_task(publisher.run(stop))
    await until(lambda: len(double.sent) >= 2, "it is tried again")
    assert await log_store.cursor_of(connection, READINGS) == 0
    double.loses = False
    publisher.wake()
    async with asyncio.timeout(10):
        while await log_store.cursor_of(connection, READINGS) == 0:
            await asyncio.sleep(0.02)
    assert set(map(tuple, double.sent)) == {("duxton/ahu_1/a1/presentValue",)}
    stop.set()
    await running
