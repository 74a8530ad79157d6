"""The lab's LXC machines, for what no playbook does: looking at them, and taking all away."""

import json
from pathlib import Path

from lab.plan import MACHINES
from lab.shell import run

PATH = Path("/var/lib/lxc")
MARK = "bacpipes-lab"  # stands in the configuration of every machine of the lab and of Molecule


def ours() -> list[str]:
    """Names of the containers that the lab or Molecule made."""
    if not PATH.is_dir():
        return []
    found = (config.parent.name for config in PATH.glob("*/config") if MARK in config.read_text(errors="replace"))
    return sorted(found)


def states() -> dict[str, str]:
    """Name → RUNNING, STOPPED …"""
    return {name: run("lxc-info", "-n", name, "-s", "-H", check=False).stdout.strip() for name in ours()}


def down() -> list[str]:
    """Stop and destroy them all; returns their names."""
    gone = ours()
    for name in gone:
        run("lxc-stop", "-n", name, "-k", check=False)
        run("lxc-destroy", "-n", name, "-f")
    return gone


def leftovers() -> list[str]:
    """What is still there: containers, and mounts or loop devices of their disks."""
    loops = json.loads(run("losetup", "--json", check=False).stdout or '{"loopdevices": []}')["loopdevices"]
    disks = [loop["back-file"] for loop in loops if str(loop["back-file"]).startswith(f"{PATH}/")]
    return ours() + [disk for disk in disks if any(f"/{name}/" in disk for name in MACHINES)]
