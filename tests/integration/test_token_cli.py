"""`bacpipes token`, as a person or a script uses it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bacpipes.cli import main
from bacpipes.errors import ExitCode
from bacpipes.tokens import digest, new_secret
from exporter_parts import execute


@dataclass
class Done:
    """What a command left."""

    status: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def bacpipes(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Runs `bacpipes token …` on the test's database."""
    monkeypatch.setenv("BACPIPES_SITE_ID", "duxton")
    monkeypatch.setenv("BACPIPES_DATABASE_URL", database_url)

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["token", *arguments])
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capsys.readouterr())

    return run


def test_create_prints_the_token_alone_and_keeps_only_its_digest(bacpipes: Command, database_url: str) -> None:
    done = bacpipes("create", "grafana", "--role", "viewer", "--expires-days", "30")
    secret = done.stdout.strip()
    assert (done.status, done.stdout) == (0, f"{secret}\n")
    assert secret.startswith("bpt_")
    assert execute(database_url, "SELECT name, role, digest, expires_at > now() FROM api_token") == [
        ("grafana", "viewer", digest(secret), True)
    ]
    dump = execute(
        database_url, "SELECT row_to_json(t)::text FROM api_token t UNION ALL SELECT detail::text FROM audit"
    )
    assert not any(secret in text or secret.removeprefix("bpt_") in text for (text,) in dump)


def test_list_shows_states_and_no_secret(bacpipes: Command, database_url: str) -> None:
    secret = bacpipes("create", "a", "--role", "admin").stdout.strip()
    bacpipes("create", "b", "--role", "operator")
    bacpipes("revoke", "b")
    listed = bacpipes("list").stdout
    assert [line.split()[:3] for line in listed.splitlines()] == [["a", "admin", "valid"], ["b", "operator", "revoked"]]
    assert secret not in listed


def test_creating_and_revoking_are_audited(bacpipes: Command, database_url: str) -> None:
    bacpipes("create", "a", "--role", "admin")
    assert "is revoked" in bacpipes("revoke", "a").stdout
    assert "was revoked before" in bacpipes("revoke", "a").stdout
    rows = execute(database_url, "SELECT action, subject, actor LIKE 'cli:%', detail::text FROM audit ORDER BY id")
    assert [row[:3] for row in rows] == [("token.create", "a", True), ("token.revoke", "a", True)]
    assert json.loads(rows[0][3])["role"] == "admin"


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["create", "taken", "--role", "viewer"], ExitCode.REFUSED, "already"),
        (["create", "white space", "--role", "viewer"], ExitCode.REFUSED, "not a name"),
        (["create", "x", "--role", "root"], ExitCode.USAGE, "operator"),
        (["create", "x"], ExitCode.USAGE, "--role"),
        (["create", "x", "--role", "viewer", "--expires-days", "0"], ExitCode.USAGE, "expires-days"),
        (["revoke", "absent"], ExitCode.REFUSED, "no token named"),
    ],
)
def test_what_is_refused_changes_nothing(
    bacpipes: Command, database_url: str, arguments: list[str], status: ExitCode, words: str
) -> None:
    bacpipes("create", "taken", "--role", "viewer")
    before = execute(database_url, "SELECT name, revoked_at FROM api_token"), execute(database_url, "TABLE audit")
    done = bacpipes(*arguments)
    assert (done.status, done.stdout) == (status, "")
    assert words in done.stderr
    assert (execute(database_url, "SELECT name, revoked_at FROM api_token"), execute(database_url, "TABLE audit")) == (
        before
    )


def test_without_a_schema_it_says_what_to_do(
    bacpipes: Command, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACPIPES_DATABASE_URL", empty_database_url)
    done = bacpipes("list")
    assert done.status == ExitCode.UNAVAILABLE
    assert "bacpipes migrate" in done.stderr


def test_a_token_that_was_made_elsewhere_is_taken_and_never_printed(
    bacpipes: Command, database_url: str, tmp_path: Path
) -> None:
    found = "SELECT role, digest, revoked_at IS NULL FROM api_token"
    file, secret, other = tmp_path / "token", new_secret(), new_secret()

    def ensure(text: str, role: str = "viewer", name: str = "central") -> Done:
        file.write_text(f"{text}\n")
        done = bacpipes("ensure", name, "--role", role, "--token-file", str(file))
        assert text not in done.stdout + done.stderr
        return done

    assert [ensure(secret).stdout for _ in range(2)] == [
        "Token 'central', role viewer: made.\n",
        "Token 'central', role viewer: unchanged.\n",
    ]
    assert execute(database_url, found) == [("viewer", digest(secret), True)]
    assert "changed" in ensure(secret, "operator").stdout
    assert "changed" in ensure(other, "operator").stdout
    assert execute(database_url, found) == [("operator", digest(other), True)]
    assert ensure(other, name="another").status == ExitCode.REFUSED, "another's token"
    bacpipes("revoke", "central")
    assert ensure(other).status == ExitCode.REFUSED, "a revoked token stays revoked"
    assert "changed" in ensure(secret).stdout
    assert execute(database_url, found) == [("viewer", digest(secret), True)]
    assert ensure("bpt_tooshort").status == ExitCode.REFUSED
    actions = [row[0] for row in execute(database_url, "SELECT action FROM audit ORDER BY id")]
    assert actions == ["token.create", "token.change", "token.change", "token.revoke", "token.change"]
