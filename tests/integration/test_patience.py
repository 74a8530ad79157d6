"""Silent devices and bad points cost the others nothing: counted, and named."""

import asyncio

import httpx

from accounts import account, lost, settled
from bacpipes.doctor import examine
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.settings import Settings
from mqtt_parts import until
from site_parts import AHU, Site

BOXES = list(range(30001, 30009))
DEAD = {30001, 30002}
INTERVAL = 2  # seconds


async def metrics(site: Site) -> str:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text


async def test_live_devices_lose_nothing_while_a_fifth_is_dead(settings: Settings, broker: EmbeddedBroker) -> None:
    quick = settings.model_copy(update={"bacnet_timeout": 1.5, "bacnet_retries": 1})
    async with Site(quick, broker, devices=(AHU, 67890, *BOXES), boxes=len(BOXES)) as site:
        site.import_points(interval=str(INTERVAL))
        for device in DEAD:
            site.building.fault("silent", device)
        site.start_worker()
        await site.readings(6, 60)
        probed = (
            "SELECT count(DISTINCT p.device) FROM last_value l JOIN point p ON p.id = l.point_id"
            " WHERE l.reason LIKE 'silent device%%'"
        )
        await until(lambda: site.one(probed) == (len(DEAD),), "the dead ones are only probed", 60)
        moment = await settled(site)
        ids = "SELECT array_agg(p.id) FROM point p JOIN device d ON d.id = p.device WHERE (d.device_id = ANY (%s)) = %s"
        live, dead = (site.one(ids, list(DEAD), is_dead)[0] for is_dead in (False, True))
        of_live, of_dead = account(site, moment, live), account(site, moment, dead)
        assert (of_live.rows, of_live.in_gaps, of_live.lost, of_live.twice) == (of_live.scheduled, 0, 0, 0)
        assert of_live.scheduled >= 6 * len(live)
        assert (of_dead.lost, of_dead.twice) == (0, 0), lost(site, moment)
        assert site.one("SELECT count(*) FROM reading WHERE quality = 2 AND point_id = ANY (%s)", live) == (0,)
        told = await metrics(site)
        assert all(f'bacpipes_device_silent{{device="{device}"}} 1.0' in told for device in DEAD)
        assert "bacpipes_devices_silent 2.0" in told
        named = [finding.text for finding in await examine(site.settings) if finding.subject == "device"]
        assert [text[:5] for text in named] == [str(device) for device in sorted(DEAD)]
        site.building.clear()
        good = "SELECT count(*) FROM last_value WHERE quality = 0 AND point_id = ANY (%s)"
        await until(lambda: site.one(good, dead) == (len(dead),), "they are polled again", 90)
        moment = await settled(site)
        assert account(site, moment).lost == 0
        assert "bacpipes_device_silent{" not in await metrics(site)


async def test_a_point_that_makes_requests_fail_is_named_and_costs_no_other(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    """bacpypes3's own codec loses a whole answer that holds a Null: the reader finds the point and sets it apart."""
    library = settings.model_copy(update={"bacnet_fast_codec": False})
    async with Site(library, broker) as site:
        site.building.fault("null", "12345:ai:101")
        site.start_worker()
        await site.readings(3)
        quarantined = "SELECT count(*) FROM last_value WHERE reason LIKE 'quarantined: %%'"
        await until(lambda: site.one(quarantined) == (1,), "it is in quarantine")
        assert site.one("SELECT count(DISTINCT point_id) FROM reading WHERE quality = 2") == (1,)
        assert 'bacpipes_point_quarantined{device="12345",object="analog-input:101"} 1.0' in await metrics(site)
        found = [finding.text for finding in await examine(site.settings) if finding.subject == "points"]
        assert any("1 points are in quarantine" in text and "duxton.ahu.1.sensor.temp" in text for text in found), found
        moment = await settled(site)
        assert account(site, moment).lost == 0


async def test_a_device_that_is_too_slow_keeps_what_goes_first(settings: Settings, broker: EmbeddedBroker) -> None:
    """A dozen requests of a quarter of a second each for every slot of two seconds."""
    async with Site(settings, broker) as site:
        site.import_points(interval="2")
        named = "UPDATE point SET {} WHERE object_type || ':' || object_instance = ANY (%s) RETURNING id"
        first, last, quick = ["analog-value:120", "binary-value:322"], ["analog-input:101"], ["analog-input:102"]
        chosen = {}
        for name, change, objects in (
            ("first", "poll_priority = 'high'", first),
            ("last", "poll_priority = 'low'", last),
            ("quick", "interval_seconds = 1", quick),
        ):
            found = site.database.execute(named.format(change), [objects]).fetchall()  # type: ignore[arg-type]
            chosen[name] = [row[0] for row in found]
            assert len(chosen[name]) == len(objects)
        site.building.fault("small-apdu", AHU, 128)
        site.building.fault("late", AHU, 0.25)
        worker = site.spawn_worker(BACPIPES_BACNET_TIMEOUT="3")
        reads = "SELECT count(*) FROM reading WHERE quality = 0 AND point_id = ANY (%s)"
        others = "SELECT array_agg(id) FROM point WHERE enabled AND NOT id = ANY (%s)"
        rest = site.one(others, [point for some in chosen.values() for point in some])[0]
        each = "SELECT min(n) FROM (SELECT count(r.time) AS n FROM point p LEFT JOIN reading r ON r.point_id = p.id"
        each += " WHERE p.id = ANY (%s) GROUP BY p.id) AS counted"
        await until(lambda: site.one(each, rest)[0] >= 2, "all of one priority have their turn", 120)
        await until(lambda: site.one(reads, chosen["quick"])[0] >= 20, "the short interval goes on", 120)
        told = await metrics(site)
        assert f'bacpipes_device_behind{{device="{AHU}"}} 1.0' in told
        assert f'bacpipes_reads_shed{{device="{AHU}"}}' in told
        found = [finding.text for finding in await examine(site.settings) if finding.subject == "device"]
        assert [text[:5] for text in found] == [str(AHU)]
        moment = site.one("SELECT extract(epoch FROM min(time)) FROM last_value")[0]
        counts = {name: account(site, float(moment), points) for name, points in (*chosen.items(), ("rest", rest))}
        assert all(found.lost == found.twice == 0 for found in counts.values()), counts
        learning = 3  # slots, until the batches have the size that the device can answer
        assert counts["first"].in_gaps <= learning * len(first), counts
        assert counts["quick"].in_gaps <= learning, counts
        assert counts["rest"].in_gaps > counts["rest"].rows / 2, counts
        site.building.clear()
        behind = "bacpipes_device_behind{"
        for _ in range(3000):
            if behind not in await metrics(site):
                break
            await asyncio.sleep(0.02)
        assert behind not in await metrics(site)
        worker.terminate()
        _, log = await asyncio.to_thread(worker.communicate)
        told_once = [line for line in log.splitlines() if "device is too slow for its interval" in line]
        assert len(told_once) == 2, told_once  # begins, ends
