"""Who asks, and whether they may."""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from bacpipes.database import query
from bacpipes.exporter import sessions
from bacpipes.exporter.problem import Problem
from bacpipes.exporter.store import Store
from bacpipes.tokens import PREFIX, Role, digest

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="bacpipes"'}
REMEDY = "Send `Authorization: Bearer <token>`; `{} token create NAME --role viewer` makes one."
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")
LONGEST_TOKEN = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token or login it is, and what it may do. ``session`` is the login's digest, None for a token."""

    name: str
    role: Role
    session: bytes | None = None


LOCAL = Identity("local", Role.VIEWER)
Guard = Callable[[Request], Awaitable[Identity]]


def require(role: Role) -> Guard:
    """A dependency: the caller's identity, where the token allows ``role``; else 401 or 403."""

    async def guard(request: Request) -> Identity:
        identity = await authenticate(request)
        if identity.role < role:
            whose = "the token" if identity.session is None else "the user"
            error = f"This needs the role {role.text}; {whose} {identity.name!r} has {identity.role.text}."
            raise Problem(403, error, role=role.text)
        return identity

    return guard


async def local_or_viewer(request: Request) -> Identity:
    """A dependency: open to the machine itself, for probes and scrapers; others need a token."""
    if is_local(request):
        request.state.identity = LOCAL.name
        return LOCAL
    return await require(Role.VIEWER)(request)


async def authenticate(request: Request) -> Identity:
    """The identity behind the request's token or login. It is looked up each time: what is revoked ends at once."""
    secret = _bearer(request)
    if secret is None and (identity := await _logged_in(request)):
        return identity
    remedy = REMEDY.format(getattr(request.app.state, "program", "bacpipes"))  # central has its own
    if secret is None:
        raise Problem(401, "A bearer token is needed.", CHALLENGE, remedy=remedy)
    store: Store = request.app.state.store
    identity = await _look_up(store, secret) if _plausible(secret) else None
    if identity is None:
        headers = {"WWW-Authenticate": CHALLENGE["WWW-Authenticate"] + ', error="invalid_token"'}
        raise Problem(401, "The token is unknown, expired or revoked.", headers, remedy=remedy)
    request.state.identity = identity.name
    return identity


async def _logged_in(request: Request) -> Identity | None:
    """The user whose cookie it is. What changes something must also come from a page of ours (against forged ones)."""
    store: Store = request.app.state.store
    found = await sessions.find(store, sessions.secret_of(request.scope))
    if found is None:
        return None
    if request.method not in sessions.SAFE_METHODS and not sessions.same_origin(request.scope):
        raise Problem(403, "The request does not come from a page of this appliance (its Origin is another).")
    request.state.identity = found.name
    return Identity(found.name, found.role, found.digest)


def is_local(request: Request) -> bool:
    """True for a client on this machine's loopback; what a proxy hands on is not local, whoever the proxy is."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.client.host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _bearer(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() or None if scheme.lower() == "bearer" else None


def _plausible(secret: str) -> bool:
    return secret.startswith(PREFIX) and len(secret) <= LONGEST_TOKEN


async def _look_up(store: Store, secret: str) -> Identity | None:
    expected = digest(secret)
    async with store.connection() as connection:
        row = await (await connection.execute(query("exporter_token_check"), [expected])).fetchone()
    # The look-up goes by the hash, so its duration tells nothing of the token; compared once more in constant time.
    if row is None or not hmac.compare_digest(bytes(row[2]), expected):
        return None
    return Identity(row[0], Role.of(row[1]))
