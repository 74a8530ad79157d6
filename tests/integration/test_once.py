"""One ``jobId`` is executed at most once, by whichever ways and however often it comes, and whatever dies meanwhile."""

import asyncio
import json
import random
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bacpipes.embedded import EmbeddedBroker
from bacpipes.settings import Settings
from mqtt_parts import Mosquitto, until
from site_parts import AHU, SETPOINT, SETPOINT_TOPIC, Site

LATE = 0.6  # seconds until the device answers, so that there is a time to die in
OTHER = {"value": 71.0}  # a repeated delivery may not even be looked at: its value shows it


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    """Its worker is not started yet."""
    async with Site(settings, broker) as site:
        yield site


def written(site: Site) -> list[float | None]:
    return [write.value for write in site.building.writes]


def by_mqtt(site: Site, job: str, value: float) -> None:
    site.command(**SETPOINT, value=value, jobId=job)


def by_sql(site: Site, job: str, value: float) -> None:
    site.database.execute(
        "INSERT INTO write_commands (site_id, point_id, value, job_id) SELECT 'duxton', id, %s, %s FROM point"
        " WHERE object_type = 'analog-value' AND object_instance = 120",
        [value, job],
    )


Way = Callable[[Site, str, float], None]


@pytest.mark.parametrize(("first", "second"), [(by_mqtt, by_sql), (by_sql, by_mqtt)], ids=["mqtt, sql", "sql, mqtt"])
async def test_by_both_ways(site: Site, first: Way, second: Way) -> None:
    site.start_worker()
    await site.readings()
    job = str(uuid.uuid4())
    first(site, job, 70.0)
    result = await site.result(job)
    assert result["success"], result
    second(site, job, 71.0)
    after = await site.write(**SETPOINT, value=72.0)
    assert after["success"], "the queue and the topic were looked at since"
    assert written(site) == [70.0, 72.0]
    assert all(one == result for one in site.results(job))
    assert site.one("SELECT count(*) FROM write_results WHERE job_id = %s", job) == (1,)


async def test_by_both_ways_at_once(site: Site) -> None:
    site.start_worker()
    await site.readings()
    jobs = [str(uuid.uuid4()) for _ in range(10)]
    for job in jobs:
        by_sql(site, job, 70.0)
        for _ in range(3):
            by_mqtt(site, job, 70.0)
    for job in jobs:
        assert (await site.result(job))["success"]
    stored = "SELECT count(*), count(DISTINCT job_id) FROM write_results WHERE job_id = ANY (%s)"
    await until(lambda: site.one(stored, jobs) == (10, 10), "each has one result")
    assert written(site) == [70.0] * 10


async def start(site: Site) -> "subprocess.Popen[str]":
    """A worker in a process of its own, connected to the broker."""
    heard = len(site.published(SETPOINT_TOPIC))
    worker = site.spawn_worker()
    await until(lambda: len(site.published(SETPOINT_TOPIC)) > heard, "the worker is connected", 30)
    return worker


async def die(worker: "subprocess.Popen[str]") -> None:
    worker.kill()
    await asyncio.to_thread(worker.communicate)


async def test_after_a_restart(site: Site) -> None:
    """Its result comes again, from the database, and that is all."""
    worker = await start(site)
    job = str(uuid.uuid4())
    by_mqtt(site, job, 70.0)
    result = await site.result(job)
    await die(worker)
    await start(site)
    count = len(site.results(job))
    site.command(**SETPOINT | OTHER, jobId=job)
    assert await site.result(job, count + 1) == result
    assert written(site) == [70.0]


@pytest.mark.parametrize("moment", ["claimed", "begun", "written"])
async def test_killed_in_mid_write_and_sent_again(site: Site, moment: str) -> None:
    """The sender repeats a command until it has a result; the worker dies before, while, or after it writes."""
    worker = await start(site)
    site.building.fault("late", AHU, LATE)
    job = str(uuid.uuid4())
    claimed = (
        "SELECT count(*) > 0, coalesce(bool_or(executing_at IS NOT NULL), false) FROM write_claim WHERE job_id = %s"
    )
    by_mqtt(site, job, 70.0)
    reached = {
        "claimed": lambda: site.one(claimed, job)[0],
        "begun": lambda: site.one(claimed, job)[1],
        "written": lambda: written(site),
    }
    await until(reached[moment], f"it is {moment}")
    await die(worker)
    there = list(written(site))
    site.building.clear()
    await start(site)
    for _ in range(3):
        site.command(**SETPOINT | OTHER, jobId=job)
    result = await site.result(job)
    holds = site.building.commanded(AHU, "analog-value", 120).slot(8)
    assert result["success"] is (holds == 70.0), result
    assert (await site.write(**SETPOINT, value=72.0))["success"], "all before it were seen"
    assert written(site) == [*written(site)[:-1], 72.0]
    assert len(written(site)) <= 2
    assert written(site)[: len(there)] == there
    assert 71.0 not in written(site)
    if moment == "written":
        assert result["success"]
    if moment == "claimed":
        assert result["error"] == "Interrupted before anything was written"
        assert written(site) == [72.0]


async def test_killed_at_random_moments_while_commands_are_repeated(site: Site) -> None:
    chance = random.Random(7)  # noqa: S311 - the same moments each time
    jobs = {str(uuid.uuid4()): 60.0 + number for number in range(12)}
    site.building.fault("late", AHU, 0.05)
    for number in range(4):
        worker = await start(site)
        for job, value in jobs.items():
            by_mqtt(site, job, value)
        await asyncio.sleep(chance.uniform(0.1, 1.0))
        if number < 3:
            await die(worker)
    for job in jobs:
        await site.result(job)
    assert len(written(site)) == len(set(written(site))), "none was written twice"
    for job, value in jobs.items():
        told = {json.dumps(result) for result in site.results(job)}
        assert len(told) == 1, "and each has one result, however often it is told"
        if site.results(job)[0]["success"]:
            assert value in written(site)


async def test_a_broker_that_dies_between_command_and_result(settings: Settings, tmp_path: Path) -> None:
    """It knows nothing any more; the sender repeats, and hears the result."""
    mosquitto = Mosquitto(tmp_path, users={"u": "secret"})
    mosquitto.credentials = ("u", "secret")  # type: ignore[attr-defined]
    with mosquitto:
        async with Site(settings, mosquitto) as site:  # type: ignore[arg-type]
            site.start_worker()
            await site.readings()
            site.building.fault("late", AHU, LATE)
            job = str(uuid.uuid4())
            by_mqtt(site, job, 70.0)
            await until(lambda: written(site), "it is written")
            await asyncio.to_thread(mosquitto.kill)
            stored = "SELECT count(*) FROM write_results WHERE job_id = %s"
            await until(lambda: site.one(stored, job) == (1,), "its result is stored")
            await asyncio.to_thread(mosquitto.start)

            def answered() -> bool:
                site.command(**SETPOINT | OTHER, jobId=job)
                return bool(site.results(job))

            await until(answered, "the sender has its result", 60)
            found: dict[str, Any] = site.results(job)[0]
            assert found["success"], found
            assert written(site) == [70.0]
