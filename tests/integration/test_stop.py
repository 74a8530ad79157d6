"""The site's stop: by command line and over HTTP, until it is lifted."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bacpipes.doctor import examine
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from exporter_parts import in_process, make_token
from mqtt_parts import until
from site_parts import AHU, SETPOINT, SETPOINT_TOPIC, Site


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    quick = settings.model_copy(update={"bacnet_timeout": 0.3, "bacnet_retries": 0})
    async with Site(quick, broker) as site:
        site.start_worker()
        await site.readings()
        yield site


async def stop(site: Site, *arguments: str) -> tuple[int, str]:
    """`bacpipes stop …`: its exit status and what it says."""
    command = [sys.executable, "-m", "bacpipes", "stop", *arguments]
    done = await asyncio.to_thread(
        subprocess.run, command, env=site.environment(), capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


def slots(site: Site) -> list[float | None]:
    return [site.building.commanded(AHU, "analog-value", 120).slot(priority) for priority in (8, 9)]


async def test_stop_releases_everything_and_refuses_until_it_is_lifted(site: Site) -> None:
    first = await site.write(**SETPOINT, value=70.0)
    await site.write(**SETPOINT, value=71.0, priority=9, releaseAfter=600)
    status, said = await stop(site, "--reason", "smoke in the plant room")
    assert (status, slots(site)) == (0, [None, None])
    assert "smoke in the plant room" in said
    assert "Nothing is held." in said
    result = await site.result(f"{first['jobId']}#release")
    assert (result["success"], result["cause"]) == (True, "stop")
    refused = await site.write(**SETPOINT, value=72.0)
    assert (refused["success"], refused["codes"]) == (False, ["site-stopped"])
    assert "smoke in the plant room" in refused["validationErrors"][0]
    assert any("smoke in the plant room" in finding.text for finding in await examine(site.settings))
    assert (await stop(site, "--lift"))[1] == "The site is not stopped.\n"
    assert (await site.write(**SETPOINT, value=73.0))["success"]
    trail = site.database.execute("SELECT action, detail ->> 'reason' FROM audit WHERE subject = 'site' ORDER BY id")
    assert trail.fetchall() == [("stop.set", "smoke in the plant room"), ("stop.lifted", None)]


async def test_a_silent_device_is_named_and_released_when_it_is_back(site: Site) -> None:
    await site.write(**SETPOINT, value=70.0)
    site.building.fault("silent", AHU)
    status, said = await stop(site, "--timeout", "1")
    assert (status, "1 slots are still held" in said) == (1, True), said
    late = "SELECT due_at < now() - INTERVAL '6 s' FROM due_release"
    await until(lambda: site.one(late)[0], "it is overdue")
    found = [finding.text for finding in await examine(site.settings) if finding.subject == "writes"]
    assert any("1 releases are overdue, the first: duxton.ahu.1.sp.humidity" in text for text in found), found
    async with httpx.AsyncClient() as client:
        metrics = (await client.get(f"http://{LOOPBACK}:{site.settings.worker_http_port}/metrics")).text
    assert "bacpipes_site_stopped 1.0" in metrics
    assert "bacpipes_releases_overdue 1.0" in metrics
    site.building.clear()
    await until(lambda: slots(site) == [None, None], "it is released")
    await until(lambda: site.one("SELECT count(*) FROM held_slot") == (0,), "and the book says so")


async def test_what_somebody_else_holds_is_left_alone(site: Site) -> None:
    await site.write(**SETPOINT, value=70.0)
    site.building.fault("hold", "12345:av:120", 8, 33.0)
    assert (await stop(site))[0] == 0, "nothing of ours is held"
    assert slots(site) == [33.0, None]


async def test_the_stop_over_http(site: Site) -> None:
    url = site.settings.database_url.get_secret_value()
    operator = await make_token(url, "lisa", Role.OPERATOR)
    viewer = await make_token(url, "screen", Role.VIEWER)
    await site.write(**SETPOINT, value=70.0)
    async with in_process(site.settings) as (_, http):
        assert (await http.post("/api/stop", headers=viewer)).status_code == 403
        assert (await http.post("/api/stop")).status_code == 401
        for body in (b"[]", b"{", b'{"why": 1}', b'{"reason": ""}', b'{"reason": 1}'):
            assert (await http.post("/api/stop", headers=operator, content=body)).status_code == 400, body
        assert (await http.get("/api/stop", headers=viewer)).json()["stopped"] is False
        told = (await http.post("/api/stop", headers=operator, json={"reason": "drill"})).json()
        assert (told["stopped"], told["actor"], told["reason"]) == (True, "api:lisa", "drill")
        await until(lambda: slots(site) == [None, None], "everything is released")
        await until(lambda: site.one("SELECT count(*) FROM held_slot") == (0,), "and the book says so")
        assert (await http.get("/api/stop", headers=viewer)).json()["held"] == 0
        assert (await site.write(**SETPOINT, value=72.0))["codes"] == ["site-stopped"]
        assert (await http.delete("/api/stop", headers=operator)).json()["stopped"] is False
    assert (await site.write(**SETPOINT, value=72.0))["success"]


async def test_without_a_priority_array_the_old_value_comes_back(site: Site) -> None:
    """Also where the write had no releaseAfter, and over several writes and a restart."""
    site.building.fault("out-of-service", "12345:av:126", 30.0)
    site.database.execute(
        "UPDATE point SET writable = true, function = 'sp', minimum = 0, maximum = 100"
        " WHERE object_type = 'analog-value' AND object_instance = 126"
    )
    point = {"deviceId": AHU, "objectType": "analog-value", "objectInstance": 126}
    plain: Any = site.building.devices[AHU].points["analog-value:126"]
    first = await site.write(**point, value=40.0)
    timed = await site.write(**point, value=41.0, releaseAfter=600)
    last = await site.write(**point, value=42.0)
    assert [one["error"] for one in (first, timed, last)] == [None] * 3
    due = "SELECT job_id, restore, value, isfinite(due_at) FROM due_release"
    assert site.database.execute(due).fetchall() == [(last["jobId"], 30.0, 42.0, False)]
    await site.stop_worker()
    site.start_worker()
    heard = len(site.published(SETPOINT_TOPIC))
    await until(lambda: len(site.published(SETPOINT_TOPIC)) > heard, "the worker is back")
    assert float(plain.presentValue) == 42.0, "nothing is given back by itself"
    assert (await stop(site))[0] == 0
    result = await site.result(f"{last['jobId']}#release")
    assert (result["success"], result["cause"], float(plain.presentValue)) == (True, "stop", 30.0)
    await stop(site, "--lift")
    mine = await site.write(**point, value=50.0)
    plain.set_value(77.0)
    assert (await stop(site))[0] == 0
    assert (await site.result(f"{mine['jobId']}#release"))["codes"] == ["slot-held"]
    assert float(plain.presentValue) == 77.0, "somebody else's value is left alone"
    assert site.one("SELECT count(*) FROM due_release") == (0,)
