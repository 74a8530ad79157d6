"""The audit's hash chain: whole while nobody touches it, and what was touched is named."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bacpipes import audit, migrate
from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.migrations import DIRECTORY
from bacpipes.settings import Settings
from conftest import make_settings
from exporter_parts import execute
from mqtt_parts import until
from site_parts import SETPOINT, Site, database_away

INSERT = "INSERT INTO audit (actor, action, subject, detail) VALUES ('a', 'b', %s, '{\"v\": 1.50, \"ü\": null}')"


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True)


def fill(url: str, rows: int = 5) -> None:
    with connect(url) as connection:
        for number in range(rows):
            connection.execute(INSERT, [str(number)])


def verify(url: str, *arguments: str) -> tuple[int, str]:
    """`bacpipes audit verify`: exit status and what it says."""
    environment = os.environ | {"BACPIPES_SITE_ID": "duxton", "BACPIPES_DATABASE_URL": url}
    command = [sys.executable, "-m", "bacpipes", "audit", *(arguments or ("verify",))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def tamper(url: str, statement: str) -> None:
    """As somebody who owns the tables."""
    with connect(url) as connection:
        connection.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        connection.execute(statement.encode())
        connection.execute("ALTER TABLE audit ENABLE TRIGGER USER")


def test_a_chain_that_nobody_touched_is_whole(database_url: str) -> None:
    assert verify(database_url)[0] == 0, "also an empty one"
    fill(database_url)
    status, said = verify(database_url)
    assert (status, "whole: 5 rows, head 5:" in said) == (0, True)
    head = said.split()[-1].rstrip(".")
    assert verify(database_url, "head") == (0, f"{head}\n")
    fill(database_url)
    assert verify(database_url, "verify", "--head", head)[0] == 0, "an earlier head is still part of it"


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE audit SET detail = '{\"v\": 1.51}' WHERE id = 3", "row 3 is not what was written"),
        ("UPDATE audit SET actor = 'c' WHERE id = 3", "row 3 is not"),
        ("UPDATE audit SET at = at + INTERVAL '1 us' WHERE id = 3", "row 3 is not"),
        ("DELETE FROM audit WHERE id = 3", "row 4 is not"),
        ("DELETE FROM audit WHERE id = 1", "row 2 is not"),
        ("DELETE FROM audit WHERE id >= 4", "row 3 is the last, but the chain's head is row 5"),
        ("DELETE FROM audit", "row 0 is the last, but the chain's head is row 5"),
        ("UPDATE audit SET hash = sha256('x') WHERE id = 5", "row 5 is not"),
    ],
)
def test_what_was_touched_is_named(database_url: str, statement: str, named: str) -> None:
    fill(database_url)
    tamper(database_url, statement)
    status, said = verify(database_url)
    assert (status, named in said) == (1, True), said


def test_a_chain_that_was_written_anew_shows_against_a_noted_head(database_url: str) -> None:
    fill(database_url)
    head = verify(database_url, "head")[1].strip()
    tamper(database_url, "DELETE FROM audit; UPDATE audit_head SET id = 0, hash = sha256('')")
    fill(database_url)
    assert verify(database_url)[0] == 0, "by itself it looks whole"
    status, said = verify(database_url, "verify", "--head", head)
    assert (status, "row 5 has the hash" in said) == (1, True), said
    assert verify(database_url, "verify", "--head", "5")[0] == 2


async def test_many_writers_make_one_chain(database_url: str) -> None:
    async def write(name: str) -> None:
        async with await psycopg.AsyncConnection.connect(database_url) as connection:
            for _ in range(10):
                await connection.execute(INSERT, [name])
                await connection.execute(INSERT, [name])
                await (connection.rollback() if name == "6" else connection.commit())

    await asyncio.gather(*(write(str(number)) for number in range(7)))
    with connect(database_url) as connection:
        assert audit.verify(connection).wrong is None
        assert connection.execute("SELECT count(*), max(id) FROM audit").fetchone() == (120, 120)


def test_rows_from_before_the_chain_are_taken_into_it(empty_database_url: str, tmp_path: Path) -> None:
    execute(empty_database_url, (DIRECTORY / "0001_main_path.sql").read_text().replace("%", "%%"), [])
    execute(empty_database_url, "CREATE TABLE bacpipes_schema (version_num varchar(32) PRIMARY KEY)")
    execute(empty_database_url, "INSERT INTO bacpipes_schema VALUES ('0001')")
    fill(empty_database_url, 3)
    migrate.migrate(make_settings(empty_database_url, tmp_path))
    fill(empty_database_url, 1)
    assert "whole: 4 rows, head 4:" in verify(empty_database_url)[1]
    tamper(empty_database_url, "UPDATE audit SET subject = 'x' WHERE id = 2")
    assert "row 2 is not" in verify(empty_database_url)[1]


# --- every command stands in it


@pytest.fixture
async def site(settings: Settings, broker: EmbeddedBroker) -> AsyncIterator[Site]:
    async with Site(settings, broker) as site:
        site.start_worker()
        await site.readings()
        yield site


async def test_every_command_accepted_or_refused_is_a_row(site: Site, postgres: EmbeddedPostgres) -> None:
    done = await site.write(**SETPOINT, value=70.0, source="lisa")
    refused = await site.write(**SETPOINT, value=700.0)
    malformed = await site.write(**SETPOINT, value=70.0, priority=8, release="no")
    await site.result(site.command(**SETPOINT, value=70.0, jobId=done["jobId"]), 2)
    with database_away(postgres, site.settings):
        away = await site.write(**SETPOINT, value=70.0)
        assert "database is away" in away["error"]
    site.reconnect()
    rows = "SELECT action, actor FROM audit WHERE subject = %s"
    await until(lambda: site.one(rows, away["jobId"]), "it was refused, and is told once the database is back", 40)
    assert site.one(rows, done["jobId"]) == ("write.done", "lisa")
    for job in (refused["jobId"], malformed["jobId"], away["jobId"]):
        assert site.database.execute(rows, [job]).fetchall() == [("write.refused", "unknown")]
    assert site.one("SELECT count(*) FROM audit WHERE subject = %s", done["jobId"]) == (1,), "a repetition is none"
    with connect(site.settings.database_url.get_secret_value()) as connection:
        assert audit.verify(connection).wrong is None
