"""Settings: each wrong one is named, and the page lists exactly those that exist."""

import re
from pathlib import Path

import pytest

from bacpipes.errors import SettingsError
from bacpipes.settings import PREFIX, Settings, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("BACPIPES_SITE_ID", "macau")
    monkeypatch.setenv("BACPIPES_DATABASE_URL", "postgresql://site:s3cret@db/bacpipes")
    return monkeypatch


def test_the_page_lists_exactly_the_variables_that_exist() -> None:
    listed = re.findall(r"^\| `(BACPIPES_\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(PREFIX + name.upper() for name in Settings.model_fields)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"BACPIPES_SITE_ID: Field required; BACPIPES_DATABASE_URL: Field required"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SITE_ID", "Macau!", "must be 1 to 63 of a-z"),
        ("SITE_ID", "bacnet", "'bacnet' is reserved"),
        ("TIME_ZONE", "Macau", "is not an IANA time zone"),
        ("RETENTION_DAYS", "0", "greater than or equal to 1"),
        ("WRITE_PRIORITY_FLOOR", "17", "less than or equal to 16"),
    ],
)
def test_what_is_wrong_is_named(environment: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    environment.setenv(f"BACPIPES_{name}", value)
    with pytest.raises(SettingsError, match=f"BACPIPES_{name}: .*{words}"):
        load_settings()


def test_a_misspelt_variable_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BACPIPES_RETENTION_DAY", "30")
    with pytest.raises(SettingsError, match="Unknown variable: BACPIPES_RETENTION_DAY"):
        load_settings()


def test_no_error_shows_the_password(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("BACPIPES_HTTP_PORT", "many")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)
    environment.setenv("BACPIPES_HTTP_PORT", "3001")
    assert "s3cret" not in repr(load_settings())
