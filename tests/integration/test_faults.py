"""The appliance under fire: each fault ends in a count of scheduled reads against rows and recorded gaps.

The long forms are marked ``faults`` and run by `make test-faults`; they print what they counted.
"""

import asyncio
import os
import random
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path

import psutil
import psycopg
import pytest

from accounts import Account, account, disordered, gaps_of_another_reason, lost, settled, unheard
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.reading import Batch, Reading
from bacpipes.settings import Settings
from bacpipes.worker import log_store
from mqtt_parts import Mosquitto, until
from site_parts import BOXES, EVERYTHING, Site, database_away

HOURS = 4
DAMAGES = ("torn", "flipped", "nothing")
ACKNOWLEDGED = "SELECT seq FROM follower WHERE name = 'publisher'"


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    """47 points every second; its worker is not started yet."""
    async with Site(settings, broker) as site:
        yield site


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker that keeps whatever the observer is too slow for: it shares a process with the site."""
    mosquitto = Mosquitto(tmp_path, users={"u": "secret"}, more=("max_queued_messages 0",))
    mosquitto.credentials = ("u", "secret")  # type: ignore[attr-defined]
    with mosquitto:
        yield mosquitto


async def nothing_lost(site: Site, *, heard: bool = True) -> Account:
    """The count that every test ends in."""
    site.reconnect()
    moment = await settled(site, 120)
    found = account(site, moment)
    print(asdict(found))
    assert found.lost == 0, lost(site, moment)
    assert found.twice == 0
    assert found.rows > 0
    if heard:
        newest = site.one("SELECT max(seq) FROM reading_batch")[0] or 0
        await until(lambda: site.one(ACKNOWLEDGED)[0] >= newest, "the broker has acknowledged it", 120, 0.5)
        await until(lambda: unheard(site, moment) == 0, "every row was published", 120, 2.0)
    return found


async def slots_pass(site: Site, count: int) -> None:
    """Wait for so many more polls."""
    newest = "SELECT coalesce(max(poll_cycle), 0) FROM last_value"
    before = site.one(newest)[0]
    await until(lambda: site.one(newest)[0] >= before + count, f"{count} polls", 60 + count * 1.5, 0.1)


async def some_slots_pass() -> None:
    """Two slots and more, whoever polls or does not."""
    moment = time.time()
    await until(lambda: time.time() > moment + 2.5, "time passes")


async def kill(worker: subprocess.Popen[str]) -> None:
    worker.send_signal(signal.SIGKILL)
    await asyncio.to_thread(worker.communicate)


async def kill_9(site: Site, times: int) -> Account:
    """At random moments: also while it starts, commits, publishes."""
    chance = random.Random(5)  # noqa: S311 - the same moments each time
    for _ in range(times):
        worker = site.spawn_worker()
        await slots_pass(site, 1)
        await asyncio.sleep(chance.uniform(0, 2.0))
        await kill(worker)
    await some_slots_pass()
    site.start_worker()
    found = await nothing_lost(site)
    assert found.in_gaps > 0, "what was missed meanwhile is told"
    assert disordered(site) == [], "each point's readings were published in order"
    return found


async def test_kill_9(site: Site) -> None:
    await kill_9(site, 3)


@pytest.mark.faults
async def test_kill_9_a_hundred_times(settings: Settings, broker: EmbeddedBroker) -> None:
    async with Site(settings, broker, devices=EVERYTHING, boxes=len(BOXES)) as site:
        assert site.one("SELECT count(*) FROM point WHERE enabled")[0] >= 500
        await kill_9(site, 100)


def answers(site: Site, *, anew: bool = False) -> bool:
    """Does the database answer, over the connection that we have or over another one?"""
    try:
        if anew:
            site.reconnect()
        return bool(site.one("SELECT true")[0])
    except psycopg.OperationalError:
        return False


async def crash_database(site: Site, times: int) -> None:
    """SIGKILL to the backend of a commit: the server ends all connections and recovers from its log."""
    for _ in range(times):
        await slots_pass(site, 2)
        backend = (
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'bacpipes committer' AND datname = current_database()"
        )
        os.kill(site.one(backend)[0], signal.SIGKILL)

        await until(lambda: not answers(site), "the server ends all connections", 60)
        await until(lambda: answers(site, anew=True), "the database has recovered", 60)


async def test_a_crash_of_the_database(site: Site) -> None:
    site.start_worker()
    await site.readings(2)
    await crash_database(site, 2)
    await nothing_lost(site)


async def test_the_database_is_away_and_the_worker_is_killed_meanwhile(site: Site, postgres: EmbeddedPostgres) -> None:
    worker = site.spawn_worker()
    await slots_pass(site, 2)
    with database_away(postgres, site.settings):
        spool = site.settings.state_dir / "spool"
        await until(lambda: spool.exists() and spool.stat().st_size > 20_000, "some polls are on disk", 30)
        await kill(worker)
        await some_slots_pass()
    site.reconnect()
    site.start_worker()
    found = await nothing_lost(site)
    assert found.in_gaps > 0


async def damage_spool(site: Site, postgres: EmbeddedPostgres, damage: str, octets: int, place: float = 0.5) -> Account:
    """A power cut while the database is away; then the disk has not kept all of it."""
    worker = site.spawn_worker()
    await slots_pass(site, 2)
    spool = site.settings.state_dir / "spool"
    with database_away(postgres, site.settings):
        await until(lambda: spool.exists() and spool.stat().st_size > octets, "some polls are on disk", 120)
        await kill(worker)
        spool.write_bytes(damaged(spool.read_bytes(), damage, place))
        await some_slots_pass()
    site.reconnect()
    site.start_worker()
    found = await nothing_lost(site)
    assert found.in_gaps > 0
    assert (site.settings.state_dir / "spool.damaged").exists()
    return found


def damaged(spool: bytes, damage: str, place: float) -> bytes:
    """The last record torn, an octet flipped at a place from 0 to 1, or all zeros."""
    if damage == "torn":
        return spool[:-100]
    if damage == "nothing":
        return bytes(len(spool))
    octets = bytearray(spool)
    octets[int(len(octets) * place)] ^= 0xFF
    return bytes(octets)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_spool(site: Site, postgres: EmbeddedPostgres, damage: str) -> None:
    await damage_spool(site, postgres, damage, 20_000)
    told = "SELECT count(*) FROM gap WHERE reason = 'the spool was damaged'"
    assert (site.one(told)[0] > 0) is (damage == "flipped"), "the others lie where the worker was not running"


@pytest.mark.faults
async def test_a_spool_that_is_damaged_ten_times(
    settings: Settings, patient: Mosquitto, postgres: EmbeddedPostgres
) -> None:
    chance = random.Random(5)  # noqa: S311 - the same places each time
    async with Site(settings, patient, devices=EVERYTHING, boxes=len(BOXES)) as site:  # type: ignore[arg-type]
        for damage in [*DAMAGES, *["flipped"] * 7]:
            await damage_spool(site, postgres, damage, 150_000, chance.random())
            await site.stop_worker()
            (site.settings.state_dir / "spool.damaged").unlink()


async def test_a_spool_that_is_full(
    settings: Settings, broker: EmbeddedBroker, postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bacpipes.worker.service.MEGABYTE", 30_000)
    async with Site(settings.model_copy(update={"spool_megabytes": 1}), broker) as site:
        site.start_worker()
        await site.readings(2)
        with database_away(postgres, site.settings):
            await until((site.settings.state_dir / "spool.gaps").exists, "it is full", 60)
            await some_slots_pass()
        site.reconnect()
        found = await nothing_lost(site, heard=False)  # what had no room is no row
        assert found.in_gaps > 0
        assert site.one("SELECT count(*) FROM gap WHERE reason LIKE 'the spool was full%%'")[0] > 0


async def broker_away(settings: Settings, directory: Path, polls: int, **more: object) -> Account:
    """The broker is killed, and is back after so many polls."""
    mosquitto = Mosquitto(directory, users={"u": "secret"})
    mosquitto.credentials = ("u", "secret")  # type: ignore[attr-defined]
    with mosquitto:
        async with Site(settings, mosquitto, **more) as site:  # type: ignore[arg-type]
            site.start_worker()
            await site.readings(1, 60)
            await asyncio.to_thread(mosquitto.kill)
            await slots_pass(site, polls)
            await asyncio.to_thread(mosquitto.start)
            newest = site.one("SELECT max(seq) FROM reading_batch")[0]
            await until(lambda: site.one(ACKNOWLEDGED)[0] >= newest, "the broker has it all", 240, 0.5)
            found = await nothing_lost(site, heard=False)  # the observer was away too
            assert gaps_of_another_reason(site) == [], "polls go on"
            return found


async def test_the_broker_is_away(settings: Settings, tmp_path: Path) -> None:
    found = await broker_away(settings, tmp_path, 5)
    assert found.rows > found.scheduled / 2, "polls go on"


async def test_the_broker_was_away_for_hours(settings: Settings, patient: Mosquitto) -> None:
    """Four hours of polls wait in the log, as an absence leaves them: all go out, in order, in bounded memory."""
    async with Site(settings, patient) as site:  # type: ignore[arg-type]
        points = [row[0] for row in site.database.execute("SELECT id FROM point WHERE enabled")]
        now = int(time.time()) // 15
        async with await connect(site.settings, "test") as connection:
            for cycle in range(now - HOURS * 240, now):
                rows = [Reading(point, cycle * 15_000 + number, float(cycle)) for number, point in enumerate(points)]
                await log_store.commit(connection, site.settings.site_id, [Batch(15, cycle, 5, rows)])
        moment = time.time()
        assert unheard(site, moment) == HOURS * 240 * len(points)
        newest = site.one("SELECT max(seq) FROM reading_batch")[0]
        worker = psutil.Process(site.spawn_worker().pid)
        most = 0

        def acknowledged() -> bool:
            nonlocal most
            most = max(most, worker.memory_info().rss)
            return bool(site.one(ACKNOWLEDGED)[0] >= newest)

        await until(acknowledged, "the broker has it all", 120)
        await until(lambda: len(site.observer.messages) >= HOURS * 240 * len(points), "it was heard", 60)
        assert unheard(site, moment) == 0
        assert disordered(site) == []
        assert most < 150 * 2**20, "the backlog is not held in memory"


@pytest.mark.faults
async def test_the_broker_is_away_for_ten_minutes(settings: Settings, tmp_path: Path) -> None:
    await broker_away(settings, tmp_path, 600, devices=EVERYTHING, boxes=len(BOXES))


@pytest.mark.faults
async def test_the_database_is_away_for_five_minutes(
    settings: Settings, patient: Mosquitto, postgres: EmbeddedPostgres
) -> None:
    async with Site(settings, patient, devices=EVERYTHING, boxes=len(BOXES)) as site:  # type: ignore[arg-type]
        site.start_worker()
        await site.readings(2, 60)
        with database_away(postgres, site.settings):
            await asyncio.sleep(300)
        await nothing_lost(site)


@pytest.mark.faults
async def test_the_database_crashes_twenty_times(settings: Settings, patient: Mosquitto) -> None:
    async with Site(settings, patient, devices=EVERYTHING, boxes=len(BOXES)) as site:  # type: ignore[arg-type]
        site.start_worker()
        await site.readings(2, 60)
        await crash_database(site, 20)
        await nothing_lost(site)
