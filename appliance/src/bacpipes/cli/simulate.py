"""``bacpipes simulate``: run the simulated building, list its points, break things in it."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import click

from bacpipes import log
from bacpipes.simulator import table
from bacpipes.simulator.kinds import KINDS, parse
from bacpipes.simulator.plan import DEFAULT_BASE, DEFAULT_BOXES, DEFAULT_PORT, DEFAULT_SITE, plan_site
from bacpipes.simulator.remote import ask

KIND_LIST = "\n".join(f"  {kind.usage:<30} {kind.help}" for kind in KINDS.values())
EPILOG = f"""\b
Faults:
{KIND_LIST}

\b
DEVICE is a BACnet device number. POINT is device:type:instance (12345:analog-input:101, or
short 12345:ai:101), or a haystack name."""
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(invoke_without_command=True, context_settings=CONTEXT, epilog=EPILOG)
@click.option("--site", default=DEFAULT_SITE, show_default=True, help="first segment of the haystack names")
@click.option("--base", default=DEFAULT_BASE, show_default=True, help="address of the first device; the others follow")
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="UDP port of every device")
@click.option("--vavs", default=DEFAULT_BOXES, show_default=True, help="VAV boxes, each a device with 27 points")
@click.option("--tick", default=1.0, show_default=True, help="seconds between two steps of the physics")
@click.option("--speed", default=1.0, show_default=True, help="simulated seconds in a real one")
@click.option("--seed", default=1, show_default=True, help="the same seed gives the same building")
@click.option(
    "--fault", "faults", multiple=True, metavar="FAULT", help="begin with it, e.g. 'silent:12345'; repeatable"
)
@click.option("--points", type=click.Path(path_type=Path), help="write the points CSV to this file and exit")
@click.pass_context
def simulate(context: click.Context, /, points: Path | None, **options: Any) -> None:
    """A building of BACnet/IP devices on loopback addresses, with physics and faults. Runs until it is interrupted.

    While it runs, `bacpipes simulate fault`, `clear`, `status` and `writes` control it from another terminal.
    """
    context.obj = options
    if points:
        _write_points(options, str(points))
    elif context.invoked_subcommand is None:
        asyncio.run(_run(options))


@simulate.command(context_settings=CONTEXT)
@click.pass_obj
def run(options: dict[str, Any]) -> None:
    """Run the building; the same as naming no command."""
    asyncio.run(_run(options))


@simulate.command(context_settings=CONTEXT)
@click.argument("file", default="-")
@click.pass_obj
def points(options: dict[str, Any], file: str) -> None:
    """Write the points CSV.

    It is what `bacpipes points import` reads; FILE is standard output by default.
    """
    _write_points(options, file)


def _at_the_building(command: Any) -> Any:
    """``--base`` and ``--port`` after the command's name, too."""
    command = click.option("--port", type=int, help="the building's port")(command)
    return click.option("--base", help="address of the building's first device")(command)


def _ask(context: click.Context, base: str | None, port: int | None, words: tuple[str, ...] = ()) -> Any:
    return ask(base or context.obj["base"], port or context.obj["port"], str(context.info_name), list(words))


@simulate.command(context_settings=CONTEXT | {"ignore_unknown_options": True}, epilog=EPILOG)
@click.argument("words", nargs=-1, required=True, metavar="KIND TARGET [ARGUMENT]...")
@_at_the_building
@click.pass_context
def fault(context: click.Context, words: tuple[str, ...], base: str | None, port: int | None) -> None:
    """Break something in the running building.

    For example: bacpipes simulate fault hold 12345:analog-value:120 8 55
    """
    click.echo(f"Active: {_ask(context, base, port, words)}")


@simulate.command(context_settings=CONTEXT)
@click.argument("words", nargs=-1, metavar="[KIND] [TARGET]")
@_at_the_building
@click.pass_context
def clear(context: click.Context, words: tuple[str, ...], base: str | None, port: int | None) -> None:
    """Put right all faults, or only those of a kind or of a target."""
    ended = _ask(context, base, port, words)
    click.echo("\n".join(f"Cleared: {name}" for name in ended) or "Nothing to clear.")


@simulate.command(context_settings=CONTEXT)
@_at_the_building
@click.pass_context
def status(context: click.Context, base: str | None, port: int | None) -> None:
    """What the running building is, and its active faults."""
    state = _ask(context, base, port)
    click.echo(
        f"Site {state['site']}: {state['devices']} devices, {state['points']} points, speed {state['speed']:g}, "
        f"{state['writes']} writes so far."
    )
    click.echo("\n".join(f"Active: {name}" for name in state["faults"]) or "No faults.")


@simulate.command(context_settings=CONTEXT)
@_at_the_building
@click.pass_context
def writes(context: click.Context, base: str | None, port: int | None) -> None:
    """List every write that reached a device.

    Accepted or refused, oldest first, since the building was started.
    """
    for write in _ask(context, base, port):
        value = "release" if write["value"] is None else write["value"]
        click.echo(
            f"{write['device_id']}:{write['object']} {write['property']} = {value}, "
            f"priority {write['priority'] or '-'}, from {write['source']}: {write['outcome']}"
        )


def _write_points(options: dict[str, Any], file: str) -> None:
    plan = plan_site(options["site"], options["base"], options["port"], options["vavs"], options["seed"])
    if file == "-":
        click.echo(table.points_csv(plan), nl=False)
    else:
        click.echo(f"{table.write_points(plan, Path(file))} points written to {file}.")


async def _run(options: dict[str, Any]) -> None:
    """Serve until SIGINT or SIGTERM."""
    from bacpipes.simulator.building import Building  # here, for they load bacpypes3, which takes a while
    from bacpipes.simulator.control import ControlServer

    log.configure("console", "info")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    beginning = [parse(text) for text in options.pop("faults")]
    building = Building(**options)
    click.echo(table.device_table(building.plan))
    async with building, ControlServer(building):
        for kind, target, arguments in beginning:
            building.fault(kind, target, *arguments)
        click.echo("Ready. Ctrl-C ends it; `bacpipes simulate fault --help` lists what can be broken.")
        await stop.wait()
