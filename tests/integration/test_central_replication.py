"""The complete lane by logical replication, between two real servers."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from bacpipes import migrate
from bacpipes.central import migrate as central_migrate
from bacpipes.central import replication, subscriptions
from bacpipes.database import Connection, connect, query
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.errors import BacpipesError
from bacpipes.page import lanes
from bacpipes.reading import Batch, Gap, Reading, to_datetime
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from central_parts import central_settings
from conftest import make_settings
from engines import add_point
from exporter_parts import execute
from mqtt_parts import until


@pytest.fixture(scope="module")
def site_server() -> Iterator[EmbeddedPostgres]:
    """A server of its own, whose log can be followed."""
    with TemporaryDirectory(prefix="bacpipes-site-") as directory:
        with EmbeddedPostgres(Path(directory)) as server:
            for setting in ("wal_level = logical", "max_slot_wal_keep_size = '1MB'", "min_wal_size = '32MB'",
                            "max_wal_size = '32MB'"):  # fmt: skip
                execute(server.url(), f"ALTER SYSTEM SET {setting}")
        with EmbeddedPostgres(Path(directory)) as server:
            yield server


@pytest.fixture
def settings(site_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[Settings]:
    """A site on that server, with one point; its slot goes with it."""
    name = f"site_{time.monotonic_ns()}"
    execute(site_server.url(), f"CREATE DATABASE {name}")
    settings = make_settings(site_server.url(name), tmp_path)
    migrate.migrate(settings)
    with psycopg.connect(site_server.url(name), autocommit=True) as connection:
        add_point(connection)
    yield settings
    slots = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
    execute(site_server.url(name), slots)
    execute(site_server.url(name), "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    execute(site_server.url(), f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def both(settings: Settings, central_url: str) -> AsyncIterator[tuple[Connection, Connection]]:
    """Connections to the site, which publishes, and to central; the subscription ends with the test."""
    async with (
        await connect(settings, "test") as site,
        await connect(central_settings(central_url), "test") as central,
    ):
        await replication.publish(site, "duxton")
        yield site, central
        await replication.drop(central, "duxton")


def now() -> int:
    return time.time_ns() // 1_000_000


async def commit(site: Connection, *values: float, site_id: str = "duxton") -> None:
    start = now() - 1000 * len(values)
    batch = Batch(60, 1, 5, [Reading(1, start + n * 1000, value) for n, value in enumerate(values)])
    await log_store.commit(site, site_id, [batch])


async def values_at(url: str, expected: list[float]) -> None:
    found = "SELECT value FROM sensor_readings ORDER BY value"
    await until(lambda: [row[0] for row in execute(url, found)] == expected, f"{expected} at central", 30)


async def test_the_log_comes_by_replication_and_trimming_does_not_matter(
    settings: Settings, both: tuple[Connection, Connection], central_url: str
) -> None:
    site, central = both
    url = settings.database_url.get_secret_value()
    assert await replication.subscribe(site, central, "duxton", url) == replication.Subscribed("made", hole=True)
    assert execute(central_url, "SELECT haystack_name FROM point") == [("duxton.ahu.1.sensor.temp.air.supply.actual",)]
    await commit(site, 1.0, 2.0)
    await log_store.insert_gap(site, "duxton", Gap((1,), to_datetime(now() - 1000), to_datetime(now()), "test"))
    await site.execute(
        "INSERT INTO write_results (job_id, site_id, success, result) VALUES ('j', 'duxton', true, '{}')"
    )
    await values_at(central_url, [1.0, 2.0])
    await site.execute("DELETE FROM reading_batch")
    await site.execute("UPDATE point SET dis = 'another'")
    await site.execute("SELECT log_metadata('duxton')")
    await commit(site, 3.0)
    await values_at(central_url, [1.0, 2.0, 3.0])
    assert execute(central_url, "SELECT dis FROM point") == [("another",)]
    assert execute(central_url, "SELECT reason FROM gap") == [("test",)]
    assert execute(central_url, "SELECT job_id FROM write_results") == [("j",)]
    assert execute(central_url, "SELECT count(*) FROM reading_batch") == [(0,)]
    assert await replication.subscribe(site, central, "duxton", url) == replication.Subscribed("there", hole=True)
    await replication.filled(central, "duxton", url)
    assert await replication.subscribe(site, central, "duxton", url) == replication.Subscribed("there", hole=False)


async def test_heads_of_the_audit_come_by_replication(
    settings: Settings, both: tuple[Connection, Connection], central_url: str
) -> None:
    site, central = both
    await replication.subscribe(site, central, "duxton", settings.database_url.get_secret_value())
    note = "INSERT INTO audit (actor, action) VALUES ('a', 'b')"
    found = "SELECT id, contradiction FROM site_audit ORDER BY received_at"
    await site.execute(note)
    await site.execute(note)
    await until(lambda: execute(central_url, found) == [(1, None), (2, None)], "both heads", 30)
    await site.execute("ALTER TABLE audit DISABLE TRIGGER audit_is_append_only")
    await site.execute("UPDATE audit SET hash = sha256('x') WHERE id = 2")
    await site.execute(note)
    told = "record 2 has another hash than before"
    await until(lambda: execute(central_url, found)[2:] == [(3, told)], "the contradiction", 30)
    assert execute(settings.database_url.get_secret_value(), "SELECT count(*) FROM site_audit") == [(1,)]


async def test_a_lost_slot_is_made_anew(
    settings: Settings, both: tuple[Connection, Connection], central_url: str
) -> None:
    site, central = both
    url = settings.database_url.get_secret_value()
    await replication.subscribe(site, central, "duxton", url)
    await commit(site, 1.0)
    await values_at(central_url, [1.0])
    assert await told_by_the_dashboard(site) == ("replicating", [])
    await central.execute('ALTER SUBSCRIPTION "site_duxton" DISABLE')
    await commit(site, 2.0)
    for _ in range(20):  # more WAL than the bound allows
        await site.execute("SELECT pg_logical_emit_message(false, 'test', repeat('x', 8000000))")
        await site.execute("SELECT pg_switch_wal()")
    await site.execute("CHECKPOINT")
    assert execute(url, "SELECT wal_status FROM pg_replication_slots") == [("lost",)]
    given_up = (
        "Central does not fetch this site's log: its slot site_duxton is given up (central fills in from history)."
    )
    assert await told_by_the_dashboard(site) == ("not replicating", [given_up])
    assert await replication.subscribe(site, central, "duxton", url) == replication.Subscribed("made", hole=True)
    await commit(site, 3.0)
    await values_at(central_url, [1.0, 3.0])  # the comparison brings what lies in between


async def told_by_the_dashboard(site: Connection) -> tuple[str, list[str]]:
    """The tile of central and its findings, from the server's own slots."""
    worker = {"central": {"ships": False, "reason": None, "waiting": None, "oldest": None}}
    async with site.cursor(row_factory=dict_row) as cursor:
        slots = await (await cursor.execute(query("page_replication"))).fetchall()
    return lanes.central_tile(worker, slots).value, [one.text for one in lanes.central_findings(worker, slots)]


