"""The complete lane by the shipper, and the comparison of both sides, between two real databases."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from bacpipes import audit
from bacpipes.central import link, registry
from bacpipes.central import shipping as steps
from bacpipes.central.reconcile import Report, reconcile, send_unsettled
from bacpipes.database import connect
from bacpipes.errors import SettingsError
from bacpipes.metrics import WorkerMetrics
from bacpipes.reading import Batch, Gap, Quality, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from bacpipes.worker.shipper import Shipper
from central_parts import SAT, bring_metadata, rows, site_url
from engines import add_point
from exporter_parts import execute
from mqtt_parts import until

ALL = "SELECT time, point_id, value, quality, reason, poll_duration, poll_cycle FROM reading ORDER BY time, point_id"
VALUES = [21.299999237060547, 0.1, -0.0, 1e300, 5e-324, 0.0, 3.4028234663852886e38, 65.25, None]


@pytest.fixture
def linked(settings: Settings, central_url: str) -> Settings:
    """The site's settings, with its own role's way to central; the site has one point."""
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        add_point(connection)
    return Settings(**settings.model_dump() | {"central_database_url": site_url(central_url, "duxton")})


async def commit(settings: Settings, *values: float | None, age: float = 60, point: int = 1) -> None:
    """One poll of a point for each value, a second apart, the first ``age`` seconds ago."""
    start = int((time.time() - age) * 1000)
    batches = []
    for number, value in enumerate(values):
        quality = Quality.BAD if value is None else Quality.GOOD
        reading = Reading(point, start + number * 1000, value, quality, "timeout" if value is None else None)
        batches.append(Batch(60, start // 60000 + number, 12, [reading]))
    async with await connect(settings, "test") as connection:
        await log_store.commit(connection, settings.site_id, batches)


@asynccontextmanager
async def shipping(settings: Settings) -> AsyncIterator[Shipper]:
    """A shipper that runs for as long as the block."""
    shipper, stop = Shipper(settings, WorkerMetrics()), asyncio.Event()
    running = asyncio.create_task(shipper.run(stop))
    try:
        yield shipper
    finally:
        stop.set()
        await running


def site_rows(settings: Settings) -> list[tuple[Any, ...]]:
    return execute(settings.database_url.get_secret_value(), ALL)


async def same(settings: Settings, central_url: str) -> None:
    """Wait until central has the site's rows, all columns to the last bit."""
    ours = site_rows(settings)
    await until(lambda: len(execute(central_url, ALL)) >= len(ours), "all rows at central")
    assert list(map(repr, execute(central_url, ALL))) == list(map(repr, ours))


async def test_everything_of_a_site_comes_to_central(linked: Settings, central_url: str) -> None:
    await commit(linked, *VALUES)
    gap = Gap((1,), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), "test")
    async with shipping(linked) as shipper:
        await same(linked, central_url)
        await commit(linked, 1.5, age=10)
        async with await connect(linked, "test") as connection:
            await log_store.insert_gap(connection, "duxton", gap)
            await connection.execute(
                "INSERT INTO write_results (job_id, site_id, success, result) VALUES ('j', 'duxton', true, '{\"b\":1}')"
            )
            await connection.execute("UPDATE point SET dis = 'another name'")
        shipper.metadata_changed()
        await same(linked, central_url)
        await until(lambda: execute(central_url, "SELECT result FROM write_results") == [({"b": 1},)], "the result")
        await until(lambda: execute(central_url, "SELECT dis FROM point") == [("another name",)], "the metadata")
    assert execute(central_url, "SELECT point_ids, reason FROM gap") == [([1], "test")]
    assert execute(central_url, "SELECT count(*) FROM sensor_readings WHERE haystack_name IS NOT NULL") == [(10,)]


