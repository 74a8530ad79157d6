"""kill -9 of each process between a device and central's history, while readings flow: afterwards central has every row
that the site has, once, and every read that was scheduled is such a row or lies in a gap.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest

import live_parts
from accounts import ACCOUNT, BEHIND, Account
from fault_parts import SITE, System, running
from live_parts import wait

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Readings flow; the tests follow one another on it."""
    with running(tmp_path_factory.mktemp("system"), "KILLS BETWEEN SITE AND CENTRAL ARE") as system:
        yield system


def worker(system: System) -> None:
    system.worker.kill()
    system.worker.start()


def broker_a(system: System) -> None:
    system.a.kill()
    system.a.start()


def broker_b(system: System) -> None:
    """The way is closed meanwhile, not open into the void: that stops Mosquitto 2.0.11 (test_bridge_reset.py)."""
    system.mqtt.cut()
    system.b.kill()
    system.b.start()
    system.mqtt.mend()


def telegraf(system: System) -> None:
    system.telegraf.kill()
    system.telegraf.start()


def site_s_database(system: System) -> None:
    """A backend is killed: the server ends all connections and recovers from its log."""
    backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'bacpipes committer'"
    os.kill(system.one(backend)[0], signal.SIGKILL)
    wait(lambda: not answers(system), "the server ends all connections")
    wait(lambda: answers(system, anew=True), "it has recovered", 60)


def answers(system: System, *, anew: bool = False) -> bool:
    """Does the site's database answer, over the connection that we have or over another one?"""
    try:
        if anew:
            system.database = psycopg.connect(system.site_url, autocommit=True)
        return bool(system.one("SELECT true")[0])
    except psycopg.OperationalError:
        return False


def central_s_database(system: System) -> None:
    """The server and all its children: they may write nothing more."""
    server = psutil.Process(system.central.pid)
    everyone = [server, *server.children(recursive=True)]
    for process in everyone:
        process.kill()
    psutil.wait_procs(everyone)
    system.central.stop()
    system.central.start(preload=True)


def site(system: System) -> None:
    """All of it, as by a power cut."""
    system.a.kill()
    system.worker.kill()
    backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'bacpipes test'"
    system.database.execute("SET application_name = 'bacpipes test'")
    os.kill(system.one(backend)[0], signal.SIGKILL)
    wait(lambda: answers(system, anew=True), "it has recovered", 60)
    system.a.start()
    system.worker.start()


def central(system: System) -> None:
    """All of it; Telegraf is away already."""
    system.mqtt.cut()
    system.b.kill()
    central_s_database(system)
    system.b.start()
    system.mqtt.mend()


OF_THE_LIVE_LANE = (broker_a, broker_b, telegraf)
VICTIMS = (worker, *OF_THE_LIVE_LANE, site_s_database, central_s_database, site, central)


@pytest.mark.parametrize("victim", VICTIMS, ids=lambda victim: victim.__name__)
def test_central_has_every_row_once(system: System, victim: Callable[[System], None]) -> None:
    span = system.begin()
    system.flow(1)
    if victim not in OF_THE_LIVE_LANE:  # the complete lane has to do it alone
        system.telegraf.stop()
    victim(system)
    system.flow(1)
    span.equal(180)
    if victim not in OF_THE_LIVE_LANE:
        system.telegraf.start()
    system.live_lane_drained(180)
    found = scheduled(system)
    assert (found.lost, found.twice) == (0, 0), found
    twice = "SELECT count(*) - count(DISTINCT (time, point_id)) FROM sensor_readings WHERE site_id = %s"
    assert system.one(twice, SITE, central=True)[0] == 0


def scheduled(system: System) -> Account:
    """What became of every read since the first one."""
    moment = time.time()
    wait(lambda: system.one(BEHIND, moment)[0] == 0, "every point is polled again", 60)
    wait(lambda: not (system.folder / "spool").exists(), "nothing waits on disk", 60)
    return Account(*system.database.execute(ACCOUNT, {"until": moment, "points": None}).fetchone())  # type: ignore[misc]
