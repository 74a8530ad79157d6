"""``bacpipes mqtt``: the connection to broker A."""

import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from bacpipes import schema
from bacpipes.database import Connection, connect, schema_version
from bacpipes.errors import BacpipesError, ExitCode, InputError
from bacpipes.mqtt import certificates
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.check import test_connection
from bacpipes.mqtt.config import OPTIONAL, PREFIX, MqttConfig
from bacpipes.settings import Settings, load_settings

Result = TypeVar("Result")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
CLEARABLE = ("username", "password", "ca", "client-certificate", "client-key")
FIELD_OF = {"ca": "ca_certificate", "client-certificate": "client_certificate", "client-key": "client_key"}
PEM_OPTIONS = {"ca": "ca_certificate", "client_certificate": "client_certificate", "client_key": "client_key"}


@click.group()
def mqtt() -> None:
    """Show, set or test the connection to the MQTT broker."""


@mqtt.command()
def show() -> None:
    """Show the configuration in force, without secrets, and which values the environment sets."""
    config = _run(mqtt_config.load)
    overridden = mqtt_config.environment()
    for name in MqttConfig.model_fields:
        origin = f"   (from {PREFIX}{name.upper()})" if name in overridden else ""
        click.echo(f"{name.replace('_', ' '):20} {_shown(config, name)}{origin}")
    click.echo(f"{'connects to':20} {config.address}, {'with TLS' if config.tls_enabled else 'without TLS'}")
    for remark in config.remarks():
        click.echo(f"Note: {remark}.")


def _clear_options(command: Callable[..., None]) -> Callable[..., None]:
    for name in reversed(CLEARABLE):
        option = click.option(f"--clear-{name}", is_flag=True, help=f"Remove the {name.replace('-', ' ')}.")
        command = option(command)
    return command


@mqtt.command("set")
@click.option("--broker", help="Host name or address.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port without TLS.")
@click.option("--client-id", help="One of its own for each appliance on a broker.")
@click.option("--username")
@click.option("--password-file", type=FILE, help="A file whose first line is the password.")
@click.option("--password-prompt", is_flag=True, help="Ask for the password.")
@click.option("--tls/--no-tls", "tls_enabled", default=None, help="Encrypt the connection, and verify the broker.")
@click.option("--tls-port", type=click.IntRange(1, 65535), help="Port with TLS.")
@click.option("--ca", type=FILE, help="PEM file of the CA that signed the broker's certificate.")
@click.option("--client-certificate", type=FILE, help="PEM file of our certificate, its intermediates after it.")
@click.option("--client-key", type=FILE, help="PEM file of our private key, without a passphrase.")
@click.option("--protocol", type=click.Choice(["5", "3.1.1"]))
@click.option("--write-command-topic", help="Where commands come in.")
@click.option("--write-result-topic", help="Where results go.")
@click.option("--enable/--disable", "enabled", default=None, help="Whether the worker connects at all.")
@_clear_options
def set_(**options: Any) -> None:
    """Change the stored configuration; a running worker takes it over at once.

    Everything is checked first: when anything is wrong, nothing is changed. A password is never an argument.
    """
    changes = _changes(options)
    if not changes:
        raise click.UsageError("Nothing to set; see --help.")
    overridden = mqtt_config.environment()  # before anything changes: it may be refused
    actor = f"cli:{_user()}"
    changed = _run(lambda connection, settings: mqtt_config.save(connection, settings, changes, actor=actor))
    click.echo(f"Changed: {', '.join(changed)}." if changed else "Nothing has changed: it was so already.")
    for name in sorted(overridden.keys() & changes.keys()):
        click.echo(f"Note: {PREFIX}{name.upper()} is set in the environment and stands over the stored {name}.")
    for remark in _remarks():
        click.echo(f"Note: {remark}")


@mqtt.command("test")
def test_() -> int:
    """Connect as the worker would, step by step, and say what fails. Nothing is published."""
    config = _run(mqtt_config.load)
    result = asyncio.run(test_connection(config))
    for step in result.steps:
        click.echo(f"{'ok    ' if step.ok else 'FAILED'} {step.name:9} {step.detail}")
        if step.remedy:
            click.echo(f"{'':17}{step.remedy}")
    if result.ok and not config.enabled:
        click.echo("Note: MQTT is disabled; enable it with bacpipes mqtt set --enable.")
    return ExitCode.OK if result.ok else ExitCode.UNAVAILABLE


def _changes(options: dict[str, Any]) -> dict[str, object]:
    changes: dict[str, object] = {}
    for name, value in options.items():
        if name.startswith("clear_"):
            if value:
                option = name.removeprefix("clear_").replace("_", "-")
                changes[_field(option)] = None
        elif name in PEM_OPTIONS and value is not None:
            changes[PEM_OPTIONS[name]] = mqtt_config.read_pem(str(value))
        elif name in MqttConfig.model_fields and value is not None:
            changes[name] = value
    _refuse_both(options)
    if (password := _password(options)) is not None:
        changes["password"] = password
    return changes


def _field(option: str) -> str:
    field = FIELD_OF.get(option, option)
    assert field in OPTIONAL  # noqa: S101
    return field


def _refuse_both(options: dict[str, Any]) -> None:
    for option in CLEARABLE:
        given = options.get(option.replace("-", "_"))
        if option == "password":
            given = options["password_file"] or options["password_prompt"]
        if given and options[f"clear_{option.replace('-', '_')}"]:
            raise click.UsageError(f"--clear-{option} contradicts the new {option.replace('-', ' ')}.")


def _password(options: dict[str, Any]) -> str | None:
    if options["password_file"] and options["password_prompt"]:
        raise click.UsageError("Give either --password-file or --password-prompt.")
    if options["password_prompt"]:
        text: str = click.prompt("Password", hide_input=True, confirmation_prompt=sys.stdin.isatty())
        return text
    if options["password_file"] is None:
        return None
    lines = mqtt_config.read_text(options["password_file"]).splitlines()
    if not lines or not lines[0]:
        raise InputError("The password file is empty.", "To remove the password: --clear-password.")
    return lines[0]


def _shown(config: MqttConfig, name: str) -> str:
    value = getattr(config, name)
    if value is None:
        return "-"
    if name in mqtt_config.SECRETS:
        return "(set, not shown)"
    if name in mqtt_config.PEM_FIELDS:
        return _certificate(value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _remarks() -> list[str]:
    """What is worth saying of the configuration now in force; the change itself is already done."""
    try:
        config = _run(mqtt_config.load)
        return [f"{remark}." for remark in [*config.remarks(), *certificates.check(config.identity)]]
    except BacpipesError as error:
        return [str(error)]


def _certificate(pem: str) -> str:
    try:
        return "; ".join(str(certificates.describe(each)) for each in certificates.parse(pem, "It"))
    except InputError as error:
        return f"unusable: {error}"


def _run(action: Callable[[Connection, Settings], Awaitable[Result]]) -> Result:
    async def call() -> Result:
        settings = load_settings()
        connection = await connect(settings, "mqtt")
        async with connection:
            schema.check(await schema_version(connection))
            return await action(connection, settings)

    return asyncio.run(call())


def _user() -> str:
    with suppress(KeyError, OSError):
        return getpass.getuser()
    return str(os.getuid())  # a container's user may have no name
