"""Images that travel without a registry: once, in parts, and with a way back."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import changes, play, told
from testinfra.host import Host

testinfra_hosts = ["ansible://machines"]
CONVERGE = Path(__file__).resolve().parents[1] / "converge.yml"
NAME = "bacpipes-test/small"
DOCKER_THAT_CANT_LOAD = """#!/bin/sh
[ "$1" != load ] && exec /usr/bin/docker "$@"
exit 1
"""


@pytest.fixture(autouse=True, scope="module")
def tidy(host: Host) -> Iterator[None]:
    """Leaves neither the machine nor the controller with these images."""
    yield
    listing = f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {NAME}"
    host.run(f"{listing} | xargs -r docker image rm")
    subprocess.run(["sh", "-c", f"{listing} | xargs -r docker image rm"], check=False, capture_output=True)


def test_the_machine_has_what_the_controller_has(host: Host) -> None:
    words = ["docker", "image", "inspect", "-f", "{{.RootFS.Layers}} {{.Config.Cmd}}", f"{NAME}:1"]
    here = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    assert host.check_output(" ".join(["%s"] * len(words)), *words) == here
    assert "sha256:" in here
    assert not host.file("/var/cache/bacpipes/images").exists  # what travelled is not kept


def test_a_new_version_comes_and_the_one_before_stays(request: pytest.FixtureRequest, host: Host) -> None:
    first = image(host, "1")
    for version in ("2", "3"):
        result = play(request, version=version)
        assert changes(result) > 0
        assert "MB compressed, in 3 parts" in told(result) or "MB compressed, in 4 parts" in told(result)
    assert tags(host) == {"3", "previous"}
    second = image(host, "previous")
    assert len({first, second, image(host, "3")}) == 3
    assert not host.file("/var/cache/bacpipes/images").exists
    # Going back is naming the version before, which the controller still has.
    assert changes(play(request, version="2")) > 0
    assert image(host, "2") == second


def test_what_is_there_is_not_sent_again(request: pytest.FixtureRequest) -> None:
    play(request, version="2")
    again = play(request, version="2")
    assert changes(again) == 0
    assert "MB compressed" not in told(again)


def test_what_has_arrived_is_not_sent_again_after_an_interruption(request: pytest.FixtureRequest, host: Host) -> None:
    """The machine can't load: everything has arrived by then."""
    host.check_output(
        f"printf '%s' '{DOCKER_THAT_CANT_LOAD}' >/usr/local/sbin/docker; chmod 755 /usr/local/sbin/docker"
    )
    try:
        result = play(request, version="4")
        assert result.returncode != 0
        assert "TASK [image : Load]" in result.stdout
    finally:
        host.check_output("rm /usr/local/sbin/docker")
    resumed = play(request, version="4")
    assert changes(resumed) > 0
    assert "ok: [" in resumed.stdout.split("TASK [image : Send]")[1].split("TASK")[0]
    assert "changed: [" not in resumed.stdout.split("TASK [image : Send]")[1].split("TASK")[0]
    assert image(host, "4")


def test_check_mode_tells_and_sends_nothing(request: pytest.FixtureRequest, host: Host) -> None:
    play(request, version="5")
    host.check_output(f"docker image rm {NAME}:5")
    assert changes(play(request, "--check", version="5")) == 1
    assert "5" not in tags(host)


@pytest.mark.parametrize("version", ["latest", "previous"])
def test_a_name_that_says_no_version_is_refused(request: pytest.FixtureRequest, version: str) -> None:
    result = play(request, version=version)
    assert result.returncode != 0
    assert "Give it a tag that is a version" in told(result)


def image(host: Host, tag: str) -> str:
    return str(host.check_output("docker image inspect -f '{{.Id}}' %s", f"{NAME}:{tag}"))


def tags(host: Host) -> set[str]:
    return set(host.check_output(f"docker image ls --format '{{{{.Tag}}}}' {NAME}").split())
