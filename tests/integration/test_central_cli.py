"""`bacpipes central …` and `bacpipes reconcile`, as an operator calls them."""

import asyncio
import re
from pathlib import Path
from unittest.mock import patch

import psycopg
import pytest
from test_central_ship import commit

from bacpipes.cli import main
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.errors import ExitCode
from bacpipes.settings import Settings
from bacpipes.tokens import digest, new_secret
from central_parts import site_url
from engines import add_point
from exporter_parts import execute


def run(*arguments: str) -> int:
    # Its logging is left as it is: structlog's configuration is the process's, and so all other tests'.
    with patch("bacpipes.log.configure"), pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture
def at_central(central_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BACPIPES_DATABASE_URL", central_url)
    return central_url


def test_an_empty_database_becomes_centrals(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACPIPES_DATABASE_URL", empty_database_url)
    assert run("central", "site", "list") == ExitCode.UNAVAILABLE
    assert "Run `bacpipes central migrate`." in capsys.readouterr().err
    for _ in range(2):
        assert run("central", "migrate") == ExitCode.OK
        assert "schema central_0002; history: plain" in capsys.readouterr().out
    monkeypatch.setenv("BACPIPES_SITE_ID", "duxton")
    assert run("migrate") != ExitCode.OK, "it is no site's"


def test_a_sites_database_is_not_taken_for_centrals(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BACPIPES_DATABASE_URL", database_url)
    assert run("central", "migrate") == ExitCode.UNAVAILABLE
    assert "The database is a site's" in capsys.readouterr().err


def test_sites_come_and_go(at_central: str, postgres: EmbeddedPostgres, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert run("central", "site", "add", "macau-1", "--name", "Macau", "--lane", "replication") == ExitCode.OK
        assert capsys.readouterr().out == "Site macau-1: changed; its role: made.\n"
        assert run("central", "site", "add", "macau-1") == ExitCode.OK
        assert capsys.readouterr().out == "Site macau-1: nothing to change; its role: there.\n"
        with psycopg.connect(site_url(at_central, "macau-1")) as own:
            assert own.execute("SELECT id, name, complete_lane FROM site").fetchall() == [
                ("macau-1", "Macau", "replication")
            ]
        assert run("central", "site", "list") == ExitCode.OK
        assert re.search(r"^macau-1 +replication +missing +- +0", capsys.readouterr().out, re.MULTILINE)
    finally:
        assert run("central", "site", "remove", "macau-1") == ExitCode.OK
    assert execute(at_central, "SELECT rolname FROM pg_roles WHERE rolname = 'site_macau-1'") == []
    assert execute(at_central, "SELECT count(*) FROM site WHERE id = 'macau-1'") == [(1,)]
    for name in ("bacnet", "Macau", "x" * 59):
        assert run("central", "site", "add", name) == ExitCode.REFUSED


def test_a_token_of_centrals(at_central: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("central", "token", "create", "dashboard", "--role", "viewer") == ExitCode.OK
    assert capsys.readouterr().out.startswith("bpt_")
    assert execute(at_central, "SELECT name, role FROM api_token") == [("dashboard", "viewer")]


def test_the_comparison_says_by_its_status_what_it_found(
    settings: Settings, central_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = settings.database_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        add_point(connection)
    monkeypatch.setenv("BACPIPES_SITE_ID", "duxton")
    monkeypatch.setenv("BACPIPES_DATABASE_URL", url)
    assert run("reconcile") == ExitCode.USAGE
    monkeypatch.setenv("BACPIPES_CENTRAL_DATABASE_URL", site_url(central_url, "duxton"))
    asyncio.run(commit(settings, 1.0, 2.0, 3.0, age=1000))
    assert run("reconcile", "--check") == ExitCode.FAILED
    assert re.search(r"site +3  central +0  differs", capsys.readouterr().out)
    assert run("reconcile") == ExitCode.OK
    out = capsys.readouterr().out
    assert re.search(r"site +3  central +0 now +3  repaired", out)
    assert "1 hours differed, 3 readings sent, 0 differ still" in out
    execute(central_url, "UPDATE reading SET value = 9 WHERE value = 2")
    assert run("reconcile") == ExitCode.FAILED
    assert "differs still" in capsys.readouterr().out


def test_provisioning_gives_central_a_token(
    at_central: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(secret := new_secret())
    for done in ("made", "unchanged"):
        arguments = ("operations", "--role", "operator", "--token-file", str(tmp_path / "token"))
        assert run("central", "token", "ensure", *arguments) == ExitCode.OK
        assert capsys.readouterr().out == f"Token 'operations', role operator: {done}.\n"
    assert execute(at_central, "SELECT role, digest FROM api_token") == [("operator", digest(secret))]


def test_subscriptions_of_all_sites(at_central: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everyone = ("central", "subscribe", "--all")
    assert run("central", "subscribe") == ExitCode.USAGE
    assert run("central", "subscribe", "duxton", "--all", str(tmp_path)) == ExitCode.USAGE
    assert run(*everyone, str(tmp_path / "none")) == ExitCode.REFUSED
    assert run(*everyone, str(tmp_path)) == ExitCode.OK, "no site's lane is replication"
    execute(at_central, "UPDATE site SET complete_lane = 'replication'")
    capsys.readouterr()
    assert run(*everyone, str(tmp_path)) == ExitCode.FAILED
    assert "duxton can't be read: No such file" in capsys.readouterr().out
    (tmp_path / "duxton").write_text("host=central.example dbname=x password=geheim")
    assert run(*everyone, str(tmp_path)) == ExitCode.FAILED
    said = capsys.readouterr().out
    assert "Site duxton: failed: the address of site duxton asks for sslmode=prefer" in said
    assert "geheim" not in said


def test_a_contradiction_of_the_audit_is_told_until_it_is_accepted(
    at_central: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("central", "site", "audit", "nowhere") == ExitCode.REFUSED
    assert run("central", "site", "audit", "duxton", "--accept", "why not") == ExitCode.OK
    assert "nothing contradicts" in capsys.readouterr().out
    head = "INSERT INTO site_audit (site_id, id, hash) VALUES ('duxton', %s, %s)"
    execute(at_central, head, [9, b"a"])
    execute(at_central, head, [9, b"b"])
    for _ in range(2):
        assert run("central", "site", "audit", "duxton") == ExitCode.FAILED
        assert "head 9:62  record 9 has another hash than before" in capsys.readouterr().out
    assert run("central", "site", "audit", "duxton", "--accept", "a restored backup") == ExitCode.OK
    assert run("central", "site", "audit", "duxton") == ExitCode.OK
