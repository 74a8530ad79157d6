"""The lab from nothing to nothing: onboarded, onboarded again, drifted, broken, interrupted, rebooted, offboarded.

The tests build on each other in the order in which they stand. `python -m lab test` runs them.
"""

import csv
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab import building, engine, fleet, machines, network
from lab.plan import BUILDINGS, MACHINES, PROJECT, RELEASE, SITES
from lab.shell import run, wait_until

RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
SITE = "klcc"  # the one that is taken away and brought back
CONFIRM = ("-e", f"offboard_confirm={SITE}")
INTERRUPTIONS = ("lxc_container : ", "docker : ", "image : ", "timescaledb : ", "appliance : ")  # tasks of these roles

# Run on the machine: the server's certificate becomes one that its own key has signed and that ran out yesterday.
EXPIRE = """
from datetime import datetime, timedelta, timezone
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
folder = "/opt/bacpipes/tls/"
key = serialization.load_pem_private_key(open(folder + "server.key", "rb").read(), None)
old = x509.load_pem_x509_certificate(open(folder + "server.pem", "rb").read())
now = datetime.now(timezone.utc)
new = x509.CertificateBuilder(old.subject, old.subject, key.public_key(), x509.random_serial_number(),
    now - timedelta(days=3), now - timedelta(days=1)).sign(key, hashes.SHA256())
open(folder + "server.pem", "wb").write(new.public_bytes(serialization.Encoding.PEM))
"""


@pytest.fixture(scope="module", autouse=True)
def _nothing_before_and_nothing_after(request: pytest.FixtureRequest) -> Iterator[None]:
    keep = "BACPIPES_TEST_LAB_KEEP" in os.environ  # by hand: the lab stands, and stays
    if not keep:
        _lab("down")
    yield
    if request.session.testsfailed:
        _tell_what_the_databases_said()
    if not keep:
        _lab("down")


def test_from_nothing_to_a_verified_fleet() -> None:
    _lab("up")
    assert set(machines.ours()) == set(MACHINES)
    for site in SITES:
        assert _count(site, "sensor_readings WHERE quality = 'good'") > 0, site


def test_the_image_is_small_over_its_base() -> None:
    """Every site gets it over its line."""
    versions = yaml.safe_load((PROJECT / "playbooks" / "group_vars" / "all" / "versions.yml").read_text())
    names = f"bacpipes/appliance:{versions['versions_appliance']}", f"{engine.PREFIX}/python:{RELEASE}"
    whole, base = (
        int(run("docker", "--host", engine.HOST, "image", "inspect", "--format", "{{.Size}}", name).stdout)
        for name in names
    )
    assert 0 < whole - base < 200_000_000


def test_a_second_run_changes_nothing() -> None:
    status, text = _play("commission", "--skip-tags", "verify")
    assert status == 0, text[-3000:]
    assert _changed(text) == dict.fromkeys(("central", *SITES), 0), _what_changed(text)


@pytest.mark.faults
def test_check_mode_on_a_converged_site_is_clean() -> None:
    _lab("up")
    status, text = _play("onboard", "--check", "--diff", "-l", SITE)
    assert status == 0, text[-3000:]
    assert _changed(text) == {SITE: 0}, _what_changed(text)


def test_check_mode_tells_the_truth_about_a_drift_and_a_run_repairs_it() -> None:
    file = "/opt/bacpipes/broker.yaml"
    before = fleet.ssh(SITE, f"sha256sum {file}")
    fleet.ssh(SITE, f"echo '# by hand' >> {file}")
    drifted = fleet.ssh(SITE, f"sha256sum {file}")
    status, text = _play("onboard", "--check", "--diff", "-l", SITE, "--tags", "mqtt_broker")
    assert status == 0, text[-3000:]
    assert _changed(text)[SITE] > 0
    assert "-# by hand" in text
    assert fleet.ssh(SITE, f"sha256sum {file}") == drifted
    status, text = _play("onboard", "-l", SITE, "--tags", "mqtt_broker")
    assert status == 0, text[-3000:]
    assert fleet.ssh(SITE, f"sha256sum {file}") == before


def test_tags_work_role_by_role() -> None:
    status, text = _play("onboard", "-l", SITE, "--tags", "base")
    assert status == 0, text[-3000:]
    # every role's variables are validated in any case, and the preflight, the first play, is for all
    preflight, after = text.split("PLAY [Build what the machines are sent]")
    assert "TASK [site : Refuse what is wrong in the inventory]" in preflight
    played = re.findall(r"^TASK \[(\w+) : (?!Validating arguments)", after, re.MULTILINE)
    assert set(played) == {"base"}


