"""Trends from averaged history, and the stream of live values."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from bacpipes.database import connect
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.mqtt import config as mqtt_config
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from exporter_parts import Exporter, add_building, add_reading, in_process, make_token
from mqtt_parts import Observer

START = datetime(2025, 12, 7, tzinfo=UTC)
TOPIC = "duxton/ahu_1/analoginput101/presentValue"


async def test_a_trend_is_the_mean_of_each_piece(settings: Settings, database_url: str) -> None:
    add_building(database_url)
    for minute, value, quality in ((0, 10.0, 0), (1, 20.0, 0), (2, None, 2), (30, 40.0, 0), (31, float("nan"), 0)):
        add_reading(database_url, 1, START + timedelta(minutes=minute), value, quality)
    headers = await make_token(database_url, "reader", Role.VIEWER)
    asked = {
        "points": "1,2",
        "start": START.isoformat(),
        "end": (START + timedelta(hours=1)).isoformat(),
        "buckets": "2",
    }
    async with in_process(settings) as (_, http):
        answer = (await http.get("/api/timeseries/trend", params=asked, headers=headers)).json()
    first, second = int(START.timestamp() * 1000), int((START + timedelta(minutes=30)).timestamp() * 1000)
    data = [[first, 15.0, 10.0, 20.0, 1], [second, 40.0, 40.0, 40.0, 0]]
    assert answer["series"] == [{"point": 1, "data": data}, {"point": 2, "data": []}]


@pytest.mark.parametrize(
    ("parameters", "culprit"),
    [
        ({}, "points"),
        ({"points": "x"}, "points"),
        ({"points": "1,2,3,4,5,6,7,8,9"}, "points"),
        ({"points": "99999999999"}, "points"),
        ({"points": "1", "buckets": "0"}, "buckets"),
        ({"points": "1", "buckets": "٣"}, "buckets"),
        ({"points": "1", "start": "soon"}, "start"),
        ({"points": "1", "start": "2025-12-08", "end": "2025-12-07"}, "start"),
        ({"points": "1", "start": "0001-01-01"}, "start"),
        ({"points": "1", "end": "0001-01-01T00:00:00Z"}, "end"),
    ],
)
async def test_a_trend_that_can_not_be_is_refused(
    settings: Settings, database_url: str, parameters: dict[str, str], culprit: str
) -> None:
    headers = await make_token(database_url, "reader", Role.VIEWER)
    async with in_process(settings) as (_, http):
        answer = await http.get("/api/timeseries/trend", params=parameters, headers=headers)
    assert (answer.status_code, answer.json()["parameter"]) == (400, culprit)


@pytest.mark.parametrize("origin", ["database", "environment"])
async def test_the_stream_hands_on_what_the_broker_delivers(
    settings: Settings, database_url: str, broker: EmbeddedBroker, origin: str
) -> None:
    """Also at a provisioned site, where the exporter has its broker from the environment and nothing to write on."""
    username, password = broker.credentials
    changes = {"enabled": True, "broker": LOOPBACK, "port": broker.port, "username": username, "password": password}
    variables = {f"MQTT_{name.upper()}": str(value) for name, value in changes.items()} | {"STATE_DIR": "/proc"}
    if origin == "database":
        variables = {}
        async with await connect(settings, "test") as connection:
            await mqtt_config.save(connection, settings, changes, actor="test")
    headers = await make_token(database_url, "reader", Role.VIEWER)
    exporter = Exporter(settings, **variables)
    await asyncio.to_thread(exporter.__enter__)
    try:
        async with (
            Observer(broker.port, username, password) as publisher,
            httpx.AsyncClient(base_url=exporter.url, headers=headers, timeout=60) as http,
            http.stream("GET", "/api/monitoring/stream") as stream,
        ):
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line.startswith("data: ") and json.loads(line[6:]).get("connected"):
                    publisher.publish(TOPIC, b'{"value":21.5,"quality":"good"}')
                elif line.startswith("data: ") and "topic" in line:
                    assert json.loads(line[6:]) == {"topic": TOPIC, "value": 21.5, "quality": "good"}
                    break
        assert await asyncio.to_thread(exporter.terminate) < 5
    finally:
        await asyncio.to_thread(exporter.__exit__)