async def kept(central_url: str, **urls: str) -> list[tuple[str, str]]:
    """What `central subscribe --all` does: site, action."""
    outcomes = await subscriptions.keep_all(central_settings(central_url), urls.__getitem__)
    return [(outcome.site, outcome.action) for outcome in outcomes]


def working(central_url: str) -> int:
    """The process that applies what comes; waits for it."""
    found = "SELECT pid FROM pg_stat_subscription WHERE subname = 'site_duxton' AND pid IS NOT NULL"
    deadline = time.monotonic() + 30
    while not (rows := execute(central_url, found)):
        assert time.monotonic() < deadline, "nobody applies"
        time.sleep(0.05)
    return int(rows[0][0])


async def test_subscriptions_are_kept_as_they_should_be(
    settings: Settings, both: tuple[Connection, Connection], central_url: str
) -> None:
    site, central = both
    url = settings.database_url.get_secret_value()
    assert await kept(central_url, duxton=url) == [], "its lane is ship"
    execute(central_url, "UPDATE site SET complete_lane = 'replication'")
    start = now() - 7_200_000
    await log_store.commit(site, "duxton", [Batch(60, 1, 5, [Reading(1, start, 7.0)])])
    assert await kept(central_url, duxton=url) == [("duxton", "made; 1 readings sent from history")]
    process = working(central_url)
    for _ in range(2):
        assert await kept(central_url, duxton=url) == [("duxton", "there")]
    assert working(central_url) == process, "nothing was started anew"
    await central.execute('ALTER SUBSCRIPTION "site_duxton" DISABLE')  # as an error does
    assert await kept(central_url, duxton=url) == [("duxton", "enabled again")]
    assert working(central_url) != process
    assert await kept(central_url, duxton=make_conninfo(url, application_name="x")) == [("duxton", "there")]
    execute(central_url, "UPDATE site SET complete_lane = 'none'")
    assert await kept(central_url) == [("duxton", "dropped: its lane is not replication")]
    assert await kept(central_url) == []


async def test_a_fill_that_broke_off_goes_on_and_one_site_holds_up_no_other(
    settings: Settings, both: tuple[Connection, Connection], central_url: str
) -> None:
    site, central = both
    url = settings.database_url.get_secret_value()
    await replication.subscribe(site, central, "duxton", url)  # whoever did so went away before the comparison
    await log_store.commit(site, "duxton", [Batch(60, 1, 5, [Reading(1, now() - 7_200_000, 7.0)])])
    await values_at(central_url, [7.0])
    execute(central_url, "DELETE FROM reading")
    execute(central_url, "UPDATE site SET complete_lane = 'replication'")
    execute(central_url, "INSERT INTO site (id, complete_lane) VALUES ('away', 'replication')")
    dead = "host=127.0.0.1 port=1 dbname=x"
    outcomes = await kept(central_url, duxton=url, away=dead)
    assert outcomes[1] == ("duxton", "there; 1 readings sent from history")
    assert outcomes[0][0] == "away"
    assert "refused" in outcomes[0][1]


