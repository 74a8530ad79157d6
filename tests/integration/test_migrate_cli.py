"""What `bacpipes migrate` prints: a playbook tells by it whether anything was changed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from bacpipes.cli import main

Migrate = Callable[..., str]


@pytest.fixture
def migrate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Migrate:
    """Runs it on a database; gives the last line."""

    def run(url: str) -> str:
        monkeypatch.setenv("BACPIPES_SITE_ID", "duxton")
        monkeypatch.setenv("BACPIPES_DATABASE_URL", url)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["migrate"])
        assert ended.value.code == 0
        return capsys.readouterr().out.splitlines()[-1]

    return run


def test_it_says_what_it_changed(migrate: Migrate, empty_database_url: str) -> None:
    assert "version" in migrate(empty_database_url)
    assert migrate(empty_database_url) == "Nothing to change."


def test_partitions_that_come_by_themselves_are_no_change(migrate: Migrate, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'reading'::regclass ORDER BY 1 DESC"
        ).fetchall()
        connection.execute(f"DROP TABLE {rows[0][0]}".encode())
    assert migrate(database_url) == "Nothing to change."


def test_rights_for_a_role_that_came_later_are_a_change(migrate: Migrate, empty_database_url: str) -> None:
    migrate(empty_database_url)
    with reader_role(empty_database_url):
        assert migrate(empty_database_url) == "Changed: grants."
        assert migrate(empty_database_url) == "Nothing to change."


@contextmanager
def reader_role(url: str) -> Iterator[None]:
    """The role for dashboards; a server's roles are for all its databases, so it is taken away again."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE bacpipes_reader")
        try:
            yield
        finally:
            connection.execute("DROP OWNED BY bacpipes_reader")
            connection.execute("DROP ROLE bacpipes_reader")
