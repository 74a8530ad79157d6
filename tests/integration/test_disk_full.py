"""A disk that is full, for the spool alone and for database and spool together: what had no room is told as a gap."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from accounts import Account, account, lost, settled
from bacpipes import migrate
from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.settings import Settings
from conftest import make_settings
from mqtt_parts import until
from site_parts import BOXES, EVERYTHING, SENSOR_TOPIC, Site, database_away

FULL = "SELECT count(*) FROM gap WHERE reason = 'the spool was full while the database was away'"


class Disk:
    """A small disk of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, leave: int = 0) -> None:
        """Take all room but ``leave`` octets."""
        room = os.statvfs(self.path)
        os.posix_fallocate(self._open(), 0, room.f_bavail * room.f_bsize - leave)
        os.close(self._descriptor)

    def _open(self) -> int:
        self._descriptor = os.open(self._filler, os.O_CREAT | os.O_WRONLY)
        return self._descriptor

    def free(self) -> None:
        self._filler.unlink()


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """Of so many octets as the test says."""
    with TemporaryDirectory(prefix="bacpipes-disk-") as directory:
        command = ["mount", "-t", "tmpfs", "-o", f"size={request.param},mode=0755", "bacpipes", directory]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no disk of our own can be mounted here (root may): {done.stderr.strip()}")
        try:
            yield Disk(Path(directory))
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


async def nothing_lost(site: Site) -> Account:
    site.reconnect()
    moment = await settled(site, 240)
    found = account(site, moment)
    print(asdict(found))
    assert found.lost == 0, lost(site, moment)
    assert found.twice == 0
    assert found.in_gaps > 0
    assert site.one(FULL)[0] > 0
    return found


async def polls_pass(site: Site, count: int) -> None:
    """So many more, whether they can be kept or not."""
    before = len(site.published(SENSOR_TOPIC))
    await until(lambda: len(site.published(SENSOR_TOPIC)) >= before + count, f"{count} polls", 60 + 10 * count)


async def spool_s_disk_is_full(site: Site, postgres: EmbeddedPostgres, disk: Disk, polls: int) -> Account:
    """For so many, and free again for some more while the database is still away."""
    site.start_worker()
    await site.readings(2)
    disk.fill(leave=16 * 1024)
    with database_away(postgres, site.settings):
        await polls_pass(site, polls)
        disk.free()
        await polls_pass(site, 3)
    return await nothing_lost(site)


@pytest.mark.parametrize("disk", [500_000], indirect=True)
async def test_the_spool_s_disk_is_full(
    settings: Settings, broker: EmbeddedBroker, postgres: EmbeddedPostgres, disk: Disk
) -> None:
    async with Site(settings.model_copy(update={"state_dir": disk.path}), broker) as site:
        found = await spool_s_disk_is_full(site, postgres, disk, 8)
        assert found.rows > found.in_gaps


@pytest.mark.faults
@pytest.mark.parametrize("disk", [2_000_000], indirect=True)
async def test_the_spool_s_disk_is_full_for_a_minute(
    settings: Settings, broker: EmbeddedBroker, postgres: EmbeddedPostgres, disk: Disk
) -> None:
    own = settings.model_copy(update={"state_dir": disk.path})
    async with Site(own, broker, devices=EVERYTHING, boxes=len(BOXES)) as site:
        await spool_s_disk_is_full(site, postgres, disk, 60)


async def disk_is_full(broker: EmbeddedBroker, disk: Disk, polls: int, **more: Any) -> None:
    """As on a site: then nothing can be kept but in memory. Polling and publishing go on, and the rest is told."""
    with EmbeddedPostgres(disk.path / "postgres") as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE site")
        state = disk.path / "state"
        state.mkdir()
        settings = make_settings(server.url("site"), state)
        migrate.migrate(settings)
        async with Site(settings, broker, **more) as site:
            site.start_worker()
            await site.readings(2)
            disk.fill()
            rows = site.one("SELECT count(*) FROM reading")[0]
            await until((state / "spool").exists, "the database has no room any more", 60)
            await polls_pass(site, polls)
            stuck = site.one("SELECT count(*) FROM reading")[0]
            assert stuck < rows + 20 * site.one("SELECT count(*) FROM point WHERE enabled")[0]
            disk.free()
            await nothing_lost(site)


@pytest.mark.parametrize("disk", [180 * 2**20], indirect=True)
async def test_the_disk_of_database_and_spool_is_full(broker: EmbeddedBroker, disk: Disk) -> None:
    await disk_is_full(broker, disk, 8)


@pytest.mark.faults
@pytest.mark.parametrize("disk", [400 * 2**20], indirect=True)
async def test_the_disk_of_database_and_spool_is_full_for_a_minute(broker: EmbeddedBroker, disk: Disk) -> None:
    await disk_is_full(broker, disk, 60, devices=EVERYTHING, boxes=len(BOXES))
