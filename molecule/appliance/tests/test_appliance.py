"""The appliance as its operator, its clients and an attacker see it, on a machine with a simulated building."""

import csv
import io
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playing import changes, play, told
from testinfra.host import Host

testinfra_hosts = ["ansible://machines"]
CONVERGE = Path(__file__).resolve().parents[1] / "converge.yml"
POINTS = CONVERGE.parents[2] / ".lab" / "molecule" / "appliance" / "demo.csv"
DEVICES = {"AHU-1", "AHU-2", "AHU-2-Supply-Drive", "AHU-2-Return-Drive", "CHILLER-2", "VAV-101", "METERS"}
SECRETS = "/opt/bacpipes/secrets"
SERVICES = ["worker", "exporter"]
PATIENCE = 60.0  # seconds


# --- what it is for


def test_every_device_is_read(host: Host) -> None:
    since = datetime.now(UTC)
    fresh = until(lambda: covers_all(readings(host, since)))
    assert all(row["haystack_name"].startswith("demo.") and row["value"] for row in fresh)


def test_readings_reach_the_broker(host: Host) -> None:
    """The publisher's cursor moves on the broker's acknowledgement only."""
    before = until(lambda: published(host))
    assert until(lambda: published(host) > before)


def test_who_has_no_token_is_refused(host: Host) -> None:
    for token in (None, "bpt_" + "x" * 43):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(host, "/api/devices", token)
    assert {device["deviceName"] for device in json.loads(get(host, "/api/devices", token_of(host)))} == DEVICES


def test_the_workers_page_is_the_machines_own(host: Host) -> None:
    """The exporter hands it on to those who have a token; from outside it does not answer."""
    assert "bacpipes_worker_up 1.0" in get(host, "/metrics", token_of(host))
    with pytest.raises((urllib.error.URLError, TimeoutError)):
        urllib.request.urlopen(f"http://{address(host)}:9109/readyz", timeout=3)


# --- hardening


