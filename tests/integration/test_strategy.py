"""The strategy that our playbooks run by (playbooks/strategy_plugins): what it must not cost."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / ".venv-controller" / "bin" / "ansible-playbook"
HOSTS = ["macau", "klcc"]

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")


def play(folder: Path, tasks: list[dict[str, Any]], **environment: str) -> subprocess.CompletedProcess[str]:
    """Play these tasks for two hosts by the project's ansible.cfg, on this machine."""
    book, inventory = folder / "play.yml", folder / "hosts.json"
    book.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    here = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    inventory.write_text(json.dumps({"all": {"hosts": dict.fromkeys(HOSTS, here)}}))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    more = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_LOCALHOST_WARNING": "false", "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        [ANSIBLE, "-i", inventory, book], cwd=ROOT, env=kept | more | environment, capture_output=True, text=True
    )


def command(*words: str, **more: Any) -> dict[str, Any]:
    return {"ansible.builtin.command": {"argv": list(words)}, "changed_when": False} | more


def test_it_is_what_the_playbooks_run_by(tmp_path: Path) -> None:
    """Two tasks, one interpreter: the module's process stays."""
    found = play(tmp_path, [command("/usr/bin/true"), command("/usr/bin/true")], ANSIBLE_DEBUG="1")
    assert found.returncode == 0, found.stdout + found.stderr
    assert "mitogen" in found.stdout.lower()


def test_hosts_do_not_wait_for_one_another_on_the_controller(tmp_path: Path) -> None:
    """Each host's task ends only while the other's runs, too."""
    meet = 'touch "$1"; for _ in $(seq 600); do [ -e "$2" ] && exit 0; sleep 0.1; done; exit 1'
    other = "{{ ['macau', 'klcc'] | difference([inventory_hostname]) | first }}"
    names = [str(tmp_path / name) for name in ("{{ inventory_hostname }}", other)]
    found = play(tmp_path, [command("sh", "-c", meet, "sh", *names, delegate_to="localhost")])
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_a_task_starts_has_all_processors(tmp_path: Path) -> None:
    """An LXC container keeps for life what its starter was pinned to."""
    count = str(len(os.sched_getaffinity(0)))
    for more in ({}, {"delegate_to": "localhost"}):
        found = play(tmp_path, [command("sh", "-c", f'[ "$(nproc)" = {count} ]', **more)])
        assert found.returncode == 0, found.stdout + found.stderr


def test_without_mitogen_it_is_ansibles_own(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "ansible_mitogen.py").write_text("raise ImportError('not installed')\n")
    found = play(tmp_path, [command("/usr/bin/true")], PYTHONPATH=str(tmp_path / "none"))
    assert found.returncode == 0, found.stdout + found.stderr
    assert found.stdout.count("ok: [") == len(HOSTS)
