"""Faults between the sites and central, while readings flow: afterwards central has every row that a site has, once.

`make test-faults` runs them and prints a line for each. klcc ships its log, macau's is taken by replication, and the
live lane brings the same rows beside either.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab import fleet
from lab.plan import LAN, MACHINES, SITES
from lab.shell import run, wait_until
from test_fleet import _lab

pytestmark = pytest.mark.faults

CATCH_UP = 240.0  # seconds until central has what the fault held up
CUT = float(os.environ.get("BACPIPES_TEST_LAB_CUT", "90"))  # seconds
ROWS = """
    SELECT count(*) || ' ' || coalesce(md5(string_agg(concat_ws(' ', (extract(epoch FROM time) * 1000)::bigint,
        device_id, object_type, object_instance, value, quality), ','
        ORDER BY time, device_id, object_type, object_instance)), '')
    FROM sensor_readings WHERE site_id = '{site}' AND time >= '{since}' AND time < '{until}'
"""
FRESH = "SELECT count(*) FROM sensor_readings WHERE quality = 'good' AND time > '{moment}'"
GAPS = "SELECT coalesce(sum(cardinality(point_ids)), 0) FROM gap WHERE site_id = '{site}' AND recorded_at >= '{since}'"
DRY = """
table bridge bacpipes_lab {{
    chain forward {{
        type filter hook forward priority 0;
        ip saddr {central} ip daddr {lan} drop
        ip daddr {central} ip saddr {lan} drop
    }}
}}
"""


@dataclass(frozen=True)
class Fault:
    """What happens, and how it is mended; most mend themselves."""

    title: str
    happens: Callable[[], object]
    mended: Callable[[], object] = lambda: None


def killed(machine: str, service: str) -> Callable[[], object]:
    """kill -9 of a container's process, and not of the container: as the kernel would."""

    def happens() -> None:
        pid = f"docker inspect -f '{{{{.State.Pid}}}}' bacpipes-{service}-1"
        before = fleet.ssh(machine, pid)
        fleet.ssh(machine, f"kill -9 {before}")
        wait_until(f"{service} at {machine} is another process", lambda: fleet.ssh(machine, pid) not in ("0", before))

    return happens


def crashed(machine: str) -> Callable[[], object]:
    """The machine loses its power, and has it again."""
    return lambda: (run("lxc-stop", "-n", machine, "-k"), run("lxc-start", "-n", machine))


def cut() -> None:
    """Nothing passes between central and the sites. Bridged packets: no rule of this host's own traffic meets them."""
    reach = f"timeout 3 bash -c '</dev/tcp/{MACHINES['klcc']}/8883' && echo open"
    assert fleet.ssh("central", reach, check=False) == "open"
    run("nft", "-f", "-", input=DRY.format(central=MACHINES["central"], lan=LAN))
    assert fleet.ssh("central", reach, check=False) == "", "the cut cuts nothing"
    time.sleep(CUT)  # the fault's length, not a wait for something


def whole() -> None:
    """The cut is mended."""
    run("nft", "delete", "table", "bridge", "bacpipes_lab", check=False)


FAULTS = [
    Fault("nothing at all", lambda: None),
    Fault(f"the WAN is cut for {CUT:.0f} s", cut, whole),
    *(
        Fault(f"kill -9 of {service} at {machine}", killed(machine, service))
        for machine, service in [
            ("klcc", "worker"), ("klcc", "broker"), ("klcc", "database"), ("macau", "database"),
            ("central", "broker"), ("central", "telegraf"), ("central", "database"), ("central", "subscriber"),
        ]
    ),
    *(Fault(f"{machine} loses its power", crashed(machine)) for machine in ("klcc", "macau", "central")),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def a_fleet() -> Iterator[None]:
    keep = "BACPIPES_TEST_LAB_KEEP" in os.environ  # by hand: the lab stands, and stays
    if not keep:
        _lab("up")
    yield
    whole()
    if not keep:
        _lab("down")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.title)
def test_central_has_every_row_once(fault: Fault, capsys: pytest.CaptureFixture[str]) -> None:
    since = {site: ask(site, "SELECT now()") for site in SITES}
    for site in SITES:
        wait_until(f"{site} reads", lambda site=site: reads_since(site, since[site]), 60)
    try:
        fault.happens()
    finally:
        fault.mended()
    for site in SITES:
        again = patiently(site, "SELECT now()")
        wait_until(f"{site} reads again", lambda site=site, again=again: reads_since(site, again), 180)
    for site in SITES:
        until = ask(site, "SELECT now()")
        began = time.monotonic()
        here, there = equal(site, since[site], until)
        gaps = ask(site, GAPS.format(site=site, since=since[site]))
        with capsys.disabled():
            rows = f"{here.split()[0]:>6} rows at the site, {there.split()[0]:>6} at central, {gaps:>4} points in gaps"
            print(f"\n{fault.title:<36} {site:<6} {rows}, equal after {time.monotonic() - began:.0f} s", end="")
        assert int(here.split()[0]) > 0
        assert here == there


def equal(site: str, since: str, until: str) -> tuple[str, str]:
    """Count and checksum on both sides, once they are the same or time is up."""
    query = ROWS.format(site=site, since=since, until=until)
    deadline = time.monotonic() + CATCH_UP
    while True:
        here, there = patiently(site, query), patiently("central", query)
        if here == there or time.monotonic() > deadline:
            return here, there
        time.sleep(2)


def reads_since(site: str, moment: str) -> bool:
    """Has a good reading been stored that is younger?"""
    return patiently(site, FRESH.format(moment=moment)) != "0"


def patiently(machine: str, query: str) -> str:
    """The answer, once the machine and its database are there to give one."""
    answer = ""

    def answers() -> bool:
        nonlocal answer
        answer = ask(machine, query)
        return bool(answer)

    wait_until(f"the database of {machine} answers", answers, 180)
    return answer


def ask(machine: str, query: str) -> str:
    """One value from a machine's database; empty where there is no answer."""
    words = " ".join(query.split()).replace('"', '\\"')
    psql = fleet.PSQL.replace("docker exec", "docker exec -e PGTZ=UTC")
    return fleet.ssh(machine, f'{psql} "{words}"', check=False)
