"""The database, as its clients see it: from the machine itself (through an ssh tunnel) and from another machine."""

import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege, OperationalError, QueryCanceled, ReadOnlySqlTransaction
from testinfra.utils.ansible_runner import AnsibleRunner

from bacpipes import migrate
from bacpipes.settings import Settings

sys.path.append(str(Path(__file__).resolve().parents[3] / "tests" / "lab"))

from verification.fleet import Connection
from verification.machine import Machine

ROOT = Path(__file__).resolve().parents[3]
SCENARIO = ROOT / "molecule" / "timescaledb"
CERTIFICATES = ROOT / ".lab" / "molecule" / "timescaledb"
OWNER, WORKER, EXPORTER, READER = ROLES = tuple(
    f"bacpipes_{name}" for name in ("owner", "worker", "exporter", "reader")
)
CONTAINER = "bacpipes-database-1"


@dataclass
class Database:
    """The machine's database, and how its role is played again."""

    host: Any
    address: str
    inventory: str
    port: int  # of the tunnel to the machine's 127.0.0.1

    def password(self, role: str) -> str:
        """The password that was born on the machine."""
        line = self.host.file(f"/opt/bacpipes/secrets/{role}.pgpass").content_string
        assert re.fullmatch(rf"\*:\*:\*:{role}:[A-Za-z0-9_-]{{32}}\n", line)
        return str(line.strip().rpartition(":")[2])

    def parameters(self, role: str) -> dict[str, Any]:
        """How the role comes in on the machine itself."""
        there = {"host": "127.0.0.1", "port": self.port, "dbname": "bacpipes", "connect_timeout": 10}
        return there | {"user": role, "password": self.password(role)}

    def connect(self, role: str, **more: Any) -> psycopg.Connection[Any]:
        """As a container of the stack does."""
        return psycopg.connect(**(self.parameters(role) | more), autocommit=True)

    def remote(self, role: str, **more: Any) -> psycopg.Connection[Any]:
        """From another machine, over TLS and with a certificate of the fleet, unless it is told otherwise."""
        safe = {"sslmode": "verify-ca", "sslrootcert": str(CERTIFICATES / "ca.pem")} | certificate("client")
        there = {"host": self.address, "port": 5432} | safe
        return psycopg.connect(**(self.parameters(role) | there | more), autocommit=True)

    def refused(self, role: str, statement: str) -> None:
        with self.connect(role) as connection, pytest.raises((InsufficientPrivilege, ReadOnlySqlTransaction)):
            connection.execute(statement.encode())

    def admin(self, statement: str, database: str = "bacpipes") -> str:
        """As the operator does: psql in the container."""
        command = f"docker exec {CONTAINER} env PGOPTIONS='-c timescaledb.disable_load=true' psql -XAtq"
        return str(self.host.check_output(f"{command} {database} -c {shlex.quote(statement)}"))

    def migrate(self, **settings: Any) -> None:
        """`bacpipes migrate` as the owner."""
        url = psycopg.conninfo.make_conninfo(**self.parameters(OWNER))
        migrate.migrate(Settings(site_id="demo", database_url=url, **settings))

    def play(self, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Play the scenario's converge.yml with other variables."""
        play = ["ansible-playbook", "-i", self.inventory, str(SCENARIO / "converge.yml"), "-e", json.dumps(variables)]
        quiet = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
        environment = os.environ | quiet
        return subprocess.run(
            [*play, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    def converge(self, *arguments: str, **variables: Any) -> int:
        """Play it; it has to work. How many tasks changed something."""
        run = self.play(*arguments, **variables)
        assert run.returncode == 0, run.stdout + run.stderr
        return sum(int(number) for number in re.findall(r"changed=(\d+)", run.stdout))

    def started(self) -> str:
        """When the container was started."""
        return str(self.host.check_output(f"docker inspect --format '{{{{.State.StartedAt}}}}' {CONTAINER}"))


@pytest.fixture
def database(host: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    inventory = str(Path(str(request.config.getoption("--ansible-inventory"))).resolve())
    variables = AnsibleRunner(inventory).get_variables(host.backend.get_hostname())
    address = variables["ansible_host"]
    key, arguments = variables["ansible_ssh_private_key_file"], variables.get("ansible_ssh_common_args", "")
    machine = Machine(Connection(address, private_key_file=key, arguments=arguments), tmp_path_factory.mktemp("ssh"))
    machine.open()
    try:
        yield Database(host, address, inventory, machine.tunnel("127.0.0.1", 5432))
    finally:
        machine.close()


@pytest.fixture
def migrated(database: Database) -> Database:
    database.migrate()
    return database


@pytest.fixture
def restored(database: Database) -> Iterator[None]:
    """Afterwards everything is as converge.yml has it."""
    yield
    database.converge()


def certificate(name: str) -> dict[str, str]:
    """A client certificate, as libpq takes it."""
    (CERTIFICATES / f"{name}.key").chmod(0o600)
    return {"sslcert": str(CERTIFICATES / f"{name}.pem"), "sslkey": str(CERTIFICATES / f"{name}.key")}


def insert_reading(connection: psycopg.Connection[Any], at: datetime) -> None:
    connection.execute("INSERT INTO reading (time, point_id, value, quality) VALUES (%s, 1, 21.5, 0)", [at])


# --- who comes in


def test_each_role_comes_in_on_the_machine_and_only_with_its_password(database: Database) -> None:
    for role in ROLES:
        with database.connect(role) as connection:
            assert connection.execute("SELECT session_user").fetchone() == (role,)
        for wrong in ("wrong", database.password(next(r for r in ROLES if r != role))):
            with pytest.raises(OperationalError, match="password authentication failed"):
                database.connect(role, password=wrong)


def test_no_role_is_more_than_a_role(database: Database) -> None:
    assert database.admin("SELECT rolname FROM pg_roles WHERE rolsuper") == "postgres"
    able = "rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    assert database.admin(f"SELECT rolname FROM pg_roles WHERE ({able}) AND rolname <> 'postgres'") == ""


def test_postgres_comes_in_by_the_socket_alone(database: Database) -> None:
    password = database.host.file("/opt/bacpipes/secrets/postgres.password").content_string.strip()
    right = {"user": "postgres", "password": password, "dbname": "postgres"}
    for connect in (database.connect, database.remote):
        with pytest.raises(OperationalError, match=r"pg_hba.conf rejects connection .*\"postgres\""):
            connect(OWNER, **right)
    assert database.admin("SELECT session_user") == "postgres"


def test_from_outside_tls_a_certificate_and_the_password_are_needed(database: Database) -> None:
    with database.remote(READER) as connection:
        (version,) = connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() or (
            "",
        )
        assert version in ("TLSv1.2", "TLSv1.3")
    with pytest.raises(OperationalError, match="no encryption"):
        database.remote(READER, sslmode="disable", sslcert=None, sslkey=None)
    with pytest.raises(OperationalError, match="requires a valid client certificate"):
        database.remote(READER, sslcert="", sslkey="", sslcertmode="disable")
    for name in ("revoked", "stranger"):
        with pytest.raises(OperationalError, match=r"revoked|unknown ca|SSL error"):
            database.remote(READER, **certificate(name))
    with pytest.raises(OperationalError, match="password authentication failed"):
        database.remote(READER, password="wrong")


def test_roles_that_are_not_declared_do_not_come_from_outside(database: Database) -> None:
    for role in (OWNER, WORKER, EXPORTER):
        with pytest.raises(OperationalError, match=r"pg_hba\.conf rejects connection"):
            database.remote(role)


def test_other_databases_are_closed(database: Database) -> None:
    for name in ("postgres", "template1"):
        with pytest.raises(OperationalError, match=r"pg_hba\.conf rejects connection"):
            database.connect(OWNER, dbname=name)


def test_old_tls_is_refused(database: Database) -> None:
    with pytest.raises(OperationalError):
        database.remote(READER, ssl_min_protocol_version="TLSv1", ssl_max_protocol_version="TLSv1.1")


# --- what they may do


def test_the_worker_stores_and_the_reader_reads(migrated: Database) -> None:
    with migrated.connect(WORKER) as worker, migrated.connect(READER) as reader:
        before = reader.execute("SELECT count(*) FROM reading").fetchone()
        insert_reading(worker, datetime.now(UTC))
        assert (reader.execute("SELECT count(*) FROM reading").fetchone() or (0,))[0] == (before or (0,))[0] + 1


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        (WORKER, "DROP TABLE reading"),
        (WORKER, "DELETE FROM audit"),
        (WORKER, "CREATE TABLE mine (n int)"),
        (EXPORTER, "UPDATE reading SET value = 0"),
        (EXPORTER, "DELETE FROM mqtt_config"),
        (READER, "CREATE TEMPORARY TABLE mine (n int)"),
        (READER, "INSERT INTO gap (site_id, point_ids, since, until, reason) VALUES ('demo', '{1}', now(), now(), '')"),
        (READER, "SELECT * FROM mqtt_config"),
        (READER, "SELECT * FROM api_token"),
        (OWNER, "CREATE ROLE mine"),
        (OWNER, "COPY (SELECT 1) TO PROGRAM 'true'"),
    ],
)
def test_they_may_not(migrated: Database, role: str, statement: str) -> None:
    migrated.refused(role, statement)


def test_a_long_statement_of_the_readers_is_ended(database: Database, restored: None) -> None:
    database.converge("--tags", "timescaledb_configure", timescaledb_reader_timeout="1s")
    with database.connect(READER) as connection, pytest.raises(QueryCanceled):
        connection.execute("SELECT pg_sleep(20)")


# --- what it keeps


def test_history_of_this_machine_is_a_hypertable_and_obeys_the_retention(migrated: Database) -> None:
    old = datetime.now(UTC) - timedelta(days=20)
    count = "SELECT count(*) FROM reading WHERE time < now() - interval '15 days'"
    with migrated.connect(WORKER) as worker:
        insert_reading(worker, old)
        migrated.migrate(retention_days=30)
        assert worker.execute(count.encode()).fetchone() == (1,)
        migrated.migrate(retention_days=10)
        assert worker.execute(count.encode()).fetchone() == (0,)
        hypertables = worker.execute("SELECT hypertable_name FROM timescaledb_information.hypertables").fetchall()
    assert hypertables == [("reading",)]


def test_what_was_committed_outlives_a_kill_and_a_restart(migrated: Database) -> None:
    mark = datetime.now(UTC)
    with migrated.connect(WORKER) as worker:
        insert_reading(worker, mark)
    migrated.host.check_output(f"docker kill {CONTAINER}")
    migrated.host.check_output(f"docker start {CONTAINER}")
    wait_until_healthy(migrated)
    with migrated.connect(READER) as reader:
        assert reader.execute("SELECT count(*) FROM reading WHERE time = %s", [mark]).fetchone() == (1,)


def test_it_stops_in_order(database: Database) -> None:
    with database.connect(READER):
        began = time.monotonic()
        database.host.check_output(f"docker stop {CONTAINER}")
        assert time.monotonic() - began < 30
    log = database.host.run(f"docker logs --tail 5 {CONTAINER} 2>&1").stdout
    database.host.check_output(f"docker start {CONTAINER}")
    wait_until_healthy(database)
    assert "database system is shut down" in log


def test_another_image_finds_the_data(migrated: Database, restored: None) -> None:
    with migrated.connect(WORKER) as worker:
        insert_reading(worker, datetime.now(UTC))
        (before,) = worker.execute("SELECT count(*) FROM reading").fetchone() or (0,)
    current = migrated.host.check_output(f"docker inspect --format '{{{{.Config.Image}}}}' {CONTAINER}")
    migrated.host.check_output(f"docker tag {current} bacpipes-lab/timescaledb:another")
    migrated.converge(timescaledb_image="bacpipes-lab/timescaledb:another")
    named = migrated.host.check_output(f"docker inspect --format '{{{{.Config.Image}}}}' {CONTAINER}")
    assert named == "bacpipes-lab/timescaledb:another"
    with migrated.connect(READER) as reader:
        assert reader.execute("SELECT count(*) FROM reading").fetchone() == (before,)


def test_an_older_extension_is_brought_to_the_images(migrated: Database) -> None:
    """As after a new image: the database says an older version, whose library is not in the image any more."""
    offered = migrated.admin("SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    major, minor, patch = offered.split(".")
    pretend_version(migrated, f"{major}.{minor}.{int(patch) - 1}")
    try:
        assert "could not access" in migrated.host.run(f"docker exec {CONTAINER} psql -X bacpipes -c 'SELECT 1'").stderr
        assert migrated.converge("--tags", "timescaledb_configure") == 1
        assert migrated.admin("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'") == offered
    finally:
        pretend_version(migrated, offered)
    with migrated.connect(READER) as reader:
        assert reader.execute("SELECT count(*) >= 0 FROM sensor_readings").fetchone() == (True,)


def test_an_image_that_is_older_than_the_database_is_refused(migrated: Database) -> None:
    offered = migrated.admin("SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'")
    pretend_version(migrated, "99.1.0")
    try:
        run = migrated.play("--tags", "timescaledb_configure")
    finally:
        pretend_version(migrated, offered)
    assert run.returncode != 0
    assert f"database bacpipes has TimescaleDB 99.1.0, the image offers {offered}" in run.stdout


def pretend_version(database: Database, version: str) -> None:
    """Let the database say that it has this TimescaleDB."""
    database.admin(f"UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'timescaledb'")
    database.admin(f"UPDATE _timescaledb_catalog.metadata SET value = '{version}' WHERE key = 'timescaledb_version'")


# --- settings


def test_it_is_tuned_to_its_memory(database: Database) -> None:
    expected = {"shared_buffers": "128MB", "effective_cache_size": "320MB", "jit": "off", "ssl": "on"}
    expected |= {"timescaledb.telemetry_level": "off", "data_checksums": "on", "fsync": "on"}
    assert {name: database.admin(f"SHOW {name}") for name in expected} == expected
    limit = database.host.check_output(f"docker inspect --format '{{{{.HostConfig.Memory}}}}' {CONTAINER}")
    assert int(limit) == 512 * 2**20


def test_a_setting_takes_effect_without_a_restart_and_one_that_can_not_with_one(
    database: Database, restored: None
) -> None:
    started = database.started()
    quick = {"log_min_duration_statement": "333ms"}
    database.converge(timescaledb_settings=quick)
    assert database.admin("SHOW log_min_duration_statement") == "333ms"
    assert database.started() == started
    assert database.converge(timescaledb_settings=quick) == 0

    database.converge(timescaledb_settings=quick | {"max_locks_per_transaction": 128})
    assert database.admin("SHOW max_locks_per_transaction") == "128"
    assert database.started() != started


def test_a_run_that_was_interrupted_before_the_reload_ends_right(database: Database, restored: None) -> None:
    changed = {"log_min_duration_statement": "444ms"}
    database.converge("--tags", "timescaledb_install", timescaledb_settings=changed)
    assert database.admin("SHOW log_min_duration_statement") != "444ms"
    database.converge(timescaledb_settings=changed)
    assert database.admin("SHOW log_min_duration_statement") == "444ms"


@pytest.mark.parametrize("name", ["work_mem", "shared_buffers", "no_such_setting"])
def test_a_setting_that_postgresql_refuses_is_told_and_harms_nothing(database: Database, name: str) -> None:
    started = database.started()
    run = database.play("--tags", "timescaledb_install", timescaledb_settings={name: "much"})
    assert run.returncode != 0
    assert re.search(rf"failed to validate.*{name}", run.stdout, re.S), run.stdout
    assert database.started() == started
    assert "much" not in database.host.file("/opt/bacpipes/database/postgresql.conf").content_string


def test_a_lost_password_file_is_made_anew(database: Database, restored: None) -> None:
    old = database.password(READER)
    database.host.check_output(f"rm /opt/bacpipes/secrets/{READER}.pgpass")
    database.converge()
    assert database.password(READER) != old
    database.connect(READER).close()
    with pytest.raises(OperationalError, match="password authentication failed"):
        database.connect(READER, password=old)


def test_a_renewed_certificate_is_shown_without_a_restart(database: Database) -> None:
    started, before = database.started(), shown(database.address)
    make = [
        sys.executable,
        str(SCENARIO.parent / "mqtt_broker" / "certificates.py"),
        str(CERTIFICATES),
        database.address,
    ]
    subprocess.run([*make, "renew"], check=True)
    with database.connect(WORKER) as polling:
        assert database.converge(part="tls") > 0
        assert polling.execute("SELECT 1").fetchone() == (1,)
    assert shown(database.address) != before
    assert database.started() == started
    assert database.converge(part="tls") == 0


def shown(address: str) -> str:
    """The certificate that the server shows to a stranger."""
    with socket.create_connection((address, 5432), 10) as plain:
        plain.sendall(bytes.fromhex("0000000804d2162f"))  # SSLRequest
        assert plain.recv(1) == b"S"
        context = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.pem"))
        context.check_hostname = False
        with context.wrap_socket(plain) as secure:
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True) or b"")


# --- secrets, and what it runs as


def test_nobody_else_reads_the_secrets(database: Database) -> None:
    files = database.host.check_output("ls /opt/bacpipes/secrets").split()
    ours = [
        f"/opt/bacpipes/secrets/{name}" for name in files if name.endswith(".pgpass") or name == "postgres.password"
    ]
    assert len(ours) == 5
    for path in [*ours, "/opt/bacpipes/database/tls/server.key"]:
        assert database.host.file(path).mode == 0o400, path
        assert "Permission denied" in database.host.run(f"setpriv --reuid=65534 --clear-groups cat {path}").stderr, path
    for role in ROLES:
        assert database.host.file(f"/opt/bacpipes/secrets/{role}.pgpass").uid == (0 if role == READER else 10001)


def test_no_secret_in_logs_files_or_environment(database: Database) -> None:
    told = database.host.run(
        f"docker logs {CONTAINER} 2>&1; docker inspect {CONTAINER}; cat /opt/bacpipes/database.yaml"
    ).stdout
    assert "database system is ready" in told
    for role in ROLES:
        assert database.password(role) not in told


def test_the_container_can_do_no_more_than_it_needs(database: Database) -> None:
    inside = f"docker exec {CONTAINER} sh -c "
    assert database.host.check_output(f"{inside} 'id -u; id -g'").split() == ["70", "70"]
    assert "Read-only file system" in database.host.run(f"{inside} 'touch /usr/mine'").stderr
    assert "Read-only file system" in database.host.run(f"{inside} 'touch /etc/postgresql/mine'").stderr
    status = database.host.check_output(f"{inside} 'cat /proc/1/status'")
    assert re.search(r"CapEff:\s+0+\n", status)
    assert re.search(r"NoNewPrivs:\s+1\n", status)


# --- bad input


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"timescaledb_memory": 100}, r"timescaledb_memory=100 \(MB, at least 256\)"),
        ({"timescaledb_listen": ["127.0.0.1"]}, r"timescaledb_listen.*contradicts\s+timescaledb_remote_networks"),
        ({"timescaledb_remote_networks": ["10.0.0.0/33"]}, r"timescaledb_remote_networks=\['10.0.0.0/33'\]"),
        ({"timescaledb_remote_roles": ["bacpipes_owner"]}, r"timescaledb_remote_roles must be one or more of"),
        ({"timescaledb_compress_after_hours": 999}, r"timescaledb_compress_after_hours=999"),
        (
            {"timescaledb_tls_source": "/nowhere"},
            r"/nowhere has no\s+ca.pem, crl.pem, server.pem, server.key.*role pki",
        ),
        (
            {"timescaledb_image": "nowhere/timescaledb:1"},
            r"nowhere/timescaledb:1 is not on the machine.*roles docker and\s+image",
        ),
        (
            {"timescaledb_expected_points": 5000, "timescaledb_expected_interval": 1, "timescaledb_disk": 100},
            r"5000 points every 1 s for\s+timescaledb_retention_days=30 days take 2073.6 GB.*room for 100 GB",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_changes(database: Database, variables: dict[str, Any], told: str) -> None:
    run = database.play(**variables)
    assert run.returncode != 0
    assert re.search(told, run.stdout, re.S), run.stdout
    assert "changed=0" in run.stdout


def test_a_check_tells_and_changes_nothing(database: Database) -> None:
    started = database.started()
    assert database.converge("--check", "--diff") == 0
    assert database.converge("--check", "--diff", timescaledb_memory=600) == 2
    assert database.started() == started
    assert database.converge() == 0


def wait_until_healthy(database: Database) -> None:
    limit = time.monotonic() + 60
    command = f"docker inspect --format '{{{{.State.Health.Status}}}}' {CONTAINER}"
    while database.host.run(command).stdout.strip() != "healthy":
        assert time.monotonic() < limit, "the database does not come back"
        time.sleep(0.5)