async def test_rows_of_another_site_stop_the_subscription(
    settings: Settings, both: tuple[Connection, Connection], central_url: str
) -> None:
    site, central = both
    execute(central_url, "INSERT INTO site (id) VALUES ('macau')")
    await replication.subscribe(site, central, "duxton", settings.database_url.get_secret_value())
    await commit(site, 1.0, site_id="macau")
    await until(
        lambda: execute(central_url, "SELECT subenabled FROM pg_subscription") == [(False,)], "it is disabled", 30
    )
    assert execute(central_url, "SELECT * FROM reading") == []


async def test_a_site_that_publishes_nothing_is_told_so(settings: Settings, central_url: str) -> None:
    async with (
        await connect(settings, "test") as site,
        await connect(central_settings(central_url), "test") as central,
    ):
        with pytest.raises(BacpipesError, match="bacpipes central publish"):
            await replication.subscribe(site, central, "duxton", "dbname=x")
        with pytest.raises(BacpipesError, match="Central has no site 'nowhere'"):
            await replication.subscribe(site, central, "nowhere", "dbname=x")


@pytest.fixture
def least(
    site_server: EmbeddedPostgres, settings: Settings, postgres: EmbeddedPostgres, central_template: str
) -> Iterator[tuple[str, str]]:
    """The site as its role for central reaches it, and central as the owner of the subscriptions does; both servers ask
    these roles for a password, and nobody in it is a superuser."""
    site, central = settings.database_url.get_secret_value(), f"least_{time.monotonic_ns()}"
    execute(site_server.url(), "CREATE ROLE bacpipes_replication LOGIN REPLICATION PASSWORD 'x'")
    (hba,) = execute(site_server.url(), "SHOW hba_file")[0]
    before = Path(hba).read_text()
    Path(hba).write_text(f"local all bacpipes_replication scram-sha-256\n{before}")
    execute(site_server.url(), "SELECT pg_reload_conf()")
    migrate.migrate(settings)  # the grants
    execute(postgres.url(), "CREATE ROLE least_owner LOGIN")
    execute(postgres.url(), f"CREATE DATABASE {central} OWNER least_owner")
    central_migrate.migrate(central_settings(make_conninfo(postgres.url(central), user="least_owner")))
    execute(postgres.url(), "ALTER ROLE central_replication LOGIN")
    execute(postgres.url(), "GRANT least_owner, pg_create_subscription TO central_replication")
    execute(postgres.url(central), f"GRANT CREATE ON DATABASE {central} TO central_replication")
    yield make_conninfo(site, user="bacpipes_replication", password="x"), postgres.url(central)
    execute(postgres.url(central), "ALTER SUBSCRIPTION site_duxton DISABLE")
    execute(postgres.url(central), "ALTER SUBSCRIPTION site_duxton SET (slot_name = NONE)")
    execute(postgres.url(central), "DROP SUBSCRIPTION site_duxton")
    execute(postgres.url(), f"DROP DATABASE {central} WITH (FORCE)")
    execute(postgres.url(), "ALTER ROLE central_replication NOLOGIN")
    execute(postgres.url(), "REVOKE pg_create_subscription FROM central_replication")
    execute(postgres.url(), "DROP ROLE least_owner")
    execute(site, "DROP OWNED BY bacpipes_replication")
    execute(site_server.url(), "DROP ROLE bacpipes_replication")
    Path(hba).write_text(before)
    execute(site_server.url(), "SELECT pg_reload_conf()")


async def test_it_works_with_the_least_rights(settings: Settings, least: tuple[str, str]) -> None:
    site_url, central_url = least
    async with await connect(settings, "test") as site:
        await replication.publish(site, "duxton")
        await log_store.commit(site, "duxton", [Batch(60, 1, 5, [Reading(1, now() - 7_200_000, 7.0)])])
        execute(central_url, "INSERT INTO site (id, complete_lane) VALUES ('duxton', 'replication')")
        own = make_conninfo(central_url, user="central_replication")
        assert await kept(own, duxton=site_url) == [("duxton", "made; 1 readings sent from history")]
        await commit(site, 4.0)
        await site.execute("INSERT INTO audit (actor, action) VALUES ('a', 'b')")
        await values_at(central_url, [4.0, 7.0])
        heads = "SELECT id FROM site_audit"
        await until(lambda: execute(central_url, heads) == [(1,)], "the audit's head", 30)
        execute(central_url, "ALTER SUBSCRIPTION site_duxton DISABLE")
        assert await kept(own, duxton=site_url) == [("duxton", "enabled again")]
        execute(central_url, "INSERT INTO site (id) VALUES ('macau')")
        await commit(site, 5.0, site_id="macau")
        enabled = "SELECT subenabled FROM pg_subscription WHERE subname = 'site_duxton'"
        await until(lambda: execute(central_url, enabled) == [(False,)], "another site's rows are refused", 30)
    for statement in ("DELETE FROM reading_batch", "UPDATE point SET dis = 'x'", "SELECT detail FROM audit"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(site_url, statement)
