"""A clock that jumps, at the site or at central: each reading is at central once, under the time that the site gave it.

The processes' clocks are libfaketime's; the site's database keeps the machine's. What is further ahead of central's
clock than its skew allows is counted there, and the comparison brings it when its time has come.
"""

from collections.abc import Iterator
from datetime import timedelta

import pytest

import live_parts
import telegraf
from bacpipes.central import migrate
from central_parts import central_settings
from engines import NoServerError
from fault_parts import FAKETIME, OtherClock, System, clock_variables, write_clock
from live_parts import wait

pytestmark = [
    pytest.mark.skipif(
        not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
    ),
    pytest.mark.skipif(
        not FAKETIME.exists(), reason="CLOCKS THAT JUMP ARE NOT TESTED: as root, apt-get install faketime"
    ),
]
SKEW = 10  # seconds that central allows
POLL = 100  # readings of one, and some more


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The worker and central's database have clocks that can be set."""
    try:
        telegraf.telegraf()
        central = OtherClock()
    except (telegraf.NoTelegrafError, NoServerError) as error:
        pytest.skip(f"CLOCKS THAT JUMP ARE NOT TESTED: {error}")
    with System(tmp_path_factory.mktemp("system"), central) as system:
        migrate.migrate(central_settings(system.central_url, live_skew=SKEW))
        set_site_s_clock(system, 0)
        system.worker.stop()
        system.worker.environment |= clock_variables(FAKETIME, system.folder / "clock")
        system.worker.start()
        yield system


def set_site_s_clock(system: System, seconds: int) -> None:
    """The worker is so far ahead from now on."""
    write_clock(system.folder / "clock", seconds)


def future(system: System) -> int:
    """What central has counted as too far ahead."""
    counted = "SELECT coalesce(sum(count), 0)::int FROM quarantine WHERE rule = 'future'"
    return int(system.one(counted, central=True)[0])


def test_the_site_s_clock_goes_forwards_and_back(system: System) -> None:
    span = system.begin()
    steps = system.metric("bacpipes_clock_steps_total")
    set_site_s_clock(system, 2 * SKEW)
    wait(lambda: future(system) >= 6 * POLL, "three polls and more are counted by both lanes")
    assert system.compare(span.since).remaining == []
    set_site_s_clock(system, 0)
    wait(lambda: system.metric("bacpipes_clock_steps_total") == steps + 2, "the worker sees its clock go back")
    present, back = "SELECT exists(SELECT FROM reading WHERE time > %s AND time < now())", system.now()
    wait(lambda: system.one(present, back)[0], "it polls under the present time")
    ahead = system.one("SELECT max(time) FROM reading")[0]  # so nothing younger is on its way
    assert ahead > system.now(), "nothing that is ahead is compared"
    wait(lambda: system.now() > ahead, "its time has come", 60)
    system.flow(0)
    found = system.compare(span.since)
    assert found.sent_rows > 0
    span.equal(until=ahead + timedelta(milliseconds=1))


@pytest.mark.parametrize("seconds", [4, 3600])
def test_the_site_s_clock_goes_back_and_forwards(system: System, seconds: int) -> None:
    span = system.begin()
    span.since -= timedelta(seconds=seconds)
    before, older = future(system), "SELECT count(*) FROM reading WHERE time >= %s AND time < %s"
    until = span.since + timedelta(seconds=seconds)
    had = system.one(older, span.since, until)[0]
    set_site_s_clock(system, -seconds)
    if seconds > 60:  # slots that were polled are not polled again
        wait(lambda: system.one(older, span.since, until)[0] >= had + 3 * POLL, "polls under the older time", 60)
    else:
        system.flow(2)
    set_site_s_clock(system, 0)
    system.flow(2)
    span.equal()
    assert future(system) == before


def test_central_s_clock_goes_forwards_and_back(system: System) -> None:
    span, before = system.begin(), future(system)
    set_central_s_clock(system, 3600)
    system.flow(3)
    set_central_s_clock(system, 0)
    system.flow(2)
    span.equal()
    system.live_lane_drained()
    assert future(system) == before


def test_central_s_clock_goes_back_and_forwards(system: System) -> None:
    """Every reading of the present is too far ahead for it meanwhile."""
    span, before = system.begin(), future(system)
    set_central_s_clock(system, -3600)
    wait(lambda: future(system) >= before + 6 * POLL, "all is counted, on both lanes")
    set_central_s_clock(system, 0)
    until = system.now()
    system.flow(1)
    assert system.compare(span.since).sent_rows > 0
    span.equal(until=until)


def set_central_s_clock(system: System, seconds: int) -> None:
    """Its database is so far ahead from now on, and says so."""
    assert isinstance(system.central, OtherClock)
    system.central.set_clock(seconds)
    (apart,) = system.one("SELECT extract(epoch FROM clock_timestamp() - %s)", system.now(), central=True)
    assert abs(float(apart) - seconds) < 2, "the clock was not set"
