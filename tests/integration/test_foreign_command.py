"""A row of the queue that names another site: refused as it is inserted, and those that wait since earlier end."""

from pathlib import Path

import psycopg
import pytest

from bacpipes import migrate
from bacpipes.migrations import DIRECTORY
from conftest import make_settings
from engines import add_point
from exporter_parts import execute

INSERT = "INSERT INTO write_commands (job_id, site_id, point_id, value) VALUES (%s, %s, %s, 1)"


def test_a_command_for_another_site_is_refused(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        point = add_point(connection)
        with pytest.raises(
            psycopg.errors.CheckViolation, match=f"point {point} belongs to site duxton, not to site mac"
        ):
            connection.execute(INSERT, ["a", "macau", point])
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute(INSERT, ["a", "duxton", 99])
        connection.execute(INSERT, ["a", "duxton", point])
        assert connection.execute("SELECT job_id FROM write_commands").fetchall() == [("a",)]


def test_one_that_waits_since_an_earlier_version_ends(empty_database_url: str, tmp_path: Path) -> None:
    for name in sorted(path.name for path in DIRECTORY.glob("000[1-4]_*.sql")):
        execute(empty_database_url, (DIRECTORY / name).read_text().replace("%", "%%"), [])
    execute(empty_database_url, "CREATE TABLE bacpipes_schema (version_num varchar(32) PRIMARY KEY)")
    execute(empty_database_url, "INSERT INTO bacpipes_schema VALUES ('0004')")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        point = add_point(connection)
        connection.execute(INSERT, ["foreign", "macau", point])
        connection.execute(INSERT, ["own", "duxton", point])
    migrate.migrate(make_settings(empty_database_url, tmp_path))
    found = "SELECT job_id, status, error_message FROM write_command_status ORDER BY 1"
    assert execute(empty_database_url, found) == [("foreign", "failed", "Another site"), ("own", "pending", None)]
    (result,) = execute(empty_database_url, "SELECT result FROM write_results")[0]
    assert (result["codes"], result["validationErrors"], result["siteId"]) == (
        ["site-foreign"], ["site_id is macau"], "duxton",
    )  # fmt: skip
