"""Change of value: told at once, supervised, a slow poll behind it, back to polling where it fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import groupby
from typing import Any

import httpx
import pytest
from bacpypes3.apdu import ConfirmedCOVNotificationRequest, ErrorRejectAbortNack, UnconfirmedCOVNotificationRequest
from bacpypes3.pdu import Address

from accounts import gaps_of_another_reason, settled
from bacpipes.doctor import examine
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.settings import Settings
from bacpipes.worker import cov
from mqtt_parts import until
from site_parts import AHU, SETPOINT_TOPIC, Site

OBJECTS = ("analog-value:120", "binary-value:322")
SLOW = 4  # slots
OURS = "SELECT id FROM point WHERE object_type || ':' || object_instance = ANY (%s) ORDER BY object_type"


@pytest.fixture
def quick(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(cov, "RETRY_FIRST", 1.0)
    monkeypatch.setattr(cov, "REFUSED_FIRST", 1.0)
    monkeypatch.setattr(cov, "FIRST_WORD", 1.0)
    monkeypatch.setattr(cov, "GRACE", 0.5)
    return settings.model_copy(
        update={"bacnet_timeout": 0.5, "bacnet_retries": 0, "cov_poll": SLOW, "cov_lifetime": 10}
    )


@pytest.fixture
async def site(quick: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    """Two points ask for COV; the building's physics stand still, so that nothing changes by itself."""
    async with Site(quick, broker) as site:
        ask(site)
        yield site


def ask(site: Site) -> None:
    site.database.execute(
        "UPDATE point SET cov = true WHERE object_type || ':' || object_instance = ANY (%s)", [list(OBJECTS)]
    )


def subscribed(site: Site) -> list[str]:
    return [one[2] for one in site.building.devices[AHU].subscribed]


