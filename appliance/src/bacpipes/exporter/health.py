"""``/healthz`` and ``/readyz``: alive, and ready with the reasons where it is not."""

import asyncio
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from bacpipes.errors import SchemaError
from bacpipes.exporter.auth import Identity, local_or_viewer
from bacpipes.exporter.certificate import ServerCertificate
from bacpipes.exporter.parameters import take
from bacpipes.exporter.problem import DATABASE_ERRORS, reason_of
from bacpipes.exporter.reason import Reason
from bacpipes.exporter.store import Store, require_schema
from bacpipes.exporter.worker import WorkerPage
from bacpipes.log import Transition, get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)
router = APIRouter()

LOOK_EVERY = 10.0  # seconds between two looks for the log
LEAST_SHARE = 0.05
LEAST_BYTES = 500_000_000


class Health:
    """Looks at what the site's data depend on."""

    def __init__(
        self, settings: Settings, store: Store, worker: WorkerPage, certificate: ServerCertificate | None = None
    ) -> None:
        self._state_dir = settings.state_dir
        self._store = store
        self._worker = worker
        self.certificate = certificate
        self._transitions: dict[str, Transition] = {}

    async def reasons(self) -> list[Reason]:
        """Everything that is not ready; empty where all is."""
        found = await asyncio.gather(self._database(), self._disk(), self._worker.reasons())
        own = self.certificate.reasons() if self.certificate else []
        return [*own, *(reason for part in found for reason in part)]

    async def watch(self) -> None:
        """Say in the log when something fails or recovers, for as long as the exporter runs."""
        while True:
            self.note(await self.reasons())
            await asyncio.sleep(LOOK_EVERY)

    def note(self, reasons: list[Reason]) -> None:
        """Log what has changed since the last time."""
        now = {reason.component: reason for reason in reasons}
        for component, reason in now.items():
            transition = self._transitions.setdefault(component, Transition(logger, component))
            transition.failed(reason.reason, remedy=reason.remedy)
        for component in self._transitions.keys() - now.keys():
            self._transitions[component].recovered()

    async def _database(self) -> list[Reason]:
        # A connection of its own: it tells the server's own words, where the pool only tells that time is up.
        try:
            async with await self._store.dedicated("readiness") as connection:
                await require_schema(connection)
        except DATABASE_ERRORS as error:
            component = "schema" if isinstance(error, SchemaError) else "database"
            return [Reason(component, *reason_of(error))]
        return []

    async def _disk(self) -> list[Reason]:
        return await asyncio.to_thread(disk_reasons, self._state_dir)


def disk_reasons(directory: Path) -> list[Reason]:
    """Why the disk that holds the appliance's state is not fit for it; empty where it is."""
    try:
        usage = shutil.disk_usage(directory)
    except OSError as error:
        return [Reason("disk", f"{directory}: {error.strerror}.", "Create it, or set BACPIPES_STATE_DIR.")]
    if usage.free >= LEAST_BYTES and usage.free >= LEAST_SHARE * usage.total:
        return []
    text = f"{usage.free / 1e6:.0f} MB of {usage.total / 1e6:.0f} MB are free on the disk of {directory}."
    return [Reason("disk", text, "Free space; fewer than 5 % or 500 MB are too few.")]


@router.get("/healthz")
async def healthz(_: Annotated[Identity, Depends(local_or_viewer)]) -> dict[str, str]:
    """The process is alive."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, _: Annotated[Identity, Depends(local_or_viewer)]) -> Response:
    """200 where everything is ready, else 503 with the reasons."""
    take(request.query_params.multi_items(), ())
    health: Health = request.app.state.health
    reasons = await health.reasons()
    health.note(reasons)
    body: dict[str, Any] = {"ready": not reasons, "reasons": [asdict(reason) for reason in reasons]}
    return JSONResponse(body, 503 if reasons else 200)