@pytest.mark.parametrize("service", SERVICES)
def test_it_is_nobody_and_can_do_nothing(host: Host, service: str) -> None:
    status = dict(
        line.split(":\t", 1) for line in inside(host, service, "cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    for path in ("/x", "/opt/bacpipes/x", "/etc/x", "/run/x"):
        done = host.run(f"docker exec -u 0 {container(host, service)} touch {path}")
        assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr, (path, done)
    assert "No module named pip" in host.run(f"docker exec {container(host, service)} python -m pip").stderr


@pytest.mark.parametrize("service", SERVICES)
def test_memory_processors_and_processes_are_limited(host: Host, service: str) -> None:
    limits = json.loads(host.check_output("docker inspect -f '{{json .HostConfig}}' %s", container(host, service)))
    assert 0 < limits["Memory"] <= 512 * 1024**2
    assert 0 < limits["NanoCpus"] <= 2e9
    assert 0 < limits["PidsLimit"] <= 200


def test_secrets_are_nobody_elses(host: Host) -> None:
    files = host.check_output(f"find {SECRETS} -type f").split()
    assert {f"{SECRETS}/bacpipes_{role}.pgpass" for role in ("owner", "worker", "exporter")} <= set(files)
    assert f"{SECRETS}/operator.token" in files
    for path in files:
        for user in ("nobody", "10002"):
            refused = host.run(f"setpriv --reuid={user} --clear-groups cat {path}")
            assert "Permission denied" in refused.stderr, path
    assert "cat: " in host.run(f"setpriv --reuid=10001 --clear-groups cat {SECRETS}/operator.token").stderr
    # Nor do they stand where everybody can look: in the containers' settings, in the file, in their logs.
    secrets = [host.check_output(f"cat {path}").strip().split(":")[-1] for path in files]
    containers = " ".join(container(host, service) for service in SERVICES)
    logs = "docker compose --project-name bacpipes logs worker exporter"
    seen = host.check_output(f"docker inspect {containers}; cat /opt/bacpipes/*.yaml; {logs}")
    assert len(secrets) >= 4
    assert not [path for path, secret in zip(files, secrets, strict=True) if secret in seen]


def test_each_has_its_own_secrets_only(host: Host) -> None:
    assert inside(host, "worker", "ls", "/run/secrets").split() == ["bacpipes_mqtt_password", "pgpass"]
    assert inside(host, "exporter", "ls", "/run/secrets").split() == ["pgpass"]


# --- life


def test_it_comes_back_when_it_is_killed(host: Host) -> None:
    name = container(host, "worker")
    host.check_output(f"docker kill {name}")
    since = datetime.now(UTC)
    until(lambda: container(host, "worker") == name and healthy(host, "worker"))
    until(lambda: covers_all(readings(host, since)))


def test_it_stops_in_good_order(host: Host) -> None:
    for service in SERVICES:
        name = container(host, service)
        begun = time.monotonic()
        host.check_output(f"docker stop {name}")
        assert time.monotonic() - begun < 10
        assert host.check_output("docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' %s", name) == "0 false"
        # Who stopped it meant it: it stays down, longer than what was killed would.
        time.sleep(17 if service == "worker" else 0)
        assert host.check_output("docker inspect -f '{{.State.Status}}' %s", name) == "exited"
        host.check_output(f"docker start {name}")
    until(lambda: all(healthy(host, service) for service in SERVICES))


def test_an_unhealthy_worker_says_why(host: Host) -> None:
    done = host.run(f"docker exec -e BACPIPES_WORKER_HTTP_PORT=1 {container(host, 'worker')} bacpipes health worker")
    assert done.rc == 4
    assert "does not answer" in done.stderr


# --- the role


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"appliance_site_id": "Demo"}, 'appliance_site_id is "Demo"'),
        ({"appliance_bacnet_address": "10.1.2.3"}, "length of its prefix"),
        ({"appliance_retention_days": 0}, "appliance_retention_days is 0; it must be from 1 to 36500"),
        ({"appliance_settings": {"BACPIPES_LOG_LEVLE": "info"}}, "BACPIPES_LOG_LEVLE"),
        ({"appliance_points_file": "/nowhere.csv"}, "/nowhere.csv"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_refused_before_anything_changes(
    request: pytest.FixtureRequest, host: Host, wrong: dict[str, Any], message: str
) -> None:
    before = host.check_output("stat -c %Y /opt/bacpipes/appliance.yaml; docker ps --no-trunc --quiet")
    result = play(request, "--tags", "appliance_configure", **wrong)
    assert result.returncode != 0
    assert message in told(result)
    assert host.check_output("stat -c %Y /opt/bacpipes/appliance.yaml; docker ps --no-trunc --quiet") == before


def test_points_with_errors_are_refused_with_their_lines(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path
) -> None:
    before = points(host)
    wrong = changed_points(tmp_path, lambda row: row.update(interval="often"))
    result = play(request, "--tags", "appliance_points", appliance_points_file=str(wrong))
    assert result.returncode != 0
    assert "changed.csv:2: error in interval" in told(result)
    assert "Nothing was changed on the machine" in told(result)
    assert points(host) == before


def test_a_changed_point_is_shown_in_check_mode_and_then_brought(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path
) -> None:
    before = points(host)
    changed = str(changed_points(tmp_path, lambda row: row.update(dis="Renamed")))
    tags = ("--tags", "appliance_points")

    look = play(request, *tags, "--check", "--diff", appliance_points_file=changed)
    assert changes(look) == 1
    assert "→ Renamed" in told(look)
    assert points(host) == before

    assert changes(play(request, *tags, appliance_points_file=changed)) == 1
    assert "Renamed" in points(host)
    assert changes(play(request, *tags, appliance_points_file=changed)) == 0
    assert changes(play(request, *tags)) == 1
    assert points(host) == before


def test_a_page_that_owns_the_points_brings_them_to_the_inventory(
    request: pytest.FixtureRequest, host: Host, tmp_path: Path
) -> None:
    """The exported file is the site's: imported again it changes nothing."""
    file = tmp_path / "fetched.csv"
    settings = {"appliance_points_owner": "page", "appliance_points_file": str(file)}
    assert changes(play(request, "--tags", "appliance_points", **settings)) == 1
    assert file.read_bytes().decode() == points(host)
    assert changes(play(request, "--tags", "appliance_points", **settings)) == 0
    assert changes(play(request, "--tags", "appliance_points", appliance_points_file=str(file))) == 0


def test_a_token_that_was_revoked_is_replaced(request: pytest.FixtureRequest, host: Host) -> None:
    old = token_of(host)
    names = [
        line.split()[0]
        for line in inside(host, "worker", "bacpipes", "token", "list").splitlines()
        if " valid " in line
    ]
    assert len(names) == 1
    inside(host, "worker", "bacpipes", "token", "revoke", names[0])
    result = play(request, "--tags", "appliance_token")
    assert changes(result) == 1
    new = token_of(host)
    assert new != old
    assert new not in told(result)
    assert get(host, "/api/devices", new)


def test_a_setting_that_changes_restarts_the_worker_only(request: pytest.FixtureRequest, host: Host) -> None:
    before = {service: container(host, service) for service in SERVICES}
    assert changes(play(request, "--tags", "appliance_configure,appliance_run", appliance_bacnet_timeout=1.5)) == 2
    assert container(host, "worker") != before["worker"]
    assert container(host, "exporter") == before["exporter"]
    assert inside(host, "worker", "printenv", "BACPIPES_BACNET_TIMEOUT").strip() == "1.5"
    assert changes(play(request, "--tags", "appliance_configure,appliance_run")) == 2


def test_what_no_file_names_any_more_goes(request: pytest.FixtureRequest, host: Host) -> None:
    labels = "--label com.docker.compose.project=bacpipes --label com.docker.compose.service=former"
    labels += " --label com.docker.compose.oneoff=False --label com.docker.compose.config-hash=0"
    image = host.check_output("docker inspect -f '{{.Config.Image}}' %s", container(host, "worker"))
    host.check_output(f"docker run -d --name bacpipes-former-1 {labels} --entrypoint sleep {image} 600")
    before = {service: container(host, service) for service in SERVICES}
    assert changes(play(request, "--tags", "stack")) == 1
    assert host.run("docker inspect bacpipes-former-1").rc != 0
    assert {service: container(host, service) for service in SERVICES} == before
    assert changes(play(request, "--tags", "stack")) == 0


# --- parts


def address(host: Host) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def container(host: Host, service: str) -> str:
    label = f"label=com.docker.compose.service={service}"
    found = host.check_output(f"docker ps --quiet --filter label=com.docker.compose.project=bacpipes --filter {label}")
    assert found, f"{service} does not run"
    return str(found)


def inside(host: Host, service: str, *command: str) -> str:
    return str(host.check_output(f"docker exec {container(host, service)} {' '.join(command)}")) + "\n"


def healthy(host: Host, service: str) -> bool:
    found = host.run("docker inspect -f '{{.State.Health.Status}}' %s", f"bacpipes-{service}-1")
    return bool(found.stdout.strip() == "healthy")


def token_of(host: Host) -> str:
    return str(host.check_output(f"cat {SECRETS}/operator.token"))


def get(host: Host, path: str, token: str | None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"https://{address(host)}:3001{path}", headers=headers)
    authority = ssl.create_default_context(cadata=host.check_output("cat /opt/bacpipes/tls/ca.pem"))
    with urllib.request.urlopen(request, timeout=10, context=authority) as answer:  # noqa: S310 – https alone
        return str(answer.read().decode())


def readings(host: Host, since: datetime) -> list[dict[str, str]]:
    """The good ones that the site stored since then, as a client of its HTTP API gets them."""
    span = (since, datetime.now(UTC) + timedelta(hours=1))
    start, end = (moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for moment in span)
    text = get(host, f"/api/timeseries/export?start={start}&end={end}", token_of(host))
    return [row for row in csv.DictReader(io.StringIO(text)) if row["quality"] == "good"]


def covers_all(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return rows if {row["device_name"] for row in rows} >= DEVICES else []


def published(host: Host) -> float:
    lines = get(host, "/metrics", token_of(host)).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("bacpipes_mqtt_published_total"))


def points(host: Host) -> str:
    return str(host.run(f"docker exec {container(host, 'worker')} bacpipes points export -").stdout)


def changed_points(folder: Path, change: Callable[[dict[str, str]], None]) -> Path:
    """The site's file with its first point changed."""
    rows = list(csv.DictReader(POINTS.read_text().splitlines()))
    change(rows[0])
    path = folder / "changed.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def until(condition: Callable[[], Any]) -> Any:
    """What the condition gives once it is true; its last word when time is up."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            if found := condition():
                return found
            last: object = found
        except (AssertionError, OSError) as error:
            last = error
        assert time.monotonic() < end, last
        time.sleep(1)
