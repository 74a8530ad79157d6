"""No two readings of a device share a millisecond, whatever the clock does."""

from bacpipes.reading import Reading
from bacpipes.worker.moments import Moments

START = 1_800_000_000_000


def poll(moments: Moments, *times: int) -> list[int]:
    return [reading.at for reading in moments.apart([Reading(n, at, 1.0) for n, at in enumerate(times)])]


def test_what_is_apart_stays_as_it_is() -> None:
    moments = Moments()
    assert poll(moments, START + 5, START + 9) == [START + 5, START + 9]
    assert poll(moments, START + 1005, START + 1007) == [START + 1005, START + 1007]


def test_two_polls_of_one_millisecond() -> None:
    moments = Moments()
    assert poll(moments, START) == [START]
    assert poll(moments, START, START + 3) == [START + 1, START + 4]


def test_an_hour_that_comes_twice_and_thrice() -> None:
    """Polls answer at the same milliseconds of each second, as they do on a grid."""
    moments = Moments()
    seen: list[int] = []
    for _ in range(3):
        passed = [at for second in range(3600) for at in poll(moments, START + second * 1000 + 12 + second % 5)]
        assert passed == sorted(passed)
        seen += passed
    assert len(set(seen)) == 3 * 3600
    assert poll(moments, START + 3_600_012) == [START + 3_600_012], "later than all before it needs no moving"
