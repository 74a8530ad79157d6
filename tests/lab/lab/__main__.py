"""``python -m lab up | down | status | prepare | test | molecule``; see docs/lab.md."""

import os
import sys
import time
from pathlib import Path

import click

from lab import building, engine, fleet, machines, network, process, root
from lab.plan import BUILDINGS, CACHE, MACHINES, PROJECT, STATE
from lab.shell import LabError, follow, needs, run, step

PYTEST, MOLECULE = (Path(sys.executable).with_name(name) for name in ("pytest", "molecule"))
TESTS = ("tests/lab/test_fleet.py", "tests/lab/test_central_faults.py")
PROGRAMS = ("lxc-start", "lxc-attach", "debootstrap", "dockerd", "nft", "ip", "zstd", "ssh", "ssh-keygen")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def main(context: click.Context) -> None:
    """A whole fleet on this machine: central and two sites in containers, a simulated building for each site."""
    if os.geteuid() == 0:
        return
    if context.invoked_subcommand in ("test", "molecule"):
        click.echo("SKIPPED: tests in real containers need root; run them as root to have them verified.")
        context.exit(0)
    raise LabError("The lab makes containers and bridges: it needs root.")


@main.command()
def up() -> None:
    """Build what is missing, commission central and every site by the operator's playbooks, verify; safe to repeat."""
    began = time.monotonic()
    _prepare()
    fleet.commission()
    fleet.report(time.monotonic() - began)


@main.command()
def prepare() -> None:
    """Only the ground: root, networks, engine, images, buildings. Molecule needs no more."""
    _prepare()


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """The lab's own tests (pytest ARGUMENTS): from nothing, twice, interrupted, killed, rebooted, offboarded."""
    files = () if any(word.startswith("tests/") for word in arguments) else TESTS
    words = ["-c", "tests/lab/pytest.ini", *files, *(arguments or ("-m", "not faults"))]
    follow([PYTEST, *words], fleet.environment(), PROJECT)


@main.command()
@click.option("--long", is_flag=True, help="also the tests that play a role again and again")
@click.argument("scenarios", nargs=-1)
def molecule(long: bool, scenarios: tuple[str, ...]) -> None:
    """Molecule for every role (or SCENARIOS), one after the other on one machine of the lab's ground."""
    if busy := sorted(MACHINES.keys() & machines.ours()):
        raise LabError(
            f"The lab's own machines {', '.join(busy)} are there: Molecule would play on them, and remove them. "
            "`make lab-down` first."
        )
    _prepare()
    # what a run that was cut short believes to have made; reset stumbles where scenarios share one state
    run(MOLECULE, "reset", "--all", check=False, env=fleet.molecule_environment(long), cwd=PROJECT)
    words = [word for name in scenarios or fleet.SCENARIOS for word in ("--scenario-name", name)]
    follow([MOLECULE, "test", *words], fleet.molecule_environment(long), PROJECT)


@main.command()
def down() -> None:
    """Take every trace away: containers, bridges, rules, processes. The cache of roots and images stays."""
    with step("Containers") as remarks:
        remarks.extend(machines.down())
    with step("Buildings"):
        building.down()
    with step("Networks"):
        network.down()
    with step("Docker engine of the controller"):
        engine.down()
    fleet.forget()
    left = machines.leftovers() + network.leftovers() + [name for name in process.names() if process.running(name)]
    if left:
        raise LabError(f"Still there: {', '.join(left)}")
    click.echo(f"Nothing of the lab is left but its cache, {CACHE}.")


@main.command()
def status() -> None:
    """What runs."""
    for name in process.names():
        click.echo(f"{name:<20} {'runs' if process.running(name) else 'has ended'}")
    for name, state in machines.states().items():
        click.echo(f"{name:<20} {state}")


def _prepare() -> None:
    needs(*PROGRAMS)
    STATE.mkdir(mode=0o700, exist_ok=True)
    with step("Base root") as remarks:
        remarks.append("made anew" if root.ensure() else "from the cache")
    with step("Networks: a WAN, and one for each building"):
        network.up()
    with step("Docker engine of the controller"):
        engine.up()
    with step("Images from Debian's packages") as remarks:
        remarks.append(", ".join(engine.build()) or "from the cache")
    with step(f"Simulated buildings: {', '.join(each.site for each in BUILDINGS)}"):
        building.up()
    with step("Keys and secrets of this lab"):
        fleet.prepare()


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (LabError, click.ClickException) as error:
        sys.exit(f"lab: {error}")
    except (KeyboardInterrupt, click.Abort):
        sys.exit("lab: interrupted; run it again to go on.")
