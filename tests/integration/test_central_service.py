"""Central's service: its API, and the dispatcher on a real broker."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from psycopg.conninfo import make_conninfo

from bacpipes.central import dispatcher
from bacpipes.central.app import create_app
from bacpipes.tokens import Role
from central_parts import SETPOINT, bring_batch, bring_messages, bring_metadata, central_settings, payload, register
from exporter_parts import execute, make_token
from mqtt_parts import Mosquitto, Observer, until

COMMAND, RESULT = "bacnet/write/command", "bacnet/write/result"
TARGET = {"deviceId": 7, "objectType": "analog-value", "objectInstance": 2}


@pytest.fixture
async def observer(tmp_path: Path) -> AsyncIterator[Observer]:
    """Somebody who hears all of broker B."""
    with Mosquitto(tmp_path) as broker:
        async with Observer(broker.port) as observer:
            yield observer


@pytest.fixture
async def service(
    central_url: str, observer: Observer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The service on broker B, which knows two sites; the client may write."""
    monkeypatch.setenv("BACPIPES_MQTT_BROKER", "127.0.0.1")
    monkeypatch.setenv("BACPIPES_MQTT_PORT", str(observer._port))
    monkeypatch.setattr(dispatcher, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(dispatcher, "REPEAT_EVERY", 0.5)
    with psycopg.connect(central_url, autocommit=True) as connection:
        bring_metadata(connection)
        register(connection, "macau")
        connection.execute("ALTER ROLE central_service LOGIN")
    app = create_app(central_settings(make_conninfo(central_url, user="central_service"), tmp_path))
    headers = await make_token(central_url, "operator", Role.OPERATOR)
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://central", headers=headers) as http,
    ):
        await until(lambda: app.state.dispatcher.client.connected, "the dispatcher is connected")
        yield app, http


def heard(observer: Observer, topic: str, job: str) -> list[dict[str, Any]]:
    return [found for found in map(json.loads, observer.payloads(topic)) if found.get("jobId") == job]


def publish(observer: Observer, topic: str, **fields: Any) -> None:
    observer.publish(topic, json.dumps(fields).encode())


async def test_a_command_by_the_api_goes_out_until_its_result_is_there(
    service: tuple[FastAPI, httpx.AsyncClient], observer: Observer, central_url: str
) -> None:
    _, http = service
    answer = await http.post("/api/write", json=TARGET | {"siteId": "duxton", "jobId": "one", "value": 21})
    assert (answer.status_code, answer.headers["location"]) == (202, "/api/write/one")
    assert answer.json() == {"jobId": "one", "siteId": "duxton", "status": "pending", "statusUrl": "/api/write/one"}
    await until(lambda: len(heard(observer, f"{COMMAND}/duxton", "one")) >= 2, "it is repeated")
    assert heard(observer, f"{COMMAND}/macau", "one") == []
    publish(observer, f"{RESULT}/duxton", jobId="one", success=True, siteId="duxton", error=None)
    await until(lambda: heard(observer, RESULT, "one"), "the result on the fixed topic")
    await until(lambda: execute(central_url, "SELECT success FROM write_results") == [(True,)], "the stored result")
    status = (await http.get("/api/write/one")).json()
    assert (status["status"], status["result"]["success"], status["createdBy"]) == ("completed", True, "api:operator")
    assert [entry["action"] for entry in status["audit"]] == ["write.request"]
    again = await http.post("/api/write", json=TARGET | {"siteId": "duxton", "jobId": "one", "value": 22})
    assert again.status_code == 409
    # nothing more goes out: a later command is heard, and this one was not repeated before it
    count = len(heard(observer, f"{COMMAND}/duxton", "one"))
    await http.post("/api/write", json=TARGET | {"siteId": "duxton", "jobId": "two", "value": 22})
    await until(lambda: len(heard(observer, f"{COMMAND}/duxton", "two")) >= 3, "the other one is repeated")
    assert len(heard(observer, f"{COMMAND}/duxton", "one")) == count


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({"siteId": "duxton", "value": 99}, 200, "value-out-of-range"),
        ({"siteId": "duxton", "value": "warm"}, 200, "value-wrong-type"),
        ({"siteId": "duxton", "value": 20, "objectInstance": 3}, 200, "point-not-found"),
        ({"siteId": "macau", "value": 20}, 200, "point-not-found"),
        ({"siteId": "nowhere", "value": 20}, 400, "siteId"),
        ({"value": 20}, 400, "siteId"),
        ({"siteId": "duxton"}, 400, "value"),
    ],
)
async def test_the_api_refuses_what_no_site_would_do(
    service: tuple[FastAPI, httpx.AsyncClient], central_url: str, fields: dict[str, Any], status: int, told: str
) -> None:
    _, http = service
    answer = await http.post("/api/write", json=TARGET | fields)
    body = answer.json()
    assert (answer.status_code, (body.get("codes") or [body.get("parameter", "").split(" ")[0]])[0]) == (status, told)
    assert execute(central_url, "SELECT * FROM write_commands") == []


