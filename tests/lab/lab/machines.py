"""The lab's LXC machines, for what no playbook does: looking at them, and taking all away."""

import json
import re
import shutil
from pathlib import Path

from lab import network
from lab.plan import MACHINES
from lab.shell import run

PATH = Path("/var/lib/lxc")
PLUGGED = re.compile(r"^lxc\.net\.\d+\.link\s*=\s*(\S+)", re.MULTILINE)


def ours() -> list[str]:
    """Names of the containers that the lab or Molecule made: those that are plugged into one of its bridges."""
    if not PATH.is_dir():
        return []
    plugs = {config.parent.name: PLUGGED.findall(config.read_text()) for config in PATH.glob("*/config")}
    return sorted(name for name, bridges in plugs.items() if set(bridges) & set(network.BRIDGES))


def states() -> dict[str, str]:
    """Name → RUNNING, STOPPED …"""
    return {name: run("lxc-info", "-n", name, "-s", "-H", check=False).stdout.strip() for name in ours()}


def down() -> list[str]:
    """Stop and destroy them all; returns their names."""
    gone = ours()
    for name in gone:
        run("lxc-stop", "-n", name, "-k", check=False)
        run("lxc-destroy", "-n", name, "-f", check=False)
        run("umount", PATH / name / "rootfs", check=False)
        shutil.rmtree(PATH / name, ignore_errors=True)
    return gone


def leftovers() -> list[str]:
    """What is still there: containers, and mounts or loop devices of their disks."""
    loops = json.loads(run("losetup", "--json", check=False).stdout or '{"loopdevices": []}')["loopdevices"]
    disks = [loop["back-file"] for loop in loops if str(loop["back-file"]).startswith(f"{PATH}/")]
    return ours() + [disk for disk in disks if any(f"/{name}/" in disk for name in MACHINES)]
