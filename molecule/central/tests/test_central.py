"""Central as its operator, its sites and an attacker see it: the roles `central` and `telegraf` on one machine."""

import http.client
import json
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://served"]
SECRETS = "/opt/bacpipes/secrets"
SERVICES = {"central": "10001", "telegraf": "10002"}
PATIENCE = 60.0  # seconds
QUARANTINED = "SELECT coalesce(sum(count), 0) FROM quarantine WHERE rule = 'unknown-site'"


@pytest.mark.parametrize("service", ["database", "broker", *SERVICES])
def test_every_service_is_healthy(host: Host, service: str) -> None:
    found = state(host, service)
    assert (found["Status"], found["Health"]["Status"]) == ("running", "healthy")


def test_its_database_is_at_this_versions_schema(host: Host) -> None:
    assert psql(host, "SELECT version_num FROM bacpipes_schema").startswith("central_")


@pytest.mark.parametrize(("service", "uid"), SERVICES.items())
def test_it_is_nobody_and_can_do_nothing(host: Host, service: str, uid: str) -> None:
    pid = host.check_output(f"docker inspect -f '{{{{.State.Pid}}}}' bacpipes-{service}-1")
    lines = host.check_output(f"cat /proc/{pid}/status").splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == [uid] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    limits = json.loads(host.check_output(f"docker inspect -f '{{{{json .HostConfig}}}}' bacpipes-{service}-1"))
    assert limits["ReadonlyRootfs"]
    assert limits["Memory"] > 0
    assert limits["NanoCpus"] > 0


def test_secrets_are_nobody_elses(host: Host) -> None:
    files = host.check_output(f"find {SECRETS} -type f").split()
    assert f"{SECRETS}/central_telegraf.pgpass" in files
    for path in files:
        assert "Permission denied" in host.run(f"setpriv --reuid=nobody --clear-groups cat {path}").stderr, path
    secrets = [host.check_output(f"cat {path}").strip().split(":")[-1] for path in files]
    everywhere = " ".join(f"bacpipes-{service}-1" for service in SERVICES)
    logs = "docker compose --project-name bacpipes logs"
    seen = host.check_output(f"docker inspect {everywhere}; cat /opt/bacpipes/*.yaml /opt/bacpipes/telegraf/*; {logs}")
    assert len(secrets) >= 5
    assert not [path for path, secret in zip(files, secrets, strict=True) if secret in seen]


def test_telegraf_may_bring_messages_and_nothing_else(host: Host) -> None:
    before = int(psql(host, QUARANTINED))
    message = "('nobody/ahu_1/analoginput1/presentValue', encode('{}', 'base64'), now())"
    brought = telegraf(host, f"INSERT INTO landing.live (topic, value, time) VALUES {message}")
    assert brought.rc == 0, brought.stderr
    until(lambda: int(psql(host, QUARANTINED)) == before + 1)  # counted, and told by its rule
    for statement in ("SELECT FROM landing.live", "SELECT FROM reading", "INSERT INTO write_commands DEFAULT VALUES"):
        assert "permission denied" in telegraf(host, statement).stderr, statement


def test_telegraf_listens_at_the_broker(host: Host) -> None:
    connections = host.check_output("docker exec bacpipes-telegraf-1 cat /proc/net/tcp /proc/net/tcp6").splitlines()
    assert [line for line in connections if ":075B 01 " in line], connections  # 1883, established


def test_the_api_wants_a_token(host: Host) -> None:
    address = host.check_output("hostname -I").split()[0]
    authority = ssl.create_default_context(cadata=host.check_output("cat /opt/bacpipes/tls/ca.pem"))
    operators = host.check_output(f"cat {SECRETS}/operator.token").strip()
    assert host.file(f"{SECRETS}/operator.token").mode == 0o400
    for token, status in ((None, 401), ("bpt_" + "x" * 43, 401), (operators, 200)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with closing(http.client.HTTPSConnection(address, 3001, timeout=10, context=authority)) as connection:
            connection.request("GET", "/api/sites", headers=headers)
            assert connection.getresponse().status == status


@pytest.mark.parametrize("service", SERVICES)
def test_it_comes_back_when_it_is_killed(host: Host, service: str) -> None:
    before = state(host, service)["StartedAt"]
    host.check_output(f"docker kill bacpipes-{service}-1")
    until(lambda: state(host, service)["StartedAt"] != before and state(host, service)["Health"]["Status"] == "healthy")


def state(host: Host, service: str) -> dict[str, Any]:
    """What Docker says of a container."""
    said = host.check_output(f"docker inspect -f '{{{{json .State}}}}' bacpipes-{service}-1")
    found: dict[str, Any] = json.loads(said)
    return found


def psql(host: Host, statement: str) -> str:
    """What the database says to its superuser."""
    return host.check_output("docker exec bacpipes-database-1 psql -U postgres -d bacpipes -Atc %s", statement)


def telegraf(host: Host, statement: str):  # type: ignore[no-untyped-def]
    """A statement as Telegraf's role, with its own password."""
    secret = f"IFS=: read -r host port database role PGPASSWORD < {SECRETS}/central_telegraf.pgpass; export PGPASSWORD"
    call = "docker exec -e PGPASSWORD bacpipes-database-1 psql -X -h 127.0.0.1 -U central_telegraf -d bacpipes -c"
    return host.run(f'{secret}; {call} "{statement}"')


def until(condition: Callable[[], bool]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "not so in time"
        time.sleep(0.5)
