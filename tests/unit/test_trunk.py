"""How many requests are outstanding at once: to one device, and to one remote network."""

import asyncio
import contextlib
from typing import Any

import pytest

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import MalformedError


class Network:
    """Takes requests and counts how many wait for their answer at once."""

    def __init__(self) -> None:
        self.outstanding = self.most = 0

    async def request(self, _request: Any) -> None:
        self.outstanding += 1
        self.most = max(self.most, self.outstanding)
        for _ in range(10):
            await asyncio.sleep(0)
        self.outstanding -= 1


@pytest.mark.parametrize(
    ("addresses", "most"),
    [
        (["2001:1", "2001:2", "2001:3", "2001:4"], 2),
        (["2001:1", "2002:1", "2003:1", "2004:1"], 4),
        (["2001:1", "2001:1", "2001:1"], 1),
        (["2001:0x0a000001bac0", "2001:0x0a000002bac0", "2001:3"], 2),
        (["10.0.0.1", "10.0.0.2:47809", "10.0.0.3", "10.0.0.4"], 4),
    ],
)
async def test_a_trunk_has_a_budget(addresses: list[str], most: int) -> None:
    client, network = BacnetClient("127.0.0.1"), Network()
    client._application = network

    async def read(address: str) -> None:
        with contextlib.suppress(MalformedError):  # it answers nothing of use
            await client.read_property(address, ("device", 1), "object-identifier")

    await asyncio.gather(*(read(address) for address in addresses))
    assert network.most == most
