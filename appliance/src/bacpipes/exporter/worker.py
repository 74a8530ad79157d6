"""What the worker says of itself, on its own status page."""

import asyncio
import json
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from bacpipes.exporter.reason import Reason
from bacpipes.settings import Settings

PATIENCE = 2.0  # seconds
LARGEST = 8 * 1024 * 1024  # bytes of an answer
COMPONENT = "worker"


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """Asks the worker's HTTP page; every answer is bounded in time and size."""

    host: str
    port: int

    @classmethod
    def of(cls, settings: Settings) -> "WorkerPage":
        """The page that the settings name."""
        return cls(settings.worker_http_host, settings.worker_http_port)

    async def metrics(self) -> bytes | None:
        """The worker's metrics, or None where it does not answer."""
        answer = await self._get("/metrics")
        if answer is None or answer[0] != 200:
            return None
        lines = [line for line in answer[1].splitlines(keepends=True) if not line.startswith(b"# EOF")]
        text = b"".join(lines)
        return text if text.endswith(b"\n") or not text else text + b"\n"

    async def reasons(self) -> list[Reason]:
        """Why the worker is not ready; empty where it is."""
        answer = await self._get("/readyz")
        if answer is None:
            return [Reason(COMPONENT, "The worker does not answer.", "Is it running? Its log says why it ended.")]
        status, body = answer
        try:
            page = json.loads(body)
            reasons = [_reason(entry) for entry in page["reasons"]]
        except (ValueError, TypeError, KeyError):
            return [Reason(COMPONENT, f"The worker's readiness can't be read (HTTP {status}).", "See its log.")]
        if not reasons and status != 200:
            return [Reason(COMPONENT, f"The worker says that it is not ready (HTTP {status}).", "See its log.")]
        return reasons

    async def ask(
        self, path: str, method: str = "GET", body: dict[str, Any] | None = None, patience: float = PATIENCE
    ) -> tuple[int, dict[str, Any]] | None:
        """Status and JSON object of one of its local routes (`worker.local_api`); None where it does not answer."""
        answer = await self._get(path, method, json.dumps(body) if body is not None else None, patience)
        try:
            found = json.loads(answer[1]) if answer else None
        except ValueError:
            found = None
        return (answer[0], found) if answer and isinstance(found, dict) else None

    async def _get(
        self, path: str, method: str = "GET", body: str | None = None, patience: float = PATIENCE
    ) -> tuple[int, bytes] | None:
        try:
            async with asyncio.timeout(2 * patience):
                return await asyncio.to_thread(self._fetch, path, method, body, patience)
        except (OSError, HTTPException, TimeoutError):
            return None

    def _fetch(self, path: str, method: str, body: str | None, patience: float) -> tuple[int, bytes] | None:
        connection = HTTPConnection(self.host, self.port, timeout=patience)
        try:
            connection.request(method, path, body, {"X-Bacpipes": "exporter"})
            response = connection.getresponse()
            answer = response.read(LARGEST + 1)
            return (response.status, answer) if len(answer) <= LARGEST else None
        finally:
            connection.close()


def _reason(entry: dict[str, Any]) -> Reason:
    component = str(entry["component"])
    if component.split(".")[0] != COMPONENT:
        component = f"{COMPONENT}.{component}"
    return Reason(component, str(entry["reason"]), str(entry.get("remedy") or ""))
