"""Releases that fall due: on time, after a restart, with the database or the device away, and only of what is ours."""

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.settings import Settings
from bacpipes.writes.request import WriteRequest, request_write
from mqtt_parts import until
from site_parts import AHU, SETPOINT, SETPOINT_TOPIC, Site, database_away


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    quick = settings.model_copy(update={"bacnet_timeout": 0.3, "bacnet_retries": 0})
    async with Site(quick, broker) as site:
        site.start_worker()
        await site.readings()
        yield site


def slot(site: Site, priority: int = 8) -> float | None:
    return site.building.commanded(AHU, "analog-value", 120).slot(priority)


def pending(site: Site) -> int:
    return int(site.one("SELECT count(*) FROM due_release")[0])


async def released(site: Site, written: dict[str, Any]) -> dict[str, Any]:
    """The result of a write's release, and the book is settled."""
    result = await site.result(f"{written['jobId']}#release")
    await until(lambda: pending(site) == 0, "nothing is to be released any more")
    assert result["releaseOf"] == written["jobId"]
    return result


async def test_a_write_is_released_on_time(site: Site) -> None:
    written = await site.write(**SETPOINT, value=70.0, releaseAfter=1, source="optimizer")
    assert (written["success"], slot(site), pending(site)) == (True, 70.0, 1)
    result = await released(site, written)
    assert (result["success"], result["before"], result["after"], slot(site)) == (True, 70.0, 60.0, None)
    assert site.one("SELECT count(*) FROM held_slot") == (0,)
    audit = site.one("SELECT actor, action FROM audit WHERE subject = %s", result["jobId"])
    assert audit == ("optimizer", "release.done")
    wrote, gave_back = (
        site.one("SELECT executed_at FROM write_results WHERE job_id = %s", one["jobId"])[0]
        for one in (written, result)
    )
    assert 0.9 < (gave_back - wrote).total_seconds() < 5


async def test_a_later_write_supersedes_the_release(site: Site) -> None:
    first = await site.write(**SETPOINT, value=70.0, releaseAfter=1)
    assert (await site.write(**SETPOINT, value=71.0))["success"]
    assert pending(site) == 0
    third = await site.write(**SETPOINT, value=72.0, releaseAfter=1, priority=9)
    await released(site, third)
    assert (slot(site), slot(site, 9)) == (71.0, None)
    assert site.results(f"{first['jobId']}#release") == []


async def test_a_write_that_fails_supersedes_nothing(site: Site) -> None:
    first = await site.write(**SETPOINT, value=70.0, releaseAfter=2)
    site.building.fault("deny-write", "12345:av:120")
    refused = await site.write(**SETPOINT, value=71.0, releaseAfter=60)
    assert not refused["success"]
    assert site.one("SELECT job_id FROM due_release") == (first["jobId"],)
    late = "SELECT due_at < now() - INTERVAL '1 s' FROM due_release"
    await until(lambda: site.one(late)[0], "the device denies the release too")
    site.building.clear()
    assert (await released(site, first))["success"], "it is tried until the device does it"
    assert slot(site) is None


async def test_a_release_by_hand_leaves_nothing_to_release(site: Site) -> None:
    await site.write(**SETPOINT, value=70.0, releaseAfter=60)
    assert (await site.write(**SETPOINT, release=True))["success"]
    assert pending(site) == 0


async def test_what_somebody_else_wrote_meanwhile_is_not_released(site: Site) -> None:
    written = await site.write(**SETPOINT, value=70.0, releaseAfter=1)
    site.building.fault("hold", "12345:av:120", 8, 33.0)
    result = await released(site, written)
    assert (result["success"], result["codes"], slot(site)) == (False, ["slot-held"], 33.0)
    assert site.one("SELECT action FROM audit WHERE subject = %s", result["jobId"]) == ("release.refused",)
    assert site.one("SELECT count(*) FROM held_slot") == (0,)


async def test_without_a_priority_array_the_old_value_comes_back_if_ours_stands(site: Site) -> None:
    """A computed value that somebody took out of service: it may be written, and has no priority array."""
    site.building.fault("out-of-service", "12345:av:126", 30.0)
    site.database.execute(
        "UPDATE point SET writable = true, function = 'sp', minimum = 0, maximum = 100"
        " WHERE object_type = 'analog-value' AND object_instance = 126"
    )
    point = {"deviceId": AHU, "objectType": "analog-value", "objectInstance": 126}
    plain: Any = site.building.devices[AHU].points["analog-value:126"]
    first = await site.write(**point, value=40.0, releaseAfter=60)
    second = await site.write(**point, value=41.0, releaseAfter=1)
    assert (first["error"], second["error"], float(plain.presentValue)) == (None, None, 41.0)
    result = await released(site, second)
    assert (result["success"], result["value"], float(plain.presentValue)) == (True, 30.0, 30.0), (
        "what was there before both"
    )
    third = await site.write(**point, value=42.0, releaseAfter=1)
    plain.set_value(55.0)
    assert (await released(site, third))["codes"] == ["slot-held"]
    assert float(plain.presentValue) == 55.0
    assert site.one("SELECT count(*) FROM held_slot") == (0,), "there is no slot to be looked at again and again"


