"""How long a request may be is found out once: remembered across restarts, learnt anew from another device, and tried
again after a long time. On the wire, with a device that promises more than it can do."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from bacpypes3.apdu import ReadPropertyMultipleRequest

from bacpipes.embedded import EmbeddedBroker
from bacpipes.settings import Settings
from mqtt_parts import until
from site_parts import AHU, Site

SHORT = 206  # octets, instead of the 1476 that it names
POINTS, FITTING, TRIAL = 47, 8, 10  # at once: all, as many as fit, and a quarter more
KEPT = "SELECT batch_points, learnt_of, read_multiple FROM device"


class Wire:
    """For how many objects at once the device is asked, whether it can answer that or not."""

    def __init__(self, site: Site) -> None:
        self.device = site.building.devices[AHU]
        self.sizes: list[int] = []
        self._take = self.device.indication
        self.device.indication = self._taking  # type: ignore[method-assign]

    async def _taking(self, apdu: Any) -> None:
        if isinstance(apdu, ReadPropertyMultipleRequest):
            self.sizes.append(len(apdu.listOfReadAccessSpecs))
        await self._take(apdu)


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    patient = settings.model_copy(update={"bacnet_timeout": 1.5, "bacnet_retries": 2})
    async with Site(patient, broker) as site:
        yield site


@pytest.fixture
async def wire(site: Site) -> Wire:
    """Its worker has run, and found out what the device can do."""
    wire = Wire(site)
    wire.device.faults.max_apdu = SHORT
    site.start_worker()
    await site.readings(2)
    await until(lambda: None not in site.one(KEPT), "it is remembered")
    await site.stop_worker()
    assert max(wire.sizes) == POINTS
    wire.sizes.clear()
    return wire


async def more(site: Site, count: int = 3) -> None:
    """So many more polls."""
    newest = "SELECT min(poll_cycle) FROM last_value"
    before = site.one("SELECT max(poll_cycle) FROM last_value")[0]
    await until(lambda: site.one(newest)[0] >= before + count, f"{count} polls", 30)


async def test_a_restart_does_not_run_into_the_abort_again(site: Site, wire: Wire) -> None:
    kept, learnt_of, _ = site.one(KEPT)
    assert learnt_of.startswith("BacPipes · Simulated controller · ")
    site.start_worker()
    await more(site)
    assert max(wire.sizes) == kept
    assert site.one("SELECT count(*) FROM reading WHERE quality <> 0") == (0,)


async def test_what_was_learnt_at_the_very_end_is_kept(site: Site) -> None:
    wire = Wire(site)
    site.start_worker()
    await site.readings(2)
    wire.device.faults.max_apdu = SHORT
    await until(lambda: len(set(wire.sizes)) > 1, "it aborts")
    await more(site, 1)
    await site.stop_worker()
    kept = site.one(KEPT)[0]
    assert kept is not None
    wire.sizes.clear()
    site.start_worker()
    await more(site)
    assert max(wire.sizes) <= kept


async def test_another_firmware_is_asked_as_a_new_device(site: Site, wire: Wire) -> None:
    wire.device._device.firmwareRevision = "another"
    wire.device.faults.max_apdu = None
    site.start_worker()
    await until(lambda: site.one(KEPT)[0] is None, "it is forgotten")
    assert "another" in site.one(KEPT)[1]
    await until(lambda: max(wire.sizes, default=0) == POINTS, "all is read at once again")


async def test_a_device_that_was_silent_may_be_another_one(site: Site, wire: Wire) -> None:
    """Also one that refused ReadPropertyMultiple before."""
    site.database.execute("UPDATE device SET read_multiple = false")
    site.start_worker()
    await more(site)
    assert wire.sizes == []
    site.building.fault("silent", AHU)
    silent = "SELECT count(*) FROM last_value WHERE reason LIKE 'silent device%%'"
    await until(lambda: site.one(silent)[0] > 0, "it is only probed", 30)
    wire.device._device.modelName = "Mark II"
    wire.device.faults.max_apdu = None
    site.building.clear()
    await until(lambda: site.one(KEPT)[2] is True, "it is asked for many again", 30)
    assert "Mark II" in site.one(KEPT)[1]
    await until(lambda: max(wire.sizes, default=0) == POINTS, "all is read at once again")


@pytest.mark.parametrize("still", [True, False], ids=["as before", "by now it can"])
async def test_after_a_long_time_a_little_more_is_tried(site: Site, wire: Wire, still: bool) -> None:
    site.database.execute("UPDATE device SET batch_points = %s, batch_since = now() - interval '2 days'", [FITTING])
    wire.device.faults.max_apdu = SHORT if still else None
    since = "SELECT batch_since > now() - interval '1 day' FROM device"
    site.start_worker()
    await until(lambda: site.one(since) == (True,), "it was tried")
    await more(site)
    assert max(wire.sizes) == TRIAL
    assert site.one(KEPT)[0] == (FITTING if still else TRIAL)
    assert (wire.sizes.count(TRIAL) <= 2) is still, "once past the library, and once by it, which takes segments"
    assert site.one("SELECT count(*) FROM reading WHERE quality <> 0") == (0,)
