"""The grid, what was missed on it, and the spread of sites."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.reading import Gap, to_datetime, to_milliseconds
from bacpipes.worker.gaps import gaps_since
from bacpipes.worker.grid import Grid
from conftest import make_settings
from point_parts import point


@given(
    interval=st.integers(1, 86400),
    part=st.floats(0, 0.999),
    moment=st.floats(0, 4e9, allow_nan=False),
)
def test_a_moment_lies_in_its_slot(interval: int, part: float, moment: float) -> None:
    grid = Grid(interval, part * interval)
    cycle = grid.cycle(moment)
    assert grid.start(cycle) <= moment + 1e-6
    assert moment < grid.start(cycle + 1) + 1e-6


def test_slots_are_aligned_to_the_clock() -> None:
    minute = Grid(60)
    assert minute.start(minute.cycle(1_700_000_059.9)) % 60 == 0


def test_gaps_name_exactly_the_slots_that_nobody_polled() -> None:
    points = [point(id=1, interval=10), point(id=2, interval=10), point(id=3, interval=60), point(id=4, interval=10)]
    last = {1: 1010.0, 2: 1010.0, 3: 1020.0}  # the ends of the last slots; point 4 was never read
    gaps = gaps_since(last, points, lambda _interval: 0.0, 1055.0, "down")
    at = [datetime.fromtimestamp(seconds, UTC) for seconds in (1010, 1050)]
    assert gaps == [Gap((1, 2), at[0], at[1], "down")]


@pytest.mark.parametrize(
    ("interval", "now", "first"),
    [(1, 1000.5, 1000), (1, 1000.6, 1001), (60, 1069.9, 17), (60, 1070.1, 18), (15, 1027.4, 68), (15, 1027.6, 69)],
)
def test_polling_begins_with_a_slot_that_can_be_read(interval: int, now: float, first: int) -> None:
    """The present one where half of it, or ten seconds, are left; and the gap of a restart ends where it begins."""
    assert Grid(interval).first(now) == first
    last = (first - 3) * interval
    (missed,) = gaps_since({7: last}, [point(id=7, interval=interval)], lambda _interval: 0.0, now, "down")
    assert (missed.start.timestamp(), missed.end.timestamp()) == (last, first * interval)


def test_the_phase_spreads_sites_and_can_be_fixed(tmp_path: Path) -> None:
    def phase(site: str, fixed: float | None) -> float:
        return make_settings("postgresql:///", tmp_path, site_id=site, poll_phase=fixed).phase_of(15)

    phases = {phase(f"site{n}", None) for n in range(100)}
    assert len(phases) > 90
    assert all(0 <= one < 15 for one in phases)
    assert phase("macau", 0) == 0
    assert phase("macau", 20) == 5


@given(st.integers(-(10**12), 10**13))
def test_milliseconds_survive_the_database_type(milliseconds: int) -> None:
    assert to_milliseconds(to_datetime(milliseconds)) == milliseconds
