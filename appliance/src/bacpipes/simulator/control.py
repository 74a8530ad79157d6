"""The building's remote control: JSON lines over TCP, at the first device's address and port number.

BACnet/IP is UDP, so the same numbers are free; whoever knows where the building is knows where to control it. A
building on a real network is controlled at 127.0.0.1 of its machine: never from that network. A request is
``{"command": "fault", "words": ["silent", "12345"]}``, an answer ``{"ok": true, "result": …}`` or
``{"ok": false, "error": "…"}``.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from bacpipes.errors import BacpipesError, InputError, UnavailableError
from bacpipes.simulator import kinds
from bacpipes.simulator.building import Building
from bacpipes.simulator.remote import control_host

MAX_LINE = 65536


class ControlServer:
    """Serves one building while it runs."""

    def __init__(self, building: Building) -> None:
        self._building = building
        ip, port = building.plan.devices[0].address.split(":")
        self._where = (control_host(ip), int(port))
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._serve, *self._where, limit=MAX_LINE)
        except OSError as error:
            where = ":".join(map(str, self._where))
            raise UnavailableError(f"Can't listen on TCP {where}: {error.strerror}.") from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server:
            self._server.close()
            for writer in list(self._connections):
                writer.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._answer(line), ensure_ascii=False).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # gone, or a line beyond all measure: either way the conversation is over
        finally:
            self._connections.discard(writer)
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, "result": self._obey(line)}
        except BacpipesError as error:
            return {"ok": False, "error": str(error)}

    def _obey(self, line: bytes) -> Any:
        try:
            request = json.loads(line)
            command, words = request["command"], [str(word) for word in request.get("words", [])]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError('A request is a JSON object with "command" and perhaps "words".') from None
        commands: dict[str, Callable[[Building, list[str]], Any]] = {
            "fault": _fault,
            "clear": _clear,
            "status": _status,
            "writes": _writes,
        }
        if command not in commands:
            raise InputError(f"Unknown command {command!r}.", f"Commands: {', '.join(commands)}.")
        return commands[command](self._building, words)


def _fault(building: Building, words: list[str]) -> str:
    kind, target, arguments = kinds.parse(words)
    return str(building.fault(kind, target, *arguments))


def _clear(building: Building, words: list[str]) -> list[str]:
    """All; or by kind, by target, or by both."""
    parts = list(words)
    kind = parts.pop(0) if parts and (parts[0] in kinds.KINDS or not _is_target(parts[0])) else ""
    return [str(fault) for fault in building.clear(kind, ":".join(parts))]


def _is_target(word: str) -> bool:
    return word.split(":")[0].isdigit() or "." in word


def _status(building: Building, _words: list[str]) -> dict[str, Any]:
    return {
        "site": building.plan.site,
        "devices": len(building.devices),
        "points": sum(len(device.points) for device in building.devices.values()),
        "speed": building.speed,
        "writes": len(building.writes),
        "faults": [str(fault) for fault in building.faults],
    }


def _writes(building: Building, _words: list[str]) -> list[dict[str, Any]]:
    return [asdict(write) for write in building.writes]
