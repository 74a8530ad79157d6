"""A broadcast Who-Is on a real broadcast network: two hosts, as network namespaces, and the wire between them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

RESPONDERS = """
import asyncio
from bacpypes3.app import Application
from bacpypes3.local.device import DeviceObject
from bacpypes3.local.networkport import NetworkPortObject

async def main():
    for number in (2, 3):
        device = DeviceObject(objectIdentifier=("device", 1000 + number), objectName=f"d{number}", vendorIdentifier=999)
        port = NetworkPortObject(f"10.77.0.{number}/24", objectIdentifier=("network-port", 1), objectName="port")
        app = Application.from_object_list([device, port])
    await asyncio.sleep(0.5)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def ip(arguments: str) -> None:
    subprocess.run(["ip", *arguments.split()], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two namespaces: ours has 10.77.0.1, the building's 10.77.0.2 and 10.77.0.3."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2, to make two hosts of its own")
    ours, theirs = (f"bacpipes-{os.getpid()}-{name}" for name in ("a", "b"))
    ip(f"netns add {ours}")
    ip(f"netns add {theirs}")
    try:
        ip(f"-n {ours} link add eth0 type veth peer name eth0 netns {theirs}")
        for name, addresses in ((ours, (1,)), (theirs, (2, 3))):
            for number in addresses:
                ip(f"-n {name} addr add 10.77.0.{number}/24 brd + dev eth0")
            ip(f"-n {name} link set eth0 up")
        yield ours, theirs
    finally:
        ip(f"netns del {ours}")
        ip(f"netns del {theirs}")


def test_who_is_finds_what_answers_a_broadcast(hosts: tuple[str, str]) -> None:
    ours, theirs = hosts
    inside = ["ip", "netns", "exec"]
    with subprocess.Popen([*inside, theirs, sys.executable, "-c", RESPONDERS], stdout=subprocess.PIPE) as responders:
        try:
            assert responders.stdout is not None
            assert responders.stdout.readline() == b"ready\n"
            discover = [sys.executable, "-m", "bacpipes", "discover", "--devices-only", "--interface", "10.77.0.1/24"]
            run = [*inside, ours, *discover, "--timeout", "2"]
            everybody = subprocess.run(run, capture_output=True, text=True, timeout=60)
            assert everybody.returncode == 0, everybody.stderr
            assert "1002" in everybody.stdout, everybody
            assert "1003" in everybody.stdout
            one = subprocess.run([*run, "--low", "1003", "--high", "1003"], capture_output=True, text=True, timeout=60)
            assert "1003" in one.stdout
            assert "1002" not in one.stdout
        finally:
            responders.terminate()
