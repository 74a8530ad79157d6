"""How single devices are asked: set on the command line, followed by the running worker, seen on the wire."""

import asyncio
import time

import pytest
from click.testing import CliRunner, Result

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import NoAnswerError
from bacpipes.bacnet.manners import Manners
from bacpipes.cli import cli
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.settings import Settings
from mqtt_parts import until
from site_parts import AHU, Site

OBJECT = ("analog-value", 120)


def invoke(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["devices", *arguments], env=site.environment())


class Counting(asyncio.DatagramProtocol):
    """Counts the requests that it never answers."""

    def __init__(self) -> None:
        self.requests: list[float] = []

    def datagram_received(self, _data: bytes, _source: tuple[str, int]) -> None:
        self.requests.append(time.monotonic())


async def test_time_out_and_retries_are_the_device_s_own() -> None:
    """On the wire: one device is asked four times a tenth of a second apart, another once."""
    loop = asyncio.get_running_loop()
    ends = [
        await loop.create_datagram_endpoint(Counting, local_addr=(LOOPBACK, port))  # type: ignore[arg-type]
        for port in (47971, 47972)
    ]
    async with BacnetClient(f"{LOOPBACK}:47970", timeout=1.0, retries=0) as client:
        client.configure(f"{LOOPBACK}:47971", Manners(timeout=0.1, retries=3))
        for port in (47971, 47972):
            with pytest.raises(NoAnswerError):
                await client.read_property(f"{LOOPBACK}:{port}", OBJECT, "present-value")
    patient, plain = (protocol.requests for _, protocol in ends)
    assert (len(patient), len(plain)) == (4, 1)
    for transport, _ in ends:
        transport.close()


async def test_concurrency_is_the_device_s_own(settings: Settings, broker: EmbeddedBroker) -> None:
    async with Site(settings, broker) as site:
        device = site.building.devices[AHU]
        most = now = 0

        async def counted(apdu: object) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            try:
                await asyncio.sleep(0.05)
                await original(apdu)
            finally:
                now -= 1

        original = device.do_ReadPropertyMultipleRequest
        device.do_ReadPropertyMultipleRequest = counted  # type: ignore[method-assign]
        site.building.fault("small-apdu", AHU, 480)
        site.start_worker()
        await site.readings(2)
        assert most == 1
        await asyncio.to_thread(invoke, site, "set", str(AHU), "--concurrency", "3")
        await until(lambda: most == 3, "three requests at once")
        await asyncio.to_thread(invoke, site, "set", str(AHU), "--concurrency", "default")
        counts = "SELECT count(*) FROM reading"
        before = site.one(counts)[0]
        await until(lambda: site.one(counts)[0] > before + 100, "what was under way is over")
        before = site.one(counts)[0]
        most = 0
        await until(lambda: site.one(counts)[0] > before + 200, "polling goes on")
        assert most == 1
        assert site.one("SELECT count(*) FROM reading WHERE quality <> 0") == (0,)


async def test_the_command(settings: Settings, broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bacpipes.log.configure", lambda *_: None)
    async with Site(settings, broker) as site:
        assert "timeout (3.0) s, retries (1), concurrency (1), cov (unconfirmed)" in invoke(site, "list").output
        changed = invoke(site, "set", str(AHU), "--timeout", "6.5", "--retries", "0", "--cov", "confirmed")
        assert (changed.exit_code, changed.output) == (
            0,
            f"Device {AHU}: timeout 6.5, retries 0, cov confirmed.\n",
        )
        assert "timeout 6.5 s, retries 0, concurrency (1), cov confirmed" in invoke(site, "list").output
        audit = "SELECT detail FROM audit WHERE action = 'device.set' AND subject = %s"
        assert site.one(audit, str(AHU)) == ({"timeout": 6.5, "retries": 0, "cov": "confirmed"},)
        assert invoke(site, "set", str(AHU), "--timeout", "default").exit_code == 0
        assert site.one("SELECT timeout_seconds, retries FROM device WHERE device_id = %s", AHU) == (None, 0)
        for arguments, words in (
            (("set", "99", "--retries", "1"), "has no device 99"),
            (("set", str(AHU)), "at least one"),
            (("set", str(AHU), "--timeout", "0"), "0"),
            (("set", str(AHU), "--cov", "maybe"), "maybe"),
        ):
            refused = invoke(site, *arguments)
            assert refused.exit_code != 0
            assert words in refused.output + str(refused.exception)
        site.import_points()  # an import of points changes none of it
        assert site.one("SELECT retries, cov FROM device WHERE device_id = %s", AHU) == (0, "confirmed")