async def states(site: Site) -> dict[str, str | None]:
    async with httpx.AsyncClient() as client:
        body = (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/status")).json()
    return {point["object"]: point["reason"] for point in body["cov"]}


async def told(site: Site, count: int = len(OBJECTS)) -> None:
    """Wait until so many points are told by COV."""
    found: dict[str, str | None] = {}
    for _ in range(1500):
        with contextlib.suppress(httpx.ConnectError):  # the worker starts
            found = await states(site)
            if list(found.values()).count(None) == count and len(found) >= count:
                return
        await asyncio.sleep(0.02)
    pytest.fail(f"not {count} points are told: {found}")


def rows(site: Site, object_name: str, *, by_cov: bool) -> list[tuple[int, float | None, int]]:
    """Cycle, value, quality; by COV or by a poll."""
    return site.database.execute(
        "SELECT poll_cycle, value, quality FROM reading r JOIN point p ON p.id = r.point_id"
        " WHERE object_type || ':' || object_instance = %s AND (poll_duration = 0) = %s ORDER BY time",
        [object_name, by_cov],
    ).fetchall()


def setpoint(site: Site, value: float) -> None:
    site.building.commanded(AHU, "analog-value", 120).command(8, value)


async def heard(site: Site, value: float) -> None:
    await until(
        lambda: [one["value"] for one in site.published(SETPOINT_TOPIC)][-1:] == [value], f"{value} is published"
    )


@pytest.mark.parametrize("kind", ["unconfirmed", "confirmed"])
async def test_a_change_is_told_and_a_slow_poll_stands_behind_it(site: Site, kind: str) -> None:
    site.database.execute("UPDATE device SET cov = %s", [kind])
    site.start_worker()
    await told(site)
    assert sorted(subscribed(site)) == sorted(OBJECTS)
    for number in range(1, 6):
        setpoint(site, 60.0 + number)
        await heard(site, 60.0 + number)
    values = [value for value, _ in groupby(value for _, value, _ in rows(site, OBJECTS[0], by_cov=True))]
    assert values[-5:] == [61.0, 62.0, 63.0, 64.0, 65.0]  # a device may tell one twice: an acknowledgement was late
    await until(lambda: rows(site, OBJECTS[0], by_cov=False), "a first poll")
    begin = max(cycle for cycle, _, _ in rows(site, OBJECTS[0], by_cov=False))
    await until(lambda: rows(site, OBJECTS[0], by_cov=False)[-1][0] >= begin + 3 * SLOW, "slow polls", 30)
    polled = [cycle for cycle, _, _ in rows(site, OBJECTS[0], by_cov=False) if cycle > begin]
    expected = [cycle for cycle in range(begin + 1, polled[-1] + 1) if cycle % SLOW == 0]
    assert polled == expected, "each slot of the slow grid has its row, and only those"
    assert gaps_of_another_reason(site) == []


async def test_it_is_named_by_metrics_and_doctor(site: Site) -> None:
    site.start_worker()
    await told(site)
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text
    assert f'bacpipes_point_cov{{device="{AHU}",object="analog-value:120"}} 1.0' in metrics
    found = {f.text for f in await examine(site.settings) if f.subject == "COV"}
    assert found == {"2 points are told by COV: 12345 analog-value:120, 12345 binary-value:322"}
    site.building.fault("no-cov", AHU)
    await told(site, 0)
    (finding,) = [f for f in await examine(site.settings) if f.subject == "COV"]
    assert finding.text.startswith("2 points ask for COV and are polled instead: 12345 analog-value:120 (the device")


async def test_a_device_that_refuses_is_polled_in_every_slot(site: Site) -> None:
    site.building.fault("no-cov", AHU)
    site.start_worker()
    await site.readings(2 * SLOW, 30)
    assert set((await states(site)).values()) == {"the device refuses: rejected: unrecognized-service"}
    cycles = [cycle for cycle, _, _ in rows(site, OBJECTS[0], by_cov=False)]
    assert cycles == list(range(cycles[0], cycles[-1] + 1))
    site.building.clear()
    await told(site)


async def test_a_device_that_forgets_its_subscriptions_is_found_out_by_the_slow_poll(site: Site) -> None:
    """As after a restart: it acknowledges nothing, refuses nothing, and tells nothing."""
    site.start_worker()
    await told(site)
    site.building.devices[AHU].forget_subscriptions()
    setpoint(site, 71.0)
    await heard(site, 71.0)  # by the slow poll
    assert rows(site, OBJECTS[0], by_cov=False)[-1][1] == 71.0
    await until(lambda: OBJECTS[0] in subscribed(site), "it is subscribed again")
    await told(site)
    setpoint(site, 72.0)
    await heard(site, 72.0)


async def test_a_renewal_keeps_it_for_longer_than_its_lifetime(site: Site) -> None:
    site.start_worker()
    await told(site)
    newest = "SELECT max(poll_cycle) FROM last_value"
    await until(lambda: site.one(newest)[0] is not None, "a first poll is kept")
    before = site.one(newest)[0] + 1  # it was polled in each slot until it was told
    await until(lambda: (rows(site, OBJECTS[1], by_cov=False) or [(0,)])[-1][0] > before, "a slow poll")
    begun = rows(site, OBJECTS[1], by_cov=False)[-1][0]
    await until(lambda: rows(site, OBJECTS[1], by_cov=False)[-1][0] > begun + 16, "more than a lifetime", 40)
    polled = [cycle for cycle, _, _ in rows(site, OBJECTS[1], by_cov=False) if cycle > begun]
    assert all(cycle % SLOW == 0 for cycle in polled), "it never fell back to polling"
    assert sorted(subscribed(site)) == sorted(OBJECTS)


async def test_a_silent_device_has_a_bad_row_in_each_slot_and_is_subscribed_again(site: Site) -> None:
    site.start_worker()
    await told(site)
    site.building.fault("silent", AHU)
    bad = "SELECT count(DISTINCT poll_cycle) FROM reading WHERE quality = 2 AND point_id = %s"
    ours = site.one(OURS, list(OBJECTS))[0]
    await until(lambda: site.one(bad, ours)[0] >= 4, "its slots are bad rows", 30)
    site.building.clear()
    await told(site)
    setpoint(site, 73.0)
    await heard(site, 73.0)
    await settled(site)


async def test_it_unsubscribes_at_the_end_and_when_it_is_no_longer_asked_for(site: Site) -> None:
    site.start_worker()
    await told(site)
    site.database.execute("UPDATE point SET cov = false WHERE object_instance = 322")
    await until(lambda: subscribed(site) == [OBJECTS[0]], "one is left")
    site.database.execute("UPDATE device SET cov = 'off'")
    await until(lambda: subscribed(site) == [], "none is left")
    site.database.execute("UPDATE device SET cov = 'confirmed'")
    await told(site, 1)
    await site.stop_worker()
    assert subscribed(site) == []


async def test_nothing_piles_up_over_many_restarts_and_reconnects(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a worker that is killed the subscription stays, and the next one takes it up: never a second."""
    device: Any = site.building.devices[AHU]
    for _ in range(3):
        worker = site.spawn_worker(BACPIPES_COV_LIFETIME="600")
        await until(lambda: len(subscribed(site)) == len(OBJECTS), "it is subscribed", 30)
        worker.kill()
        await asyncio.to_thread(worker.communicate)
        assert len(subscribed(site)) == len(OBJECTS)
    monkeypatch.setattr(cov, "REFUSED_FIRST", 0.1)
    site.settings = site.settings.model_copy(update={"cov_lifetime": 1})  # a day of renewals in seconds
    site.start_worker()
    await told(site)
    listeners: Any = None
    for number in range(25):
        site.building.fault("no-cov", AHU)
        setpoint(site, 61.0 + number % 2)
        await told(site, 0)
        site.building.clear()
        await told(site)
        assert len(device.subscribed) <= len(OBJECTS)
        await until(lambda: len(device.subscribed) == len(OBJECTS), "both are subscribed, each once", 30)
        tasks = sum(1 for task in asyncio.all_tasks() if task.get_name().startswith("cov "))
        assert tasks == 1
        listeners = listeners or len(asyncio.all_tasks())
        assert len(asyncio.all_tasks()) <= listeners + 5


async def test_what_nobody_asked_for_is_counted_and_refused(site: Site) -> None:
    """From another address, under another number, for another object: none of it becomes a reading."""
    site.start_worker()
    await told(site)
    mine, process = site.building.devices[AHU], site.one(OURS, list(OBJECTS))[0]
    stranger = site.building.devices[67890]
    await until(lambda: rows(site, OBJECTS[0], by_cov=True), "the first value is a row")
    before = len(rows(site, OBJECTS[0], by_cov=True))

    def forge(sender: Any, kind: Any, number: int, name: str) -> Any:
        source = mine.points[OBJECTS[0]]
        detection: Any = mine._cov_detections[source.objectIdentifier]
        (template,) = detection.cov_subscriptions
        sent: list[Any] = []
        original, mine.cov_notification = mine.cov_notification, lambda _cov, apdu: sent.append(apdu)
        detection.send_cov_notifications(template)
        mine.cov_notification = original
        kind_, instance = name.split(":")
        return sender.request(
            kind(
                subscriberProcessIdentifier=number,
                initiatingDeviceIdentifier=sent[0].initiatingDeviceIdentifier,
                monitoredObjectIdentifier=f"{kind_},{instance}",
                timeRemaining=60,
                listOfValues=sent[0].listOfValues,
                destination=Address(site.settings.bacnet_address),
            )
        )

    forge(stranger, UnconfirmedCOVNotificationRequest, process, OBJECTS[0])
    forge(mine, UnconfirmedCOVNotificationRequest, process + 1000, OBJECTS[0])
    forge(mine, UnconfirmedCOVNotificationRequest, process, OBJECTS[1])
    with pytest.raises(ErrorRejectAbortNack, match="unknown-subscription"):
        await forge(stranger, ConfirmedCOVNotificationRequest, process, OBJECTS[0])
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text
    assert "bacpipes_cov_strays 4.0" in metrics
    assert len(rows(site, OBJECTS[0], by_cov=True)) == before


async def test_a_value_told_a_thousand_times_is_a_few_rows(site: Site) -> None:
    site.start_worker()
    await told(site)
    before = len(rows(site, OBJECTS[0], by_cov=True))
    for number in range(1000):
        setpoint(site, 60.0 + number % 7)
    setpoint(site, 69.5)
    await heard(site, 69.5)
    assert len(rows(site, OBJECTS[0], by_cov=True)) - before < 100
    newest = site.one("SELECT max(poll_cycle) FROM last_value")[0]
    await until(lambda: site.one("SELECT max(poll_cycle) FROM last_value")[0] >= newest + 2, "polling goes on")
