"""The MQTT configuration: what is refused and why, what the environment overrides, what is never shown."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from bacpipes.errors import InputError, SettingsError
from bacpipes.mqtt import config as mqtt_config
from bacpipes.mqtt.certificates import Identity, describe, parse, tls_context
from bacpipes.mqtt.certificates import check as check_certificates
from bacpipes.mqtt.config import MqttConfig, check, environment
from bacpipes.settings import load_settings
from pki import DAY, Authority, private_pem


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(autouse=True)
def no_secret_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mqtt_config, "SECRETS_DIRECTORY", tmp_path / "secrets")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"broker": ""}, "broker: must be a host name"),
        ({"broker": "mqtt://10.0.60.3"}, "broker: must be a host name"),
        ({"broker": "10.0.60.3:1883"}, "broker: must be a host name"),
        ({"broker": "[::1]"}, "broker: must be a host name"),
        ({"broker": "two words"}, "broker: must be a host name"),
        ({"port": 0}, "port: "),
        ({"tls_port": 65536}, "tls_port: "),
        ({"client_id": ""}, "client_id: "),
        ({"client_id": "a\nb"}, "client_id: must not contain control characters"),
        ({"protocol": "4"}, "protocol: "),
        ({"write_command_topic": "bacnet/+/command"}, "write_command_topic: must be a topic without wildcards"),
        ({"write_command_topic": "bacnet/#"}, "write_command_topic: must be a topic without wildcards"),
        ({"write_result_topic": ""}, "write_result_topic: must be a topic without wildcards"),
        ({"write_result_topic": "$SYS/x"}, "write_result_topic: must not begin with $"),
        ({"write_result_topic": "bacnet/write/command"}, "must differ"),
        ({"password": "secret-word"}, "a password needs a username"),
        ({"brokre": "x"}, "brokre: "),
    ],
)
def test_wrong_values_are_refused_with_their_name(values: dict[str, object], text: str) -> None:
    with pytest.raises(InputError) as caught:
        check(values)
    assert text in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize("broker", ["10.0.60.3", "mqtt.example.com", "broker", "fd00::1", "::1"])
def test_hosts_that_are_accepted(broker: str) -> None:
    assert check({"broker": broker}).broker == broker


def test_address_and_port_follow_tls() -> None:
    plain = MqttConfig(broker="10.0.60.3")
    assert plain.address == "10.0.60.3:1883"
    assert plain.model_copy(update={"tls_enabled": True}).address == "10.0.60.3:8883"
    assert MqttConfig(broker="fd00::1").address == "[fd00::1]:1883"


def test_repr_shows_no_secret(authority: Authority) -> None:
    pair = authority.client()
    config = MqttConfig(
        username="u",
        password=SecretStr("hunter2"),
        client_certificate=pair.certificate,
        client_key=SecretStr(pair.key),
        ca_certificate=authority.certificate,
    )
    for text in (repr(config), str(config), f"{config!r}", repr(config.model_dump())):
        assert "hunter2" not in text
        assert "PRIVATE KEY" not in text
    assert "CERTIFICATE" not in repr(config)


def test_remarks() -> None:
    assert MqttConfig().remarks() == []
    assert "unencrypted" in MqttConfig(username="u", password=SecretStr("p")).remarks()[0]
    assert "any CA" in MqttConfig(tls_enabled=True).remarks()[0]


# --- the environment ---


def test_without_variables_nothing_is_overridden() -> None:
    assert environment() == {}


def test_every_field_can_be_overridden(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    pair = authority.client()
    values: dict[str, Any] = {
        "broker": "b.example",
        "port": "1884",
        "client_id": "me",
        "enabled": "true",
        "username": "u",
        "password": "p",
        "tls_enabled": "1",
        "tls_port": "8884",
        "ca_certificate": authority.certificate,
        "client_certificate": pair.certificate,
        "client_key": pair.key,
        "protocol": "3.1.1",
        "write_command_topic": "c",
        "write_result_topic": "r",
    }
    assert values.keys() == MqttConfig.model_fields.keys()
    for name, value in values.items():
        monkeypatch.setenv(f"BACPIPES_MQTT_{name.upper()}", value)
    config = check(environment())
    expected = values | {"port": 1884, "enabled": True, "tls_enabled": True, "tls_port": 8884}
    shown = config.model_dump() | {"password": config.password.get_secret_value() if config.password else None}
    shown["client_key"] = config.client_key.get_secret_value() if config.client_key else None
    assert shown == expected


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACPIPES_MQTT_USERNAME", "")
    assert environment() == {}


def test_an_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACPIPES_MQTT_HOST", "x")
    with pytest.raises(SettingsError, match="Unknown variable: BACPIPES_MQTT_HOST"):
        environment()


def test_a_wrong_variable_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACPIPES_MQTT_PORT", "none")
    with pytest.raises(SettingsError, match="BACPIPES_MQTT_PORT: "):
        environment()


def test_the_settings_leave_these_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACPIPES_MQTT_BROKER", "x")
    monkeypatch.setenv("BACPIPES_SITE_ID", "duxton")
    monkeypatch.setenv("BACPIPES_DATABASE_URL", "postgresql://")
    assert load_settings().site_id == "duxton"


def test_certificates_may_be_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: Authority) -> None:
    path = tmp_path / "ca.crt"
    path.write_text(authority.certificate)
    monkeypatch.setenv("BACPIPES_MQTT_CA_CERTIFICATE", str(path))
    assert environment() == {"ca_certificate": authority.certificate}
    path.unlink()
    with pytest.raises(SettingsError, match=r"BACPIPES_MQTT_CA_CERTIFICATE: .*No such file"):
        environment()


def test_a_key_that_is_neither_pem_nor_path_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACPIPES_MQTT_CLIENT_KEY", "MIGHAgEAMBMGByqGSM49")
    with pytest.raises(SettingsError, match="CLIENT_KEY: neither") as caught:
        environment()
    assert "MIGH" not in str(caught.value)


def test_secret_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    directory = tmp_path / "secrets"
    directory.mkdir()
    (directory / "bacpipes_mqtt_password").write_text("from a file\n")
    assert environment() == {"password": SecretStr("from a file")}
    monkeypatch.setenv("BACPIPES_MQTT_PASSWORD", "from the environment")
    assert environment() == {"password": SecretStr("from the environment")}


# --- certificates ---


def refused(text: str, **texts: str | None) -> None:
    with pytest.raises(InputError, match=text) as caught:
        check_certificates(Identity(**texts))
    key = texts.get("client_key") or ""
    assert not any(line in str(caught.value) for line in key.splitlines()[1:-1])


def test_good_certificates_pass_without_remarks(authority: Authority) -> None:
    pair = authority.client()
    assert check_certificates(Identity(authority.certificate, pair.certificate, pair.key)) == []
    assert check_certificates(Identity()) == []


def test_what_is_no_certificate(authority: Authority) -> None:
    broken = authority.certificate.replace("M", "!", 5)
    refused("The CA certificate is not a PEM text", ca_certificate="ca.crt")
    refused("The CA certificate can't be read", ca_certificate=broken)
    refused("The CA certificate holds a private key", ca_certificate=authority.client().key)
    pair = authority.client()
    refused("The client certificate is not a PEM", client_certificate="x", client_key=pair.key)
    refused("The client key is not a PEM", client_certificate=pair.certificate, client_key="x")
    refused(
        "The client key can't be read", client_certificate=pair.certificate, client_key=pair.key.replace("M", "!", 5)
    )


def test_halves(authority: Authority) -> None:
    pair = authority.client()
    refused("but no client key", client_certificate=pair.certificate)
    refused("but no client certificate", client_key=pair.key)


def test_a_key_of_another_certificate(authority: Authority) -> None:
    pair, other = authority.client(), authority.client()
    refused("does not belong", client_certificate=pair.certificate, client_key=other.key)


def test_a_key_with_a_passphrase(authority: Authority) -> None:
    key = private_pem(ec.generate_private_key(ec.SECP256R1()), "passphrase")
    refused("protected by a passphrase", client_certificate=authority.client().certificate, client_key=key)


def test_dates(authority: Authority) -> None:
    expired = authority.client("old", begins=-2 * DAY, ends=-DAY)
    refused(
        r"The client certificate \(old\) expired on", client_certificate=expired.certificate, client_key=expired.key
    )
    early = authority.client("new", begins=DAY, ends=2 * DAY)
    refused(
        r"The client certificate \(new\) is valid only from", client_certificate=early.certificate, client_key=early.key
    )
    old_ca = authority.server("x", begins=-2 * DAY, ends=-DAY).certificate
    refused("The CA certificate .* expired on", ca_certificate=authority.certificate + old_ca)


def test_a_brokers_certificate_is_not_a_clients(authority: Authority) -> None:
    pair = authority.server("broker.example")
    refused("is not made for clients", client_certificate=pair.certificate, client_key=pair.key)


def test_a_ca_of_the_same_name_that_did_not_sign(authority: Authority) -> None:
    pair = Authority("Test CA").client()  # the name is the same, the key is not
    refused(
        "was not signed by the CA certificate",
        ca_certificate=authority.certificate,
        client_certificate=pair.certificate,
        client_key=pair.key,
    )


def test_an_issuer_that_is_not_at_hand_is_a_remark(authority: Authority) -> None:
    pair = Authority("Clients' CA").client("us")
    remarks = check_certificates(Identity(authority.certificate, pair.certificate, pair.key))
    assert remarks == ["the signature on us was not verified: its issuer Clients' CA is not in the CA certificate"]


def test_describe(authority: Authority) -> None:
    info = describe(parse(authority.server("broker.example", "10.0.0.1").certificate, "it")[0])
    assert (info.subject, info.issuer, info.names) == (
        "broker broker.example",
        "Test CA",
        ("broker.example", "10.0.0.1"),
    )
    assert info.days_left in (29, 30)


def test_the_context_leaves_no_descriptor_behind(authority: Authority) -> None:
    pair = authority.client()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        tls_context(Identity(authority.certificate, pair.certificate, pair.key))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_disabling_needs_no_valid_certificates(authority: Authority) -> None:
    expired = authority.client("old", begins=-2 * DAY, ends=-DAY)
    values = {"client_certificate": expired.certificate, "client_key": expired.key}
    assert not check(values | {"enabled": False}, certificates_too=False).enabled
    with pytest.raises(InputError, match="expired"):
        check(values)
