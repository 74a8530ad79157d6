"""Logins of the page and what keeps strangers out, over HTTP against `bacpipes exporter`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest

from bacpipes import stored_settings, tokens, users
from bacpipes.database import connect
from bacpipes.embedded import EmbeddedPostgres
from bacpipes.exporter import point_store
from bacpipes.exporter.throttle import FIRST_WAIT, FREE, LONGEST_WAIT, Throttle
from bacpipes.mqtt import config as mqtt_config
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from bacpipes.writes import stop
from conftest import database_from, make_settings
from exporter_parts import Exporter, add_building, execute

PASSWORD = "correct horse battery"
ORIGIN = "http://stranger.example"


@pytest.fixture(scope="module")
def settings(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    for url in database_from(postgres, "migrated"):
        add_building(url)
        yield make_settings(url, tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def exporter(settings: Settings) -> Iterator[Exporter]:
    with Exporter(settings) as found:
        for name, role in (("vera", "viewer"), ("anna", "admin")):
            assert user(settings, "add", name, "--role", role, text=PASSWORD).returncode == 0
        yield found


def user(settings: Settings, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """`bacpipes user …`."""
    environment = {"BACPIPES_SITE_ID": settings.site_id, "PATH": "/usr/bin"}
    environment |= {"BACPIPES_DATABASE_URL": settings.database_url.get_secret_value()}
    command = [sys.executable, "-m", "bacpipes", "user", *arguments]
    return subprocess.run(command, env=environment, input=text, capture_output=True, text=True)


@contextmanager
def browser(exporter: Exporter, name: str = "") -> Iterator[httpx.Client]:
    """A client with the page's own Origin; logged in where there is a name."""
    with httpx.Client(base_url=exporter.url, headers={"Origin": exporter.url}, timeout=60) as client:
        if name:
            answer = client.post("/login", data={"name": name, "password": PASSWORD})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
        yield client


def test_the_cookie_is_for_the_browser_alone_and_the_database_can_not_log_in_with_its_copy(
    exporter: Exporter, settings: Settings
) -> None:
    with browser(exporter) as client:
        cookie = client.post("/login", data={"name": "Vera", "password": PASSWORD}).headers["set-cookie"]
    assert re.match(r"bacpipes_session=[\w-]{43}; HttpOnly; Max-Age=43200; Path=/; SameSite=strict", cookie)
    secret = cookie.split("=", 1)[1].split(";")[0]
    rows = execute(settings.database_url.get_secret_value(), "SELECT digest FROM app_session")
    assert rows
    assert all(secret.encode() not in bytes(row[0]) for row in rows)
    stored = execute(settings.database_url.get_secret_value(), "SELECT password FROM app_user")
    assert all(row[0].startswith("$argon2id$v=19$m=32768,t=3,p=1$") for row in stored)