async def test_what_central_lost_meanwhile_comes_again_and_is_stored_once(linked: Settings, central_url: str) -> None:
    async with shipping(linked) as shipper:
        await commit(linked, 1.0, 2.0)
        await same(linked, central_url)
        execute(central_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'site_duxton'")
        await commit(linked, 3.0, age=20)
        await same(linked, central_url)
        await until(lambda: shipper.reason is None, "recovered")
    url = linked.database_url.get_secret_value()
    execute(url, "UPDATE follower SET seq = 0 WHERE name = 'shipper'")  # as after a restored backup
    async with shipping(linked):
        await until(lambda: execute(url, "SELECT seq > 0 FROM follower WHERE name = 'shipper'") == [(True,)], "again")
    await same(linked, central_url)


async def test_a_trimmed_log_is_filled_from_history(linked: Settings, central_url: str) -> None:
    await commit(linked, *[float(number) for number in range(50)], age=7200)
    execute(linked.database_url.get_secret_value(), "DELETE FROM reading_batch WHERE seq <= 40")
    async with shipping(linked):
        await same(linked, central_url)
        found = "SELECT differing_hours, site_rows FROM reconciliation"
        await until(lambda: execute(central_url, found) == [(0, 50)], "the comparison's result")


async def test_catching_up_leaves_room_on_the_link(
    linked: Settings, central_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await commit(linked, 0.0, age=280)
    async with shipping(linked):
        await same(linked, central_url)
    monkeypatch.setattr(steps, "READINGS_AT_ONCE", 25)
    slow = linked.model_copy(update={"ship_rate": 50.0, "ship_every": 0.0})
    await commit(linked, *[float(number) for number in range(250)], age=270)
    began = time.monotonic()
    async with shipping(slow):
        await same(linked, central_url)
    assert time.monotonic() - began > 3, "250 readings at 50 a second, of which a second's may go at once"


async def heads(linked: Settings, central_url: str, rows: int) -> list[tuple[int, str | None]]:
    """Wait until central has so many heads of the site's audit chain: record, what it contradicts."""
    async with shipping(linked):
        found = "SELECT id, contradiction FROM site_audit ORDER BY received_at"
        await until(lambda: len(execute(central_url, found)) >= rows, f"{rows} heads")
        return execute(central_url, found)


def contradictions(central_url: str) -> tuple[int, str | None]:
    """As `GET /api/sites` tells them."""
    with psycopg.connect(central_url, autocommit=True) as connection:
        (site,) = registry.everyone(connection)
    return site["auditContradictions"], site["auditContradiction"]


def rewrite_chain(url: str, statement: str) -> None:
    """As somebody who owns the tables and knows how the chain is made: `audit verify` finds nothing afterwards."""
    with psycopg.connect(url, autocommit=True) as connection, connection.transaction():
        connection.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        connection.execute(statement.encode())
        connection.execute(
            "DO $$ DECLARE entry audit; link bytea := sha256(''); BEGIN"
            " UPDATE audit_head SET id = 0, hash = link;"
            " FOR entry IN SELECT * FROM audit ORDER BY id LOOP link := audit_hash(link, entry);"
            " UPDATE audit SET hash = link WHERE id = entry.id; UPDATE audit_head SET id = entry.id, hash = link;"
            " END LOOP; END $$"
        )
        connection.execute("ALTER TABLE audit ENABLE TRIGGER USER")
        assert audit.verify(connection, None).wrong is None


AUDIT = "INSERT INTO audit (actor, action, subject) SELECT 'a', 'b', n::text FROM generate_series(1, 5) AS n"


@pytest.mark.parametrize(
    ("change", "later", "told"),
    [
        ("UPDATE audit SET actor = 'somebody else' WHERE id = 2", False, "record 5 has another hash than before"),
        ("UPDATE audit SET actor = 'somebody else' WHERE id = 2", True, "record 5 has another hash than before"),
        ("DELETE FROM audit WHERE id > 3", False, "record 5 is gone"),
        ("DELETE FROM audit WHERE id > 3", True, "record 5 has another hash than before"),
    ],
    ids=["rewritten", "rewritten and continued", "cut off", "cut off and continued"],
)
async def test_an_audit_chain_that_was_made_anew_shows_at_central(
    linked: Settings, central_url: str, change: str, later: bool, told: str
) -> None:
    url = linked.database_url.get_secret_value()
    execute(url, AUDIT)
    assert await heads(linked, central_url, 1) == [(5, None)]
    rewrite_chain(url, change)
    if later:
        execute(url, AUDIT)
    found = await heads(linked, central_url, 2)
    assert [what for _, what in found] == [None, told]
    assert contradictions(central_url) == (1, told)
    execute(url, AUDIT)
    assert [what for _, what in await heads(linked, central_url, 3)] == [None, told, None], "said once"
    execute(central_url, "INSERT INTO site_audit_accepted (site_id, actor, reason) VALUES ('duxton', 'me', 'a test')")
    execute(url, AUDIT)
    assert [what for _, what in await heads(linked, central_url, 4)] == [None, told, None, None]
    assert contradictions(central_url) == (0, None)


async def test_heads_of_the_audit_can_t_be_changed_at_central(linked: Settings, central_url: str) -> None:
    execute(linked.database_url.get_secret_value(), AUDIT)
    await heads(linked, central_url, 1)
    await heads(linked, central_url, 1)
    for statement in ("UPDATE site_audit SET id = 1", "DELETE FROM site_audit", "TRUNCATE site_audit"):
        with pytest.raises(psycopg.errors.RaiseException, match="site_audit is append-only"):
            execute(central_url, statement)
    own = linked.central_database_url
    assert own is not None
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not bring rows of site macau"):
        execute(own.get_secret_value(), "INSERT INTO site_audit (site_id, id, hash) VALUES ('macau', 1, '')")


async def test_polls_go_together_where_it_is_wished(linked: Settings, central_url: str) -> None:
    gathering = linked.model_copy(update={"ship_every": 3600.0})
    async with shipping(gathering) as shipper:
        await commit(linked, 1.0, age=100)
        shipper.wake()
        await same(linked, central_url)
        await commit(linked, 2.0, age=50)
        execute(linked.database_url.get_secret_value(), "INSERT INTO write_results (job_id, site_id, success, result)"
                " VALUES ('j', 'duxton', true, '{}')")  # fmt: skip
        shipper.wake()
        await until(lambda: execute(central_url, "SELECT job_id FROM write_results") == [("j",)], "a result at once")
        assert len(execute(central_url, ALL)) == 1
    async with shipping(gathering):
        await same(linked, central_url)


async def test_trimming_waits_for_an_active_shipper_only(linked: Settings) -> None:
    await commit(linked, 1.0, 2.0)
    async with await connect(linked, "test") as connection:
        await connection.execute("UPDATE follower SET seq = 2 WHERE name = 'publisher'")
        await log_store.trim(connection, ["publisher", "shipper"], timedelta(days=1))
        assert await log_store.entries_after(connection, 0, 10) != []
        await log_store.trim(connection, ["publisher"], timedelta(days=1))
        assert await log_store.entries_after(connection, 0, 10) == []


async def test_where_central_follows_the_log_itself_the_rest_is_sent(linked: Settings, central_url: str) -> None:
    await commit(linked, 1.0)
    async with shipping(linked.model_copy(update={"ship_readings": False})) as shipper:
        async with await connect(linked, "test") as connection:
            await connection.execute(
                "INSERT INTO write_results (job_id, site_id, success, result) VALUES ('j', 'duxton', true, '{}')"
            )
        shipper.wake()
        await until(lambda: execute(central_url, "SELECT job_id FROM write_results") == [("j",)], "the result")
    assert execute(central_url, "SELECT id FROM point") == [(1,)]
    assert execute(central_url, ALL) == []
    found = "SELECT active FROM follower WHERE name = 'shipper'"
    assert execute(linked.database_url.get_secret_value(), found) == [(False,)]


async def test_a_site_that_is_not_registered_is_told_so(linked: Settings, central_url: str) -> None:
    execute(central_url, "DELETE FROM site")
    async with shipping(linked) as shipper:
        await until(lambda: "Central has no site 'duxton'" in (shipper.reason or ""), "the reason")
        execute(central_url, "INSERT INTO site (id) VALUES ('duxton')")
        await until(lambda: shipper.reason is None, "recovered")


async def test_a_site_whose_id_another_one_holds_is_refused_and_told_so(linked: Settings, central_url: str) -> None:
    with psycopg.connect(central_url, autocommit=True) as central:
        bring_metadata(central, SAT | {"object_instance": 99})  # the other one's point 1
    await commit(linked, 1.0)
    async with shipping(linked) as shipper:
        told = "point 1 of site duxton is analog-input:99 at central and analog-input:1 at the site"
        await until(lambda: told in (shipper.reason or ""), "the reason, which /readyz shows")
    assert execute(central_url, ALL) == []


@pytest.mark.parametrize(
    ("url", "accepted"),
    [
        ("postgresql://site_x@central.example/bacpipes", False),
        ("postgresql://site_x@central.example/bacpipes?sslmode=verify-ca", False),
        ("postgresql://site_x@central.example/bacpipes?sslmode=verify-full", True),
        ("host=127.0.0.1,central.example dbname=bacpipes", False),
        ("hostaddr=203.0.113.7 host=localhost dbname=bacpipes", False),
        ("host=127.0.0.1 dbname=bacpipes", True),
        ("host=/run/postgresql dbname=bacpipes", True),
    ],
)
def test_only_a_verified_server_is_dialled(url: str, accepted: bool) -> None:
    if accepted:
        link.refuse_unsafe(url)
    else:
        with pytest.raises(SettingsError, match="sslmode=verify-full"):
            link.refuse_unsafe(url)


async def compared(settings: Settings, **options: Any) -> Report:
    assert settings.central_database_url is not None
    url = settings.central_database_url.get_secret_value()
    now = datetime.now(UTC)
    report = Report("duxton", now - timedelta(days=2), now)
    async with await connect(settings, "test") as site, await link.connect(url, "test") as central:
        return await reconcile(site, central, report, rate=1e9, **options)


async def test_the_comparison_finds_and_repairs_what_is_missing(linked: Settings, central_url: str) -> None:
    await commit(linked, *VALUES, age=10_000)
    await commit(linked, *VALUES, age=100)
    found = await compared(linked, send=False)
    assert (found.site_rows, found.central_rows, len(found.remaining)) == (18, 0, found.hours)
    assert execute(central_url, ALL) == []
    found = await compared(linked)
    assert (found.sent_rows, found.remaining) == (18, [])
    await same(linked, central_url)
    execute(central_url, "DELETE FROM reading WHERE time = (SELECT min(time) FROM reading)")
    found = await compared(linked)
    assert [(hour.site - hour.central, hour.verdict) for hour in found.differing] == [(1, "repaired")]
    assert (await compared(linked)).differing == []
    assert execute(linked.database_url.get_secret_value(), "SELECT count(*) FROM reconciliation") == [(4,)]


@pytest.mark.parametrize("unsettled", [False, True], ids=["compared", "too young to be compared"])
async def test_a_span_may_begin_at_any_microsecond(linked: Settings, central_url: str, unsettled: bool) -> None:
    """What is sent of it arrives at its own time: another one would be a row more, for ever."""
    await commit(linked, *VALUES, age=60)
    moment = datetime.now(UTC).replace(microsecond=123_456) - timedelta(seconds=120)
    assert linked.central_database_url is not None
    url = linked.central_database_url.get_secret_value()
    report = Report("duxton", moment - unsettled * timedelta(1), moment if unsettled else datetime.now(UTC))
    async with await connect(linked, "test") as site, await link.connect(url, "test") as central:
        await reconcile(site, central, report, rate=1e9)
        if unsettled:
            assert execute(central_url, ALL) == []
            await send_unsettled(site, central, report)
    assert report.remaining == []
    await same(linked, central_url)


@pytest.mark.parametrize(
    "change", ["value = value + 2 ^ -48", "quality = 1", "value = NULL", "time = time + interval '1 ms'"]
)
async def test_the_checksum_finds_one_changed_reading(linked: Settings, central_url: str, change: str) -> None:
    await commit(linked, *[15 + number * 0.7 for number in range(20)])
    await compared(linked)
    newest = "WHERE time = (SELECT max(time) FROM reading)"
    execute(central_url, f"UPDATE reading SET {change} {newest}")  # noqa: S608
    found = await compared(linked, send=False)
    assert [hour.site - hour.central for hour in found.remaining] == [0]


async def test_a_negative_zero_is_not_a_zero(linked: Settings, central_url: str) -> None:
    await commit(linked, 0.0)
    await compared(linked)
    execute(central_url, "UPDATE reading SET value = '-0'")
    assert len((await compared(linked, send=False)).remaining) == 1


async def test_a_comparison_in_the_name_of_another_site_is_refused(linked: Settings, central_url: str) -> None:
    with psycopg.connect(central_url, autocommit=True) as central:
        central.execute("INSERT INTO site (id) VALUES ('macau')")
        assert rows(central, "SELECT * FROM hour_sums('macau', '2026-01-01', now())") == []
    other = linked.model_copy(update={"central_database_url": linked.central_database_url})
    assert other.central_database_url is not None
    async with await link.connect(other.central_database_url.get_secret_value(), "test") as central:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await central.execute("SELECT * FROM hour_sums('macau', '2026-01-01', now())")
