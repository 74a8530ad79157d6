"""Who may do what: every route, with and without tokens."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import psycopg
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from bacpipes import tokens
from bacpipes.exporter.app import create_app
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from conftest import make_settings
from exporter_parts import Exporter, add_building, execute, in_process, make_token, make_token_now, wait_for

AWAY = "203.0.113.9"  # a client elsewhere
OPEN_HERE = {"/metrics", "/healthz", "/readyz"}


def leaves(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """The routes themselves, also where FastAPI keeps them inside the routers that were included."""
    for route in routes:
        if inner := getattr(route, "original_router", None):
            yield from leaves(inner.routes)
        else:
            assert isinstance(route, APIRoute)  # anything else would need a guard of its own
            yield route


def routes(settings: Settings) -> list[tuple[str, str]]:
    found = [
        (method, route.path) for route in leaves(create_app(settings).routes) for method in sorted(route.methods or ())
    ]
    known = {"/api/timeseries/export", "/api/points", "/api/devices", "/api/dashboard/summary", "/api/bacnet/write"}
    assert known | OPEN_HERE | {"/openapi.json"} <= {path for _, path in found}
    return found


async def test_every_route_needs_a_token(settings: Settings) -> None:
    async with in_process(settings) as (_, http):
        for method, path in routes(settings):
            response = await http.request(method, path)
            if path in OPEN_HERE:
                assert response.status_code in (200, 503), path
            else:
                assert response.status_code == 401, path
                assert response.headers["www-authenticate"].startswith("Bearer"), path
                assert "bacpipes token create" in response.json()["remedy"]


async def test_a_client_elsewhere_needs_a_token_for_probes_and_metrics_too(settings: Settings) -> None:
    headers = await make_token(settings.database_url.get_secret_value(), "prometheus", Role.VIEWER)
    async with in_process(settings, client=AWAY) as (_, http):
        for path in OPEN_HERE:
            assert (await http.get(path)).status_code == 401, path
            assert (await http.get(path, headers=headers)).status_code in (200, 503), path


async def test_a_proxy_on_this_machine_does_not_open_them(settings: Settings) -> None:
    async with in_process(settings) as (_, http):
        assert (await http.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"})).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        *("", "Bearer", "Bearer ", "Basic YTpi", "Bearer bpt_unknown", "Bearer x' OR '1'='1"),
        *("Bearer bpt_" + "x" * 5000, "Bearer bpt_\xe4"),
    ],
)
async def test_what_is_no_token_is_refused(settings: Settings, header: str) -> None:
    async with in_process(settings) as (_, http):
        response = await http.get("/api/points", headers={b"Authorization": header.encode("latin-1")})
    assert response.status_code == 401


async def test_a_role_allows_what_those_below_it_may_and_no_more(settings: Settings, database_url: str) -> None:
    async with in_process(settings) as (_, http):
        for role, write in ((Role.VIEWER, 403), (Role.OPERATOR, 400), (Role.ADMIN, 400)):
            headers = await make_token(database_url, role.text, role)
            assert (await http.get("/api/points", headers=headers)).status_code == 200
            response = await http.post("/api/bacnet/write", headers=headers, content=b"no command")
            assert response.status_code == write
            if write == 403:
                assert response.json()["role"] == "operator"
                assert "operator" in response.json()["error"]


async def test_a_token_ends_when_it_expires_and_at_once_when_it_is_revoked(
    settings: Settings, database_url: str
) -> None:
    async with in_process(settings) as (_, http):
        ends = {
            "old": "UPDATE api_token SET expires_at = now() WHERE name = 'old'",
            "gone": "UPDATE api_token SET revoked_at = now() WHERE name = 'gone'",
        }
        for name, statement in ends.items():
            headers = await make_token(database_url, name, Role.ADMIN)
            assert (await http.get("/api/points", headers=headers)).status_code == 200
            execute(database_url, statement)
            assert (await http.get("/api/points", headers=headers)).status_code == 401


async def test_without_the_database_nobody_is_let_in(settings: Settings) -> None:
    away = make_settings("postgresql://nobody:s3cret@127.0.0.1:1/none", settings.state_dir)
    async with in_process(away) as (_, http):
        response = await http.get("/api/points", headers={"Authorization": "Bearer " + tokens.new_secret()})
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "s3cret" not in response.text


async def test_the_description_of_the_api_is_for_those_with_a_token(settings: Settings, database_url: str) -> None:
    headers = await make_token(database_url, "reader", Role.VIEWER)
    async with in_process(settings) as (_, http):
        for path in ("/docs", "/redoc"):
            assert (await http.get(path, headers=headers)).status_code == 404
        description = (await http.get("/openapi.json", headers=headers)).json()
    names = {one["name"] for one in description["paths"]["/api/timeseries/export"]["get"]["parameters"]}
    assert names == {"start", "end", "haystackName", "format"}


async def test_an_unknown_path_or_method_is_answered_in_json(settings: Settings) -> None:
    async with in_process(settings) as (_, http):
        missing, wrong = await http.get("/api/nothing"), await http.delete("/api/points")
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert missing.json().keys() == wrong.json().keys() == {"error"}


def test_the_log_names_the_token_and_never_holds_it(settings: Settings, database_url: str) -> None:
    add_building(database_url)
    headers = make_token_now(database_url, "reader", Role.VIEWER)
    secret = headers["Authorization"].removeprefix("Bearer ")
    with Exporter(settings) as exporter:
        assert httpx.get(f"{exporter.url}/api/points", headers=headers).status_code == 200
        assert httpx.get(f"{exporter.url}/api/points?token={secret}").status_code == 401
        wait_for(lambda: len([record for record in exporter.records() if record["event"] == "request"]) >= 2)
        entries = [record for record in exporter.records() if record.get("path") == "/api/points"]
    assert [(entry["status"], entry["token"]) for entry in entries] == [("200", "reader"), ("401", None)]
    assert secret not in exporter.log.read_text()


async def test_times_of_expiry_are_kept(settings: Settings, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        await tokens.create(connection, "short", Role.VIEWER, 7, "test")
        (token,) = await tokens.everyone(connection)
    assert token.expires_at is not None
    assert abs(token.expires_at - datetime.now(UTC) - timedelta(days=7)) < timedelta(minutes=1)
