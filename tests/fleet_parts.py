"""A copy of the example inventory, and the operator's playbooks on it: what the tests of the playbooks share."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
ANSIBLE = ROOT / ".venv-controller" / "bin" / "ansible-playbook"
PREFLIGHT = ROOT / "playbooks" / "preflight.yml"

SILENT = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}  # nobody listens on port 1
# A machine of these tests' own, which is asked and not changed (--check).
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}

# What comes after the preflight in these tests: it would leave a mark.
AFTERWARDS = """
- name: Check every site before anything changes
  ansible.builtin.import_playbook: {preflight}
- name: Change something
  hosts: sites
  gather_facts: false
  tasks:
    - name: Leave a mark
      ansible.builtin.file: {{path: "{mark}/{{{{ inventory_hostname }}}}", state: touch, mode: "0600"}}
      delegate_to: localhost
"""


class Fleet:
    """A copy of the example inventory, and the playbook that begins with the preflight."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "fleet"
        self.marks = folder / "marks"
        self.marks.mkdir()
        shutil.copytree(ROOT / "inventory" / "example", self.inventory)
        self.playbook = folder / "play.yml"
        self.playbook.write_text(AFTERWARDS.format(preflight=PREFLIGHT, mark=self.marks))
        secrets = {"vault_pki_ca_passphrase": "only for these tests", "vault_proxmox_token_secret": "t0ken-secret"}
        (self.inventory / "group_vars" / "all" / "vault.yml").write_text(yaml.safe_dump(secrets))
        self.extra: dict[str, Any] = {"site_reachability": False}

    def edit(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change one of the inventory's files."""
        path = self.inventory / file
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))

    def site(self, host: str, **parts: Any) -> None:
        """Replace parts of a host's entry; a dictionary is merged into what is there."""

        def change(content: dict[str, Any]) -> None:
            for key, value in parts.items():
                there = content["site"].get(key)
                content["site"][key] = there | value if isinstance(there, dict) and isinstance(value, dict) else value

        self.edit(f"host_vars/{host}.yml", change)

    def play(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and the output with every run of white space as one space."""
        command = [ANSIBLE, "-i", self.inventory, "-e", json.dumps(self.extra), *arguments, self.playbook]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def refused(self, *arguments: str) -> str:
        """The output of a run that must fail before anything is changed."""
        status, output = self.play(*arguments)
        assert status == 2, output
        assert "Leave a mark" not in output
        assert not list(self.marks.iterdir())
        return output


def alone(fleet: Fleet) -> None:
    """A fleet without a central server."""
    fleet.edit("hosts.yml", lambda content: content["all"]["children"].pop("centrals"))
    (fleet.inventory / "host_vars" / "central.yml").unlink()