def test_an_error_of_one_site_stops_all_before_anything_changes(tmp_path: Path) -> None:
    wrong = tmp_path / "hosts.yml"
    wrong.write_text(
        "sites:\n  hosts:\n    third:\n      ansible_host: 10.87.0.23\n      site: {id: macau, name: Twice}\n"
    )
    status, text = _play("onboard", "-i", str(wrong))
    assert status != 0
    assert re.search(r"third: site\.id macau", text), text[-3000:]
    assert not re.search(r"TASK \[(lxc_container|base|docker) : ", text)


def test_verification_fails_when_the_worker_is_gone() -> None:
    fleet.ssh(SITE, "docker stop -t 10 bacpipes-worker-1")
    try:
        status, text = _play("verify", "-l", SITE)
    finally:
        fleet.ssh(SITE, "docker start bacpipes-worker-1")
    assert status != 0
    assert re.search(r"FAILED: \d+ of \d+ checks", text), text[-3000:]
    assert re.search(r"failed +[\d.]+ s +All services run", text), text[-3000:]


def test_the_site_survives_kill_restart_and_reboot() -> None:
    status, text = _play("verify", "-l", SITE, "-e", "verify_intrusive=true")
    assert status == 0, text[-4000:]


def test_a_setpoint_from_central_reaches_its_site_alone_and_is_given_back() -> None:
    before = {each.site: building.ask(each.site, "writes").splitlines() for each in BUILDINGS}
    queue = (
        "INSERT INTO write_commands (job_id, site_id, point_id, value, reason, release_after)"  # noqa: S608 (constants)
        " SELECT 'lab-' || gen_random_uuid(), site_id, id, 57, 'the lab', 2 FROM point"
        f" WHERE haystack_name = '{SITE}.ahu.1.sp.humidity.air.return.effective' RETURNING job_id"
    )
    job = fleet.ssh("central", f'{fleet.PSQL} "{queue}"').splitlines()[0]
    status = f"SELECT status FROM write_command_status WHERE job_id = '{job}'"  # noqa: S608 (a UUID)
    wait_until("the result is at central", lambda: "completed" in fleet.ssh("central", f'{fleet.PSQL} "{status}"'))

    def since(site: str) -> list[str]:
        return building.ask(site, "writes").splitlines()[len(before[site]) :]

    wait_until("the value is given back", lambda: len(since(SITE)) == 2)
    assert ["= 57.0, priority 8" in since(SITE)[0], "= release, priority 8" in since(SITE)[1]] == [True, True]
    assert [since(each.site) for each in BUILDINGS if each.site != SITE] == [[]]


def test_offboarding_without_the_sites_id_changes_nothing() -> None:
    status, text = _play("offboard", "-l", SITE, "-e", "offboard_confirm=somebody-else")
    assert status != 0
    assert "nothing was changed" in text
    assert SITE in machines.ours()


def test_offboarding_keeps_the_data_and_takes_the_machine_away() -> None:
    rows = _count(SITE, "sensor_readings")
    status, text = _play("offboard", "-l", SITE, *CONFIRM)
    assert status == 0, text[-3000:]
    assert SITE not in machines.ours()
    export = fleet.INVENTORY / "offboarded" / SITE / "sensor_readings.csv.gz"
    with gzip.open(export, "rt", encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) >= rows > 0


@pytest.mark.faults
def test_an_expired_certificate_stops_neither_polling_nor_publishing() -> None:
    _lab("up")
    fleet.ssh(SITE, f"python3 -c {shlex.quote(EXPIRE)}")
    status, text = _play("onboard", "-l", SITE, "--tags", "timescaledb,mqtt_broker")
    assert status == 0, text[-3000:]
    since = fleet.ssh(SITE, "date -u +%FT%TZ; docker restart -t 10 $(docker ps -q) >/dev/null")
    ready = "docker exec bacpipes-worker-1 bacpipes health worker || true"  # among its conditions: the broker answers
    wait_until("the worker is ready", lambda: "is ready" in fleet.ssh(SITE, ready), 90)
    fresh = f"sensor_readings WHERE time > '{since}' AND quality = 'good'"
    wait_until("readings go on", lambda: _count(SITE, fresh) > 0, 90)
    status, text = _play("verify", "-l", SITE)
    assert status != 0
    assert "The site's certificate is the right one and in date" in _failed_checks(SITE)
    status, text = _play("onboard", "-l", SITE)
    assert status == 0, text[-4000:]


