"""A clock that is set while polling goes on: nothing is lost, nothing is doubled."""

import time as real
from collections.abc import AsyncIterator

import pytest

from accounts import account, lost
from bacpipes.embedded import EmbeddedBroker
from bacpipes.settings import Settings
from mqtt_parts import until
from site_parts import SETPOINT_TOPIC, Site

MODULES = ("poller", "reader", "service", "cov", "steps")


class Clock:
    """Stands in for the module ``time`` where the worker polls; the database keeps its own."""

    def __init__(self) -> None:
        self.ahead = 0  # seconds

    def time(self) -> float:
        return real.time() + self.ahead

    def time_ns(self) -> int:
        return real.time_ns() + self.ahead * 1_000_000_000

    monotonic = staticmethod(real.monotonic)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in MODULES:
        monkeypatch.setattr(f"bacpipes.worker.{module}.time", clock)
    return clock


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker, clock: Clock) -> AsyncIterator[Site]:
    async with Site(settings, broker) as site:
        site.start_worker()
        await site.readings(3)
        yield site


def newest(site: Site) -> int:
    """The latest slot that all points were polled in."""
    return int(site.one("SELECT min(c) FROM (SELECT max(poll_cycle) AS c FROM reading GROUP BY point_id) AS each")[0])


async def polled_up_to(site: Site, cycle: int) -> None:
    await until(lambda: newest(site) >= cycle, f"slot {cycle} is polled", 60)


async def test_forwards(site: Site, clock: Clock) -> None:
    before = newest(site)
    clock.ahead = 25
    await polled_up_to(site, before + 28)
    found = account(site, newest(site))
    assert (found.lost, found.twice) == (0, 0), lost(site, newest(site))
    assert site.one("SELECT DISTINCT reason FROM gap") == ("the clock was set forwards",)
    assert found.in_gaps >= 20 * site.one("SELECT count(*) FROM point WHERE enabled")[0]


async def test_backwards_a_little(site: Site, clock: Clock) -> None:
    """As a time server steps it: slots that were polled are not polled again."""
    clock.ahead = -4
    before = newest(site)
    await polled_up_to(site, before + 3)
    moment = newest(site)
    found = account(site, moment)
    assert (found.lost, found.twice, found.in_gaps) == (0, 0, 0), lost(site, moment)


async def test_backwards_by_an_hour(site: Site, clock: Clock) -> None:
    """Polling goes on at once, under the new time, and each reading that was published is a row."""
    points = site.one("SELECT count(*) FROM point WHERE enabled")[0]
    before = newest(site)
    clock.ahead = -3600
    again = "SELECT count(*) FROM reading WHERE poll_cycle < %s"
    await until(lambda: site.one(again, before - 3000)[0] >= 4 * points, "polling goes on", 30)
    first = site.one("SELECT min(poll_cycle) FROM reading WHERE poll_cycle < %s", before - 3000)[0]
    found = account(site, first + 3)
    assert (found.lost, found.twice) == (0, 0)
    clock.ahead = 0  # and forwards again: over slots that are rows already
    await polled_up_to(site, before + 8)
    await site.stop_worker()
    heard = len({one["timestamp"] for one in site.published(SETPOINT_TOPIC)})
    rows = "SELECT count(*) FROM reading r JOIN point p ON p.id = r.point_id WHERE topic = %s"
    await until(lambda: len(site.published(SETPOINT_TOPIC)) >= site.one(rows, SETPOINT_TOPIC)[0], "all are published")
    assert heard == site.one(rows, SETPOINT_TOPIC)[0]
