"""The worker's own small HTTP page: /metrics, /healthz and /readyz, which the exporter hands on."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bacpipes.errors import UnavailableError

OK, UNAVAILABLE = 200, 503


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is not ready, and what to do about it."""

    component: str
    reason: str
    remedy: str = ""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the worker handles them


class StatusServer:
    """Serves while it is entered. ``reasons`` says what keeps the worker from its work; empty: ready.

    ``more`` are routes that the worker adds for the page on site.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Callable[[], bytes],
        reasons: Callable[[], list[Reason]],
        more: Sequence[Route] = (),
    ) -> None:
        self._metrics, self._reasons = metrics, reasons
        routes = [
            *more,
            Route("/metrics", self._get_metrics),
            Route("/healthz", self._get_healthz),
            Route("/readyz", self._get_readyz),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes), host=host, port=port, log_config=None, access_log=False, lifespan="off"
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        config = self._server.config
        try:
            socket = await asyncio.to_thread(config.bind_socket)
        except SystemExit:  # uvicorn's way to say that the port is taken
            raise UnavailableError(
                f"The status page's port {config.host}:{config.port} can't be opened.",
                "Is another worker running? Else set BACPIPES_WORKER_HTTP_PORT.",
            ) from None
        self._task = asyncio.create_task(self._server.serve([socket]))

    async def __aexit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        if self._task is not None:
            await self._task

    async def _get_metrics(self, _request: Request) -> Response:
        return Response(self._metrics(), media_type="text/plain; version=0.0.4")

    async def _get_healthz(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _get_readyz(self, _request: Request) -> Response:
        reasons = self._reasons()
        body = {"ready": not reasons, "reasons": [asdict(reason) for reason in reasons]}
        return JSONResponse(body, status_code=UNAVAILABLE if reasons else OK)
