"""Bearer tokens of the HTTP API: made, listed and revoked here; only their SHA-256 is kept."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from bacpipes import schema
from bacpipes.central import schema as central_schema
from bacpipes.database import Connection, query, schema_version
from bacpipes.errors import InputError

PREFIX = "bpt_"
RANDOM_BYTES = 32
SECRET = re.compile(r"bpt_[A-Za-z0-9_-]{43,150}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Role(IntEnum):
    """What a token may do; each role may do what those below it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def text(self) -> str:
        """The name in the database and on the command line."""
        return self.name.lower()

    @classmethod
    def of(cls, text: str) -> "Role":
        """The role of that name."""
        return cls[text.upper()]


@dataclass(frozen=True, slots=True)
class Token:
    """A token as the database knows it; the secret itself is not there."""

    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def state(self, now: datetime) -> str:
        """``valid``, ``expired`` or ``revoked``."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"


def new_secret() -> str:
    """A token that nobody can guess, and that a scanner for leaked secrets can recognise."""
    return PREFIX + secrets.token_urlsafe(RANDOM_BYTES)


def digest(secret: str) -> bytes:
    """What the database keeps of a token. It is random through and through, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


async def create(connection: Connection, name: str, role: Role, expires_days: int | None, actor: str) -> str:
    """Make a token and return its secret, which is nowhere kept."""
    _require_name(name)
    await _require_schema(connection)
    secret = new_secret()
    values = {"name": name, "role": role.text, "digest": digest(secret), "days": expires_days}
    detail = {"role": role.text, "expires_days": expires_days}
    try:
        async with connection.transaction():
            await connection.execute(query("exporter_token_create"), values)
            await _audit(connection, actor, "token.create", name, detail)
    except psycopg.errors.UniqueViolation:
        remedy = "Choose another name; a revoked token's name stays taken, so that the audit trail is unambiguous."
        raise InputError(f"There is a token named {name!r} already.", remedy) from None
    return secret


async def ensure(connection: Connection, name: str, role: Role, secret: str, actor: str) -> str:
    """Let there be a token of that name with this secret, which was made elsewhere: ``made``, ``changed`` or
    ``unchanged``. Raise `InputError` for a secret that is none, was revoked, or is another token's."""
    _require_name(name)
    if not SECRET.fullmatch(secret):
        raise InputError("That is not a token.", f"{PREFIX} and 43 to 150 of A-Z, a-z, 0-9, '_' and '-', random.")
    await _require_schema(connection)
    values = {"name": name, "role": role.text, "digest": digest(secret)}
    revoked = "SELECT FROM api_token WHERE digest = %s AND (revoked_at IS NOT NULL OR name <> %s)"
    async with connection.transaction():
        if await (await connection.execute(revoked, [values["digest"], name])).fetchone() is not None:
            raise InputError(f"The token for {name!r} was revoked, or is another name's.", "Make a new one.")
        row = await (await connection.execute(query("token_ensure"), values)).fetchone()
        if row is None:
            return "unchanged"
        done = "made" if row[0] else "changed"
        await _audit(connection, actor, "token.create" if row[0] else "token.change", name, {"role": role.text})
    return done


async def everyone(connection: Connection) -> list[Token]:
    """All tokens, by name."""
    await _require_schema(connection)
    cursor = await connection.execute(query("exporter_token_list"))
    return [Token(name, Role.of(role), *times) async for name, role, *times in cursor]


async def revoke(connection: Connection, name: str, actor: str) -> bool:
    """End a token at once; False where it was revoked before."""
    await _require_schema(connection)
    async with connection.transaction():
        row = await (await connection.execute(query("exporter_token_revoke"), {"name": name})).fetchone()
        if row is None:
            raise InputError(f"There is no token named {name!r}.", "`bacpipes token list` shows them.")
        if row == (True,):
            await _audit(connection, actor, "token.revoke", name, {})
    return bool(row[0])


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"{name!r} is not a name for a token.", "Use 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'.")


async def _audit(connection: Connection, actor: str, action: str, subject: str, detail: dict[str, Any]) -> None:
    await connection.execute(query("exporter_audit"), [actor, action, subject, Jsonb(detail)])


async def _require_schema(connection: Connection) -> None:
    version = await schema_version(connection)
    if version not in central_schema.known():  # central has tokens too
        schema.check(version)
