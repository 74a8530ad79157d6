"""Login, logout and the first admin: plain forms without a script, before anything else is served."""

import asyncio
from functools import cache
from typing import Any

from fastapi import APIRouter, Request
from jinja2 import Environment, PackageLoader
from starlette.responses import HTMLResponse, RedirectResponse, Response

from bacpipes import users
from bacpipes.errors import InputError
from bacpipes.exporter import sessions
from bacpipes.exporter.problem import Problem
from bacpipes.exporter.store import Store
from bacpipes.exporter.throttle import Throttle
from bacpipes.log import get_logger

logger = get_logger(__name__)
router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
LARGEST_FORM = 8 * 1024
WRONG = "Name or password is wrong."


class Gatekeeper:
    """What logins share: who failed too often, and one password hash at a time (each takes 32 MiB)."""

    def __init__(self) -> None:
        self.throttle = Throttle()
        self._turn = asyncio.Semaphore(1)

    async def is_password(self, account: users.Account | None, password: str) -> bool:
        """`users.is_password`, without stopping everybody else."""
        async with self._turn:
            return await asyncio.to_thread(users.is_password, account, password)


@router.get("/login")
async def login_form(request: Request) -> Response:
    """The form; who is logged in already goes on."""
    store: Store = request.app.state.store
    if await sessions.find(store, sessions.secret_of(request.scope)):
        return RedirectResponse("/", 303)
    return await _login_page(request)


@router.post("/login")
async def login(request: Request) -> Response:
    """Check name and password; begin a session."""
    form = await _form(request)
    name, password = users.normal(form.get("name", ""))[:64], form.get("password", "")
    keeper: Gatekeeper = request.app.state.gatekeeper
    ip = request.client.host if request.client else "?"
    keys = (f"name {name} {ip}", f"address {ip}")
    if (wait := keeper.throttle.seconds_left(keys)) > 0:
        return await _login_page(request, f"Too many failures: wait {wait:.0f} s, then try again.", name, 429)
    store: Store = request.app.state.store
    async with store.connection() as connection:
        account = await users.find(connection, name)
    if not await keeper.is_password(account, password) or account is None:
        keeper.throttle.failed(keys)
        logger.warning("login refused", user=name, client=ip)
        async with store.connection() as connection:
            await users.audit(connection, f"page:{ip}", "login.refused", name, {})
        return await _login_page(request, WRONG, name, 401)
    keeper.throttle.succeeded(keys[0])
    async with store.connection() as connection:
        await users.audit(connection, f"page:{account.name}", "login", account.name, {"ip": ip})
    return await _enter(request, account, ip)


@router.post("/logout")
async def logout(request: Request) -> Response:
    """End the session, here and in the database."""
    _require_same_origin(request)
    store: Store = request.app.state.store
    if found := await sessions.find(store, sessions.secret_of(request.scope)):
        await sessions.end(store, found.digest)
        async with store.connection() as connection:
            await users.audit(connection, f"page:{found.name}", "logout", found.name, {})
    response = RedirectResponse("/login", 303)
    response.delete_cookie(sessions.COOKIE, path="/", httponly=True, samesite="strict")
    return response


@router.get("/first")
async def first_form(request: Request) -> Response:
    """The form for the first admin; without its token it does nothing."""
    return _page(request, "first.html")


@router.post("/first")
async def first(request: Request) -> Response:
    """Make the first admin, and log them in."""
    form = await _form(request)
    keeper: Gatekeeper = request.app.state.gatekeeper
    ip = request.client.host if request.client else "?"
    keys = (f"first {ip}",)
    name = form.get("name", "")[:64]
    if (wait := keeper.throttle.seconds_left(keys)) > 0:
        return _page(request, "first.html", 429, error=f"Too many failures: wait {wait:.0f} s.", name=name)
    if form.get("password", "") != form.get("again", ""):
        return _page(request, "first.html", 400, error="The two passwords differ.", name=name)
    store: Store = request.app.state.store
    try:
        async with store.connection() as connection:
            await users.use_first_token(connection, form.get("token", "")[:100], name, form.get("password", ""))
            account = await users.find(connection, name)
    except InputError as error:
        keeper.throttle.failed(keys)
        return _page(request, "first.html", 400, error=str(error), name=name)
    if account is None:
        raise Problem(409, "The user was disabled meanwhile.")
    return await _enter(request, account, ip, "/setup")


async def _enter(request: Request, account: users.Account, ip: str, path: str = "/") -> Response:
    hours = request.app.state.settings.session_hours
    secret = await sessions.start(request.app.state.store, account, hours, ip)
    response = RedirectResponse(path, 303)
    sessions.set_cookie(response, secret, hours, secure=request.url.scheme == "https")
    return response


async def _form(request: Request) -> dict[str, str]:
    _require_same_origin(request)
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > LARGEST_FORM:
        raise Problem(413, f"A form of at most {LARGEST_FORM} bytes is expected.")
    async with request.form(max_files=0, max_fields=10) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def _require_same_origin(request: Request) -> None:
    if not sessions.same_origin(request.scope):
        raise Problem(403, "The form does not come from a page of this appliance (its Origin is another).")


async def _login_page(request: Request, error: str = "", name: str = "", status: int = 200) -> Response:
    store: Store = request.app.state.store
    async with store.connection() as connection:
        has_admin = await users.has_admin(connection)
    assets = request.app.state.assets
    return _page(request, "login.html", status, error=error, name=name, first=not has_admin, assets=assets)


def _page(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    shortest = users.SHORTEST_PASSWORD
    text = templates().get_template(template).render(site=request.app.state.settings.site_id, n=shortest, **values)
    return HTMLResponse(text, status, {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


@cache
def templates() -> Environment:
    """The forms and the few pages that need no script."""
    return Environment(loader=PackageLoader("bacpipes.page"), autoescape=True)
