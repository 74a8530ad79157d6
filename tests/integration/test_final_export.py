"""What a site leaves behind when it is taken away: the role's export, with a stand-in for Docker's command.

That real rows arrive is seen in the lab (tests/lab/test_fleet.py); here are the ways in which there may be none.
"""

import csv
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / ".venv-controller" / "bin" / "ansible-playbook"
TABLES = {"sensor_readings", "point", "device", "gap", "write_command_status", "write_results", "audit"}

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: appliance, tasks_from: final_export}
    - ansible.builtin.debug: {msg: it would be removed now}
"""
# Answers as Docker does; the words of an error are Docker's own.
DOCKER = """#!/bin/sh
case "$1 $DOCKER_STATE" in
  "inspect runs"|"inspect broken") echo true ;;
  "inspect gone") echo "Error: No such object: bacpipes-database-1" >&2; exit 1 ;;
  "inspect down") echo "Cannot connect to the Docker daemon at unix:///var/run/docker.sock." >&2; exit 1 ;;
  "exec runs") case "$*" in *COPY*) printf 'a,b\\n1,2\\n3,4\\n' ;; *count*) echo 2 ;; esac ;;
  "exec short") case "$*" in *COPY*) printf 'a,b\\n1,2\\n' ;; *count*) echo 2 ;; esac ;;
  "inspect short") echo true ;;
  "exec broken") echo "psql: error: connection refused" >&2; exit 2 ;;
esac
"""


class Export:
    """The role on this machine, with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.exported = folder / "exported"
        self.volume = folder / "volume"
        (folder / "bin").mkdir()
        docker = folder / "bin" / "docker"
        docker.write_text(DOCKER)
        docker.chmod(0o755)
        (folder / "play.yml").write_text(PLAY)

    def play(self, state: str, *arguments: str, required: bool = True) -> tuple[bool, str]:
        """Whether it would have gone on, and what it said on one line."""
        variables = {
            "appliance_export_folder": str(self.exported), "appliance_export_required": required,
            "appliance_dir": str(self._folder / "site"), "_appliance_volume": str(self.volume),
            "ansible_python_interpreter": sys.executable,
        }  # fmt: skip
        (self._folder / "site").mkdir(exist_ok=True)
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "DOCKER_STATE": state,
            "PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}",
        }  # fmt: skip
        command = [ANSIBLE, "-i", "localhost,", "-e", json.dumps(variables), *arguments, self._folder / "play.yml"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
        output = " ".join((done.stdout + done.stderr).split())
        return done.returncode == 0 and "it would be removed now" in output, output


@pytest.fixture
def export(tmp_path: Path) -> Export:
    return Export(tmp_path)


def test_every_table_is_brought_and_counted(export: Export) -> None:
    export.volume.mkdir()
    went_on, output = export.play("runs")
    assert went_on, output
    assert {path.name.removesuffix(".csv.gz") for path in export.exported.iterdir()} == TABLES
    with gzip.open(export.exported / "audit.csv.gz", "rt", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "2"], ["3", "4"]]


def test_a_check_exports_nothing_and_goes_through(export: Export) -> None:
    export.volume.mkdir()
    went_on, output = export.play("runs", "--check")
    assert went_on, output
    assert not export.exported.exists()


def test_a_site_that_was_never_finished_has_nothing_to_export(export: Export) -> None:
    went_on, output = export.play("gone")
    assert went_on, output
    assert "localhost: nothing is exported: it has no data." in output


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("down", "(Cannot connect to the Docker daemon at unix:///var/run/docker.sock.), so it can't be exported;"),
        ("gone", "(Error: No such object: bacpipes-database-1), so it can't be exported; nothing was removed."),
        ("broken", "localhost: the export failed, as the task before says; nothing was removed, and the worker"),
        ("short", "localhost: the export failed, as the task before says; nothing was removed, and the worker"),
    ],
)  # fmt: skip
def test_data_that_can_not_be_exported_is_not_deleted_unless_that_is_said(
    export: Export, state: str, words: str
) -> None:
    export.volume.mkdir()
    went_on, output = export.play(state)
    assert not went_on
    assert words in output
    assert "-e offboard_without_export=true and lose it" in output
    went_on, output = export.play(state, required=False)
    assert went_on, output
