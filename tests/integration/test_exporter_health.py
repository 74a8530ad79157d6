"""Liveness, readiness with reasons, metrics; a database that is away, comes back, or is too new."""

import json
import signal
import socket

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from psycopg.conninfo import make_conninfo
from structlog.testing import capture_logs

from bacpipes import schema
from bacpipes.embedded import EmbeddedPostgres, free_port
from bacpipes.errors import ExitCode
from bacpipes.exporter import health
from bacpipes.exporter.app import create_app
from bacpipes.exporter.reason import Reason
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from conftest import make_settings
from exporter_parts import Exporter, execute, in_process, make_token, wait_for, worker_page

READY = {"/readyz": (200, '{"ready": true, "reasons": []}'), "/metrics": (200, "bacpipes_worker_readings_total 7.0\n")}


def reasons_of(response: httpx.Response) -> dict[str, str]:
    body = response.json()
    assert body["ready"] is (response.status_code == 200)
    return {reason["component"]: reason["reason"] for reason in body["reasons"]}


def with_worker(settings: Settings, port: int) -> Settings:
    return make_settings(settings.database_url.get_secret_value(), settings.state_dir, worker_http_port=port)


async def test_ready_where_database_disk_and_worker_are(settings: Settings) -> None:
    with worker_page(READY) as port:
        async with in_process(with_worker(settings, port)) as (_, http):
            response = await http.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"ready": True, "reasons": []})


async def test_a_worker_that_does_not_answer_is_a_reason(settings: Settings) -> None:
    async with in_process(with_worker(settings, free_port())) as (_, http):
        assert reasons_of(await http.get("/readyz")) == {"worker": "The worker does not answer."}
        assert (await http.get("/healthz")).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (
            (
                503,
                json.dumps({"ready": False, "reasons": [{"component": "mqtt", "reason": "Away.", "remedy": "Wait."}]}),
            ),
            {"worker.mqtt": "Away."},
        ),
        (
            (503, json.dumps({"ready": False, "reasons": [{"component": "worker.x", "reason": "Away."}]})),
            {"worker.x": "Away."},
        ),
        ((503, '{"ready": false, "reasons": []}'), {"worker": "The worker says that it is not ready (HTTP 503)."}),
        ((200, "<html>"), {"worker": "The worker's readiness can't be read (HTTP 200)."}),
    ],
)
async def test_the_workers_reasons_are_told_as_its_own(
    settings: Settings, page: tuple[int, str], expected: dict[str, str]
) -> None:
    with worker_page({"/readyz": page}) as port:
        async with in_process(with_worker(settings, port)) as (_, http):
            assert reasons_of(await http.get("/readyz")) == expected


async def test_a_worker_that_accepts_and_says_nothing_does_not_hold_readiness_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bacpipes.exporter.worker.PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with in_process(with_worker(settings, silent.getsockname()[1])) as (_, http):
            assert reasons_of(await http.get("/readyz")) == {"worker": "The worker does not answer."}


async def test_a_newer_schema_is_said_and_no_data_are_given(settings: Settings, database_url: str) -> None:
    headers = await make_token(database_url, "reader", Role.VIEWER)
    execute(database_url, "UPDATE bacpipes_schema SET version_num = '9999'")
    async with in_process(settings) as (_, http):
        told = reasons_of(await http.get("/readyz"))
        refused = await http.get("/api/points", headers=headers)
        export = await http.get("/api/timeseries/export", headers=headers)
        execute(database_url, "UPDATE bacpipes_schema SET version_num = %s", [schema.head()])
        assert (await http.get("/api/points", headers=headers)).status_code == 200
    assert "newer than this version" in told["schema"]
    assert (refused.status_code, export.status_code) == (503, 503)
    assert "newer than this version" in refused.json()["error"]


async def test_a_database_without_schema_says_migrate(empty_database_url: str, settings: Settings) -> None:
    async with in_process(make_settings(empty_database_url, settings.state_dir)) as (_, http):
        reasons = (await http.get("/readyz")).json()["reasons"]
    assert [r["remedy"] for r in reasons if r["component"] == "schema"] == ["Run `bacpipes migrate`."]


