"""People who use the page: made, changed and disabled here; passwords are kept as argon2id only."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from psycopg.types.json import Jsonb

from bacpipes import schema
from bacpipes.database import Connection, query, schema_version
from bacpipes.errors import InputError
from bacpipes.tokens import Role

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
NAME_RULE = "Use 1 to 64 of a-z, 0-9, '.', '_', '@' and '-', a letter or digit first."
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 200  # characters
FIRST_TOKEN_HOURS = 24.0
# RFC 9106's order of magnitude for little memory: 32 MiB and about 0.1 s on a small machine, one at a time.
_HASHER = PasswordHasher(time_cost=3, memory_cost=32 * 1024, parallelism=1)
_NOBODY = _HASHER.hash(secrets.token_urlsafe())  # compared with for unknown names, so that they take as long


@dataclass(frozen=True, slots=True)
class User:
    """A user as the list shows them."""

    name: str
    role: Role
    created_at: datetime
    password_at: datetime
    disabled_at: datetime | None
    last_login: datetime | None


@dataclass(frozen=True, slots=True)
class Account:
    """A user who may log in; ``password`` is the argon2 hash."""

    id: int
    name: str
    role: Role
    password: str


def digest(secret: str) -> bytes:
    """What the database keeps of a session's or a one-time token's secret, which is random through and through."""
    return hashlib.sha256(secret.encode()).digest()


def normal(name: str) -> str:
    """A name as it is kept: names differ by more than capitals."""
    return name.strip().lower()


def hash_password(password: str) -> str:
    """The argon2id hash of a new password; raise `InputError` where it is too short, too long or too simple."""
    if len(password) < SHORTEST_PASSWORD:
        raise InputError(f"The password is too short: at least {SHORTEST_PASSWORD} characters.")
    if len(password) > LONGEST_PASSWORD:
        raise InputError(f"The password is too long: at most {LONGEST_PASSWORD} characters.")
    if len(set(password)) < 5:
        raise InputError("The password is too simple: use at least 5 different characters.")
    return _HASHER.hash(password)


def is_password(account: Account | None, password: str) -> bool:
    """Whether it is this account's password; takes as long where there is no such account."""
    try:
        return _HASHER.verify(account.password if account else _NOBODY, password[: LONGEST_PASSWORD + 1])
    except (VerificationError, InvalidHashError):
        return False


async def find(connection: Connection, name: str) -> Account | None:
    """The enabled user of that name."""
    row = await (await connection.execute(query("user_find"), [normal(name)])).fetchone()
    return Account(row[0], row[1], Role.of(row[2]), row[3]) if row else None


async def everyone(connection: Connection) -> list[User]:
    """All users, by name."""
    await _require_schema(connection)
    cursor = await connection.execute(query("user_list"))
    return [User(name, Role.of(role), *times) async for name, role, *times in cursor]


async def add(connection: Connection, name: str, role: Role, password: str, actor: str) -> str:
    """Make a user; return the name as it is kept."""
    name = normal(name)
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a user's name.", NAME_RULE)
    hashed = hash_password(password)
    await _require_schema(connection)
    try:
        async with connection.transaction():
            await connection.execute(query("user_add"), {"name": name, "role": role.text, "password": hashed})
            await audit(connection, actor, "user.add", name, {"role": role.text})
    except psycopg.errors.UniqueViolation:
        raise InputError(f"There is a user {name!r} already.", "A disabled user's name stays taken.") from None
    return name


async def ensure(connection: Connection, name: str, role: Role, password: str, actor: str) -> Role | None:
    """Make a user where there is none of that name; None where it was made, else the role of the one there is.

    Nothing of a user that is there is changed: role, password and state are what people chose since.
    """
    async with connection.transaction():
        await connection.execute(query("user_lock"))
        found = next((one for one in await everyone(connection) if one.name == normal(name)), None)
        if found is None:
            await add(connection, name, role, password, actor)
    return found.role if found else None


async def set_password(
    connection: Connection, name: str, password: str, actor: str, *, keep_session: bytes | None = None
) -> None:
    """Give a user another password, and end all their logins but ``keep_session``."""
    hashed = hash_password(password)
    await _change(connection, "user_password", name, {"password": hashed}, keep_session)
    await audit(connection, actor, "user.password", normal(name), {})


async def set_role(connection: Connection, name: str, role: Role, actor: str) -> None:
    """Let a user do more or less; it holds from their next click on."""
    async with connection.transaction():
        await connection.execute(query("user_lock"))
        if role is not Role.ADMIN:
            await _keep_an_admin(connection, name)
        await _change(connection, "user_role", name, {"role": role.text}, None, end=False)
        await audit(connection, actor, "user.role", normal(name), {"role": role.text})


async def set_disabled(connection: Connection, name: str, actor: str, *, disabled: bool) -> None:
    """Shut a user out at once, or let them in again."""
    async with connection.transaction():
        await connection.execute(query("user_lock"))
        if disabled:
            await _keep_an_admin(connection, name)
        await _change(connection, "user_state", name, {"disabled": disabled}, None)
        await audit(connection, actor, "user.disable" if disabled else "user.enable", normal(name), {})


async def first_token(connection: Connection, actor: str, hours: float = FIRST_TOKEN_HOURS) -> str:
    """A one-time token with which the page makes the first admin; an earlier one ends. Refused where there is one."""
    await _require_schema(connection)
    await _require_no_admin(connection)
    secret = secrets.token_urlsafe(24)
    async with connection.transaction():
        await connection.execute(query("first_token_save"), {"digest": digest(secret), "hours": hours})
        await audit(connection, actor, "user.first", "", {"hours": hours})
    return secret


async def use_first_token(connection: Connection, secret: str, name: str, password: str) -> str:
    """Make the first admin, where the token is good; it is used up only where that works."""
    async with connection.transaction():
        await connection.execute(query("user_lock"))
        await _require_no_admin(connection)
        cursor = await connection.execute(query("first_token_use"), [digest(secret.strip())])
        if await cursor.fetchone() is None:
            raise InputError("The token is wrong or has ended.", "`bacpipes user first` prints a new one.")
        return await add(connection, name, Role.ADMIN, password, "first-user-token")


async def has_admin(connection: Connection) -> bool:
    """Whether there is an enabled admin."""
    row = await (await connection.execute(query("user_admins"), [""])).fetchone()
    return bool(row and row[0])


async def audit(connection: Connection, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    """A row of the audit trail."""
    await connection.execute(query("exporter_audit"), [actor, action, subject, Jsonb(detail)])


async def _change(
    connection: Connection, statement: str, name: str, values: dict[str, Any], keep: bytes | None, *, end: bool = True
) -> None:
    async with connection.transaction():
        row = await (await connection.execute(query(statement), {"name": normal(name)} | values)).fetchone()
        if row is None:
            raise InputError(f"There is no user {normal(name)!r}.", "`bacpipes user list` shows them.")
        if end:
            await connection.execute(query("user_end_sessions"), {"user": row[0], "but": keep})


async def _keep_an_admin(connection: Connection, name: str) -> None:
    row = await (await connection.execute(query("user_admins"), [normal(name)])).fetchone()
    if row == (0,):
        raise InputError(f"{normal(name)!r} is the last admin.", "Make another one first.")


async def _require_no_admin(connection: Connection) -> None:
    if await has_admin(connection):
        raise InputError("There is an admin already.", "They add users on the page; or use `bacpipes user add`.")


async def _require_schema(connection: Connection) -> None:
    schema.check(await schema_version(connection))
