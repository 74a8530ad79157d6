"""The preflight has each role look at those of its variables that the inventory, or the command line, sets by itself.

The sentences about types have their tests in tests/unit/test_site_preflight_arguments.py.
"""

import re
from pathlib import Path

import pytest

from fleet_parts import ANSIBLE, ROOT, Fleet
from site_inventory.arguments import ROLES

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


# One variable of each role, with a value that is good.
GOOD = {
    "lxc_container_patience": 90, "base_journal_max_use": "300M", "docker_log_max_files": 4, "pki_days": 300,
    "image_compression": 3, "timescaledb_max_connections": 70, "mqtt_broker_cpus": 2, "appliance_worker_cpus": 1,
    "stack_wait_seconds": 200, "verify_scan": "known", "central_wait_seconds": 130, "telegraf_batch": 500,
}  # fmt: skip


def test_every_role_looks_at_its_variables_and_lets_good_ones_go(fleet: Fleet) -> None:
    """A machine that is there already has not been asked for its memory yet: nothing may depend on that."""
    there = {"backend": "none", "memory": 4096}
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container=there))
    for host in ("macau", "klcc"):
        fleet.edit(f"host_vars/{host}.yml", lambda content: content.update(GOOD))
    status, output = fleet.play()
    assert status == 0, output
    assert set(re.findall(r"TASK \[(\w+) : ", output)) - {"site"} == set(ROLES["site"])


def test_they_look_whatever_tags_are_asked_for(fleet: Fleet) -> None:
    fleet.edit("host_vars/klcc.yml", lambda content: content.update(mqtt_broker_memory="big"))
    assert "mqtt_broker_memory=big a number with k, m or g" in fleet.refused("--tags", "docker")


def test_centrals_roles_look_at_their_variables_too(fleet: Fleet) -> None:
    fleet.edit("host_vars/central.yml", lambda content: content.update(GOOD | {"telegraf_memory": "big"}))
    fleet.playbook = ROOT / "playbooks" / "central.yml"
    output = fleet.refused()
    assert "central: telegraf_broker=tcp://broker:1883 must be" in output
    assert "telegraf_memory=big a number with k, m or g" in output
    assert set(re.findall(r"TASK \[(\w+) : ", output)) - {"site"} == set(ROLES["central"]) - {"lxc_container", "stack"}


def test_what_the_command_line_sets_is_looked_at(fleet: Fleet) -> None:
    words = "macau, klcc, central: base_ssh_port ssh is a text, not a whole number. Write a whole number."
    assert words in fleet.refused("-e", "base_ssh_port=ssh")
