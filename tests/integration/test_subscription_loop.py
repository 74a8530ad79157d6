"""`bacpipes central subscribe --all FOLDER --every N`, the process that keeps the subscriptions: sites come, go, and
change their passwords. Both servers are real ones; the sites' asks for a password."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from bacpipes import migrate
from bacpipes.central.app import create_app
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.reading import Batch, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from central_parts import central_settings, register
from conftest import make_settings
from engines import add_point
from exporter_parts import execute
from fault_parts import Process, bacpipes
from live_parts import wait

PASSWORD, ANOTHER = "the first password", "another password"
SITES = ("duxton", "macau")


@pytest.fixture(scope="module")
def site_server() -> Iterator[EmbeddedPostgres]:
    """One server for both sites' databases; whoever comes as their role for central has to say a password."""
    with TemporaryDirectory(prefix="bacpipes-sites-") as directory:
        with EmbeddedPostgres(Path(directory)) as server:
            execute(server.url(), "ALTER SYSTEM SET wal_level = logical")
            execute(server.url(), f"CREATE ROLE bacpipes_replication LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
            (hba,) = execute(server.url(), "SHOW hba_file")[0]
            before = Path(hba).read_text()
            Path(hba).write_text(f"local all bacpipes_replication scram-sha-256\n{before}")
        with EmbeddedPostgres(Path(directory)) as server:
            yield server


@pytest.fixture
def sites(site_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[dict[str, Settings]]:
    """Two sites with a point each, whose logs are published."""
    execute(site_server.url(), f"ALTER ROLE bacpipes_replication PASSWORD '{PASSWORD}'")
    found = {}
    for site in SITES:
        execute(site_server.url(), f"CREATE DATABASE {site}")
        settings = make_settings(site_server.url(site), tmp_path, site_id=site)
        migrate.migrate(settings)
        with psycopg.connect(site_server.url(site), autocommit=True) as connection:
            add_point(connection)
        found[site] = settings
    yield found
    execute(site_server.url(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
    execute(site_server.url(), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    for site in SITES:
        execute(site_server.url(), f"DROP DATABASE {site} WITH (FORCE)")


class Loop(Process):
    """The process, the folder that it reads, and what it says."""

    def __init__(self, folder: Path, central_url: str, server: EmbeddedPostgres) -> None:
        self.addresses, self._server = folder / "addresses", server
        self.addresses.mkdir()
        words = bacpipes("central", "subscribe", "--all", self.addresses, "--every", "1")
        super().__init__(folder, "loop", {"BACPIPES_DATABASE_URL": central_url, "BACPIPES_LOG_FORMAT": "json"}, *words)

    def address(self, site: str, password: str) -> None:
        """How central dials a site, as onboarding leaves it."""
        url = make_conninfo(self._server.url(site), user="bacpipes_replication", password=password)
        (self.addresses / site).write_text(url)

    def said(self, **fields: str) -> list[dict[str, Any]]:
        """Its records that have these fields, or fields that begin so."""
        records = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [one for one in records if all(str(one.get(key, "")).startswith(text) for key, text in fields.items())]


@pytest.fixture
def loop(tmp_path: Path, central_url: str, site_server: EmbeddedPostgres, sites: dict[str, Settings]) -> Iterator[Loop]:
    """It runs; central knows both sites, and takes nobody's log as yet. Its subscriptions go with it."""
    for settings in sites.values():
        run_at(settings, "central", "publish", tmp_path)
    with psycopg.connect(central_url, autocommit=True) as connection:
        register(connection, "macau")
    with Loop(tmp_path, central_url, site_server) as loop:
        yield loop
    for (name,) in execute(central_url, "SELECT subname FROM pg_subscription"):
        for statement in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                          "DROP SUBSCRIPTION {}"):  # fmt: skip
            execute(central_url, statement.format(name))


def run_at(settings: Settings, *words: object) -> None:
    """A command at a site."""
    *command, folder = words
    own = {"BACPIPES_SITE_ID": settings.site_id, "BACPIPES_DATABASE_URL": settings.database_url.get_secret_value()}
    with Process(Path(str(folder)), f"at-{settings.site_id}", own, *bacpipes(*command)) as process:
        assert process.process.wait(30) == 0, process.log()


def commit(settings: Settings, value: float) -> None:
    """A reading of now."""

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(
            settings.database_url.get_secret_value(), autocommit=True
        ) as site:
            (now,) = await (await site.execute("SELECT (extract(epoch FROM now()) * 1000)::bigint")).fetchone() or (0,)
            await log_store.commit(site, settings.site_id, [Batch(60, now // 60000, 5, [Reading(1, now, value)])])

    asyncio.run(main())


def values(central_url: str, site: str) -> list[float]:
    return [row[0] for row in execute(central_url, "SELECT value FROM sensor_readings WHERE site_id = %s", [site])]


def replicate(central_url: str, *sites: str) -> None:
    """These sites' lane is replication from now on, and nobody else's."""
    lane = "UPDATE site SET complete_lane = CASE WHEN id = ANY (%s) THEN 'replication' ELSE 'none' END"
    execute(central_url, lane, [list(sites)])


def test_sites_come_and_go(loop: Loop, sites: dict[str, Settings], central_url: str) -> None:
    loop.address("duxton", PASSWORD)
    replicate(central_url, "duxton")
    wait(lambda: loop.said(site="duxton", action="made; "), "the first site is followed")
    replicate(central_url, *SITES)
    wait(lambda: loop.said(reason=str(loop.addresses / "macau")), "the missing file is named")
    loop.address("macau", PASSWORD)
    wait(lambda: loop.said(site="macau", action="made; "), "the second one is followed too")
    wait(lambda: loop.said(event="subscription to macau: recovered"), "and that is said")
    for site, value in zip(SITES, (1.0, 2.0), strict=True):
        commit(sites[site], value)
    wait(lambda: [values(central_url, site) for site in SITES] == [[1.0], [2.0]], "both sites' readings are there")
    replicate(central_url, "macau")
    wait(lambda: loop.said(site="duxton", action="dropped"), "the first one is let go")
    assert execute(central_url, "SELECT subname FROM pg_subscription") == [("site_macau",)]
    commit(sites["macau"], 3.0)
    wait(lambda: values(central_url, "macau") == [2.0, 3.0], "the other one goes on")
    loop.signal(signal.SIGTERM)
    assert loop.process.wait(5) == 0


def test_a_file_that_is_gone_ends_nothing(loop: Loop, sites: dict[str, Settings], central_url: str) -> None:
    loop.address("duxton", PASSWORD)
    replicate(central_url, "duxton")
    wait(lambda: loop.said(site="duxton", action="made; "), "the site is followed")
    (loop.addresses / "duxton").unlink()
    wait(lambda: loop.said(event="subscription to duxton: failed"), "it is said")
    commit(sites["duxton"], 1.0)
    wait(lambda: values(central_url, "duxton") == [1.0], "and readings come all the same")


async def test_a_wrong_password_is_named_once_and_holds_up_no_other(
    loop: Loop, sites: dict[str, Settings], central_url: str, site_server: EmbeddedPostgres
) -> None:
    def act() -> None:
        for site in SITES:
            loop.address(site, PASSWORD)
        replicate(central_url, *SITES)
        wait(lambda: loop.said(action="made; ", site="duxton") and loop.said(action="made; ", site="macau"), "both")
        execute(site_server.url(), f"ALTER ROLE bacpipes_replication PASSWORD '{ANOTHER}'")
        gone = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = 'duxton'"
        execute(site_server.url(), gone)
        wait(lambda: loop.said(event="subscription to duxton: failed"), "the refusal is told", 60)
        assert "password authentication failed" in loop.said(event="subscription to duxton: failed")[0]["reason"]
        commit(sites["macau"], 2.0)
        wait(lambda: values(central_url, "macau") == [2.0], "the other site's readings come")
        commit(sites["duxton"], 1.0)

    await asyncio.to_thread(act)
    metrics = await metrics_of(central_url)
    assert metrics['bacpipes_central_subscription_working{site="macau"}'] == 1
    assert metrics['bacpipes_central_subscription_working{site="duxton"}'] == 0
    assert values(central_url, "duxton") == []
    loop.address("duxton", ANOTHER)
    await asyncio.to_thread(wait, lambda: values(central_url, "duxton") == [1.0], "with the new one it goes on", 60)
    await asyncio.to_thread(wait, lambda: loop.said(event="subscription to duxton: recovered"), "and says so")
    assert len(loop.said(event="subscription to duxton: failed")) == 1, "said once, not at each try"
    assert not [secret for secret in (PASSWORD, ANOTHER) if secret in loop.log()]


async def metrics_of(central_url: str) -> dict[str, float]:
    """Central's own page."""
    app = create_app(central_settings(central_url))
    transport = httpx.ASGITransport(app, client=("127.0.0.1", 50000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://central") as http,
    ):
        text = (await http.get("/metrics")).text
    return {name: float(value) for name, value in (line.split() for line in text.splitlines() if line[0] != "#")}
