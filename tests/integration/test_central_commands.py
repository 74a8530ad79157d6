"""Commands that are queued at central and pulled by their site: executed once, never late, never by another's site."""

from collections.abc import AsyncIterator

import pytest

from bacpipes.embedded import EmbeddedBroker
from bacpipes.settings import Settings
from central_parts import site_url
from exporter_parts import execute
from mqtt_parts import until
from site_parts import AHU, SETPOINT, Site

QUEUE = (
    "INSERT INTO write_commands (job_id, site_id, point_id, value, created_at, expires_at)"
    " SELECT %s, site_id, id, %s, now() - %s::interval, now() + %s::interval FROM point"
    " WHERE device_id = 12345 AND object_type = 'analog-value' AND object_instance = 120"
)


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker, central_url: str) -> AsyncIterator[Site]:
    """A whole site that ships to central; central knows its points."""
    linked = Settings(**settings.model_dump() | {"central_database_url": site_url(central_url, "duxton")})
    async with Site(linked, broker) as site:
        site.start_worker()
        await site.readings()
        await until(lambda: execute(central_url, "SELECT id FROM point LIMIT 1"), "the site's points at central")
        yield site


def queue(url: str, job: str, value: float, age: str = "0 s", expires: str | None = None) -> None:
    execute(url, QUEUE, [job, value, age, expires])


def status(url: str, job: str) -> str:
    return str(execute(url, "SELECT status FROM write_command_status WHERE job_id = %s", [job])[0][0])


async def settled(url: str, job: str) -> str:
    await until(lambda: status(url, job) != "pending", f"the result of {job} at central")
    return status(url, job)


async def test_a_value_is_given_back_after_the_time_that_central_names(site: Site, central_url: str) -> None:
    timed = QUEUE.replace("expires_at)", "expires_at, release_after)").replace(" FROM point", ", 1 FROM point")
    execute(central_url, timed, ["short", 72.0, "0 s", None])
    assert await settled(central_url, "short") == "completed"
    assert site.building.writes[0].value == 72.0
    commanded = site.building.commanded(AHU, "analog-value", 120)
    await until(lambda: commanded.slot(8) is None, "the release")


async def test_an_insert_at_central_is_executed_at_the_device_once(site: Site, central_url: str) -> None:
    queue(central_url, "first", 70.0)
    assert await settled(central_url, "first") == "completed"
    assert site.building.commanded(AHU, "analog-value", 120).slot(8) == 70.0
    # by the other path too, and once more after the worker was started anew
    assert (await site.result(site.command(**SETPOINT, value=70.0, jobId="first"), 2))["success"]
    execute(central_url, "DELETE FROM write_results")
    await site.stop_worker()
    site.start_worker()
    queue(central_url, "second", 71.0)
    assert await settled(central_url, "second") == "completed"
    assert [write.value for write in site.building.writes] == [70.0, 71.0]
    ((result,),) = execute(central_url, "SELECT result FROM write_results WHERE job_id = 'second'")
    assert (result["success"], result["siteId"], result["after"]) == (True, "duxton", 71.0)


async def test_a_command_that_comes_late_or_is_not_allowed_is_not_executed(site: Site, central_url: str) -> None:
    queue(central_url, "expired", 70.0, expires="-1 s")
    queue(central_url, "old", 70.0, age="400 s")
    queue(central_url, "old but long-lived", 70.0, age="400 s", expires="1 h")
    queue(central_url, "out of range", 1000.0)
    queue(central_url, "not a number", float("nan"))
    assert await settled(central_url, "out of range") == "failed"
    assert await settled(central_url, "not a number") == "failed"
    assert await settled(central_url, "old but long-lived") == "failed"
    assert (status(central_url, "expired"), status(central_url, "old")) == ("expired", "expired")
    assert site.building.writes == []
    found = execute(central_url, "SELECT job_id, result ->> 'codes' FROM write_results ORDER BY job_id")
    assert found == [
        ("not a number", '["value-wrong-type"]'),
        ("old but long-lived", '["command-too-old"]'),
        ("out of range", '["value-out-of-range"]'),
    ]
    assert execute(site.settings.database_url.get_secret_value(), "SELECT DISTINCT origin FROM write_claim") == [
        ("central",)
    ]
