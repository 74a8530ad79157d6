"""What the database's roles may do and may not: each part of the site with its own role, none of them owner."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.errors import InsufficientPrivilege, RaiseException
from test_central_ship import commit, compared, same, shipping

from bacpipes import history, migrate, stored_settings, tokens, users
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedBroker
from bacpipes.exporter import point_store, sessions
from bacpipes.mqtt import config as mqtt_config
from bacpipes.points.edit import ConflictError
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from central_parts import site_url
from conftest import make_settings
from engines import NoServerError, Server, TrixieServer, database
from exporter_parts import SETPOINT, TEMPERATURE, add_building, add_reading, execute, in_process, make_token
from mqtt_parts import until
from site_parts import SENSOR, Site
from site_parts import SETPOINT as SETPOINT_OBJECT

OWNER, WORKER, EXPORTER, READER = ROLES = tuple(
    f"bacpipes_{name}" for name in ("owner", "worker", "exporter", "reader")
)
SECRET_TABLES = {"mqtt_config", "api_token", "app_user", "app_session", "first_user_token"}
INNER_TABLES = {
    "audit",
    "due_release",
    "follower",
    "held_slot",
    "published",
    "site_audit",
    "reading_batch",
    "reconciliation",
    "site_metadata",
    "source_contact",
    "write_claim",
    "write_pace",
}


@dataclass
class Database:
    """One database, and how each role reaches it."""

    conninfo: str  # the superuser's
    password: str
    state: Path

    def url(self, role: str) -> str:
        return make_conninfo(self.conninfo, user=role, password=self.password)

    def settings(self, role: str, **more: object) -> Settings:
        return make_settings(self.url(role), self.state, **more)

    def refused(self, role: str, statement: str) -> None:
        """The role may not: the server says so, and not that something is missing."""
        with pytest.raises(InsufficientPrivilege):
            execute(self.url(role), statement)


@pytest.fixture(scope="module", params=["plain", "apache"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "plain":
        yield request.getfixturevalue("postgres")
        return
    try:
        apache = TrixieServer()
    except NoServerError as reason:
        pytest.skip(str(reason))
    with apache:
        yield apache


@pytest.fixture(scope="module")
def password(server: Server) -> Iterator[str]:
    """The roles, as the role timescaledb makes them; the password that they share here."""
    password = secrets.token_hex(12)
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for role in ROLES:
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'".encode())
        yield password
        for role in ROLES:
            connection.execute(f"DROP ROLE {role}".encode())


@pytest.fixture
def site_database(server: Server, password: str, tmp_path: Path) -> Iterator[Database]:
    """Owned and migrated by the owner, closed to everybody else."""
    with database(server, f"TEMPLATE template0 OWNER {OWNER}") as conninfo:
        name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
        execute(conninfo, f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        execute(conninfo, f"GRANT CONNECT ON DATABASE {name} TO {WORKER}, {EXPORTER}, {READER}")
        execute(conninfo, f"GRANT TEMPORARY ON DATABASE {name} TO {WORKER}, {EXPORTER}")
        execute(conninfo, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        found = Database(conninfo, password, tmp_path)
        migrate.migrate(found.settings(OWNER))
        yield found


async def test_a_whole_site_runs_as_the_worker(site_database: Database, broker: EmbeddedBroker) -> None:
    """Import, broker settings, polling, publishing, commands from MQTT and SQL, housekeeping, and the command line."""
    async with Site(site_database.settings(WORKER), broker) as site:
        site.start_worker()
        await site.readings(2)
        result = await site.write(**SETPOINT_OBJECT, value=61.0, priority=8)
        assert result["success"], result
        refused = await site.write(**SENSOR, value=61.0, priority=8)
        assert not refused["success"]
        done = await asyncio.to_thread(command, site, "write", "12345", "analog-value:120", "62")
        assert done.returncode == 0, done.stderr
        assert site.one("SELECT count(*) FROM write_results") == (3,)
        await asyncio.to_thread(site.import_points, dis="renamed")
        assert site.one("SELECT count(*) FROM point WHERE dis = 'renamed'")[0] > 0
        for arguments in (
            ("token", "create", "page", "--role", "viewer"),
            ("mqtt", "show"),
            ("points", "export"),
            ("stop",),
            ("audit", "verify"),
        ):
            done = await asyncio.to_thread(command, site, *arguments)
            assert done.returncode == 0, done.stderr
        told = await asyncio.to_thread(command, site, "doctor")
        assert "permission denied" not in told.stdout + told.stderr
        # the log's rows are deleted once they are published
        await until(lambda: site.one("SELECT count(*) FROM reading_batch")[0] < 60, "a log that stays short")
        await site.stop_worker()


async def test_the_worker_ships_to_central(site_database: Database, central_url: str) -> None:
    add_building(site_database.conninfo)
    settings = site_database.settings(WORKER, central_database_url=site_url(central_url, "duxton"))
    await commit(settings, 1.0, None)
    async with shipping(settings):
        await same(settings, central_url)
    assert (await compared(settings)).differing == []


def test_the_worker_keeps_house(site_database: Database) -> None:
    add_building(site_database.url(OWNER))
    old = datetime.now(UTC) - timedelta(days=40)
    add_reading(site_database.url(OWNER), 1, old, 1.0)
    with psycopg.connect(site_database.url(WORKER), autocommit=True) as connection:
        engine = history.installed(connection)
        assert engine is not None
        history.maintain(connection, engine, 30)
        assert connection.execute("SELECT count(*) FROM sensor_readings").fetchone() == (0,)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE reading",
        "DROP VIEW sensor_readings",
        "TRUNCATE audit",
        "DELETE FROM audit",
        "UPDATE audit SET actor = 'somebody else'",
        "UPDATE audit_head SET id = 0",
        "ALTER TABLE audit DISABLE TRIGGER audit_is_append_only",
        "DELETE FROM reading",
        "UPDATE reading SET value = 0",
        "DELETE FROM write_results",
        "UPDATE write_results SET success = true",
        "DELETE FROM write_claim",
        "DELETE FROM point",
        "DELETE FROM gap",
        "UPDATE bacpipes_schema SET version_num = '9999'",
        "CREATE TABLE mine (n int)",
        "CREATE ROLE mine",
    ],
)
def test_the_worker_may_not(site_database: Database, statement: str) -> None:
    site_database.refused(WORKER, statement)


def test_the_audit_is_append_only_for_its_owner_too(site_database: Database) -> None:
    with pytest.raises(RaiseException, match="append-only"):
        execute(site_database.url(OWNER), "DELETE FROM audit")


async def test_the_exporter_serves_and_queues(site_database: Database) -> None:
    add_building(site_database.url(OWNER))
    add_reading(site_database.url(OWNER), 1, datetime.now(UTC) - timedelta(minutes=1), 21.5)
    headers = await make_token(site_database.url(WORKER), "lisa", Role.OPERATOR)
    async with in_process(site_database.settings(EXPORTER)) as (_, http):
        assert (await http.get("/api/points")).status_code == 401
        for path in ("/api/points", "/api/devices", "/api/dashboard/summary"):
            assert (await http.get(path, headers=headers)).status_code == 200, path
        for kind in ("csv", "json"):
            parameters = {"haystackName": TEMPERATURE, "format": kind}
            export = await http.get("/api/timeseries/export", params=parameters, headers=headers)
            assert export.status_code == 200
            assert "21.5" in export.text
        body: dict[str, Any] = {"deviceId": 12345, "objectType": "analog-value", "objectInstance": 120}
        body |= {"value": 65.0, "priority": 8, "haystackName": SETPOINT, "jobId": "one"}
        posted = asyncio.create_task(http.post("/api/bacnet/write", headers=headers, json=body))
        queued = "SELECT created_by FROM write_commands WHERE job_id = 'one'"
        await until(lambda: bool(execute(site_database.url(WORKER), queued)), "the command in the queue")
        execute(
            site_database.url(WORKER),
            "INSERT INTO write_results (job_id, site_id, success, result) VALUES ('one', 'duxton', true, "
            '\'{"jobId": "one", "success": true, "validationErrors": []}\')',
        )
        answer = await posted
        assert answer.status_code == 200, answer.text
        for method in ("POST", "GET", "DELETE"):
            assert (await http.request(method, "/api/stop", headers=headers)).status_code == 200
        reasons = (await http.get("/readyz")).json()["reasons"]
        assert not [reason for reason in reasons if reason["component"] in ("database", "schema")]
    assert execute(site_database.url(OWNER), "SELECT count(*) FROM audit WHERE action LIKE 'write%'")[0][0] >= 1


async def test_the_page_does_its_work_as_the_exporter(site_database: Database) -> None:
    add_building(site_database.url(OWNER))
    settings = site_database.settings(EXPORTER)
    async with await connect(site_database.settings(WORKER), "test") as connection:
        token = await users.first_token(connection, "test")
        await tokens.create(connection, "old", Role.VIEWER, None, "test")
    async with in_process(settings) as (app, _), await connect(settings, "test") as connection:
        await users.use_first_token(connection, token, "root", "a long enough password")
        account = await users.find(connection, "root")
        assert account is not None
        secret = await sessions.start(app.state.store, account, 1.0, None)
        found = await sessions.find(app.state.store, secret)
        assert found is not None
        await sessions.end(app.state.store, found.digest)
        await users.add(connection, "vera", Role.VIEWER, "a long enough password", "test")
        await users.set_role(connection, "vera", Role.OPERATOR, "test")
        await users.set_password(connection, "vera", "another long password", "test")
        await users.set_disabled(connection, "vera", "test", disabled=True)
        await tokens.create(connection, "new", Role.VIEWER, None, "test")
        await tokens.revoke(connection, "old", "test")
        await mqtt_config.save(
            connection, settings, {"broker": "elsewhere", "password": "x", "username": "y"}, actor="t"
        )
        await stored_settings.save(connection, settings, {"session_hours": "8"}, seen={}, actor="t")
        await stored_settings.save(connection, settings, {"session_hours": ""}, seen={"session_hours": "8"}, actor="t")
        (row,) = await app.state.store.rows("page_point", {"site": settings.site_id, "point": 2})
        assert row["dis"] == "HumiditySetpoint"
        for name in (
            "page_writes",
            "page_dashboard",
            "page_last_write",
            "page_held",
            "page_addresses",
            "page_replication",
        ):
            await app.state.store.rows(name, {"site": settings.site_id, "point": 2, "limit": 5, "cov_poll": 300})
        before = {row["id"]: row["updated_at"] for row in await point_store.rows(app.state.store, settings)}
        changes = {2: {"dis": "renamed"}}
        plan = await point_store.change(settings, changes, {2: before[2]}, "test", dry_run=False)
        assert plan.applied
        with pytest.raises(ConflictError):
            await point_store.change(settings, changes, {2: before[2]}, "test", dry_run=False)
        text = (await point_store.export(settings)).replace("analog-input,101", "analog-input,102")
        _, imported = await point_store.import_file(settings, text.encode(), "file", "test", prune=True, dry_run=False)
        assert imported is not None
        assert imported.applied, imported.problems
    assert execute(site_database.url(OWNER), "SELECT dis FROM point WHERE id = 2") == [("renamed",)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM api_token",
        "UPDATE api_token SET role = 'admin'",
        "DELETE FROM mqtt_config",
        "UPDATE app_user SET name = 'somebody'",
        "DELETE FROM app_user",
        "UPDATE app_session SET user_id = 1",
        "INSERT INTO first_user_token (digest, expires_at) VALUES ('x', now())",
        "UPDATE held_slot SET value = 0",
        "INSERT INTO reading (time, point_id, quality) VALUES (now(), 1, 0)",
        "UPDATE reading SET value = 0",
        "DELETE FROM reading",
        "DELETE FROM point",
        "INSERT INTO write_claim (job_id, origin, command) VALUES ('mine', 'sql', '{}')",
        "UPDATE write_commands SET value = 0",
        "DELETE FROM write_commands",
        "DELETE FROM audit",
        "UPDATE audit_head SET id = 0",
        "DELETE FROM due_release",
        "CREATE TABLE mine (n int)",
    ],
)
def test_the_exporter_may_not(site_database: Database, statement: str) -> None:
    site_database.refused(EXPORTER, statement)


def test_housekeeping_is_the_workers_alone(site_database: Database) -> None:
    for role in (EXPORTER, READER):
        site_database.refused(role, "SELECT * FROM history_maintain(INTERVAL '1 day')")


def test_the_reader_reads_what_is_no_secret_and_changes_nothing(site_database: Database) -> None:
    add_building(site_database.url(OWNER))
    add_reading(site_database.url(OWNER), 1, datetime.now(UTC), 21.5)
    assert execute(site_database.url(READER), "SELECT value FROM sensor_readings") == [(21.5,)]
    tables = execute(
        site_database.url(OWNER),
        "SELECT relname, has_table_privilege('bacpipes_reader', oid, 'SELECT'),"
        " has_table_privilege('bacpipes_reader', oid, 'INSERT, UPDATE, DELETE, TRUNCATE') FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition"
        " AND relowner = 'bacpipes_owner'::regrole",
    )
    assert len(tables) > 12
    assert {name for name, reads, _ in tables if not reads} == SECRET_TABLES | INNER_TABLES
    assert not [name for name, _, changes in tables if changes]
    for table in SECRET_TABLES:
        site_database.refused(READER, f"TABLE {table}")
    site_database.refused(READER, "INSERT INTO write_commands (site_id, point_id, value) VALUES ('duxton', 2, 1)")


def test_migrating_again_takes_what_was_granted_beside_it(site_database: Database) -> None:
    execute(site_database.url(OWNER), "GRANT SELECT ON mqtt_config TO bacpipes_reader")
    execute(site_database.url(OWNER), "REVOKE SELECT ON sensor_readings FROM bacpipes_reader")
    migrate.migrate(site_database.settings(OWNER))
    site_database.refused(READER, "SELECT * FROM mqtt_config")
    assert execute(site_database.url(READER), "SELECT count(*) FROM sensor_readings") == [(0,)]


def command(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`bacpipes …` with the site's settings."""
    arguments = ("-m", "bacpipes", *arguments)
    return subprocess.run(
        [sys.executable, *arguments], env=site.environment(), capture_output=True, text=True, timeout=60
    )
