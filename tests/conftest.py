"""Real parts for the tests: a PostgreSQL, a broker; each test gets a database of its own."""

import itertools
import secrets
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import apart
import central_parts
from bacpipes import migrate
from bacpipes.embedded import EmbeddedBroker, EmbeddedPostgres
from bacpipes.settings import Settings

SITE = "duxton"
_numbers = itertools.count(1)
hypothesis.settings.register_profile("any machine", deadline=None)  # a busy one is no failure
hypothesis.settings.load_profile("any machine")


def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means here."""
    return apart.processes()


def pytest_configure(config: pytest.Config) -> None:
    """A process beside others gets a network of its own."""
    if hasattr(config, "workerinput"):
        apart.enter()


@pytest.fixture(autouse=True)
def _logging_stays_the_tests_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line that a test calls in this process must not take the logging of all others over."""
    monkeypatch.setattr("bacpipes.log.configure", lambda *_: None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server that all tests share; its database ``migrated`` is the template of theirs.

    Not below pytest's own folder: that belongs to root alone, and PostgreSQL runs as somebody else.
    """
    with TemporaryDirectory(prefix="bacpipes-test-") as directory, EmbeddedPostgres(Path(directory)) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE migrated")
        migrate.migrate(make_settings(server.url("migrated"), Path("unused")))
        yield server


@pytest.fixture
def empty_database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database without our schema."""
    yield from database_from(postgres, "template1")


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database with our schema and nothing in it."""
    yield from database_from(postgres, "migrated")


@pytest.fixture(scope="session")
def central_template(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The name of a database with central's schema and site ``duxton`` in it."""
    with central_parts.central_database(postgres) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            central_parts.register(connection, SITE)
        central_parts.site_url(url, SITE)
        yield str(conninfo_to_dict(url)["dbname"])


@pytest.fixture
def central_url(postgres: EmbeddedPostgres, central_template: str) -> Iterator[str]:
    """A central of the test's own, which knows site ``duxton``."""
    with central_parts.central_database(postgres, central_template) as url:
        yield url


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of site ``duxton`` on a database of its own."""
    return make_settings(database_url, tmp_path)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A Mosquitto with one user, without TLS."""
    instance = EmbeddedBroker(tmp_path_factory.mktemp("broker"), "bacpipes", secrets.token_hex(12))
    if instance.program is None:
        pytest.fail("mosquitto is not installed; `make test` as root installs it")
    with instance:
        yield instance


def make_settings(database_url: str, state_dir: Path, **more: object) -> Settings:
    """Settings as a test needs them, without the environment's."""
    values: dict[str, object] = {"site_id": SITE, "time_zone": "Asia/Macau", "clock_check": False, "poll_phase": 0.0}
    return Settings(**(values | {"database_url": database_url, "state_dir": state_dir} | more))  # type: ignore[arg-type]


def database_from(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    """A database of its own, made from a template."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
    yield server.url(name)
    with psycopg.connect(server.url(), autocommit=True) as connection:  # a test may have crashed the server
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
