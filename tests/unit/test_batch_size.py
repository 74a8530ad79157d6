"""How many points a request has, over days; time is the test's own."""

import pytest

from bacpipes.worker import batch_size
from bacpipes.worker.batch_size import GROW_AFTER, BatchSize


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(batch_size, "time", clock)
    return clock


def test_it_fits_the_answer() -> None:
    assert [BatchSize(octets).points for octets in (None, 50, 480, 1024, 1476)] == [20, 1, 20, 44, 63]


def test_an_abort_halves_it_and_it_stays_so(clock: Clock) -> None:
    batch = BatchSize(1476)
    batch.aborted(63)
    batch.aborted(31)
    clock.now += GROW_AFTER - 1
    assert (batch.points, batch.kept) == (15, 15)
    batch.aborted(63)  # an earlier request, answered late
    assert batch.points == 15


def test_it_grows_by_a_quarter_a_day_up_to_the_limit(clock: Clock) -> None:
    batch = BatchSize(1476)
    batch.aborted(20)
    sizes = []
    while batch.kept is not None:
        clock.now += GROW_AFTER
        sizes.append(batch.points)
        assert batch.answered(batch.points)
    assert sizes == [12, 15, 18, 22, 27, 33, 41, 51, 63]
    assert batch.points == 63


@pytest.mark.parametrize("end", ["aborted", "unanswered"])
def test_a_trial_that_fails_is_not_repeated_soon_and_takes_nothing_away(clock: Clock, end: str) -> None:
    batch = BatchSize(1476, 10, clock.now - GROW_AFTER)
    getattr(batch, end)(batch.points)
    assert (batch.points, batch.kept) == (10, 10)
    clock.now += GROW_AFTER
    assert batch.points == 12


def test_a_request_with_few_points_proves_nothing(clock: Clock) -> None:
    batch = BatchSize(1476, 10, clock.now - GROW_AFTER)
    assert not batch.answered(10)
    assert batch.points == 12


def test_a_clock_that_was_ahead_does_not_keep_it_small_for_ever(clock: Clock) -> None:
    assert BatchSize(1476, 10, clock.now + 10 * GROW_AFTER).points == 12
