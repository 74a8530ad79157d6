"""Against short-cycling: writes a minute, and minimum on and off times, on a whole site."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bacpipes.embedded import EmbeddedBroker
from bacpipes.settings import Settings
from bacpipes.writes.pace import Pace, violations
from mqtt_parts import until
from point_parts import point
from site_parts import AHU, SETPOINT, SETPOINT_TOPIC, Site

SWITCH = {"deviceId": AHU, "objectType": "binary-value", "objectInstance": 321}


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    limited = settings.model_copy(update={"write_rate_limit": 3, "write_min_on": 3600.0})
    async with Site(limited, broker) as site:
        site.database.execute("UPDATE point SET writable = true, function = 'sp' WHERE object_instance = 321")
        site.start_worker()
        await site.readings()
        yield site


async def test_a_point_takes_so_many_writes_a_minute_also_across_a_restart(site: Site) -> None:
    for value in (61.0, 62.0, 63.0):
        assert (await site.write(**SETPOINT, value=value))["success"]
    refused = await site.write(**SETPOINT, value=64.0)
    assert (refused["success"], refused["codes"]) == (False, ["rate-limited"])
    await site.stop_worker()
    heard = len(site.published(SETPOINT_TOPIC))
    site.start_worker()
    await until(lambda: len(site.published(SETPOINT_TOPIC)) > heard, "the worker is connected")
    assert (await site.write(**SETPOINT, value=64.0))["codes"] == ["rate-limited"]
    assert [write.value for write in site.building.writes] == [61.0, 62.0, 63.0]
    assert (await site.write(**SETPOINT, release=True))["success"], "a release is never held back"
    site.database.execute("UPDATE point SET writes_per_minute = 5 WHERE object_instance = 120")
    assert (await site.write(**SETPOINT, value=64.0))["success"], "the point's own limit"


async def test_equipment_stays_off_and_on(site: Site) -> None:
    site.database.execute("UPDATE point SET min_off_seconds = 2, writes_per_minute = 0 WHERE object_instance = 321")
    assert (await site.write(**SWITCH, value=0))["success"], "it was on before us"
    refused = await site.write(**SWITCH, value=1)
    assert (refused["success"], refused["codes"]) == (False, ["minimum-off-time"])
    assert (await site.write(**SWITCH, value=0))["success"], "that changes nothing"
    waited = "SELECT since < now() - INTERVAL '2 s' FROM write_pace"
    await until(lambda: site.one(waited)[0], "the minimum time passes")
    assert (await site.write(**SWITCH, value=1))["success"]
    assert (await site.write(**SWITCH, value=0))["codes"] == ["minimum-on-time"], "the site's default"
    assert (await site.write(**SWITCH, release=True))["success"]


@pytest.mark.parametrize(
    ("changes", "number", "there", "code"),
    [
        ({"recent": 5}, 1.0, 0.0, "rate-limited"),
        ({"recent": 4}, 1.0, 0.0, None),
        ({"recent": 9, "per_minute": 0}, 1.0, 0.0, None),
        ({"value": 1.0, "ago": 59.0}, 0.0, 1.0, "minimum-on-time"),
        ({"value": 1.0, "ago": 60.0}, 0.0, 1.0, None),
        ({"value": 0.0, "ago": 29.0}, 1.0, 0.0, "minimum-off-time"),
        ({"value": 0.0, "ago": 31.0}, 1.0, 0.0, None),
        ({"value": 0.0, "ago": 1.0}, 0.0, 1.0, None),  # somebody else switched it on since
        ({"value": 1.0, "ago": -5.0}, 0.0, 1.0, None),  # the clock was set back
        ({"value": 1.0, "ago": 1.0}, 1.0, 1.0, None),
        ({"value": 1.0, "ago": 1.0}, 1.0, None, None),
    ],
)
def test_when_it_is_too_soon(changes: dict[str, Any], number: float, there: float | None, code: str | None) -> None:
    pace = Pace(**({"per_minute": 5, "min_on": 60.0, "min_off": 30.0, "recent": 0} | changes))
    found = violations(point("binary-value"), number, there, pace)
    assert [violation.code for violation in found] == ([code] if code else [])


def test_analog_points_have_no_minimum_times() -> None:
    assert violations(point(), 1.0, 0.0, Pace(5, 60.0, 60.0, 0, 0.0, 1.0)) == []
