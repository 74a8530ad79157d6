"""The export as a stream: flat memory, a client that leaves, an error in the middle, an end by SIGTERM."""

import asyncio
import collections
import socket
import tracemalloc
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg import sql

from bacpipes.database import query
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.exporter import copy_out, export
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from conftest import make_settings
from exporter_parts import (
    PATIENCE,
    Exporter,
    add_building,
    add_history,
    execute,
    exports_on_server,
    in_process,
    make_token_now,
    wait_for,
)

ROWS = 100_000  # about 13 MB of CSV: far more than the buffers of two sockets
EXPORT = "/api/timeseries/export"


@pytest.fixture(scope="module")
def history_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database with `ROWS` readings of the last minutes; nothing here changes it."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        name = sql.Identifier("export_stream")
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE migrated").format(name))
        add_building(postgres.url("export_stream"))
        add_history(postgres.url("export_stream"), ROWS)
        yield postgres.url("export_stream")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture
def settings(history_url: str, tmp_path: Path) -> Settings:
    execute(history_url, "DELETE FROM api_token")
    return make_settings(history_url, tmp_path)


@pytest.fixture
def headers(settings: Settings) -> dict[str, str]:
    return make_token_now(settings.database_url.get_secret_value(), "reader", Role.VIEWER)


class Client:
    """The ASGI side of a client: counts what comes, keeps none of it."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.bytes = 0
        self.lines = 0
        self.largest = 0
        self.complete = False
        self.began = asyncio.Event()
        self._stalls = stalls

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: MutableMapping[str, Any]) -> None:
        body = message.get("body", b"")
        self.bytes += len(body)
        self.lines += body.count(b"\n")
        self.largest = max(self.largest, len(body))
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        self.began.set()
        if self._stalls and body:
            await asyncio.Event().wait()


def request(parameters: str, headers: dict[str, str]) -> dict[str, Any]:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": EXPORT,
        "raw_path": EXPORT.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": parameters.encode(),
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }


@pytest.mark.parametrize("format_", ["csv", "json"])
async def test_memory_stays_flat_and_rows_travel_in_chunks(
    settings: Settings, headers: dict[str, str], format_: str
) -> None:
    client = Client()
    async with in_process(settings) as (app, http):
        await http.get(f"{EXPORT}?end=2020-01-01", headers=headers)  # what is loaded once is not counted
        tracemalloc.start()
        try:
            await app(request(f"format={format_}", headers), client.receive, client.send)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert client.complete
    assert client.lines == ROWS + 1  # CSV: the header; JSON: the closing bracket's line
    assert client.bytes > 10_000_000
    assert client.largest < export.CHUNK + copy_out.AT_ONCE + 1000
    assert peak < 2_000_000


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_plan_takes_the_order_from_the_index(settings: Settings, analyzed: bool) -> None:
    """Also without statistics: a sort of all rows would hold them all before the first is sent."""
    url = settings.database_url.get_secret_value()
    if analyzed:
        execute(url, "ANALYZE")
    for name in ("export_csv", "export_json"):
        with psycopg.connect(url) as connection, psycopg.ClientCursor(connection) as cursor:
            cursor.execute(query("export_plan"))
            values = {"start": "2020-01-01", "end": "2030-01-01", "point": None, "mark": "mark"}
            cursor.execute(b"EXPLAIN " + _without_comments(query(name)), values)
            plan = "\n".join(row[0] for row in cursor)
        assert "Sort  (" not in plan, plan
        assert "Memoize" in plan or not analyzed, plan


def _without_comments(text: bytes) -> bytes:
    return b"\n".join(line for line in text.splitlines() if not line.startswith(b"--"))


def test_a_client_that_leaves_ends_the_query_on_the_server(
    settings: Settings, history_url: str, headers: dict[str, str]
) -> None:
    with Exporter(settings) as exporter:
        with socket.create_connection(("127.0.0.1", exporter.port)) as client:
            lines = [f"GET {EXPORT} HTTP/1.1", "Host: site", f"Authorization: {headers['Authorization']}", "", ""]
            client.sendall("\r\n".join(lines).encode())
            assert client.recv(100).startswith(b"HTTP/1.1 200")
            assert exports_on_server(history_url) == 1  # it waits for the client to take more
        wait_for(lambda: exports_on_server(history_url) == 0)
        wait_for(lambda: any("client went away" in record["event"] for record in exporter.records()))


def test_an_error_in_the_middle_does_not_look_like_a_complete_file(
    settings: Settings, history_url: str, headers: dict[str, str]
) -> None:
    kill = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'bacpipes exporter export' AND datname = current_database()"
    )
    with Exporter(settings) as exporter, httpx.Client(timeout=PATIENCE) as http:
        with http.stream("GET", exporter.url + EXPORT, headers=headers) as response:
            assert response.status_code == 200
            chunks = response.iter_raw()
            next(chunks)
            assert execute(history_url, kill) == [(True,)]
            with pytest.raises(httpx.RemoteProtocolError):
                collections.deque(chunks, maxlen=0)
        wait_for(lambda: any(record["event"] == "export: broken off" for record in exporter.records()))
        assert http.get(exporter.url + EXPORT, headers=headers, params={"end": "2020-01-01"}).status_code == 200


async def test_a_client_that_stops_reading_is_let_go(
    settings: Settings, history_url: str, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction would keep old partitions from being dropped, and whoever writes behind that."""
    monkeypatch.setattr(export, "STALLED_AFTER", 0.1)
    client = Client(stalls=True)
    async with in_process(settings) as (app, _):
        await asyncio.wait_for(app(request("", headers), client.receive, client.send), PATIENCE)
    assert not client.complete
    assert exports_on_server(history_url) == 0


async def test_no_more_exports_at_once_than_the_site_can_bear(
    settings: Settings, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "AT_ONCE", 1)
    client = Client(stalls=True)
    async with in_process(settings) as (app, http):
        first = asyncio.create_task(app(request("", headers), client.receive, client.send))
        await asyncio.wait_for(client.began.wait(), PATIENCE)
        refused = await http.get(EXPORT, headers=headers)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        allowed = await http.get(f"{EXPORT}?end=2020-01-01", headers=headers)
    assert refused.status_code == 503
    assert "running already" in refused.json()["error"]
    assert "retry-after" in refused.headers
    assert allowed.status_code == 200


def test_sigterm_ends_it_in_under_5_seconds_with_an_export_running(
    settings: Settings, history_url: str, headers: dict[str, str]
) -> None:
    with Exporter(settings) as exporter, socket.create_connection(("127.0.0.1", exporter.port)) as client:
        client.sendall(
            f"GET {EXPORT} HTTP/1.1\r\nHost: x\r\nAuthorization: {headers['Authorization']}\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert exporter.terminate() < 5
        assert exporter.process is not None
        assert exporter.process.returncode == 0
        rest = b""
        while part := client.recv(1 << 20):
            rest = (rest + part)[-16:]
        assert not rest.endswith(b"0\r\n\r\n")  # the last chunk is missing: not a complete file
    wait_for(lambda: exports_on_server(history_url) == 0)
    assert any(record["event"] == "export: broken off" for record in exporter.records())
    assert not any("exception" in record for record in exporter.records())  # a stop is not a failure
