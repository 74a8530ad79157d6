"""``bacpipes user``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TextIO, TypeVar

import click

from bacpipes import users
from bacpipes.cli.token import _actor, _minute
from bacpipes.database import Connection, connect
from bacpipes.errors import InputError
from bacpipes.settings import load_settings
from bacpipes.tokens import Role

Result = TypeVar("Result")
_ROLE = click.Choice([role.text for role in Role])


@click.group()
def user() -> None:
    """Make, list, change and disable the users of the page.

    \b
    viewer    sees everything but settings and users
    operator  also writes setpoints
    admin     everything

    Passwords are asked for on a terminal, else read from standard input (one line); never from the command line.
    """


@user.command()
@click.option("--hours", type=click.FloatRange(0.1, 720), default=users.FIRST_TOKEN_HOURS, show_default=True)
def first(hours: float) -> None:
    """Print a one-time token with which the page makes the first admin.

    Open the page, choose “First run”, and enter it. Refused where there is an admin already.
    """
    secret = _run(lambda connection: users.first_token(connection, _actor(), hours))
    click.echo(f"Good once, for {hours:g} hours, on the page under /first:", err=True)
    click.echo(secret)


@user.command()
@click.argument("name")
@click.option("--role", type=_ROLE, required=True, help="What they may do.")
def add(name: str, role: str) -> None:
    """Make a user called NAME."""
    password = _password()
    kept = _run(lambda connection: users.add(connection, name, Role.of(role), password, _actor()))
    click.echo(f"User {kept!r}, role {role}.")


@user.command()
@click.argument("name")
@click.option("--role", type=_ROLE, required=True, help="What they may do, where they are made.")
@click.option("--password-file", type=click.File(), required=True, help="Its first line is the password; - is stdin.")
def ensure(name: str, role: str, password_file: TextIO) -> None:
    """Make a user called NAME unless there is one; for playbooks.

    Prints `changed` or `unchanged` first. A user that is there stays as people made them since: password and role are
    never reset.
    """
    secret = _one_line(password_file, f"{password_file.name} holds no password.")
    there = _run(lambda connection: users.ensure(connection, name, Role.of(role), secret, _actor()))
    kept = users.normal(name)
    if there is None:
        click.echo(f"changed: user {kept!r}, role {role}, is made.")
        return
    differs = f", not {role}" if there.text != role else ""
    click.echo(f"unchanged: user {kept!r} is there, role {there.text}{differs}.")


@user.command("list")
def list_() -> None:
    """Show all users: name, role, state, made when, last login."""
    found = _run(users.everyone)
    if not found:
        click.echo("There are no users yet: bacpipes user first", err=True)
    for one in found:
        state = "disabled" if one.disabled_at else "enabled"
        click.echo(f"{one.name:<24} {one.role.text:<9} {state:<9} {_minute(one.created_at)}  {_minute(one.last_login)}")


@user.command()
@click.argument("name")
def password(name: str) -> None:
    """Give the user called NAME another password; their logins end."""
    secret = _password()
    _run(lambda connection: users.set_password(connection, name, secret, _actor()))
    click.echo(f"User {users.normal(name)!r} has a new password.")


@user.command()
@click.argument("name")
@click.argument("role", type=_ROLE)
def role(name: str, role: str) -> None:
    """Give the user called NAME another role."""
    _run(lambda connection: users.set_role(connection, name, Role.of(role), _actor()))
    click.echo(f"User {users.normal(name)!r} is {role} now.")


@user.command()
@click.argument("name")
def disable(name: str) -> None:
    """Shut the user called NAME out at once."""
    _run(lambda connection: users.set_disabled(connection, name, _actor(), disabled=True))
    click.echo(f"User {users.normal(name)!r} is disabled.")


@user.command()
@click.argument("name")
def enable(name: str) -> None:
    """Let the user called NAME in again."""
    _run(lambda connection: users.set_disabled(connection, name, _actor(), disabled=False))
    click.echo(f"User {users.normal(name)!r} is enabled.")


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return _one_line(sys.stdin, "No password came on standard input.")


def _one_line(file: TextIO, otherwise: str) -> str:
    try:
        secret = file.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        secret = ""
    if not secret:
        raise InputError(otherwise, "It is one line of text.")
    return secret


def _run(action: Callable[[Connection], Awaitable[Result]]) -> Result:
    async def with_connection() -> Result:
        async with await connect(load_settings(), "user") as connection:
            return await action(connection)

    return asyncio.run(with_connection())
