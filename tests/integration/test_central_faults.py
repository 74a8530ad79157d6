"""Faults between a site and central: afterwards central has every row that the site has, once.

The short forms follow one another on one system; the long ones are marked ``faults`` and print their counts too.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import live_parts
from bacpipes.embedded import LOOPBACK
from fault_parts import SITE, Process, SmallDisk, System, bacpipes, running
from live_parts import wait
from wan import THERE, NoLinkError, Quality, Relay, SlowLink

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
DROP = 1 << 20  # octets that the server may set free between two looks at a disk that is full
LTE = Quality(loss=0.01, round_trip=0.2, rate=1e6)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Readings flow; the tests follow one another on it."""
    folder = tmp_path_factory.mktemp("system")
    with running(folder, "FAULTS BETWEEN SITE AND CENTRAL ARE", SmallDisk, queue=1000) as system:
        yield system


def test_nothing_at_all(system: System) -> None:
    span = system.begin()
    system.flow(3)
    span.equal()


def overflow(system: System, count: int) -> None:
    """The WAN is cut until broker A has thrown so many messages away."""
    span = system.begin()
    system.cut()
    before = system.dropped()
    wait(lambda: system.dropped() > before + count, "broker A drops", 600)
    wait(lambda: system.metric("bacpipes_ship_connected") == 0, "the worker's metrics tell of the cut")
    assert "the bridge to central is down: macau" in system.run("doctor").stdout
    system.mend()
    span.equal(180)
    system.live_lane_drained()
    live, rows = span.offered()[0], span.rows()
    print(f"dropped {system.dropped() - before}: the live lane brought {live} of {rows}")
    assert live < rows


def test_a_cut_that_overflows_broker_a_s_queue(system: System) -> None:
    overflow(system, 100)
    with system.exporter() as url:
        wait(lambda: dropped_by_metrics(url) == system.dropped(), "the exporter's metrics tell it")
    before, said, after = system.dropped(), system.run("doctor").stdout, system.dropped()
    told = re.search(r"(\d+) messages found a full queue since the broker's start, and were dropped", said)
    assert told, said
    assert before <= int(told[1]) <= after  # the broker may count on meanwhile


