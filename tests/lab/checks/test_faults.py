"""What a site has to survive. Intrusive: only in the lab, or with the owner beside you."""

import zlib
from collections.abc import Callable
from typing import Any

from verification.machine import UnreachableError
from verification.observed import Observed, some
from verification.outcome import fail, wait_for

Observe = Callable[[str], None]

RETURN_SECONDS = 120
REBOOT_SECONDS = 240


def test_worker_crash(observed: Observed, observe: Observe) -> None:
    before = observed.container("worker")
    observed.begin_anew()
    observed.wait_for_readings(observed.patience)
    observed.machine.run("kill", "-9", str(before["pid"]))
    back = _back(observed, "worker", before["started"])
    if not back:
        remedy = "the service needs `restart: unless-stopped`; `docker compose logs worker`"
        fail(
            f"the worker back within {RETURN_SECONDS} s",
            observed.services_problem() or "the old one still runs",
            remedy,
        )
    middle = observed.sql("SELECT now() AS now")[0]["now"]
    _require_readings(observed, middle)
    observe(f"back after kill -9; {_account(observed)}")


def test_worker_killed(observed: Observed, observe: Observe) -> None:
    before = observed.container("worker")
    observed.machine.run("docker", "kill", before["name"])
    if not _back(observed, "worker", before["started"]):
        status = observed.container("worker")["status"]
        observed.machine.run("docker", "start", before["name"], check=False)  # leave the site as we found it
        # Docker takes `docker kill` for a wish, and its restart policy lets the container be.
        remedy = (
            "`systemctl status bacpipes-revive.timer`: it starts again what was killed; run onboard.yml --tags stack"
        )
        fail(f"the worker back within {RETURN_SECONDS} s", f"it is {status} (we started it again)", remedy)
    middle = observed.sql("SELECT now() AS now")[0]["now"]
    _require_readings(observed, middle)
    observe("back after docker kill; every device is read again")


def test_stack_restart(observed: Observed, observe: Observe) -> None:
    before = {each["service"]: each["started"] for each in observed.containers() if each["status"] == "running"}
    observed.machine.run("systemctl", "restart", "docker", seconds=300)
    _require_services(observed, "a restart of Docker")
    after = {each["service"]: each["started"] for each in observed.containers() if each["status"] == "running"}
    if same := [service for service in before if after.get(service) == before[service]]:
        observe(f"{some(same)} went on running")
    observed.listen()
    observed.begin_anew()
    _require_readings(observed, observed.began)
    observe("all services healthy again after a restart of Docker; every device is read again")


def test_machine_reboot(observed: Observed, observe: Observe) -> None:
    born = _birth(observed)
    observed.machine.run("systemctl", "reboot", check=False)

    def reborn() -> bool:
        try:
            observed.machine.reopen(2)
            return _birth(observed) != born
        except (AssertionError, UnreachableError, OSError):
            observed.machine.forget_failure()
            return False

    if not wait_for(reborn, REBOOT_SECONDS, every=1.0):
        fail(f"the machine back within {REBOOT_SECONDS} s", "no ssh, or it did not restart", "look at its console")
    _require_services(observed, "the reboot")
    observed.listen()
    observed.begin_anew()
    _require_readings(observed, observed.began)
    observe("all services healthy again after a reboot; every device is read again")


def _birth(observed: Observed) -> str:
    """When process 1 began: a container's boot id is its host's."""
    return observed.machine.run("cat", "/proc/1/stat").rsplit(")", 1)[1].split()[19]


def _back(observed: Observed, service: str, started: str) -> bool:
    def look() -> bool:
        each = observed.container(service)
        return each["status"] == "running" and each["started"] != started and each["health"] in ("healthy", "none")

    return wait_for(look, RETURN_SECONDS, every=1.0)


def _require_services(observed: Observed, after: str) -> None:
    problem = observed.wait_for_services(REBOOT_SECONDS)
    if problem:
        fail(f"all services healthy after {after}", problem, f"`docker compose ps -a` in {observed.site.directory}")


def _require_readings(observed: Observed, since: Any) -> None:
    def missing() -> list[int]:
        rows = observed.sql(
            "SELECT DISTINCT device_id FROM sensor_readings WHERE time > %s AND quality <> 'bad' AND site_id = %s",
            [since, observed.site.site],
        )
        return sorted(observed.quick.keys() - {row["device_id"] for row in rows})

    if not wait_for(lambda: not missing(), observed.patience, every=1.0):
        fail("readings of every device again", f"none of {some(missing())}", "`docker compose logs worker`")


def _account(observed: Observed) -> str:
    """Every scheduled read since the beginning is a row, or lies in a recorded gap."""
    environment = observed.container("worker")["environment"]
    rows = observed.admin(
        "SELECT r.point_id, p.interval_seconds AS interval, min(r.poll_cycle) AS first, max(r.poll_cycle) AS last, "
        "array_agg(r.poll_cycle) AS cycles FROM public.reading r JOIN public.point p ON p.id = r.point_id "
        "WHERE p.enabled AND NOT p.cov AND r.time >= {began} GROUP BY 1, 2",
        began=observed.began,
    )
    gaps = observed.admin(
        "SELECT point_ids, extract(epoch FROM since) AS since, extract(epoch FROM until) AS until FROM public.gap "
        "WHERE until >= {began}",
        began=observed.began,
    )
    scheduled, lost, covered = 0, [], 0
    for row in rows:
        phase = _phase(observed, row["interval"], environment)
        scheduled += row["last"] - row["first"] + 1
        for cycle in sorted(set(range(row["first"], row["last"] + 1)) - set(row["cycles"])):
            start = cycle * row["interval"] + phase
            inside = [g for g in gaps if row["point_id"] in g["point_ids"] and g["since"] - 0.01 <= start < g["until"]]
            covered += bool(inside)
            lost += [] if inside else [f"point {row['point_id']} cycle {cycle}"]
    if lost:
        remedy = "a read that is neither a row nor in a gap is a defect of the worker: keep its log and report it"
        fail(
            f"{scheduled} scheduled reads are rows or in a recorded gap",
            f"{len(lost)} are neither: {some(lost)}",
            remedy,
        )
    return f"{scheduled} scheduled reads: {scheduled - covered} rows, {covered} in recorded gaps"


def _phase(observed: Observed, interval: int, environment: dict[str, str]) -> float:
    given = environment.get("BACPIPES_POLL_PHASE")
    if given:
        return float(given) % interval
    return zlib.crc32(observed.site.site.encode()) % (interval * 1000) / 1000
