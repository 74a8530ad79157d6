"""The scenario's own playbook once more, with other variables; what the tests of several scenarios share."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


def play(
    request: pytest.FixtureRequest, *arguments: str, playbook: str = "converge.yml", **variables: object
) -> subprocess.CompletedProcess[str]:
    """Play the file ``playbook`` of the scenario that the asking test belongs to; it may fail."""
    scenario = request.path.parents[1]
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    inventory = request.config.getoption("ansible_inventory")
    command = [program, "-i", inventory, str(scenario / playbook), "-e", json.dumps(variables), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=scenario.parents[1], stdin=subprocess.DEVNULL
    )


def told(result: subprocess.CompletedProcess[str]) -> str:
    """All that it said, on one line: YAML breaks long messages."""
    return " ".join((result.stdout + result.stderr).split())


def changes(result: subprocess.CompletedProcess[str]) -> int:
    """How many tasks changed something; it has to have worked."""
    assert result.returncode == 0, told(result)[-3000:]
    return int(result.stdout.split("changed=")[1].split()[0])