def dropped_by_metrics(url: str) -> float:
    """What the exporter says."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("bacpipes_broker_dropped_messages ")))


@pytest.mark.faults
def test_a_cut_that_overflows_it_twenty_times(system: System) -> None:
    overflow(system, 20_000)


def full_disk(system: System, seconds: float) -> None:
    """At central, for so long."""
    disk = system.central
    assert isinstance(disk, SmallDisk)
    span = system.begin()
    said = len(system.telegraf.log())
    disk.fill()
    wait(lambda: "central" in system.not_ready(), "the shipper says that it has stopped", 60)
    wait(lambda: "rror" in system.telegraf.log()[said:], "Telegraf says so too", 60)
    ends = system.now() + timedelta(seconds=seconds)
    while system.now() < ends:
        system.flow(1)
        disk.fill()  # the server deletes files of its own now and then: somebody else takes the room
    assert disk.free < DROP, "it is full to the end"
    wait(lambda: "central" in system.not_ready(), "it has not come back meanwhile", 60)
    system.telegraf.stop()  # what it could not write it has not acknowledged; the other lane has to do without its help
    disk.make_room()
    span.equal(180)
    system.telegraf.start()
    system.live_lane_drained()
    live, rows = span.offered()[0], span.rows()
    print(f"the live lane, which waited as well, brought {live} for {rows} rows afterwards")
    assert live >= rows, "the live lane has brought all of it too"
    wait(lambda: system.not_ready() == {}, "both lanes are open again", 90)


def test_a_full_disk_at_central(system: System) -> None:
    full_disk(system, 5)


@pytest.mark.faults
def test_a_disk_that_is_full_for_three_minutes(system: System) -> None:
    full_disk(system, 180)


def slow_and_lossy(system: System, seconds: float) -> None:
    """Both lanes go over the slow link for so long; the lag is told second by second."""
    with ExitStack() as stack:
        try:
            link = stack.enter_context(SlowLink(LTE))
        except NoLinkError as error:
            pytest.skip(f"THE SLOW AND LOSSY LINK IS NOT TESTED: {error}")
        before = [(relay, relay.target) for relay in (system.mqtt, system.sql)]
        for relay, target in before:
            far = stack.enter_context(Relay(target, link.listen()))
            relay.lead((THERE, far.port))
        dropped = system.dropped()
        span = system.begin()
        lags = []
        for _ in range(round(seconds)):
            system.flow(1)
            lags.append(system.lag())
        live, complete = ([round(lag[lane], 1) for lag in lags] for lane in (0, 1))
        told = (
            f"live {live}, complete {complete}"
            if seconds < 60
            else f"at most: live {max(live)}, complete {max(complete)}"
        )
        print(f"lag in seconds, {told}")
        span.equal(120)
        system.live_lane_drained(120)
        assert span.offered()[0] >= span.rows() - 500, "what was published within the last second is on its way"
        assert system.dropped() == dropped
        print(f"{link.carried} packets carried, {link.lost} lost")
        assert link.lost > 0
        for relay, target in before:
            relay.lead(target)


def test_a_slow_and_lossy_link(system: System) -> None:
    slow_and_lossy(system, 12)


@pytest.mark.faults
def test_a_slow_and_lossy_link_for_five_minutes(system: System) -> None:
    slow_and_lossy(system, 300)


def lost_slot(system: System, folder: Path, seconds: float) -> None:
    """Central, which takes the log by replication, is away until the site has given its slot up."""
    socket = Path(str(conninfo_to_dict(system.site_url)["host"])) / ".s.PGSQL.5432"
    central = {"BACPIPES_DATABASE_URL": system.central_url}
    with Relay(socket) as way:
        (folder / SITE).write_text(make_conninfo(f"host={LOOPBACK} dbname=site user=postgres", port=way.port))
        system.one("UPDATE site SET complete_lane = 'replication' WHERE id = 'macau' RETURNING 1", central=True)
        system.restart_worker(SHIP_READINGS="false")
        assert system.run("central", "publish").returncode == 0
        words = ("central", "subscribe", "--all", folder, "--every", "1")
        with Process(system.folder, "subscriber", central, *bacpipes(*words)) as subscriber:
            wait(lambda: "made; " in subscriber.log(), "the subscription is made", 60)
            system.telegraf.stop()  # no other lane helps
            span = system.begin()
            wait(lambda: span.offered()[1] > 0, "the log is followed")
            way.cut()
            for _ in range(20):  # more WAL than the bound allows
                system.one("SELECT pg_logical_emit_message(false, 'test', repeat('x', 8000000))")
                system.one("SELECT pg_switch_wal()")
            system.database.execute("CHECKPOINT")
            assert system.one("SELECT wal_status FROM pg_replication_slots") == ("lost",)
            told = "central was away for too long: its slot site_macau is given up"
            assert told in system.run("doctor").stdout
            listed = system.run("central", "site", "list", **central).stdout
            assert re.search(r"^macau +replication +(disabled|not working) ", listed, re.MULTILINE)
            system.flow(seconds)
            way.mend()
            wait(lambda: subscriber.log().count("made; ") == 2, "it is made anew", 60)
            span.equal()
            assert told not in system.run("doctor").stdout
            system.telegraf.start()
            system.live_lane_drained()
        assert system.run("central", "unsubscribe", SITE, **central).returncode == 0
    system.one("SELECT pg_drop_replication_slot('site_macau')")
    system.one("UPDATE site SET complete_lane = 'ship' WHERE id = 'macau' RETURNING 1", central=True)
    system.restart_worker(SHIP_READINGS="true")


def test_a_slot_that_is_lost(system: System, tmp_path: Path) -> None:
    lost_slot(system, tmp_path, 3)


@pytest.mark.faults
def test_a_slot_that_is_lost_for_three_minutes(system: System, tmp_path: Path) -> None:
    lost_slot(system, tmp_path, 180)
