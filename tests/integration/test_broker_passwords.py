"""The module that writes a broker's password file (roles/mqtt_broker/library), played by Ansible."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet_parts import ANSIBLE, ROOT

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")

SITES = [{"name": name, "owner": os.getuid()} for name in ("macau", "klcc", "taipa")]


def play(folder: Path, engine: str, users: list[dict[str, Any]], *, exclusive: bool) -> dict[str, Any]:
    """What the module says of itself."""
    (folder / "secrets").mkdir(exist_ok=True)
    arguments = {
        "secrets": str(folder / "secrets"), "path": str(folder / "passwd"), "engine": engine, "uid": os.getuid(),
        "rounds": 101, "users": users, "exclusive": exclusive,
    }  # fmt: skip
    command = [ANSIBLE.with_name("ansible"), "localhost", "-m", "mqtt_broker_passwords", "-a", json.dumps(arguments)]
    more = {"ANSIBLE_LIBRARY": str(ROOT / "roles" / "mqtt_broker" / "library"), "ANSIBLE_NOCOLOR": "1"}
    more |= {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
    done = subprocess.run(command, env=os.environ | more, cwd=folder, capture_output=True, text=True)
    found = re.search(r"=> (\{.*\})", done.stdout, re.DOTALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found, done.stdout
    told: dict[str, Any] = json.loads(found[1])
    return told


@pytest.mark.parametrize("engine", ["mosquitto", "emqx"])
def test_a_site_that_goes_and_comes_back_leaves_nothing_to_change(tmp_path: Path, engine: str) -> None:
    """As offboarding and onboarding do it at central, and then central's own playbook, which knows all."""
    assert play(tmp_path, engine, SITES, exclusive=True)["changed"]
    assert not play(tmp_path, engine, SITES, exclusive=True)["changed"]
    gone = play(tmp_path, engine, [SITES[0] | {"state": "absent"}], exclusive=False)
    assert gone["changed_users"] == ["macau"]
    assert "macau" not in (tmp_path / "passwd").read_text()
    back = play(tmp_path, engine, [SITES[0]], exclusive=False)
    assert back["changed_users"] == ["macau"]
    assert not play(tmp_path, engine, SITES, exclusive=True)["changed"]


@pytest.mark.parametrize("engine", ["mosquitto", "emqx"])
def test_who_is_not_declared_has_no_way_in(tmp_path: Path, engine: str) -> None:
    play(tmp_path, engine, SITES, exclusive=True)
    left = play(tmp_path, engine, SITES[:2], exclusive=True)
    assert left["changed_users"] == ["taipa"]
    assert "taipa" not in (tmp_path / "passwd").read_text()
