"""``bacpipes token``."""

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import TextIO, TypeVar

import click

from bacpipes import tokens
from bacpipes.database import Connection, connect
from bacpipes.settings import Settings, load_settings
from bacpipes.tokens import Role

Result = TypeVar("Result")


@click.group()
def token() -> None:
    """Make, list and revoke bearer tokens of the HTTP API.

    \b
    viewer    reads points, devices, history and metrics
    operator  also writes setpoints
    admin     everything
    """


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.text for role in Role]), required=True, help="What it may do.")
@click.option("--expires-days", type=click.IntRange(1, 36500), help="Days until it ends; default: it does not end.")
def create(name: str, role: str, expires_days: int | None) -> None:
    """Make a token called NAME and print it, this once.

    Standard output holds the token alone, so that a script can take it.
    """
    secret = _run(lambda connection: tokens.create(connection, name, Role.of(role), expires_days, _actor()))
    click.echo(f"Token {name!r}, role {role}. It is not kept anywhere: store it now.", err=True)
    click.echo(secret)


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice([role.text for role in Role]), required=True, help="What it may do.")
@click.option("--token-file", type=click.File(), required=True, help="Its first line is the token; -: standard input.")
def ensure(name: str, role: str, token_file: TextIO) -> None:
    """Let NAME be a token that was made elsewhere, as provisioning does; safe to repeat.

    The token is bpt_ and at least 43 random characters of A-Z, a-z, 0-9, _ and -. It is never printed.
    """
    secret = token_file.readline(1000).strip()
    done = _run(lambda connection: tokens.ensure(connection, name, Role.of(role), secret, _actor()))
    click.echo(f"Token {name!r}, role {role}: {done}.")


@token.command("list")
def list_() -> None:
    """Show all tokens: name, role, state, since when, until when."""
    found = _run(tokens.everyone)
    if not found:
        click.echo("There are no tokens yet: bacpipes token create NAME --role viewer", err=True)
    now = datetime.now(UTC)
    for one in found:
        until = _minute(one.revoked_at or one.expires_at)
        click.echo(f"{one.name:<24} {one.role.text:<9} {one.state(now):<8} {_minute(one.created_at)}  {until}")


@token.command()
@click.argument("name")
def revoke(name: str) -> None:
    """End the token called NAME; it is refused from the next request on."""
    was_valid = _run(lambda connection: tokens.revoke(connection, name, _actor()))
    click.echo(f"Token {name!r} is revoked." if was_valid else f"Token {name!r} was revoked before.")


def _run(action: Callable[[Connection], Awaitable[Result]]) -> Result:
    settings = _settings()

    async def with_connection() -> Result:
        async with await connect(settings, "token") as connection:
            return await action(connection)

    return asyncio.run(with_connection())


def _settings() -> Settings:
    """A site's; central's for `bacpipes central token`."""
    names = [context.info_name for context in _contexts()]
    if "central" not in names:
        return load_settings()
    from bacpipes.central.settings import load_central_settings

    return load_central_settings()


def _contexts() -> Iterator[click.Context]:
    context: click.Context | None = click.get_current_context()
    while context is not None:
        yield context
        context = context.parent


def _actor() -> str:
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return f"cli:uid {os.getuid()}"


def _minute(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%MZ") if moment else "-"