async def test_only_operators_write(service: tuple[FastAPI, httpx.AsyncClient], central_url: str) -> None:
    _, http = service
    viewer = await make_token(central_url, "viewer", Role.VIEWER)
    body = TARGET | {"siteId": "duxton", "value": 20}
    assert (await http.post("/api/write", json=body, headers=viewer)).status_code == 403
    refused = await http.post("/api/write", json=body, headers={"Authorization": ""})
    assert refused.status_code == 401
    assert "`bacpipes central token create NAME" in refused.json()["remedy"]
    assert (await http.get("/api/sites", headers=viewer)).status_code == 200
    assert (await http.get("/api/write/none", headers=viewer)).status_code == 404


async def test_the_fixed_topic_reaches_the_site_that_it_names_alone(
    service: tuple[FastAPI, httpx.AsyncClient], observer: Observer, central_url: str
) -> None:
    publish(observer, COMMAND, **TARGET, jobId="seed", siteId="duxton", value=21, source="test", priority=8)
    await until(lambda: len(heard(observer, f"{COMMAND}/duxton", "seed")) >= 2, "the command, and its repeat")
    first, second, *_ = heard(observer, f"{COMMAND}/duxton", "seed")
    assert first["timestamp"] == second["timestamp"], "a repeat is no younger than the command"
    assert {name: first[name] for name in TARGET} == TARGET
    assert execute(central_url, "SELECT job_id, site_id, value FROM write_commands") == [("seed", "duxton", 21.0)]
    publish(observer, f"{RESULT}/duxton", jobId="seed", success=True, siteId="duxton")
    await until(lambda: heard(observer, RESULT, "seed"), "the mirrored result")
    assert not any(topic == f"{COMMAND}/macau" for topic, _, _ in observer.messages)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({}, "site-missing"), ({"siteId": "nowhere"}, "site-unknown"), ({"siteId": "a/b"}, "site-unknown")],
)
async def test_a_command_that_no_site_can_hear_is_refused_with_a_result(
    service: tuple[FastAPI, httpx.AsyncClient], observer: Observer, fields: dict[str, Any], code: str
) -> None:
    publish(observer, COMMAND, **TARGET, jobId="lost", value=21, **fields)
    await until(lambda: heard(observer, RESULT, "lost"), "the refusal")
    (result,) = heard(observer, RESULT, "lost")
    assert (result["success"], result["codes"]) == (False, [code])
    assert not any(topic.startswith(f"{COMMAND}/") for topic, _, _ in observer.messages)


async def test_a_result_that_the_site_sends_by_its_connection_is_told_too(
    service: tuple[FastAPI, httpx.AsyncClient], observer: Observer, central_url: str
) -> None:
    execute(
        central_url,
        "INSERT INTO write_commands (job_id, site_id, point_id, value) VALUES ('sql', 'duxton', %s, 20)",
        [SETPOINT["id"]],
    )
    await until(lambda: heard(observer, f"{COMMAND}/duxton", "sql"), "the queued command")
    execute(
        central_url,
        "INSERT INTO write_results (job_id, site_id, point_id, success, result)"
        " VALUES ('sql', 'duxton', 2, true, '{\"jobId\": \"sql\", \"success\": true}')",
    )
    await until(lambda: heard(observer, RESULT, "sql"), "its result on the fixed topic")


async def test_a_site_answers_for_itself_only(
    service: tuple[FastAPI, httpx.AsyncClient], observer: Observer, central_url: str
) -> None:
    publish(observer, f"{RESULT}/macau", jobId="x", success=True, siteId="duxton")
    publish(observer, f"{RESULT}/macau", jobId="x")
    observer.publish(f"{RESULT}/macau", b"nonsense")
    publish(observer, f"{RESULT}/macau", jobId="y", success=False, siteId="macau")
    await until(lambda: heard(observer, RESULT, "y"), "the proper one")
    assert heard(observer, RESULT, "x") == []
    await until(lambda: execute(central_url, "SELECT site_id FROM write_results") == [("macau",)], "its row")


async def test_sites_metrics_and_health(service: tuple[FastAPI, httpx.AsyncClient], central_url: str) -> None:
    _, http = service
    with psycopg.connect(central_url, autocommit=True) as connection:
        bring_batch(connection, {1: 20.0})
        bring_messages(connection, payload(), b"nonsense")
    duxton, macau = (await http.get("/api/sites")).json()
    assert (duxton["siteId"], duxton["points"], duxton["quarantined"], duxton["gaps"]) == ("duxton", 2, 1, 0)
    assert duxton["lastReading"] == duxton["liveLastReading"] == duxton["completeLastReading"]
    assert duxton["completeLagSeconds"] >= 0
    assert macau["lastReading"] is None
    text = (await http.get("/metrics")).text
    assert 'bacpipes_central_quarantined{rule="not-json",site="duxton"} 1.0' in text
    assert 'bacpipes_central_points{site="duxton"} 2.0' in text
    assert "bacpipes_central_broker_connected 1.0" in text
    assert (await http.get("/readyz")).json() == {"ready": True, "reasons": []}
    assert (await http.get("/healthz")).status_code == 200
    assert {"/api/write", "/api/write/{job_id}", "/api/sites"} <= (await http.get("/openapi.json")).json()[
        "paths"
    ].keys()
