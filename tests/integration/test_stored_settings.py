"""Settings that the page keeps: what may be stored, who has the last word, and how a running site takes them over."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from bacpipes import migrate, stored_settings
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedBroker, free_port
from bacpipes.errors import InputError
from bacpipes.exporter.worker import WorkerPage
from bacpipes.settings import Settings
from bacpipes.stored_settings import ConflictError
from bacpipes.tokens import Role
from exporter_parts import execute, in_process, make_token
from mqtt_parts import until
from site_parts import Site


async def save(settings: Settings, seen: dict[str, str] | None = None, **changes: str) -> list[str]:
    async with await connect(settings, "test") as connection:
        return await stored_settings.save(connection, settings, changes, seen=seen or {}, actor="test")


async def stored(settings: Settings) -> dict[str, str]:
    async with await connect(settings, "test") as connection:
        return await stored_settings.load(connection)


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    async with Site(settings, broker) as site:
        yield site


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"retention_days": "0"}, "retention_days: Input should be greater than or equal to 1"),
        ({"retention_days": "a month"}, "retention_days: Input should be a valid integer"),
        ({"bacnet_address": "10.1.2.3/24/7"}, "bacnet_address: '10.1.2.3/24/7' is not address/prefix:port"),
        ({"bacnet_address": "10.1.2.3:99999"}, "is not address/prefix:port"),
        ({"bacnet_timeout": "nan"}, "bacnet_timeout: "),
        ({"session_hours": "1", "bacnet_retries": "11"}, "bacnet_retries: Input should be less than or equal to 10"),
        ({"database_url": "x"}, "database_url can't be set here"),
        ({"time_zone": "Europe/Berlin"}, "The environment sets time_zone"),
    ],
)
async def test_what_is_wrong_is_named_and_nothing_is_saved(
    settings: Settings, changes: dict[str, str], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        await save(settings, **changes)
    assert words in str(caught.value)
    assert await stored(settings) == {}


async def test_a_change_is_kept_audited_and_cleared_again(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    assert await save(settings, retention_days=" 90 ", session_hours="") == ["retention_days"]
    assert await stored(settings) == {"retention_days": "90"}
    assert execute(url, "SELECT actor, action, detail FROM audit") == [
        ("test", "setting.change", {"retention_days": [None, "90"]})
    ]
    with pytest.raises(ConflictError, match="Somebody else changed retention_days meanwhile"):
        await save(settings, {"retention_days": "60"}, retention_days="120")
    assert await save(settings, {"retention_days": "90"}, retention_days="") == ["retention_days"]
    assert await stored(settings) == {}


def test_the_environment_has_the_last_word_and_a_bad_row_stops_nobody(settings: Settings) -> None:
    rows = {"time_zone": "Europe/Berlin", "retention_days": "soon", "session_hours": "2", "of_a_later_version": "1"}
    found = stored_settings.overlay(settings, rows)
    assert (found.time_zone, found.retention_days, found.session_hours) == (settings.time_zone, 30, 2.0)


async def test_housekeeping_at_a_migration_goes_by_them(settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    old = (datetime.now(UTC) - timedelta(days=40)).date()
    partition = f"SELECT to_regclass('reading_p{old:%Y%m%d}') IS NULL"
    for days, dropped in (("90", False), ("35", True)):
        execute(url, "SELECT history_partition(%s) WHERE to_regclass(%s) IS NULL", [old, f"reading_p{old:%Y%m%d}"])
        await save(settings, await stored(settings), retention_days=days)
        migrate.migrate(settings)
        assert execute(url, partition) == [(dropped,)]


async def test_the_exporter_takes_them_over_as_it_runs(database_url: str, settings: Settings) -> None:
    environment = Settings(site_id="duxton", database_url=database_url, state_dir=settings.state_dir)  # type: ignore[arg-type]
    headers = await make_token(database_url, "anna", Role.VIEWER)
    async with in_process(environment) as (app, http):
        assert (await http.get("/api/dashboard/summary", headers=headers)).json()["timeZone"] == "UTC"
        await save(environment, time_zone="Asia/Macau", session_hours="1")
        await until(lambda: app.state.settings.time_zone == "Asia/Macau", "the exporter's new time zone")
        assert (await http.get("/api/dashboard/summary", headers=headers)).json()["timeZone"] == "Asia/Macau"
        assert app.state.settings.session_hours == 1.0


async def test_the_worker_begins_anew_by_them_and_says_which_are_fixed(site: Site) -> None:
    site.start_worker()
    await site.readings()
    page = WorkerPage.of(site.settings)
    answer = await page.ask("/site")
    assert answer is not None
    before = answer[1]["settings"]
    assert "bacnet_address" in before["fixed"]  # the test's own environment sets it
    assert "bacnet_device_id" not in before["fixed"]
    assert any(one["address"].startswith("127.") for one in answer[1]["interfaces"])
    await save(site.settings, bacnet_device_id="4193999", bacnet_timeout="1.5")

    async def began_anew() -> bool:
        answer = await page.ask("/site")
        return answer is not None and answer[1]["settings"]["values"]["bacnet_device_id"] == 4193999

    while not await began_anew():
        pass
    await site.readings()
    assert site.one("SELECT count(*) FROM reading WHERE quality <> 0") == (0,)


async def test_an_interface_that_is_not_there_can_be_corrected_while_the_worker_waits(
    settings: Settings, broker: EmbeddedBroker
) -> None:
    async with Site(settings, broker) as site:
        values = site.settings.model_dump(exclude={"bacnet_address"}, exclude_unset=True)
        own, site.settings = site.settings.bacnet_address, Settings(**(values | {"worker_http_port": free_port()}))
        await save(site.settings, bacnet_address="203.0.113.7:47808")
        site.start_worker()
        page = WorkerPage.of(site.settings)

        async def refused() -> bool:
            return any("203.0.113.7" in reason.reason for reason in await page.reasons())

        while not await refused():
            pass
        await save(site.settings, {"bacnet_address": "203.0.113.7:47808"}, bacnet_address=own)
        await site.readings()
