"""A worker that starts late in a slot begins with the next: nothing is shed, nothing is told that was never due."""

import asyncio
import json
import time

from bacpipes.embedded import EmbeddedBroker
from bacpipes.settings import Settings
from mqtt_parts import until
from site_parts import AHU, Site

LONG, SHORT = 20, 8  # seconds of an interval
DEVICES = (AHU, 67890, 30001)


def ends_in(seconds: float, interval: int) -> float:
    """The phase of a grid whose present slot has only so much left."""
    return (time.time() + seconds) % interval


def loud(log: str) -> list[str]:
    """What it said in warning or as an error."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line["event"] for line in lines if line["level"] in ("warning", "error", "critical")]


async def polled_once(site: Site) -> None:
    points = site.one("SELECT count(*) FROM point WHERE enabled")[0]
    await until(lambda: site.one("SELECT count(DISTINCT point_id) FROM reading")[0] == points, "all are polled", 60)


async def test_at_the_end_of_a_slot_with_devices_that_take_long(settings: Settings, broker: EmbeddedBroker) -> None:
    """What was never read has no gap; a device that needs longer than what is left is not called too slow."""
    async with Site(settings, broker, devices=DEVICES) as site:
        site.import_points(interval=str(LONG))
        for device in DEVICES:
            site.building.fault("small-apdu", device, 206)
            site.building.fault("late", device, 0.8)
        phase = ends_in(6, LONG)
        present = int((time.time() - phase) // LONG)
        worker = site.spawn_worker(BACPIPES_POLL_PHASE=str(phase), BACPIPES_BACNET_TIMEOUT="5")
        await polled_once(site)
        worker.terminate()
        _, log = await asyncio.to_thread(worker.communicate)
        assert site.one("SELECT min(poll_cycle) > %s FROM reading", present) == (True,), "it began with a whole slot"
        assert site.one("SELECT count(*) FROM gap") == (0,)
        assert site.one("SELECT count(*) FROM reading WHERE quality <> 0") == (0,)
        assert loud(log) == []


async def test_a_restart_at_the_end_of_a_slot_is_one_gap_up_to_the_next(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    async with Site(settings, broker, devices=DEVICES) as site:
        site.import_points(interval=str(SHORT))
        phase = ends_in(3, SHORT)
        worker = site.spawn_worker(BACPIPES_POLL_PHASE=str(phase))
        await polled_once(site)
        worker.kill()
        await asyncio.to_thread(worker.communicate)
        last = site.one("SELECT max(poll_cycle) FROM last_value")[0]
        late = phase + (last + 3) * SHORT - 3
        await until(lambda: time.time() >= late, "a slot passes, and the next is nearly over", 4 * SHORT)
        worker = site.spawn_worker(BACPIPES_POLL_PHASE=str(phase))
        newest = "SELECT min(poll_cycle) FROM last_value"
        await until(lambda: site.one(newest)[0] > last, "polling goes on", 60)
        worker.terminate()
        _, log = await asyncio.to_thread(worker.communicate)
        first = site.one("SELECT min(poll_cycle) FROM reading WHERE poll_cycle > %s", last)[0]
        assert first > last + 2
        gaps = "SELECT extract(epoch FROM since)::float8, extract(epoch FROM until)::float8, point_ids, reason FROM gap"
        ((since, end, ids, reason),) = site.database.execute(gaps).fetchall()
        assert [round((moment - phase) / SHORT, 3) for moment in (since, end)] == [last + 1, first]
        assert sorted(ids) == [row[0] for row in site.database.execute("SELECT id FROM point ORDER BY id").fetchall()]
        assert reason == "the worker was not running"
        assert loud(log) == ["scheduled reads were missed"]