@pytest.mark.parametrize("path", ["/", "/points", "/monitor", "/nowhere", "/settings"])
def test_pages_lead_to_the_login(exporter: Exporter, path: str) -> None:
    answer = httpx.get(exporter.url + path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")


def test_the_socket_is_closed_to_strangers(exporter: Exporter) -> None:
    path = "/_nicegui_ws/socket.io/?EIO=4&transport=polling&client_id=x"
    assert httpx.get(exporter.url + path).status_code == 401
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    socket = path.replace("polling", "websocket")
    assert httpx.get(exporter.url + socket, headers=upgrade | {"Origin": exporter.url}).status_code == 403
    with browser(exporter, "vera") as client:
        assert client.get(socket, headers=upgrade | {"Origin": ORIGIN}).status_code == 403


def test_the_same_roles_hold_for_logins_at_the_api(exporter: Exporter) -> None:
    command = {"deviceId": 1, "objectType": "analog-input", "objectInstance": 101, "value": 1}
    with browser(exporter, "vera") as client:
        assert client.get("/api/points").status_code == 200
        answer = client.post("/api/bacnet/write", json=command)
        assert (answer.status_code, answer.json()["role"]) == (403, "operator")
        assert client.post("/api/points/import", content=b"x").status_code == 403
    with browser(exporter, "anna") as client:
        assert client.post("/api/bacnet/write", json=command).json()["error"] == "Point not found"


def test_a_form_of_another_site_changes_nothing(exporter: Exporter, settings: Settings) -> None:
    command = {"deviceId": 12345, "objectType": "analog-value", "objectInstance": 120, "value": 1}
    url = settings.database_url.get_secret_value()
    with browser(exporter, "anna") as client:
        for headers in ({"Origin": ORIGIN}, {"Origin": "null"}):
            assert client.post("/api/bacnet/write", json=command, headers=headers).status_code == 403
            assert client.post("/logout", headers=headers).status_code == 403
            assert (
                client.post("/login", data={"name": "anna", "password": PASSWORD}, headers=headers).status_code == 403
            )
        del client.headers["Origin"]
        assert client.post("/api/bacnet/write", json=command).status_code == 403
    assert execute(url, "SELECT count(*) FROM write_commands") == [(0,)]


def test_logout_and_disabling_end_a_login_at_once(exporter: Exporter, settings: Settings) -> None:
    with browser(exporter, "vera") as client:
        secret = client.cookies["bacpipes_session"]
        assert client.post("/logout").headers["location"] == "/login"
        assert httpx.get(f"{exporter.url}/api/points", cookies={"bacpipes_session": secret}).status_code == 401
    assert user(settings, "add", "guest", "--role", "viewer", text=PASSWORD).returncode == 0
    with browser(exporter, "guest") as client:
        assert client.get("/api/points").status_code == 200
        assert user(settings, "disable", "guest").returncode == 0
        assert client.get("/api/points").status_code == 401
        assert client.get("/").headers["location"] == "/login"
        assert client.post("/login", data={"name": "guest", "password": PASSWORD}).status_code == 401


def test_a_login_ends_by_itself(exporter: Exporter, settings: Settings) -> None:
    with browser(exporter, "vera") as client:
        execute(settings.database_url.get_secret_value(), "UPDATE app_session SET expires_at = now()")
        assert client.get("/api/points").status_code == 401


def test_pages_carry_a_strict_policy(exporter: Exporter) -> None:
    with browser(exporter, "vera") as client:
        answer = client.get("/")
        policy = answer.headers["content-security-policy"]
        nonce = re.search(r"'nonce-([\w-]+)'", policy)
        assert nonce
        scripts = re.findall(r"<script[^>]*>", answer.text)
        assert scripts
        assert all(f'nonce="{nonce[1]}"' in script for script in scripts)
        assert nonce[1] not in client.get("/").text
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    for part in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
        assert part.startswith(("/", "data:")), f"{part} comes from elsewhere"
    login = httpx.get(f"{exporter.url}/login")
    assert "script-src" not in login.headers["content-security-policy"]  # none at all: default-src 'none'
    assert "<script" not in login.text


def test_the_last_admin_stays_and_the_first_token_is_refused(exporter: Exporter, settings: Settings) -> None:
    for arguments in (("disable", "anna"), ("role", "anna", "viewer")):
        refused = user(settings, *arguments)
        assert refused.returncode == 3
        assert "the last admin" in refused.stderr
    assert user(settings, "first").returncode == 3
    short = user(settings, "add", "new", "--role", "viewer", text="short")
    assert (short.returncode, "at least 12 characters" in short.stderr) == (3, True)


def test_a_playbook_makes_the_first_admin_once_and_never_resets_them(
    exporter: Exporter, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    wanted = ("ensure", "Chief", "--role", "admin", "--password-file", str(file))
    assert user(settings, *wanted).stdout == "changed: user 'chief', role admin, is made.\n"
    assert user(settings, "password", "chief", text="chosen by the chief").returncode == 0
    assert user(settings, "role", "chief", "operator").returncode == 0
    assert user(settings, *wanted).stdout == "unchanged: user 'chief' is there, role operator, not admin.\n"
    assert user(settings, "disable", "chief").returncode == 0
    assert user(settings, *wanted).stdout.startswith("unchanged:")
    assert user(settings, "enable", "chief").returncode == 0
    with browser(exporter) as client:
        assert client.post("/login", data={"name": "chief", "password": PASSWORD}).status_code == 401
        answer = client.post("/login", data={"name": "chief", "password": "chosen by the chief"})
        assert answer.status_code == 303
    for content, words in (("", "holds no password"), ("short\n", "at least 12 characters")):
        file.write_text(content)
        refused = user(settings, "ensure", "second", "--role", "admin", "--password-file", str(file))
        assert (refused.returncode, words in refused.stderr) == (3, True), refused.stderr
    assert "second" not in user(settings, "list").stdout


def test_what_people_did_stands_in_the_audit(exporter: Exporter, settings: Settings) -> None:
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        rows = connection.execute("SELECT DISTINCT action FROM audit").fetchall()
        texts = connection.execute("SELECT detail::text FROM audit").fetchall()
    assert {("user.add",), ("user.disable",), ("login",), ("logout",)} <= set(rows)
    assert not any(PASSWORD in text[0] for text in texts)


async def test_every_change_leaves_a_row_in_the_audit(exporter: Exporter, settings: Settings) -> None:
    url = settings.database_url.get_secret_value()
    (last,) = execute(url, "SELECT coalesce(max(id), 0) FROM audit")[0]
    async with await connect(settings, "test") as connection:
        actor = "page:anna"
        await users.add(connection, "audited", Role.VIEWER, PASSWORD, actor)
        await users.set_role(connection, "audited", Role.OPERATOR, actor)
        await users.set_password(connection, "audited", PASSWORD + "!", actor)
        await users.set_disabled(connection, "audited", actor, disabled=True)
        await users.set_disabled(connection, "audited", actor, disabled=False)
        secret = await tokens.create(connection, "program", Role.VIEWER, None, actor)
        await tokens.revoke(connection, "program", actor)
        await mqtt_config.save(connection, settings, {"username": "u", "password": "secret word"}, actor=actor)
        await stored_settings.save(connection, settings, {"session_hours": "9"}, seen={}, actor=actor)
        await stop.change(connection, stopped=True, actor=actor, reason="a test")
        await stop.change(connection, stopped=False, actor=actor, reason=None)
    opened = await point_store.opened(settings, [3])
    seen = {3: opened[3].updated_at}
    await point_store.change(settings, {3: {"dis": "Audited"}}, seen, actor, dry_run=False)
    rows = execute(url, "SELECT action, actor, detail::text FROM audit WHERE id > %s", [last])
    expected = {"user.add", "user.role", "user.password", "user.disable", "user.enable", "token.create", "token.revoke"}
    expected |= {"mqtt.set", "setting.change", "point.edit"}
    assert {row[0] for row in rows} >= expected
    assert {row[1] for row in rows} == {actor}
    assert not any(word in row[2] for row in rows for word in (PASSWORD, secret, "secret word"))
    stops = [row for row in rows if "stop" in row[0]]
    assert len(stops) == 2


def test_a_browser_may_fetch_what_a_page_needs_while_somebody_logs_in(exporter: Exporter) -> None:
    with browser(exporter, "vera") as client:
        assert client.get("/").status_code == 200
    found = re.findall(r'<link rel="prefetch" href="([^"]+)">', httpx.get(f"{exporter.url}/login").text)
    assert any("vue" in asset for asset in found)
    for asset in found:
        assert asset.startswith(("/_nicegui/", "/page/"))
        answer = httpx.get(exporter.url + asset)  # for everybody, and the same for everybody
        assert answer.status_code == 200, asset


def test_the_points_file_goes_out_and_in_again(exporter: Exporter, settings: Settings, tmp_path: Path) -> None:
    with browser(exporter, "anna") as client:
        client.post("/api/points/import", content=client.get("/api/points/export").text)  # addresses as we write them
        text = client.get("/api/points/export").text
        same = client.post("/api/points/import", content=text).json()
        assert same["applied"]
        assert same["counts"]["changed"] == 0
        changed = text.replace("HumiditySetpoint", "Humidity wanted")
        tried = client.post("/api/points/import?dryRun=true", content=changed).json()
        assert (tried["applied"], tried["counts"]["changed"]) == (False, 1)
        assert "    dis: HumiditySetpoint → Humidity wanted" in "\n".join(tried["report"])
        assert client.get("/api/points/export").text == text
        broken = client.post("/api/points/import", content=text.replace(",120,", ",minus,"))
        assert broken.status_code == 400
        assert "is not a whole number" in "\n".join(broken.json()["report"])
        assert client.post("/api/points/import", content=changed).json()["counts"]["changed"] == 1
        assert client.get("/api/points/export").text == changed


def test_failures_have_to_wait_longer_and_longer() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for _ in range(FREE - 1):
        throttle.failed(["name"])
    assert throttle.seconds_left(["name", "address"]) <= 0
    throttle.failed(["name"])
    assert throttle.seconds_left(["name"]) == FIRST_WAIT
    now[0] += FIRST_WAIT
    assert throttle.seconds_left(["name"]) <= 0
    throttle.failed(["name"])
    assert throttle.seconds_left(["name"]) == 2 * FIRST_WAIT
    for _ in range(20):
        throttle.failed(["name"])
    assert throttle.seconds_left(["name"]) == LONGEST_WAIT
    throttle.succeeded("name")
    assert throttle.seconds_left(["name"]) == 0