async def test_a_full_disk_is_a_reason(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "LEAST_BYTES", 1 << 60)
    async with in_process(settings) as (_, http):
        assert "are free on the disk" in reasons_of(await http.get("/readyz"))["disk"]


async def test_metrics_are_ours_and_the_workers(settings: Settings, database_url: str) -> None:
    headers = await make_token(database_url, "reader", Role.VIEWER)
    with worker_page(READY) as port:
        async with in_process(with_worker(settings, port)) as (_, http):
            await http.get("/api/timeseries/export", headers=headers)
            await http.get("/api/points")
            await http.get("/no/such/path")
            response = await http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }
    assert all(name.startswith("bacpipes_") for name, *_ in samples)
    assert samples[("bacpipes_worker_up",)] == 1
    assert samples[("bacpipes_worker_readings_total",)] == 7
    requests = "bacpipes_exporter_requests_total"
    ok = (requests, ("method", "GET"), ("route", "/api/timeseries/export"), ("status", "200"))
    assert samples[ok] == 1
    assert samples[(requests, ("method", "GET"), ("route", "/api/points"), ("status", "401"))] == 1
    assert samples[(requests, ("method", "-"), ("route", "unknown"), ("status", "404"))] == 1
    assert samples[("bacpipes_exporter_export_rows_total",)] == 0
    assert samples[("bacpipes_exporter_export_bytes_total",)] > 0
    assert ("bacpipes_exporter_db_connections", ("state", "idle")) in samples


async def test_metrics_say_when_the_worker_is_away(settings: Settings) -> None:
    async with in_process(with_worker(settings, free_port())) as (_, http):
        assert "bacpipes_worker_up 0.0\n" in (await http.get("/metrics")).text


def test_failures_are_logged_when_they_begin_and_when_they_end(settings: Settings) -> None:
    watcher = create_app(settings).state.health
    with capture_logs() as said:
        for reasons in ([Reason("disk", "Full.", "")], [Reason("disk", "Full.", "")], [], []):
            watcher.note(reasons)
    assert [line["event"] for line in said] == ["disk: failed", "disk: recovered"]


def test_it_starts_without_the_database_and_recovers_by_itself(postgres: EmbeddedPostgres, settings: Settings) -> None:
    name = "exporter_recovers"
    later = make_settings(make_conninfo(postgres.url(), dbname=name), settings.state_dir)
    with Exporter(later) as exporter, httpx.Client(base_url=exporter.url, timeout=20) as http:
        assert http.get("/healthz").status_code == 200
        assert name in reasons_of(http.get("/readyz"))["database"]
        headers = {"Authorization": "Bearer bpt_" + "x" * 43}
        assert http.get("/api/points", headers=headers).status_code == 503
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE migrated").format(sql.Identifier(name)))
            try:
                wait_for(lambda: "database" not in reasons_of(http.get("/readyz")))
                wait_for(lambda: http.get("/api/points", headers=headers).status_code == 401)  # it can judge again
            finally:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        events = [record["event"] for record in exporter.records()]
        assert events.count("database: failed") == 1
        assert "database: recovered" in events


def test_a_lost_connection_is_replaced(settings: Settings, database_url: str) -> None:
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    headers = {"Authorization": "Bearer bpt_" + "x" * 43}
    with Exporter(settings) as exporter, httpx.Client(base_url=exporter.url, timeout=20) as http:
        wait_for(lambda: http.get("/api/points", headers=headers).status_code == 401)
        assert execute(database_url, kill)[0][0] >= 1
        assert http.get("/api/points", headers=headers).status_code == 401


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(settings: Settings, number: signal.Signals) -> None:
    with Exporter(settings) as exporter:
        assert exporter.process is not None
        exporter.process.send_signal(number)
        assert exporter.process.wait(5) == 0
        assert exporter.records()[-1]["event"] == "stopped"


def test_a_taken_port_is_said(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Exporter(settings, HTTP_PORT=str(port)) as exporter:
            assert exporter.process is not None
            assert exporter.process.wait(20) == ExitCode.UNAVAILABLE
        text = exporter.log.read_text()
    assert f"Port {port} on 127.0.0.1 is taken" in text
    assert "Traceback" not in text
