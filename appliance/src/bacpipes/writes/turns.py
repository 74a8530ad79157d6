"""Whose turn it is at a device: commands, releases and looks at its slots come one after the other."""

import asyncio

from bacpipes.points import Point


class Turns:
    """A lock for each device."""

    def __init__(self) -> None:
        self._devices: dict[int, asyncio.Lock] = {}

    def of(self, point: Point) -> asyncio.Lock:
        """The turn at this point's device."""
        return self._devices.setdefault(point.device.id, asyncio.Lock())
