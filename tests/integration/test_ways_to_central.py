"""What worker and exporter tell the dashboard of bridge, shipping and replication, as they really are."""

from pathlib import Path

from bacpipes.database import connect
from bacpipes.embedded import LOOPBACK, EmbeddedBroker
from bacpipes.exporter.worker import WorkerPage
from bacpipes.mqtt import config as mqtt_config
from bacpipes.settings import Settings
from central_parts import site_url
from exporter_parts import in_process
from mqtt_parts import Mosquitto, until
from site_parts import Site

USERS = {"bacpipes": "a password of the test"}


async def test_the_brokers_bridge_is_seen_up_and_down(settings: Settings, tmp_path: Path) -> None:
    far = Mosquitto(tmp_path, users=USERS)
    lines = ("connection central", f"address {LOOPBACK}:{far.port}", "topic duxton/# out 1", "notifications true")
    lines += ("notifications_local_only true", "remote_username bacpipes", f"remote_password {USERS['bacpipes']}")
    lines += ("remote_clientid bridge.duxton", "restart_timeout 1", "local_clientid local.bridge.duxton")
    near = Mosquitto(tmp_path, users=USERS, more=lines)
    with far, near:
        changes = {"enabled": True, "broker": LOOPBACK, "port": near.port, "username": "bacpipes"}
        async with await connect(settings, "test") as connection:
            await mqtt_config.save(connection, settings, changes | {"password": USERS["bacpipes"]}, actor="test")
        async with in_process(settings) as (app, _):
            live = app.state.live

            def state() -> list[bool]:
                return [bridge.up for bridge in live.bridges.values()]

            await until(lambda: state() == [True], "the bridge, up")
            far.kill()
            await until(lambda: state() == [False], "the bridge, down")
            far.start()
            await until(lambda: state() == [True], "the bridge, up again")


async def test_the_worker_tells_how_far_central_is(
    settings: Settings, broker: EmbeddedBroker, central_url: str
) -> None:
    ships = settings.model_copy(update={"central_database_url": site_url(central_url, "duxton")})
    async with Site(Settings(**ships.model_dump(exclude_unset=True)), broker) as site:
        site.start_worker()
        page = WorkerPage.of(site.settings)
        while True:
            answer = await page.ask("/site")
            central = answer[1]["central"] if answer else None
            if central and central["shipped"] and central["waiting"] == 0:
                break
        assert (central["ships"], central["reason"], central["oldest"]) == (True, None, None)


async def test_a_site_without_central_says_so(settings: Settings, broker: EmbeddedBroker) -> None:
    async with Site(settings, broker) as site:
        site.start_worker()
        await site.readings()
        answer = await WorkerPage.of(site.settings).ask("/site")
        assert answer is not None
        assert answer[1]["central"] is None
