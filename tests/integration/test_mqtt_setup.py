"""The row in the database, the command line, and the test of a connection."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.rows import dict_row

from bacpipes import database
from bacpipes.cli import cli
from bacpipes.embedded import free_port
from bacpipes.errors import BacpipesError, InputError
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.check import TestResult, test_connection
from bacpipes.mqtt.config import MqttConfig
from bacpipes.settings import Settings
from conftest import SITE, make_settings
from mqtt_parts import Mosquitto, scripted_broker, suback
from pki import DAY, Authority

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


async def save(settings: Settings, **changes: object) -> list[str]:
    async with await database.connect(settings, "test") as connection:
        return await mqtt_config.save(connection, settings, changes, actor="test")


async def load(settings: Settings) -> MqttConfig:
    async with await database.connect(settings, "test") as connection:
        return await mqtt_config.load(connection, settings)


def row(settings: Settings) -> dict[str, object]:
    with psycopg.connect(settings.database_url.get_secret_value(), row_factory=dict_row) as connection:
        found = connection.execute("SELECT * FROM mqtt_config").fetchone()
        assert found is not None
        return found


def audited(settings: Settings) -> list[tuple[str, str, dict[str, object]]]:
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        return connection.execute("SELECT actor, action, detail FROM audit ORDER BY id").fetchall()


# --- the row ---


async def test_a_fresh_database_holds_the_defaults(settings: Settings) -> None:
    assert await load(settings) == MqttConfig()


async def test_what_is_saved_is_loaded_and_the_secrets_are_sealed(settings: Settings, authority: Authority) -> None:
    pair = authority.client()
    changes = {
        "broker": "10.0.60.3",
        "enabled": True,
        "username": "worker",
        "password": PASSWORD,
        "tls_enabled": True,
        "ca_certificate": authority.certificate,
        "client_certificate": pair.certificate,
        "client_key": pair.key,
    }
    assert await save(settings, **changes) == sorted(changes)
    stored = str(row(settings))
    assert PASSWORD not in stored
    assert "PRIVATE KEY" not in stored
    assert pair.key.splitlines()[1] not in stored
    config = await load(settings)
    assert config.password is not None
    assert config.client_key is not None
    assert config.password.get_secret_value() == PASSWORD
    assert config.client_key.get_secret_value() == pair.key
    assert config.broker == "10.0.60.3"
    [(actor, action, detail)] = audited(settings)
    assert (actor, action) == ("test", "mqtt.set")
    assert detail == {"fields": sorted(changes)}


async def test_a_change_is_told_and_no_change_is_not(settings: Settings) -> None:
    async with await database.connect(settings, "listener") as listener:
        await listener.execute("LISTEN bacpipes")
        assert await save(settings, username="u", password=PASSWORD) == ["password", "username"]
        assert [each.payload async for each in listener.notifies(timeout=5, stop_after=1)] == ["mqtt_config"]
        before = row(settings)
        assert await save(settings, username="u", password=PASSWORD) == []
        assert row(settings) == before
    assert len(audited(settings)) == 1


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"broker": "b", "write_command_topic": "a/#"}, "write_command_topic"),
        ({"broker": "b", "port": 70000}, "port"),
        ({"broker": "b", "password": "x"}, "needs a username"),
        ({"broker": "b", "ca_certificate": "nonsense"}, "The CA certificate is not a PEM"),
    ],
)
async def test_a_refused_change_changes_nothing(settings: Settings, changes: dict[str, object], text: str) -> None:
    before = row(settings)
    with pytest.raises(InputError, match=text):
        await save(settings, **changes)
    assert row(settings) == before
    assert audited(settings) == []


async def test_an_empty_text_clears_what_is_optional(settings: Settings) -> None:
    await save(settings, username="u", password=PASSWORD)
    assert await save(settings, username="", password="") == ["password", "username"]
    assert (await load(settings)).username is None
    assert row(settings)["password"] is None


async def test_the_environment_has_the_last_word(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    await save(settings, broker="stored", username="u", password=PASSWORD)
    monkeypatch.setenv("BACPIPES_MQTT_BROKER", "override")
    monkeypatch.setenv("BACPIPES_MQTT_PASSWORD", "another")
    config = await load(settings)
    assert config.broker == "override"
    assert config.password is not None
    assert config.password.get_secret_value() == "another"
    assert config.username == "u"
    assert row(settings)["broker"] == "stored"


async def test_another_key_is_said_and_can_be_mended(settings: Settings, tmp_path: Path) -> None:
    await save(settings, username="u", password=PASSWORD)
    other = make_settings(settings.database_url.get_secret_value(), tmp_path / "other")
    with pytest.raises(BacpipesError, match="another key"):
        await load(other)
    assert await save(other, enabled=True) == ["enabled"]  # what is not about secrets still works
    with pytest.raises(BacpipesError, match="another key"):
        await load(other)
    assert await save(other, password=None) == ["password"]  # unreadable, and gone all the same
    assert row(other)["password"] is None
    assert await save(other, password="new") == ["password"]
    config = await load(other)
    assert config.password is not None
    assert config.password.get_secret_value() == "new"


async def test_expired_certificates_do_not_block_other_changes(settings: Settings, authority: Authority) -> None:
    pair = authority.client(begins=-2 * DAY, ends=-DAY)
    with psycopg.connect(settings.database_url.get_secret_value()) as connection:
        connection.execute("UPDATE mqtt_config SET tls_enabled = true, client_certificate = %s", (pair.certificate,))
    assert await save(settings, enabled=True) == ["enabled"]
    with pytest.raises(InputError, match="no client key"):
        await save(settings, ca_certificate=authority.certificate)


# --- the test of a connection ---


def outcome(result: TestResult) -> list[tuple[str, bool]]:
    return [(step.name, step.ok) for step in result.steps]


async def test_all_steps(tmp_path: Path, authority: Authority) -> None:
    ours = authority.client()
    with Mosquitto(
        tmp_path, users={"u": PASSWORD}, tls=authority.server("localhost"), client_ca=authority.certificate
    ) as broker:
        config = MqttConfig.model_validate(
            {
                "broker": "localhost",
                "tls_port": broker.port,
                "tls_enabled": True,
                "ca_certificate": authority.certificate,
                "client_certificate": ours.certificate,
                "client_key": ours.key,
                "username": "u",
                "password": PASSWORD,
            }
        )
        result = await test_connection(config)
    assert outcome(result) == [("Name", True), ("TCP", True), ("TLS", True), ("MQTT", True), ("Commands", True)]
    assert result.ok
    details = {step.name: step.detail for step in result.steps}
    assert "broker localhost, for localhost, issued by Test CA, valid until 20" in details["TLS"]
    assert PASSWORD not in str(result)


async def failing(config: MqttConfig, step: str) -> str:
    result = await test_connection(config)
    assert not result.ok
    assert result.failure is not None
    assert result.failure.name == step
    assert result.steps[-1] is result.failure
    return result.failure.detail


async def test_each_step_can_fail(tmp_path: Path, authority: Authority) -> None:
    assert "name can't be resolved" in await failing(MqttConfig(broker="broker.invalid"), "Name")
    assert "connection refused" in await failing(MqttConfig(broker="127.0.0.1", port=free_port()), "TCP")
    with Mosquitto(tmp_path, users={"u": PASSWORD}, tls=authority.server("broker.example")) as broker:
        config = MqttConfig(
            broker="127.0.0.1", tls_port=broker.port, tls_enabled=True, ca_certificate=authority.certificate
        )
        mismatch = await failing(config, "TLS")
        assert "host name mismatch" in mismatch
        assert "it shows: broker broker.example, for broker.example" in mismatch
        foreign = config.model_copy(update={"ca_certificate": Authority("Other").certificate})
        assert "issued by Test CA" in await failing(foreign, "TLS")
    with Mosquitto(tmp_path, tls=authority.server("localhost"), client_ca=authority.certificate) as broker:
        config = MqttConfig(
            broker="localhost", tls_port=broker.port, tls_enabled=True, ca_certificate=authority.certificate
        )
        assert "requires a client certificate" in await failing(config, "MQTT")
    with Mosquitto(tmp_path, users={"u": PASSWORD}) as broker:
        assert "wants a username" in await failing(MqttConfig(broker="127.0.0.1", port=broker.port), "MQTT")

    def script(kind: int, body: bytes) -> bytes:
        return {1: bytes.fromhex("20020000"), 8: suback(body, 0x80)}.get(kind, b"")

    async with scripted_broker(script) as port:
        config = MqttConfig(broker="127.0.0.1", port=port, protocol="3.1.1")
        assert "may not subscribe to bacnet/write/command" in await failing(config, "Commands")


# --- the command line ---


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("BACPIPES_SITE_ID", SITE)
    monkeypatch.setenv("BACPIPES_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("BACPIPES_STATE_DIR", str(settings.state_dir))

    def call(*arguments: str, input_: str | None = None) -> Result:
        return CliRunner().invoke(cli, ["mqtt", *arguments], input=input_, standalone_mode=False)

    return call


def test_set_and_show(
    run: Callable[..., Result],
    settings: Settings,
    tmp_path: Path,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, key = authority.client().write(tmp_path, "client")
    ca, password = tmp_path / "ca.crt", tmp_path / "password"
    ca.write_text(authority.certificate)
    password.write_text(f"{PASSWORD}\n")
    result = run(
        *("set", "--broker", "10.0.60.3", "--username", "worker", "--password-file", str(password), "--tls"),
        *("--ca", str(ca), "--client-certificate", str(certificate), "--client-key", str(key), "--enable"),
    )
    assert result.exception is None, result.output
    assert "Changed: broker, ca_certificate, client_certificate, client_key, enabled, password" in result.output
    monkeypatch.setenv("BACPIPES_MQTT_PORT", "1999")
    shown = run("show")
    assert shown.exception is None
    assert PASSWORD not in shown.output
    assert "PRIVATE" not in shown.output
    assert "(set, not shown)" in shown.output
    assert "1999   (from BACPIPES_MQTT_PORT)" in shown.output
    assert "10.0.60.3:8883, with TLS" in shown.output
    assert "appliance, issued by Test CA" in shown.output
    assert audited(settings)[0][0].startswith("cli:")
    cleared = run("set", "--clear-client-certificate", "--clear-client-key", "--no-tls", "--port", "1884")
    assert "Changed: client_certificate, client_key, port, tls_enabled." in cleared.output
    assert "BACPIPES_MQTT_PORT is set in the environment" in cleared.output
    assert "crosses the network unencrypted" in cleared.output


def test_the_password_can_be_typed(run: Callable[..., Result], settings: Settings) -> None:
    result = run("set", "--username", "u", "--password-prompt", input_=f"{PASSWORD}\n")
    assert result.exception is None
    assert PASSWORD not in result.output
    config = asyncio.run(load(settings))
    assert config.password is not None
    assert config.password.get_secret_value() == PASSWORD


def test_the_password_is_never_an_argument(run: Callable[..., Result]) -> None:
    result = run("set", "--password", "x")
    assert "No such option" in str(result.exception) or "ambiguous" in str(result.exception).lower()


def test_a_wrong_environment_is_refused_before_anything_changes(
    run: Callable[..., Result], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = row(settings)
    monkeypatch.setenv("BACPIPES_MQTT_BROKRE", "x")
    assert "Unknown variable: BACPIPES_MQTT_BROKRE" in str(run("set", "--broker", "b").exception)
    assert row(settings) == before


def test_usage_errors(run: Callable[..., Result], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert "Nothing to set" in str(run("set").exception)
    assert "contradicts" in str(run("set", "--username", "u", "--clear-username").exception)
    assert "is empty" in str(run("set", "--password-file", str(empty)).exception)
    assert "write_result_topic" in str(run("set", "--write-result-topic", "a/+").exception)


def test_cli_test(run: Callable[..., Result], tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path) as broker:
        run("set", "--broker", "127.0.0.1", "--port", str(broker.port))
        good = run("test")
        assert good.return_value == 0
        assert "MQTT is disabled" in good.output
        assert good.output.count("ok    ") == 4
    bad = run("test")
    assert bad.return_value == 4
    assert "FAILED TCP" in bad.output
    assert "connection refused" in bad.output
    assert "Is the broker running" in bad.output
