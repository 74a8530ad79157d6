"""The simulated buildings: BACnet/IP devices in a network namespace, at a bridge that only their site shares."""

import ipaddress
import sys
from pathlib import Path

from lab import process
from lab.plan import BUILDINGS, Building
from lab.shell import LabError, run, succeeds, wait_until

BACPIPES = Path(sys.executable).with_name("bacpipes")


def up() -> None:
    """All buildings, and their points files."""
    for building in BUILDINGS:
        _write_points(building)
        _namespace(building)
        process.start(_name(building), ["ip", "netns", "exec", building.namespace, *_simulate(building)])
    for building in BUILDINGS:
        _wait(building)


def down() -> None:
    """Take them away."""
    for building in BUILDINGS:
        process.stop(_name(building))
        if succeeds("ip", "netns", "pids", building.namespace):
            run("ip", "netns", "delete", building.namespace)


def ask(site: str, *words: str) -> str:
    """``bacpipes simulate WORDS`` at a site's building, e.g. ``ask("macau", "writes")``."""
    building = next(building for building in BUILDINGS if building.site == site)
    inside = ("ip", "netns", "exec", building.namespace)
    return run(*inside, BACPIPES, "simulate", *words, "--base", building.first).stdout


def _simulate(building: Building) -> list[str]:
    options = ["--site", building.site, "--base", building.first, "--seed", str(building.seed)]
    return [str(BACPIPES), "simulate", *options]


def _write_points(building: Building) -> None:
    building.points.parent.mkdir(parents=True, exist_ok=True)
    run(*_simulate(building), "--points", building.points)


def _namespace(building: Building) -> None:
    """A namespace whose one cable ends at the building's bridge; a cable is made with both its ends or not at all."""
    space, outer = building.namespace, f"{building.bridge}-v"
    if not succeeds("ip", "netns", "pids", space):
        run("ip", "netns", "add", space)
    inside = ("ip", "-n", space)
    if not succeeds(*inside, "link", "show", "eth0"):
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
    run("ip", "link", "set", outer, "master", building.bridge, "up")
    for link in ("lo", "eth0"):
        run(*inside, "link", "set", link, "up")
    first, prefix = ipaddress.ip_address(building.first), ipaddress.ip_network(building.network).prefixlen
    for number in range(building.devices):
        run(*inside, "address", "replace", f"{first + number}/{prefix}", "dev", "eth0")


def _wait(building: Building) -> None:
    name = _name(building)

    def answers() -> bool:
        if process.running(name) is None:
            raise LabError(f"The building of {building.site} ended: {process.log_tail(name)}")
        inside = ("ip", "netns", "exec", building.namespace)
        return succeeds(*inside, BACPIPES, "simulate", "status", "--base", building.first)

    wait_until(f"the building of {building.site} answers", answers)


def _name(building: Building) -> str:
    return f"building-{building.site}"
