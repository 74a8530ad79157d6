"""Role docker: what containers get from the engine, and who can reach them. The image is a busybox made there."""

import ipaddress
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playing import changes, play
from testinfra.host import Host

testinfra_hosts = ["ansible://machines"]
ENGINE = Path(__file__).resolve().parents[1] / "engine.yml"
IMAGE = "bacpipes-test/busybox"
PATIENCE = 3.0


def address(host: Host) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def answers(where: str, port: int) -> bool | str:
    """True where something accepts; else what it was like."""
    try:
        with socket.create_connection((where, port), PATIENCE):
            return True
    except TimeoutError:
        return "silence"
    except OSError as error:
        return type(error).__name__


def reached(host: Host, where: str, port: int) -> bool:
    """From the machine itself, which may take a moment."""
    script = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
    return any(host.run("sleep 0.3; python3 -c %s %s %s", script, where, str(port)).rc == 0 for _ in range(10))


def inspected(host: Host, what: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(host.check_output("docker inspect %s", what))[0]
    return result


@pytest.fixture(scope="module")
def image(host: Host) -> str:
    if host.run("docker image inspect %s", IMAGE).rc:
        host.check_output("apt-get install --yes --no-install-recommends busybox-static")
        script = (
            "mkdir -p /tmp/bb/bin && cp /bin/busybox /tmp/bb/bin && for n in sh sleep httpd head tail cat tr id; do "
        )
        script += "ln -sf busybox /tmp/bb/bin/$n; done && tar -C /tmp/bb -c . | docker import - " + IMAGE
        host.check_output("sh -c %s", script)
    return IMAGE


@pytest.fixture
def container(host: Host, image: str) -> Iterator[str]:
    host.run("docker rm --force test")
    yield "test"
    host.run("docker rm --force test")


def start(host: Host, *options: str, command: str = "sleep 600") -> None:
    given = " ".join(options)
    host.check_output(f"docker run --detach --init --name test {given} {IMAGE} {command}")


def test_compose_is_there(host: Host) -> None:
    version = host.check_output("docker compose version --short")
    assert tuple(int(part) for part in version.split("-")[0].split(".")[:2]) >= (2, 20)  # the first with `include`


def test_output_is_rotated(host: Host, container: str) -> None:
    start(host, command='sh -c \'head -c 45000000 /dev/zero | tr "\\\\0" "x" | busybox fold -w 1000; sleep 600\'')
    log = Path(inspected(host, container)["LogPath"]).parent
    assert inspected(host, container)["HostConfig"]["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-file": "3", "max-size": "10m"},
    }
    for _ in range(60):
        sizes = [int(size) for size in host.check_output(f"stat --format %s {log}/*-json.log*").split()]
        if len(sizes) == 3 and sum(sizes) > 20_500_000:
            break
        time.sleep(0.5)
    assert len(sizes) == 3, sizes
    assert all(size <= 10_100_000 for size in sizes)


def test_a_container_gains_no_privileges(host: Host, container: str) -> None:
    start(host)
    assert "NoNewPrivs:\t1" in host.check_output("docker exec test cat /proc/self/status")


def test_a_memory_limit_holds(host: Host, container: str) -> None:
    # tail keeps all that has no line's end: 200 MB into 64 is too much.
    start(host, "--memory 64m --memory-swap 64m", command="sh -c 'head -c 200000000 /dev/zero | tail >/dev/null'")
    assert host.check_output("docker wait test") == "137" or inspected(host, container)["State"]["OOMKilled"]


def test_a_cpu_limit_holds(host: Host, container: str) -> None:
    start(host, "--cpus 0.2", command="sh -c 'while :; do :; done'")
    pid = inspected(host, container)["State"]["Pid"]

    def used() -> int:
        children = host.check_output(f"cat /proc/{pid}/task/*/children").split()
        return sum(
            sum(int(n) for n in host.check_output(f"cut -d' ' -f14,15 /proc/{child}/stat").split())
            for child in children
        )

    before, since = used(), time.monotonic()
    time.sleep(4)
    share = (used() - before) / 100 / (time.monotonic() - since)
    assert 0.02 < share < 0.35


def test_a_published_port_obeys_the_firewall(host: Host, container: str) -> None:
    start(host, "--publish 8080:80 --publish 9998:80", command="httpd -f -p 80")
    own = inspected(host, container)["NetworkSettings"]["IPAddress"]
    assert [reached(host, *where) for where in ((own, 80), ("127.0.0.1", 8080), ("127.0.0.1", 9998))] == [True] * 3
    assert answers(address(host), 9998) is True  # a rule names it
    assert answers(address(host), 8080) == "silence"


def test_a_port_published_on_loopback_is_the_machines_alone(host: Host, container: str) -> None:
    start(host, "--publish 127.0.0.1:9998:80", command="httpd -f -p 80")
    assert reached(host, "127.0.0.1", 9998)
    assert answers(address(host), 9998) == "ConnectionRefusedError"  # let through by the firewall, and nobody is there


