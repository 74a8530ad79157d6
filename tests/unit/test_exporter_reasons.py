"""What the exporter says of things that are not ready; never with a secret in it."""

from collections import namedtuple
from pathlib import Path

import psycopg
import psycopg_pool
import pytest

from bacpipes.errors import SchemaError, SettingsError, UnavailableError
from bacpipes.exporter import health
from bacpipes.exporter.problem import of_database, reason_of
from bacpipes.exporter.store import Store
from conftest import make_settings

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("kind", [psycopg.OperationalError, UnavailableError])
def test_a_wrong_password_is_said_with_what_to_do(kind: type[Exception]) -> None:
    error = kind('connection failed: FATAL:  password authentication failed for user "bacpipes"\n')
    reason, remedy = reason_of(error)
    assert "password authentication failed" in reason
    assert "user and password in BACPIPES_DATABASE_URL" in remedy


def test_a_full_disk_of_the_database_is_said() -> None:
    assert "disk is full" in reason_of(psycopg.errors.DiskFull("could not extend file"))[0]


def test_an_expected_error_keeps_its_text_and_remedy_apart() -> None:
    assert reason_of(SchemaError("It is newer.", "Upgrade.")) == ("It is newer.", "Upgrade.")


def test_a_busy_pool_is_a_503_to_be_tried_again() -> None:
    response = of_database(psycopg_pool.PoolTimeout("after 3 s")).response()
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bacpipes:s3cr%ZZet@db/bacpipes",
        "postgresql://bacpipes:s3cr@et@db/bacpipes",
        "postgresql://bacpipes:x@db:s3cret/bacpipes",
        "s3cret",
    ],
)
def test_a_malformed_database_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Store(make_settings(url, Path("unused")))
    assert "BACPIPES_DATABASE_URL" in str(caught.value)
    assert "s3cr" not in str(caught.value)
    assert "et@" not in str(caught.value)


@pytest.mark.parametrize(
    ("total", "free", "fit"),
    [
        (100e9, 50e9, True),
        (100e9, 4.9e9, False),  # fewer than 5 %
        (2e9, 0.4e9, False),  # fewer than 500 MB
        (10e9, 0.5e9, True),
    ],
)
def test_a_disk_is_fit_with_5_percent_and_500_megabytes_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, total: float, free: float, fit: bool
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(int(total), int(total - free), int(free)))
    reasons = health.disk_reasons(tmp_path)
    assert [reason.component for reason in reasons] == ([] if fit else ["disk"])


def test_a_missing_state_directory_is_a_reason(tmp_path: Path) -> None:
    (reason,) = health.disk_reasons(tmp_path / "absent")
    assert "BACPIPES_STATE_DIR" in reason.remedy
