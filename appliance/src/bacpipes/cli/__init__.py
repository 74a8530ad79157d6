"""The command line. Each command lives in its own module and is only imported when it is called."""

import importlib
import sys
from typing import Any

import click

from bacpipes import __version__, log
from bacpipes.errors import BacpipesError, ExitCode

# In the order of --help: command → module below bacpipes.cli, whose function of the same name is the click command.
COMMANDS = {
    "demo": "demo",
    "simulate": "simulate",
    "doctor": "doctor",
    "health": "health",
    "migrate": "migrate",
    "worker": "worker",
    "exporter": "exporter",
    "discover": "discover",
    "points": "points",
    "devices": "devices",
    "write": "write",
    "stop": "stop",
    "audit": "audit",
    "mqtt": "mqtt",
    "token": "token",
    "user": "user",
    "reconcile": "reconcile",
    "central": "central",
}


class _LazyGroup(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"bacpipes.cli.{COMMANDS[name]}"), name)
        return command


EPILOG = """\b
Exit status: 0 done; 1 failed; 2 wrong usage or settings; 3 input refused, nothing changed;
4 something needed can't be reached; 5 a worker already runs on this database.

Settings come from BACPIPES_… variables; docs/settings.md lists them."""


@click.group(cls=_LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bacpipes")
def cli() -> None:
    """BacPipes: polls a building's BACnet devices, keeps 30 days, publishes every reading over MQTT, and takes
    validated setpoint writes."""
    log.configure("console", "warning")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: expected errors become one clear line and an exit status."""
    try:
        result: Any = cli.main(arguments, standalone_mode=False)
    except BacpipesError as error:
        click.echo(f"bacpipes: {error}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    sys.exit(result if isinstance(result, int) else ExitCode.OK)
