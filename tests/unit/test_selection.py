"""Which readings a point's publish policy selects."""

import math
from pathlib import Path

import pytest

from bacpipes.points.directory import Directory
from bacpipes.reading import Quality, Reading
from bacpipes.settings import Settings
from bacpipes.worker.selection import Policy, Selection
from conftest import make_settings
from point_parts import point

POLICY = Policy(deadband=0.5, heartbeat=60_000, interval=15_000)
LAST = Reading(7, 1_000_000, 20.0)


def after(seconds: float, value: float | None, quality: Quality = Quality.GOOD) -> Reading:
    return Reading(7, LAST.at + round(seconds * 1000), value, quality)


@pytest.mark.parametrize(
    ("reading", "selected"),
    [
        (after(15, 20.0), False),
        (after(15, 20.5), False),
        (after(15, 20.500001), True),
        (after(15, 19.5), False),
        (after(15, 19.4), True),
        (after(15, math.nan), True),
        (after(15, math.inf), True),
        (after(15, None, Quality.BAD), True),
        (after(15, 20.0, Quality.UNCERTAIN), True),
        (after(45, 20.0), False),
        (after(45.001, 20.0), True),
        (after(-3600, 20.0), True),
    ],
    ids=["same", "at the deadband", "beyond it", "below", "beyond below", "NaN", "infinite", "failed", "uncertain",
         "the next is in time", "the next would be late", "the clock was put back"],
)  # fmt: skip
def test_what_is_selected(reading: Reading, selected: bool) -> None:
    assert POLICY.selects(reading, LAST) is selected


def test_the_first_one_is() -> None:
    assert POLICY.selects(LAST, None)


def test_a_failure_that_lasts_is_told_once_a_heartbeat() -> None:
    failed = Reading(7, LAST.at, None, Quality.BAD, "timeout")
    assert not POLICY.selects(Reading(7, LAST.at + 15_000, None, Quality.BAD, "timeout"), failed)
    assert POLICY.selects(Reading(7, LAST.at + 46_000, None, Quality.BAD, "timeout"), failed)


def test_an_infinite_value_that_stays_is_no_change() -> None:
    assert not POLICY.selects(after(15, math.inf), Reading(7, LAST.at, math.inf))


def selection(settings: Settings, **policy: object) -> Selection:
    directory = Directory()
    directory.replace([point(**policy)])
    return Selection(settings, directory)


def test_the_deadband_is_from_what_went_out_last(tmp_path: Path) -> None:
    """A slow drift is told as soon as it has come far enough."""
    policy = selection(make_settings("", tmp_path), publish="change", deadband=0.5)
    news: dict[int, Reading] = {}
    readings = [Reading(7, n * 1000, 20 + n * 0.2) for n in range(8)]
    chosen = policy.choose(readings[:5], news) + policy.choose(readings[5:], news)
    assert [row.at for row in chosen] == [0, 3000, 6000]
    assert news == {7: chosen[-1]}


@pytest.mark.parametrize(
    ("policy", "site", "chosen"),
    [
        ({}, {}, 4),
        ({}, {"publish_policy": "change"}, 1),
        ({"publish": "every"}, {"publish_policy": "change"}, 4),
        ({"publish": "change"}, {}, 1),
        ({"publish": "change", "heartbeat": 120}, {}, 2),
        ({"publish": "change"}, {"publish_heartbeat": 120}, 2),
        ({"publish": "change", "heartbeat": 60}, {"publish_heartbeat": 900}, 4),
    ],
)
def test_a_point_s_own_policy_stands_over_the_site_s(
    policy: dict[str, object], site: dict[str, object], chosen: int, tmp_path: Path
) -> None:
    readings = [Reading(7, n * 60_000, 20.0) for n in range(4)]
    found = selection(make_settings("", tmp_path, **site), **policy).choose(readings, {})
    assert len(found) == chosen


def test_nothing_is_remembered_before_it_went_out(tmp_path: Path) -> None:
    chosen = selection(make_settings("", tmp_path), publish="change")
    news: dict[int, Reading] = {}
    assert chosen.choose([LAST], {}) == [LAST]
    assert chosen.choose([LAST], news) == [LAST]
    chosen.acknowledged(news)
    assert chosen.choose([after(1, 20.0)], {}) == []