async def test_a_release_survives_kill_9(site: Site) -> None:
    await site.stop_worker()
    heard = len(site.published(SETPOINT_TOPIC))
    worker = site.spawn_worker()
    await until(lambda: len(site.published(SETPOINT_TOPIC)) > heard, "the worker is connected")
    written = await site.write(**SETPOINT, value=70.0, releaseAfter=2)
    worker.send_signal(signal.SIGKILL)
    await asyncio.to_thread(worker.communicate)
    late = "SELECT due_at < now() FROM due_release"
    await until(lambda: site.one(late)[0], "it falls due while nobody is there")
    assert slot(site) == 70.0
    site.start_worker()
    assert (await released(site, written))["success"]
    assert slot(site) is None


async def test_a_release_waits_for_the_device(site: Site) -> None:
    written = await site.write(**SETPOINT, value=70.0, releaseAfter=1)
    site.building.fault("silent", AHU)
    await until(lambda: site.one("SELECT due_at < now() - INTERVAL '2 s' FROM due_release")[0], "it is overdue")
    assert slot(site) == 70.0
    site.building.clear()
    assert (await released(site, written))["success"]
    assert slot(site) is None


async def test_a_release_is_done_with_the_database_away(site: Site, postgres: EmbeddedPostgres) -> None:
    written = await site.write(**SETPOINT, value=70.0, releaseAfter=2)
    with database_away(postgres, site.settings):
        await until(lambda: slot(site) is None, "it is released")
        told = await site.result(f"{written['jobId']}#release")
        assert told["success"]
    site.reconnect()
    assert (await released(site, written))["success"]
    assert site.one("SELECT action FROM audit WHERE subject = %s", told["jobId"]) == ("release.done",)
    assert [write.value for write in site.building.writes] == [70.0, None], "it is done once"


async def test_the_queue_takes_a_release_too(site: Site) -> None:
    by_hand = WriteRequest(AHU, "analog-value", 120, 70.0, 8, None, "cli:tester", release_after=1)
    written = await asyncio.to_thread(request_write, site.settings, by_hand, 15)
    assert written["success"]
    assert (await released(site, written))["success"]


# --- a source that goes silent


async def test_what_a_silent_source_holds_is_released(settings: Settings, broker: EmbeddedBroker) -> None:
    topic = "bacnet/write/heartbeat"
    heard = {"write_heartbeat_topic": topic, "write_heartbeat_timeout": 3.0}
    async with Site(settings.model_copy(update=heard), broker) as site:
        site.start_worker()
        await site.readings()

        async def beat() -> None:
            while True:
                site.observer.publish(topic, b'{"source": "optimizer"}')
                await asyncio.sleep(0.5)

        for nonsense in (b"", b"[]", b"{", b'{"source": 1}', b'{"source": ""}', b'{"source": "a\\u0000"}', b"\xff"):
            site.observer.publish(topic, nonsense)
        beating = asyncio.create_task(beat())
        known = "SELECT array_agg(source) FROM source_contact WHERE lost_at IS NULL"
        await until(lambda: site.one(known) == (["optimizer"],), "it is known")
        other = await site.write(**SETPOINT, value=69.0, priority=9, source="lisa")
        written = await site.write(**SETPOINT, value=70.0, source="optimizer")
        assert (other["success"], written["success"]) == (True, True)
        beating.cancel()
        result = await released(site, written)
        assert (result["success"], result["cause"]) == (True, "source-lost")
        assert (slot(site), slot(site, 9)) == (None, 69.0), "what others hold stays"
        refused = await site.write(**SETPOINT, value=71.0, source="optimizer")
        assert refused["codes"] == ["source-lost"]
        beating = asyncio.create_task(beat())
        await until(lambda: site.one(known) == (["optimizer"],), "it is back")
        assert (await site.write(**SETPOINT, value=72.0, source="optimizer"))["success"]
        beating.cancel()
        await site.stop_worker()
        site.start_worker()
        await until(lambda: slot(site) is None, "after a restart too: it is supervised, and not heard", 30)
        trail = site.database.execute("SELECT action FROM audit WHERE subject = 'optimizer' ORDER BY id").fetchall()
        assert trail == [("source.found",), ("source.lost",), ("source.found",), ("source.lost",)]
