"""What the worker answers to the page on its local status server: the broker, a priority array, a discovery.

No route writes to a device or to the database. What starts something wants a header that no form of another site's
page can send.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError
from bacpipes.database import connect, first_line
from bacpipes.discovery import Scope
from bacpipes.errors import BacpipesError, UnavailableError
from bacpipes.mqtt.client import MqttClient
from bacpipes.points import find_point
from bacpipes.points.address import CellError, canonical_address
from bacpipes.settings import Settings
from bacpipes.worker.survey import Survey
from bacpipes.writes import writer

HEADER = "x-bacpipes"  # a browser asks leave before it sends this to another origin, and gets none
EVENTS_AT_ONCE = 2000
LARGEST_BODY = 1 << 20
MAX_ADDRESSES = 4096
LOOK_WITHIN = 30.0  # seconds for a priority array, behind whatever the device is asked meanwhile


class LocalApi:
    """The routes, and the discovery that they start."""

    def __init__(
        self,
        settings: Settings,
        client: BacnetClient,
        mqtt: Callable[[], MqttClient | None],
        told: Callable[[], dict[str, Any]],
    ) -> None:
        self._settings, self._client, self._mqtt, self._told = settings, client, mqtt, told
        self._survey = Survey(client)

    @property
    def routes(self) -> list[Route]:
        """For the status server."""
        return [
            Route("/status", self._status),
            Route("/priority-array", self._priority_array),
            Route("/discovery", self._get_discovery),
            Route("/discovery", self._start_discovery, methods=["POST"]),
            Route("/discovery", self._stop_discovery, methods=["DELETE"]),
        ]

    async def close(self) -> None:
        """End what runs."""
        await self._survey.stop()

    async def _status(self, _request: Request) -> Response:
        mqtt = self._mqtt()
        broker: dict[str, Any] | None = None
        if mqtt is not None:
            broker = {
                "enabled": mqtt.config.enabled,
                "address": mqtt.config.address,
                "connected": mqtt.connected,
                "authenticated": mqtt.authenticated,
                "encrypted": mqtt.encrypted,
                "username": mqtt.config.username,
                "since": mqtt.since.isoformat(),
                "reason": mqtt.reason,
                "remedy": mqtt.remedy,
            }
        bacnet = {"address": self._settings.bacnet_address, "deviceId": self._settings.bacnet_device_id}
        return JSONResponse({"broker": broker, "bacnet": bacnet, "discovering": self._survey.running} | self._told())

    async def _priority_array(self, request: Request) -> Response:
        """Present value and the sixteen slots of a point's object, read from the device now."""
        try:
            key = int(request.query_params["device"]), request.query_params["type"], int(request.query_params["object"])
        except (KeyError, ValueError):
            return _refused("device, type and object are needed")
        try:
            async with await connect(self._settings, "priority array") as connection:
                point = await find_point(connection, self._settings.site_id, *key)
            if point is None:
                return _refused("there is no such point", 404)
            async with asyncio.timeout(LOOK_WITHIN):
                slots = await writer.read_slots(self._client, point)
        except TimeoutError:
            return _refused("the device is busy; try again", 504)
        except (BacnetError, UnavailableError) as error:
            return _refused(str(error), 504)
        except psycopg.Error as error:
            return _refused(first_line(error), 503)
        return JSONResponse({"value": slots.value, "array": list(slots.array) if slots.array else None})

    async def _get_discovery(self, request: Request) -> Response:
        text = request.query_params.get("after", "0")
        after = int(text) if text.isdecimal() and len(text) < 9 else 0
        return JSONResponse(self._survey.report(after, EVENTS_AT_ONCE))

    async def _start_discovery(self, request: Request) -> Response:
        if HEADER not in request.headers:
            return _refused(f"the header {HEADER} is missing", 403)
        try:
            scope = _scope(json.loads(await request.body()))
        except (ValueError, TypeError, KeyError, BacpipesError) as error:
            return _refused(f"the scope can't be read: {error}")
        if not self._survey.start(scope):
            return _refused("a discovery runs already", 409)
        return JSONResponse(self._survey.report(0, 0))

    async def _stop_discovery(self, request: Request) -> Response:
        if HEADER not in request.headers:
            return _refused(f"the header {HEADER} is missing", 403)
        await self._survey.stop()
        return JSONResponse(self._survey.report(0, 0))


def _scope(fields: dict[str, Any]) -> Scope:
    addresses = fields.get("addresses", [])
    if not isinstance(addresses, list) or len(addresses) > MAX_ADDRESSES:
        raise ValueError(f"addresses is a list of at most {MAX_ADDRESSES}")
    try:
        canonical = tuple(canonical_address(str(one)) for one in addresses)
    except CellError as error:
        raise ValueError(str(error)) from None
    low, high = fields.get("low"), fields.get("high")
    return Scope(None if low is None else int(low), None if high is None else int(high), canonical)


def _refused(reason: str, status: int = 400) -> Response:
    return JSONResponse({"error": reason}, status)
