"""Playbooks where something is not there: no container of ours, no central server, no machine any more."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_parts import ANSIBLE, HERE, ROOT, SILENT, Fleet, alone

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.mark.parametrize("tags", ["register", "lxc_container"])
def test_a_machine_that_stands_by_itself_registers_nowhere_and_gets_no_container(fleet: Fleet, tags: str) -> None:
    alone(fleet)
    fleet.edit("host_vars/macau.yml", lambda content: content.update(HERE))
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container={"backend": "none"}))
    fleet.playbook = ROOT / "playbooks" / "onboard.yml"
    status, output = fleet.play("-l", "macau", "--tags", tags, "--check")
    assert status == 0, output
    assert "PLAY [Register at central]" in output
    assert "changed=0" in output


# Every variable that the playbooks give the roles, evaluated; two stand on a role's own defaults.
EVALUATED = """
- name: Evaluate what the roles are given
  hosts: sites
  gather_facts: false
  vars: {{appliance_dir: /opt/bacpipes}}
  tasks:
    - name: Evaluate
      ansible.builtin.assert:
        that: lookup('ansible.builtin.vars', item) is defined
      loop: {names}
"""


@pytest.mark.parametrize("central", [True, False], ids=["with central", "alone"])
def test_what_the_roles_are_given_can_be_evaluated_at_every_kind_of_site(fleet: Fleet, central: bool) -> None:
    if not central:
        alone(fleet)
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container={"backend": "none"}))
    wiring = (ROOT / "playbooks" / "group_vars" / "sites" / "wiring.yml").read_text()
    names = list(yaml.safe_load(wiring))
    shutil.copytree(ROOT / "playbooks" / "group_vars", fleet.playbook.parent / "group_vars")
    fleet.playbook.write_text(EVALUATED.format(names=json.dumps(names)))
    status, output = fleet.play()
    assert status == 0, output


def test_central_on_a_machine_that_is_there_gets_no_container(fleet: Fleet) -> None:
    fleet.edit("host_vars/central.yml", lambda content: content.update(HERE))
    fleet.playbook = ROOT / "playbooks" / "central.yml"
    status, output = fleet.play("--tags", "lxc_container", "--check")
    assert status == 0, output
    assert "changed=0" in output


def test_what_a_container_host_lacks_for_one_site_stops_all_before_a_container_is_made(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Another folder than LXC's own, and --check: whatever this finds, nothing is touched."""
    alone(fleet)
    template = tmp_path / "root.tar.zst"
    template.touch()
    for host, path in (("macau", tmp_path / "nowhere.tar.zst"), ("klcc", template)):
        container = {"backend": "lxc", "host": "lxc1", "template": str(path)}
        fleet.edit(f"host_vars/{host}.yml", lambda content: content["site"].update(container=container))  # noqa: B023
    fleet.edit("hosts.yml", lambda content: content["all"]["children"]["container_hosts"]["hosts"]["lxc1"].update(HERE))
    fleet.playbook = ROOT / "playbooks" / "onboard.yml"
    fleet.extra |= {"lxc_container_path": str(tmp_path / "lxc")}
    status, output = fleet.play("--tags", "lxc_container", "--check")
    assert status == 2, output
    assert f'macau: lxc_container_template "{tmp_path}/nowhere.tar.zst" is no file on lxc1. Put the root' in output
    assert "TASK [lxc_container : Refuse a template that is not there]" in output
    assert "TASK [lxc_container : Refuse a bridge that is not there]" not in output  # where klcc would have gone on


def test_a_site_whose_machine_is_gone_is_taken_away_after_a_second_word(fleet: Fleet) -> None:
    """A machine that was there already, and is no more: no container is removed, and nothing is left to be exported."""

    def change(content: dict[str, Any]) -> None:
        content["site"]["container"] = {"backend": "none"}
        content |= SILENT

    fleet.edit("host_vars/macau.yml", change)
    alone(fleet)
    certificate = fleet.inventory / "pki" / "issued" / "macau-server.pem"
    certificate.parent.mkdir(parents=True)
    certificate.write_text("what it had")
    fleet.playbook = ROOT / "playbooks" / "offboard.yml"
    fleet.extra = {"site_reachability_timeout": 2, "offboard_confirm": "macau"}
    output = fleet.refused("-l", "macau")
    assert "macau: the machine doesn't answer (" in output
    assert "nothing was removed. Repair the machine, or give -e offboard_without_export=true and lose" in output
    assert "An earlier run has kept an export" not in output
    assert certificate.exists()
    kept = fleet.inventory / "offboarded" / "macau" / "audit.csv.gz"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert f"An earlier run has kept an export in {kept.parent}. Repair" in fleet.refused("-l", "macau")
    fleet.extra["offboard_without_export"] = True
    status, output = fleet.play("-l", "macau")
    assert status == 0, output
    assert "macau: its machine did not answer, so that the stack, its data and its keys are still on it." in output
    assert not certificate.exists()
