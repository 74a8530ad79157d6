"""What the worker tells the page of its settings, of the machine's interfaces, and of the way to central."""

import fcntl
import ipaddress
import socket
import struct
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bacpipes.settings import Settings
from bacpipes.stored_settings import OF_THE_WORKER
from bacpipes.worker.settings_watch import SettingsWatch
from bacpipes.worker.shipper import Shipper

GET_ADDRESS, GET_NETMASK = 0x8915, 0x891B  # SIOCGIFADDR, SIOCGIFNETMASK; netdevice(7)


class AboutSite:
    """The route ``/site``."""

    def __init__(self, settings: Settings, watch: SettingsWatch, shipper: Shipper | None) -> None:
        self._settings, self._watch, self._shipper = settings, watch, shipper

    @property
    def routes(self) -> list[Route]:
        """For the status server."""
        return [Route("/site", self._site)]

    async def _site(self, _request: Request) -> Response:
        values = {name: getattr(self._settings, name) for name in OF_THE_WORKER}
        settings = {"fixed": sorted(self._watch.fixed), "values": values}
        return JSONResponse({"settings": settings, "interfaces": interfaces(), "central": self._central()})

    def _central(self) -> dict[str, Any] | None:
        shipper = self._shipper
        if shipper is None:
            return None
        return {
            "ships": self._settings.ship_readings,
            "reason": shipper.reason,
            "shipped": shipper.shipped_at.isoformat() if shipper.shipped_at else None,
            "waiting": shipper.waiting,
            "oldest": shipper.oldest.isoformat() if shipper.oldest else None,
        }


def interfaces() -> list[dict[str, str]]:
    """The machine's IPv4 interfaces: ``name`` and ``address`` with its prefix, loopback last."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                address, mask = (
                    socket.inet_ntoa(fcntl.ioctl(probe, what, request)[20:24]) for what in (GET_ADDRESS, GET_NETMASK)
                )
            except OSError:
                continue  # it has no IPv4 address
            found.append((ipaddress.IPv4Interface(f"{address}/{mask}"), name))
    found.sort(key=lambda one: (one[0].is_loopback, one[1]))
    return [{"name": name, "address": str(address)} for address, name in found]
