"""One discovery at a time, run by the worker on its own BACnet port, and told piece by piece to whoever asks."""

import asyncio
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from bacpipes import discovery
from bacpipes.bacnet.client import BacnetClient
from bacpipes.discovery import DeviceFound, DeviceRead, Event, ObjectRead, Scope
from bacpipes.errors import BacpipesError
from bacpipes.log import get_logger

logger = get_logger(__name__)
LONGEST = 250_000  # events kept


class Survey:
    """The latest discovery: its events so far, and whether it still runs."""

    def __init__(self, client: BacnetClient) -> None:
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._state = "idle"
        self._error = ""
        self._started: datetime | None = None

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self._task is not None and not self._task.done()

    def start(self, scope: Scope) -> bool:
        """Begin anew; False where one runs already."""
        if self.running:
            return False
        self._events, self._error, self._state = [], "", "running"
        self._number += 1
        self._started = datetime.now(UTC)
        self._task = asyncio.create_task(self._run(scope), name="discovery")
        return True

    async def stop(self) -> None:
        """End it; what was found so far stays."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._state = "stopped"

    def report(self, after: int, limit: int) -> dict[str, Any]:
        """State, and the events from number ``after`` on."""
        return {
            "number": self._number,
            "state": self._state,
            "error": self._error,
            "started": self._started.isoformat() if self._started else None,
            "total": len(self._events),
            "events": self._events[after : after + limit],
        }

    async def _run(self, scope: Scope) -> None:
        logger.info("discovery begins", addresses=len(scope.addresses), low=scope.low, high=scope.high)
        try:
            async for event in discovery.discover(self._client, scope):
                if len(self._events) < LONGEST:
                    self._events.append(_plain(event))
        except BacpipesError as error:
            self._state, self._error = "failed", str(error)
        except Exception as error:  # it must be told on the page
            logger.exception("discovery failed unexpectedly")
            self._state, self._error = "failed", f"Internal error: {type(error).__name__}; see the worker's log."
        else:
            self._state = "done"
        logger.info("discovery ends", state=self._state, events=len(self._events))


def _plain(event: Event) -> dict[str, Any]:
    match event:
        case DeviceFound(device):
            return {"kind": "found", "device": device.device_id, "address": device.address}
        case DeviceRead():
            fields = asdict(event) | {"others": sum(event.others.values())}
            return {"kind": "device", "device": fields.pop("device_id"), **fields}
        case ObjectRead(row, status):
            return {"kind": "object", "status": list(status), "row": asdict(row)}
        case discovery.Problem(device_id, text):
            return {"kind": "problem", "device": device_id, "text": text}
