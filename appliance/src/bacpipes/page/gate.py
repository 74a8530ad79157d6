"""Before NiceGUI: who is not logged in gets nothing of the page, neither its HTML nor its socket."""

import re
import secrets
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bacpipes.exporter import sessions
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.page.login import POLICY, templates
from bacpipes.tokens import Role

# Published code of the library, the same for everybody; it is cached by browsers.
ASSETS = re.compile(r"/_nicegui/[0-9.]+/(static|components|libraries|esm|resources)/|/favicon\.ico$")
PUBLISHED = re.compile(r'"(/(?:_nicegui/[0-9.]+/(?:static|components|libraries|esm)|page)/[^"]+\.(?:js|mjs|css))"')
ADMINS = ("/discovery", "/settings", "/setup", "/users")
# The library evaluates handlers that the server sends ('unsafe-eval') and styles elements in place ('unsafe-inline' for
# styles); scripts in the page run only with this answer's nonce.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; object-src 'none'"
)


class Gate:
    """Middleware of NiceGUI's application; ``state`` is the exporter's."""

    def __init__(self, app: ASGIApp, state: Any) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a logged-in user's request through, with a policy for scripts on what comes back."""
        if scope["type"] not in ("http", "websocket") or ASSETS.match(scope["path"]):
            await self._app(scope, receive, send)
            return
        answer = await self._refusal(scope)
        if answer is None:
            await self._app(scope, receive, _Page(send, self._state).send if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Response | None:
        path = scope["path"]
        if path.startswith("/api/"):
            return JSONResponse({"error": "There is no such route."}, 404)
        try:
            login = await sessions.find(self._state.store, sessions.secret_of(scope))
        except DATABASE_ERRORS as error:
            reason, remedy = reason_of(error)
            return self._page("away.html", 503, reason=reason, remedy=remedy)
        if login is None:
            if path.startswith("/_nicegui") or scope["type"] == "websocket":
                return JSONResponse({"error": "Log in first."}, 401)
            return RedirectResponse("/login", 303)
        changing = scope["type"] == "websocket" or scope["method"] not in sessions.SAFE_METHODS
        if changing and not sessions.same_origin(scope):
            return JSONResponse({"error": "The request does not come from a page of this appliance."}, 403)
        if path.startswith(ADMINS) and login.role < Role.ADMIN:
            return self._page("refused.html", 403, name=login.name, role=login.role.text, needed=Role.ADMIN.text)
        scope.setdefault("state", {}).update(login=login, identity=login.name)
        return None

    def _page(self, template: str, status: int, **values: Any) -> Response:
        text = templates().get_template(template).render(site=self._state.settings.site_id, **values)
        return HTMLResponse(text, status, {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})


class _Page:
    """Passes an answer on; an HTML page's scripts get a nonce. Data brings none along: the library escapes it."""

    def __init__(self, send: Send, state: Any) -> None:
        self._send, self._state = send, state
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Hold an HTML page until it is whole; all else goes on at once."""
        if message["type"] == "http.response.start" and _is_html(message):
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self._start)
        else:
            await self._send(message)

    async def _finish(self, start: Message) -> None:
        if not self._state.assets:  # the same for everybody: the login form lets browsers fetch them beforehand
            self._state.assets = sorted(set(PUBLISHED.findall(self._body.decode())))
        nonce = secrets.token_urlsafe(18)
        body = self._body.replace(b"<script", b'<script nonce="' + nonce.encode() + b'"')
        kept = [(name, value) for name, value in start["headers"] if name != b"content-length"]
        policy = PAGE_POLICY.format(nonce=nonce).encode()
        more = [(b"content-length", str(len(body)).encode()), (b"content-security-policy", policy)]
        await self._send({**start, "headers": [*kept, *more]})
        await self._send({"type": "http.response.body", "body": body})


def _is_html(message: Message) -> bool:
    return any(name == b"content-type" and value.startswith(b"text/html") for name, value in message["headers"])
