"""What a person reads who got a setting wrong: one clear line and an exit status, never a traceback or a password."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from bacpipes.settings import Settings

COMMANDS = {
    "migrate": ["migrate"],
    "worker": ["worker"],
    "points": ["points", "export"],
    "write": ["write", "12345", "analog-value:120", "65", "--timeout", "1"],
    "mqtt": ["mqtt", "show"],
    "token": ["token", "list"],
}


def run(arguments: list[str], state: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"SITE_ID": "duxton", "STATE_DIR": str(state), "WORKER_HTTP_PORT": "0"} | environment
    return subprocess.run(
        [sys.executable, "-m", "bacpipes", *arguments],
        env={"PATH": "/usr/bin:/bin"} | {f"BACPIPES_{name}": value for name, value in variables.items()},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "url", ["mysql://u:hunter2@h/db", "postgresql://u:hunter%zz2@h/db", "postgresql://u:hun:ter2@x@h/d"]
)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
def test_a_malformed_url_is_told_without_its_password(tmp_path: Path, command: list[str], url: str) -> None:
    done = run(command, tmp_path, DATABASE_URL=url)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("bacpipes: BACPIPES_DATABASE_URL is not a PostgreSQL connection string.")
    assert "hunter" not in done.stderr
    assert "ter2" not in done.stderr


@pytest.mark.parametrize("command", [COMMANDS[name] for name in ("points", "write", "mqtt", "token", "worker")])
def test_a_newer_schema_is_told_and_nothing_is_done(settings: Settings, tmp_path: Path, command: list[str]) -> None:
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE bacpipes_schema SET version_num = '9999'")
        done = run(command, tmp_path, DATABASE_URL=url)
        assert done.returncode == 4, done.stderr
        assert "9999, newer than this version" in done.stderr
        assert connection.execute("TABLE write_commands").fetchall() == []


def test_a_state_directory_that_can_not_be_made_is_told(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run(["worker"], tmp_path / "file" / "state", DATABASE_URL=settings.database_url.get_secret_value())
    assert done.returncode == 4
    assert "The state directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_negative_and_wrong_values_of_a_write(settings: Settings, tmp_path: Path) -> None:
    url = settings.database_url.get_secret_value()
    negative = run(["write", "1", "analog-value:1", "-5"], tmp_path, DATABASE_URL=url)
    assert "Point not found: device=1, analog-value:1" in negative.stderr
    for value in ("active", "1_0", "nan", "warm"):
        wrong = run(["write", "1", "analog-value:1", value], tmp_path, DATABASE_URL=url)
        assert (wrong.returncode, "is not a number" in wrong.stderr) == (2, True), wrong.stderr


def test_a_survey_does_not_overwrite_somebodys_tags(tmp_path: Path) -> None:
    tagged = tmp_path / "points.csv"
    tagged.write_text("tagged by hand")
    done = run(["discover", "--interface", "127.0.0.1:47957", "--output", str(tagged)], tmp_path)
    assert (done.returncode, tagged.read_text()) == (3, "tagged by hand")
    assert "--force" in done.stderr
