"""Mosquitto's bridge over a way that accepts its connection and then hangs up, as a proxy before a dead broker does.

Before 2.0.21 Mosquitto can come to stand still for ever over it, for its local clients too (seen with 2.0.11, after
seven attempts: its list of keep-alives had become a ring). The preflight refuses such an image.
"""

import os
import re
import secrets
import shlex
import subprocess
from pathlib import Path

import pytest

import live_parts
from bacpipes.embedded import LOOPBACK, free_port
from live_parts import Broker, Client, wait
from pki import Authority
from site_inventory.fleet import OLDEST_MOSQUITTO
from wan import Relay

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
OTHER = "BACPIPES_TEST_MOSQUITTO"  # the command line of another Mosquitto than the host's
SITE, WORKER, TELEGRAF = "macau", "bacpipes_worker", "bacpipes_telegraf"
ATTEMPTS = 20


def program() -> list[str]:
    """A Mosquitto that is new enough."""
    words = shlex.split(os.environ.get(OTHER, "")) or ["/usr/sbin/mosquitto"]
    said = subprocess.run([*words, "-h"], capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    assert found, f"{words} is no Mosquitto: {said[:200]}"
    if tuple(map(int, found.groups())) < OLDEST_MOSQUITTO:
        pytest.skip(
            f"A BRIDGE THAT IS HUNG UP ON IS NOT TESTED: Mosquitto {found[0]} here, which fails; {OTHER} names another"
        )
    return words


def test_local_clients_are_served_and_nothing_waits_in_vain(tmp_path: Path) -> None:
    mosquitto, authority = program(), Authority()
    names = (SITE, WORKER, TELEGRAF, "bacpipes_central", "bacpipes_verify")
    passwords = {name: secrets.token_urlsafe(24) for name in names}
    files = ["broker/mosquitto/mosquitto.conf", "broker/mosquitto/acl"]
    live_parts.render(tmp_path, "central", ["mqtt_broker"], files, {"broker": {"engine": "mosquitto"}})
    files.append("broker/mosquitto/bridge/central.conf")
    live_parts.render(tmp_path, SITE, ["mqtt_broker"], files, test_password=passwords[SITE])
    far = Broker(tmp_path / "central", passwords, authority, "localhost")
    near = Broker(tmp_path / SITE, passwords, authority, "localhost")
    near.command[:1] = mosquitto
    with far, Relay((LOOPBACK, far.tls)) as way:
        near.bridge(way.port, authority, SITE)
        with near, Client(far.plain, TELEGRAF, passwords[TELEGRAF]) as ear:
            ear.subscribe("+/+/+/presentValue")
            with Client(near.plain, WORKER, passwords[WORKER]) as worker:
                worker.publish(f"{SITE}/ahu_1/analoginput1/presentValue", "first")
                wait(lambda: ear.heard, "the bridge is up")
                spent = near.cpu()
                way.lead((LOOPBACK, free_port()))
                way.knocks.clear()
                wait(lambda: len(way.knocks) >= ATTEMPTS, f"{ATTEMPTS} attempts", 20 * ATTEMPTS)
                seconds = way.knocks[-1] - way.knocks[0]
                assert seconds > ATTEMPTS / 2, "it pauses for a second (here) before each attempt"
                for number in range(100):
                    worker.publish(f"{SITE}/ahu_1/analoginput1/presentValue", str(number))
                assert near.cpu() - spent < seconds / 4, "it waits, and does not turn round and round"
                way.lead((LOOPBACK, far.tls))
                wait(lambda: len(ear.heard) > 100, "what waited has arrived", 60)
                assert [payload for _, payload in ear.heard[1:]] == [str(number).encode() for number in range(100)]
