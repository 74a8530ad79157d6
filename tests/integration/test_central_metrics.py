"""Central's own metrics: each one follows what is in the database, goes with its site, and is documented."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from bacpipes.central import sites
from bacpipes.central.app import create_app
from bacpipes.embedded import EmbeddedPostgres
from central_parts import ago, bring_batch, bring_messages, bring_metadata, central_settings, payload, register
from exporter_parts import execute

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "central.md"
PREFIX = "bacpipes_central_"


@pytest.fixture
async def service(central_url: str, tmp_path: Path) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The service, without a broker, and a client on its machine; it knows a site beside the usual one."""
    with psycopg.connect(central_url, autocommit=True) as connection:
        bring_metadata(connection)
        register(connection, "macau", lane="replication")
    app = create_app(central_settings(central_url, tmp_path))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://central") as http,
    ):
        yield app, http


async def samples(http: httpx.AsyncClient) -> dict[str, float]:
    """Name with labels → value, of what is central's own."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if line.startswith(PREFIX)]
    return {name.removeprefix(PREFIX): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def of_site(found: dict[str, float], site: str) -> dict[str, float]:
    """One site's, by name alone."""
    return {name.split("{")[0]: value for name, value in found.items() if f'site="{site}"' in name}


async def test_a_site_that_never_brought_anything(service: tuple[FastAPI, httpx.AsyncClient]) -> None:
    """What is not known has no sample: a zero would be a lie."""
    found = of_site(await samples(service[1]), "macau")
    assert found == {
        "points": 0, "gaps": 0, "commands_pending": 0, "audit_contradictions": 0, "subscription_working": 0,
    }  # fmt: skip


async def test_each_one_follows_what_is_so(service: tuple[FastAPI, httpx.AsyncClient], central_url: str) -> None:
    seen = datetime.now(UTC)
    live, complete = (seen.replace(microsecond=0) - timedelta(seconds=seconds) for seconds in (50, 200))
    with psycopg.connect(central_url, autocommit=True) as connection:
        bring_batch(connection, {1: 20.0}, complete)
        bring_messages(connection, payload(timestamp=f"{live:%Y-%m-%dT%H:%M:%S}Z"), b"no JSON", b"no JSON either")
        bring_messages(connection, payload(timestamp="2999-01-01T00:00:00Z"))
    for number in (1, 2, 3):
        gap = "INSERT INTO gap (site_id, point_ids, since, until, reason) VALUES ('duxton', '{1}', %s, now(), 'test')"
        execute(central_url, gap, [ago(hours=number)])
    command = (
        "INSERT INTO write_commands (job_id, site_id, point_id, value, expires_at) VALUES (%s, 'duxton', 2, 1, %s)"
    )
    execute(central_url, command, ["open", seen + timedelta(hours=1)])
    execute(central_url, command, ["expired", seen - timedelta(hours=1)])
    report = "SELECT report_reconciliation('duxton', now() - interval '1 day', now(), 100, 90, %s, 10, %s)"
    execute(central_url, report, [9, 8])
    execute(central_url, report, [3, 1])
    head = "INSERT INTO site_audit (site_id, id, hash) VALUES ('duxton', 9, %s)"
    execute(central_url, head, [b"a"])
    execute(central_url, head, [b"b"])
    every = await samples(service[1])
    found = of_site(every, "duxton")
    for moment in ("live_seen", "complete_seen", "compared", "audit_seen"):
        assert 0 <= found.pop(f"{moment}_timestamp_seconds") - seen.timestamp() < 60, moment
    assert 50 <= found.pop("live_lag_seconds") < 110
    assert 200 <= found.pop("complete_lag_seconds") < 260
    assert found.pop("last_reading_timestamp_seconds") == live.timestamp()
    assert found == {
        "points": 2, "gaps": 3, "commands_pending": 1, "audit_contradictions": 1, "missing_hours": 3,
        "differing_hours": 1, "subscription_working": 0, "quarantined": found["quarantined"],
    }  # fmt: skip
    counted = {name: value for name, value in every.items() if name.startswith("quarantined")}
    assert counted == {
        'quarantined{rule="not-json",site="duxton"}': 2,
        'quarantined{rule="future",site="duxton"}': 1,
    }


async def test_what_is_gone_goes(service: tuple[FastAPI, httpx.AsyncClient], central_url: str) -> None:
    with psycopg.connect(central_url, autocommit=True) as connection:
        bring_messages(connection, b"no JSON")
    assert {"macau", "duxton"} <= set(re.findall('site="(.*?)"', " ".join(await samples(service[1]))))
    execute(central_url, "DELETE FROM site WHERE id = 'macau'")
    execute(central_url, "DELETE FROM quarantine")
    found = await samples(service[1])
    assert of_site(found, "macau") == {}
    assert not [name for name in found if name.startswith("quarantined")]


async def test_without_the_database_the_service_tells_of_itself_alone(
    service: tuple[FastAPI, httpx.AsyncClient], central_url: str, postgres: EmbeddedPostgres
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(central_url)["dbname"]
    execute(postgres.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    execute(postgres.url(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
    try:
        assert set(await samples(service[1])) == {"broker_connected"}
    finally:
        execute(postgres.url(), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_every_metric_is_documented(service: tuple[FastAPI, httpx.AsyncClient]) -> None:
    exposed = set(re.findall(rf"^# TYPE ({PREFIX}\w+)", (await service[1].get("/metrics")).text, re.MULTILINE))
    exposed = {name for name in exposed if not name.endswith("_created")}
    assert len(exposed) >= len(sites.SECONDS | sites.NUMBERS)
    told = set(re.findall(rf"`({PREFIX}\w+)`", DOCUMENTATION.read_text()))
    assert exposed == told
