"""Around every request: security headers, a line in the log, numbers for Prometheus."""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bacpipes.exporter.metrics import Metrics
from bacpipes.exporter.problem import Problem
from bacpipes.log import get_logger

logger = get_logger(__name__)

ALWAYS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), usb=()"),
]
DATA = [(b"cache-control", b"no-store"), (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")]
DATA_PATHS = ("/api/", "/metrics", "/healthz", "/readyz", "/openapi.json")
CLIENT_LEFT = "No response returned."  # starlette's word where the client went away before its answer
ASSETS = ("/_nicegui", "/page/", "/favicon.ico")
PROBES = frozenset({"/metrics", "/healthz", "/readyz"})


class Observer:
    """Logs path, status and the token's name; never the query or the headers, where people put secrets."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and note how it ended.

        Where it fails after its answer has begun, the answer is left without its end, and the server closes the
        connection.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope["path"], send)
        scope.setdefault("state", {})
        began = time.monotonic()
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if str(error) == CLIENT_LEFT and not answer.status:
                return
            logger.exception("request failed", path=scope["path"], exc_info=error)
            if not answer.status:
                problem = Problem(500, "Internal error; the exporter's log has the details.")
                await problem.response()(scope, receive, answer.send)
        finally:
            self._note(scope, answer, time.monotonic() - began)

    def _note(self, scope: Scope, answer: "_Answer", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(scope["method"] if route != "unknown" else "-", route, answer.outcome).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        usual = route in PROBES or scope["path"].startswith(ASSETS)
        log = logger.debug if usual and answer.status < 500 else logger.info
        log(
            "request",
            method=scope["method"],
            path=scope["path"],
            status=answer.outcome,
            bytes=answer.bytes,
            ms=round(seconds * 1000),
            token=scope["state"].get("identity"),
            client=scope["client"][0] if scope.get("client") else None,
        )


class _Answer:
    """What is sent, as it passes."""

    def __init__(self, path: str, send: Send) -> None:
        self._send = send
        self._headers = ALWAYS + (DATA if path.startswith(DATA_PATHS) else [])
        self.status = 0
        self.bytes = 0
        self.complete = False

    @property
    def outcome(self) -> str:
        """The status, or ``aborted`` where no complete answer was sent."""
        return str(self.status) if self.complete else "aborted"

    async def send(self, message: Message) -> None:
        """Hand a message on, with the headers added."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", []), *self._headers]}
        elif message["type"] == "http.response.body":
            self.bytes += len(message.get("body", b""))
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True
