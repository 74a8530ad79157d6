"""Logins of the page: a cookie's secret, and the row in the database that it stands for."""

import secrets
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Scope

from bacpipes.database import query
from bacpipes.exporter.store import Store
from bacpipes.tokens import Role
from bacpipes.users import Account, digest

COOKIE = "bacpipes_session"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
RANDOM_BYTES = 32
LONGEST_SECRET = 100


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody who is logged in."""

    user: int
    name: str
    role: Role
    digest: bytes


async def start(store: Store, account: Account, hours: float, ip: str | None) -> str:
    """Begin a login; return the cookie's secret, which is nowhere kept."""
    secret = secrets.token_urlsafe(RANDOM_BYTES)
    values = {"digest": digest(secret), "user": account.id, "hours": hours, "ip": ip}
    async with store.connection() as connection:
        await connection.execute(query("session_start"), values)
    return secret


async def find(store: Store, secret: str | None) -> Login | None:
    """Who is logged in by this secret, now."""
    return await by_digest(store, digest(secret)) if secret and len(secret) <= LONGEST_SECRET else None


async def by_digest(store: Store, key: bytes) -> Login | None:
    """The same by what the database keeps; for a page that stays open."""
    async with store.connection() as connection:
        row = await (await connection.execute(query("session_find"), [key])).fetchone()
    return Login(row[0], row[1], Role.of(row[2]), bytes(row[3])) if row else None


async def end(store: Store, key: bytes) -> None:
    """End a login."""
    async with store.connection() as connection:
        await connection.execute(query("session_end"), [key])


def secret_of(scope: Scope) -> str | None:
    """The secret in a request's cookies."""
    for name, value in scope["headers"]:
        if name == b"cookie":
            try:
                morsel = SimpleCookie(value.decode("latin-1")).get(COOKIE)
            except CookieError:
                return None
            return morsel.value if morsel else None
    return None


def set_cookie(response: Response, secret: str, hours: float, *, secure: bool) -> None:
    """Hand the secret to the browser alone: no script and no other site gets at it."""
    response.set_cookie(
        COOKIE, secret, max_age=int(hours * 3600), path="/", secure=secure, httponly=True, samesite="strict"
    )


def same_origin(scope: Scope) -> bool:
    """Whether a request comes from a page of this very host; without an Origin it does not."""
    headers = dict(scope["headers"])
    origin, host = headers.get(b"origin", b"").decode("latin-1"), headers.get(b"host", b"").decode("latin-1")
    return bool(host) and urlsplit(origin).netloc.lower() == host.lower()
