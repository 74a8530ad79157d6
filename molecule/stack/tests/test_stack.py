"""What the role does for all services together, on a machine with two small ones."""

import time
from collections.abc import Callable

import pytest
from playing import changes, play, told
from testinfra.host import Host

testinfra_hosts = ["ansible://machines"]
PATIENCE = 60.0  # seconds
FORMAT = "{{.State.Status}} {{.State.ExitCode}}"


def state(host: Host, service: str) -> str:
    """Status and exit code; empty where there is no such container."""
    return str(host.run(f"docker inspect -f '{FORMAT}' bacpipes-{service}-1").stdout.strip())


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"not within {PATIENCE:.0f} s: {what}"
        time.sleep(0.2)


def test_one_project_runs_all_parts(host: Host) -> None:
    listed = host.check_output("docker compose --project-directory /opt/bacpipes config --services").split()
    assert sorted(listed) == ["first", "second"]
    assert [state(host, service) for service in sorted(listed)] == ["running 0", "running 0"]


def test_what_was_killed_is_started_again(host: Host) -> None:
    host.check_output("docker kill bacpipes-first-1")
    assert state(host, "first") in ("exited 137", "running 0")
    until(lambda: state(host, "first") == "running 0", "the killed service runs")


def test_what_was_stopped_in_good_order_stays_down(host: Host) -> None:
    host.check_output("docker stop bacpipes-first-1")
    host.check_output("docker kill bacpipes-second-1")
    host.check_output("systemctl start bacpipes-revive.service")
    until(lambda: state(host, "second") == "running 0", "the killed service runs")
    assert state(host, "first") == "exited 143"
    host.check_output("docker start bacpipes-first-1")


def test_a_killed_service_is_back_after_a_restart_of_docker(host: Host) -> None:
    host.check_output("docker kill bacpipes-first-1")
    host.check_output("systemctl restart docker")
    until(lambda: state(host, "first") == state(host, "second") == "running 0", "both services run")


def test_a_service_that_no_file_names_any_more_goes(request: pytest.FixtureRequest, host: Host) -> None:
    assert changes(play(request, "--tags", "all", with_second=False)) == 2  # compose.yaml, and the container that goes
    assert (state(host, "first"), state(host, "second")) == ("running 0", "")
    assert changes(play(request)) == 2
    assert state(host, "second") == "running 0"


def test_a_part_that_is_missing_is_named(request: pytest.FixtureRequest, host: Host) -> None:
    refused = play(request, stack_files=["first.yaml", "third.yaml"])
    assert refused.returncode != 0
    assert "/opt/bacpipes/third.yaml is missing" in told(refused)
    assert state(host, "second") == "running 0"