@pytest.mark.faults
def test_check_mode_on_a_site_that_does_not_exist_yet() -> None:
    status, text = _play("onboard", "--check", "--diff", "-l", SITE)
    assert status == 0, text[-3000:]
    assert SITE not in machines.ours()


@pytest.mark.faults
def test_one_more_site_from_nothing_to_verified() -> None:
    began = time.monotonic()
    status, text = _play("onboard", "-l", SITE)
    assert status == 0, text[-4000:]
    print(f"\nOne more site, from nothing to verified: {time.monotonic() - began:.0f} s")
    assert _count(SITE, "sensor_readings WHERE quality = 'good'") > 0


def test_what_reached_the_building_is_what_verification_wrote() -> None:
    for each in BUILDINGS:
        lines = building.ask(each.site, "writes").splitlines()
        assert lines, f"nothing was written at {each.site}"
        assert {line.split(" = ")[0] for line in lines} == {"12345:analog-value:120 present-value"}, lines


@pytest.mark.faults
def test_an_interrupted_onboarding_ends_right_when_it_is_run_again() -> None:
    _lab("up")
    status, text = _play("offboard", "-l", SITE, *CONFIRM)
    assert status == 0, text[-3000:]
    for role in INTERRUPTIONS:
        assert _kill_in(role), f"no task of {role} was reached"
    status, text = _play("onboard", "-l", SITE)
    assert status == 0, text[-4000:]
    status, text = _play("onboard", "-l", SITE, "--skip-tags", "verify")
    assert status == 0, text[-3000:]
    assert _changed(text) == {SITE: 0}, _what_changed(text)


def test_down_leaves_nothing() -> None:
    _lab("down")
    assert machines.leftovers() == []
    assert network.leftovers() == []
    assert not fleet.STATE.exists()


def _tell_what_the_databases_said() -> None:
    """Before the machines go: what a server that crashed has written down."""
    for machine in sorted(MACHINES.keys() & machines.ours()):
        log = "docker logs bacpipes-database-1 2>&1 | grep -E 'PANIC|FATAL|terminated|crash|recovery' | tail -20"
        print(f"\n── database of {machine}\n{fleet.ssh(machine, f'{log} || true')}")


def _lab(verb: str) -> None:
    environment = fleet.environment() | {"PYTHONPATH": str(PROJECT / "tests" / "lab")}
    done = subprocess.run([sys.executable, "-m", "lab", verb], cwd=PROJECT, env=environment, check=False)
    assert done.returncode == 0, f"lab {verb} ended with status {done.returncode}; its words are above"


def _play(playbook: str, *arguments: str) -> tuple[int, str]:
    """Status and output of an operator's playbook."""
    done = subprocess.run(
        fleet.command(playbook, *arguments),
        cwd=PROJECT,
        env=fleet.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _kill_in(role: str) -> bool:
    """Start onboarding, and kill it the hard way in the fourth task of a role; whether that task was reached."""
    process = subprocess.Popen(
        fleet.command("onboard", "-l", SITE),
        cwd=PROJECT,
        env=fleet.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    seen = 0
    for line in process.stdout:
        seen += line.startswith(f"TASK [{role}")
        if seen == 4:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.stdout.close()
    process.wait()
    wait_until("the killed run is gone", lambda: not _alive(process.pid))
    return seen == 4


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _count(site: str, what: str) -> int:
    return int(fleet.ssh(site, f'{fleet.PSQL} "SELECT count(*) FROM {what}"'))  # noqa: S608 (constants)


def _failed_checks(site: str) -> set[str]:
    """Titles of the checks that failed in the site's last record."""
    record = json.loads((fleet.VERIFIED / f"{site}.json").read_text())
    return {check["title"] for check in record["checks"] if check["status"] == "failed"}


def _changed(text: str) -> dict[str, int]:
    """Host → tasks that changed something, from the play's recap."""
    found = {host: int(changed) for host, _, changed, _, _ in RECAP.findall(text) if host in MACHINES}
    assert found, f"no recap in: {text[-2000:]}"
    return found


def _what_changed(text: str) -> str:
    """The tasks that changed something, for a failure's message."""
    task, told = "", []
    for line in text.splitlines():
        if line.startswith("TASK ["):
            task = line.split("]")[0] + "]"
        elif line.startswith("changed:"):
            told.append(f"{task} {line}")
    return "\n".join(told)
