"""Speaks to a running building's remote control (see `bacpipes.simulator.control`); light, for the command line."""

import ipaddress
import json
import socket
from typing import Any

from bacpipes.errors import InputError, UnavailableError

TIMEOUT = 5.0  # seconds that we wait for the answer


def control_host(base: str) -> str:
    """Where a building whose first device is at ``base`` is controlled: there, but on loopback in any case."""
    return base if ipaddress.ip_address(base).is_loopback else "127.0.0.1"


def ask(base: str, port: int, command: str, words: list[str] | None = None) -> Any:
    """Send one request to a running building (blocking); raise what it answers."""
    request = json.dumps({"command": command, "words": words or []}).encode() + b"\n"
    try:
        with socket.create_connection((control_host(base), port), TIMEOUT) as connection:
            connection.sendall(request)
            line = connection.makefile("rb").readline()
        answer = json.loads(line)
    except (OSError, ValueError):
        remedy = "Start it with 'bacpipes simulate', or name its --base and --port."
        raise UnavailableError(f"No simulated building answers at {base}:{port}.", remedy) from None
    if not answer["ok"]:
        raise InputError(answer["error"])
    return answer["result"]