@pytest.mark.skipif(os.geteuid() != 0, reason="sets a route on this machine")
def test_a_neighbours_route_to_a_container_ends_at_the_firewall(host: Host, container: str) -> None:
    # 9998 is open, and the container listens on it: still only the machine's own address is meant.
    start(host, "--publish 127.0.0.1:8080:9998", command="httpd -f -p 9998")
    own = inspected(host, container)["NetworkSettings"]["IPAddress"]
    subprocess.run(["ip", "route", "add", f"{own}/32", "via", address(host)], check=True)
    try:
        assert answers(own, 9998) == "silence"
        # Without our table docker lets it through: it is our firewall that was seen.
        host.check_output("systemctl stop bacpipes-firewall")
        assert answers(own, 9998) is True
    finally:
        host.check_output("systemctl start bacpipes-firewall")
        subprocess.run(["ip", "route", "del", f"{own}/32"], check=True)


def test_containers_outlive_a_restart_of_the_engine(host: Host, container: str) -> None:
    start(host)
    before = inspected(host, container)["State"]["Pid"]
    host.check_output("systemctl restart docker")
    assert inspected(host, container)["State"] | {"Pid": before, "Running": True} == inspected(host, container)["State"]


def test_who_is_put_into_the_group_docker_is_taken_out(host: Host, request: pytest.FixtureRequest) -> None:
    host.check_output("gpasswd --add bob docker")
    assert changes(play(request, playbook="engine.yml")) == 1
    assert host.check_output("getent group docker").endswith(":")
    assert changes(play(request, playbook="engine.yml")) == 0


def test_wrong_settings_do_not_get_in(host: Host, request: pytest.FixtureRequest) -> None:
    before = host.file("/etc/docker/daemon.json").content_string
    result = play(request, playbook="engine.yml", docker_settings={"no-such-setting": True})
    assert result.returncode != 0
    assert "no-such-setting" in result.stdout
    assert host.file("/etc/docker/daemon.json").content_string == before


# -- address pools ----------------------------------------------------------------------------------------------------
def pools(host: Host) -> list[ipaddress.IPv4Network]:
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    return [ipaddress.IPv4Network(pool["base"]) for pool in settings["default-address-pools"]]


def subnet(host: Host) -> ipaddress.IPv4Network:
    """Of a new network."""
    host.check_output("docker network create pool-test")
    try:
        return ipaddress.IPv4Network(inspected(host, "pool-test")["IPAM"]["Config"][0]["Subnet"])
    finally:
        host.check_output("docker network rm pool-test")


def test_networks_come_out_of_the_pools(host: Host) -> None:
    given = subnet(host)
    assert given.prefixlen == 26
    assert given.subnet_of(pools(host)[0])


def test_a_live_route_moves_the_pools_and_they_stay_moved(host: Host, request: pytest.FixtureRequest) -> None:
    before = pools(host)
    planted = next(before[0].subnets(new_prefix=24))
    host.check_output("ip route add blackhole %s", str(planted))
    try:
        assert changes(play(request, playbook="engine.yml")) == 2  # the file, and the engine's restart
        after = pools(host)
        assert not any(pool.overlaps(planted) for pool in after)
        assert before[1] in after
        assert subnet(host).subnet_of(after[0])
    finally:
        host.check_output("ip route del blackhole %s", str(planted))
    # The route is gone; nothing is moved back, for containers may live there by now.
    assert changes(play(request, playbook="engine.yml")) == 0
    assert pools(host) == after


def test_dockers_own_networks_are_no_collision(host: Host, request: pytest.FixtureRequest) -> None:
    host.check_output("docker network create pool-test")
    try:
        assert changes(play(request, playbook="engine.yml")) == 0
    finally:
        host.check_output("docker network rm pool-test")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"docker_reserved_networks": ["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"]},
            "0 of 2 address pools are left",
        ),
        ({"docker_reserved_networks": ["172.31.250.0/28"]}, "172.31.250.1/24 overlaps 172.31.250.0/28"),
        (
            {"docker_pool_candidates": ["100.64.0.0/16"], "docker_pool_count": 1},
            "100.64.0.0/10 (carrier NAT and Tailscale)",
        ),
        ({"docker_pool_candidates": ["172.31.240.1/21"]}, "'172.31.240.1/21' is not an IPv4 network"),
        ({"docker_log_max_size": "ten"}, "docker_log_max_size (ten, such as 10m)"),
        ({"docker_source": "vendor"}, "docker_vendor_url"),
    ],
)
def test_bad_input_is_refused(
    host: Host, request: pytest.FixtureRequest, variables: dict[str, object], message: str
) -> None:
    before = host.file("/etc/docker/daemon.json").content_string
    result = play(request, playbook="engine.yml", **variables)
    assert result.returncode != 0
    assert message in " ".join(result.stdout.split())
    assert host.file("/etc/docker/daemon.json").content_string == before


def test_a_run_cut_off_before_the_restart_is_made_good(host: Host, request: pytest.FixtureRequest) -> None:
    host.check_output("touch --date '+2 seconds' /etc/docker/daemon.json")
    time.sleep(3)
    assert changes(play(request, playbook="engine.yml")) == 2  # found, restarted
    assert changes(play(request, playbook="engine.yml")) == 0
