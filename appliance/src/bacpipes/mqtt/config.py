"""How to reach broker A: one row of the database, over which the environment has the last word.

Every variable is `BACPIPES_MQTT_` and the field's name in upper case; a secret may be a file in `/run/secrets`, as for
the settings. An empty variable counts as not set. The three certificate fields hold a PEM text or a file's path.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bacpipes.database import Connection, query
from bacpipes.errors import BacpipesError, InputError, SettingsError
from bacpipes.mqtt import certificates
from bacpipes.mqtt.certificates import Identity
from bacpipes.secret_box import SecretBox, secret_box
from bacpipes.settings import SECRETS_DIRECTORY, Settings

PREFIX = "BACPIPES_MQTT_"
SECRETS = ("password", "client_key")  # encrypted in the database
PEM_FIELDS = ("ca_certificate", "client_certificate", "client_key")
TLS_FIELDS = frozenset({"tls_enabled", *PEM_FIELDS})
OPTIONAL = frozenset({"username", "password", *PEM_FIELDS})  # can be cleared
NAME = re.compile(r"[^\s/:@\[\]]+")  # of a host; an IPv4 address too

Protocol = Literal["5", "3.1.1"]


class MqttConfig(BaseModel):
    """The connection to broker A. Secrets are never shown by `repr`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: str = "localhost"
    port: int = Field(1883, ge=1, le=65535)
    client_id: str = Field("bacpipes_worker", min_length=1, max_length=256)
    enabled: bool = False
    username: str | None = None
    password: SecretStr | None = None
    tls_enabled: bool = False
    tls_port: int = Field(8883, ge=1, le=65535)
    ca_certificate: str | None = Field(None, repr=False)
    client_certificate: str | None = Field(None, repr=False)
    client_key: SecretStr | None = None
    protocol: Protocol = "5"
    write_command_topic: str = "bacnet/write/command"
    write_result_topic: str = "bacnet/write/result"

    @field_validator("broker")
    @classmethod
    def _broker_is_a_host(cls, value: str) -> str:
        if not (NAME.fullmatch(value) or _is_ipv6(value)):
            raise ValueError("must be a host name or an address alone, without scheme, user or port")
        return value

    @field_validator("write_command_topic", "write_result_topic")
    @classmethod
    def _topic_is_plain(cls, value: str) -> str:
        if not value or len(value.encode()) > 65535 or any(c in "+#" or ord(c) < 32 for c in value):
            raise ValueError("must be a topic without wildcards (+, #) and control characters")
        if value.startswith("$"):
            raise ValueError("must not begin with $, which is the broker's own")
        return value

    @field_validator("client_id", "username")
    @classmethod
    def _no_control_characters(cls, value: str | None) -> str | None:
        if value is not None and any(ord(c) < 32 for c in value):
            raise ValueError("must not contain control characters")
        return value

    @model_validator(mode="after")
    def _fields_agree(self) -> "MqttConfig":
        if self.write_command_topic == self.write_result_topic:
            raise ValueError("write_command_topic and write_result_topic must differ, or results come back as commands")
        if self.password is not None and not self.username:
            raise ValueError("a password needs a username")
        return self

    @property
    def effective_port(self) -> int:
        """The port that is dialled: `tls_port` with TLS, else `port`."""
        return self.tls_port if self.tls_enabled else self.port

    @property
    def address(self) -> str:
        """``broker:port``, as it is shown."""
        host = f"[{self.broker}]" if ":" in self.broker else self.broker
        return f"{host}:{self.effective_port}"

    @property
    def identity(self) -> Identity:
        """The certificates and the key."""
        key = self.client_key.get_secret_value() if self.client_key else None
        return Identity(self.ca_certificate, self.client_certificate, key)

    def remarks(self) -> list[str]:
        """What works, but a careful person would want to know."""
        if not self.tls_enabled:
            return ["the password crosses the network unencrypted: enable TLS"] if self.password else []
        if self.ca_certificate is None:
            return ["no CA certificate is set: any CA that this system trusts may vouch for the broker"]
        return []


class _Environment(BaseSettings):
    """The same fields, all optional, from the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, env_ignore_empty=True)

    broker: str | None = None
    port: int | None = None
    client_id: str | None = None
    enabled: bool | None = None
    username: str | None = None
    password: SecretStr | None = None
    tls_enabled: bool | None = None
    tls_port: int | None = None
    ca_certificate: str | None = None
    client_certificate: str | None = None
    client_key: SecretStr | None = None
    protocol: Protocol | None = None
    write_command_topic: str | None = None
    write_result_topic: str | None = None


def environment() -> dict[str, object]:
    """The fields that the environment sets; `SettingsError` where a variable is unknown, wrong, or names no file."""
    _refuse_unknown_variables()
    secrets: dict[str, Any] = {"_secrets_dir": SECRETS_DIRECTORY} if SECRETS_DIRECTORY.is_dir() else {}
    try:
        found = _Environment(**secrets)
    except ValidationError as error:
        raise SettingsError(f"Settings: {_problems(error, PREFIX)}.", "docs/mqtt.md lists all.") from None
    values = {name: getattr(found, name) for name in _Environment.model_fields}
    return {name: _from_file(name, value) for name, value in values.items() if value is not None}


async def load(connection: Connection, settings: Settings) -> MqttConfig:
    """The configuration in force: the database's row with the environment's overrides."""
    overrides = environment()
    row = await _row(connection, "mqtt_load")
    for name in SECRETS:  # the key is asked for only where it is needed: an exporter at a site has none
        sealed = row[name]
        row[name] = overrides.get(name) or (secret_box(settings).open(sealed) if sealed is not None else None)
    return _config(row | overrides)


async def save(connection: Connection, settings: Settings, changes: Mapping[str, object], *, actor: str) -> list[str]:
    """Change the stored row; return the names of the fields that changed.

    Everything is validated first: an `InputError` means that nothing was changed. The change is audited (names only),
    and a worker that listens applies it. Values are plain; the secrets among them are encrypted here.
    """
    box = secret_box(settings)
    async with connection.transaction():
        row = await _row(connection, "mqtt_lock")
        plain = row | {name: _opened(box, row[name]) for name in SECRETS}
        config = check(plain | _plain(changes), certificates_too=bool(TLS_FIELDS & changes.keys()))
        wanted = {name: _reveal(getattr(config, name)) for name in changes}
        changed = sorted(
            name for name, value in wanted.items() if value != plain[name] or _unreadable(row, plain, name)
        )
        if changed:
            sealed = {name: _sealed(box, name, wanted[name]) for name in changed}
            await connection.execute(query("mqtt_save"), row | sealed)
            await connection.execute(query("mqtt_audit"), {"actor": actor, "detail": Jsonb({"fields": changed})})
    return changed


def check(values: Mapping[str, object], *, certificates_too: bool = True) -> MqttConfig:
    """Make a configuration, or raise an `InputError` that says which value is wrong and why."""
    config = _config(values)
    if certificates_too:
        certificates.check(config.identity)
    return config


def read_pem(value: str) -> str:
    """A PEM text as it is, else the content of the file of that name."""
    return value if certificates.MARK in value else read_text(Path(value))


def read_text(path: Path) -> str:
    """A file's text, or an `InputError` that says why not."""
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise InputError(f"The file {path} can't be read: {reason}.") from None


def _from_file(name: str, value: object) -> object:
    if name not in PEM_FIELDS:
        return value
    try:
        return read_pem(str(_reveal(value)))
    except InputError as error:
        if name == "client_key":  # what is no path may be a key that lost its first line: never show it
            raise SettingsError(f"{PREFIX}CLIENT_KEY: neither a PEM text nor a readable file.") from None
        raise SettingsError(f"{PREFIX}{name.upper()}: {error}") from None


async def _row(connection: Connection, name: str) -> dict[str, Any]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        row = await (await cursor.execute(query(name))).fetchone()
    if row is None:
        raise BacpipesError("The table mqtt_config is empty.", "Run bacpipes migrate, or restore its one row.")
    return row


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _config(values: Mapping[str, object]) -> MqttConfig:
    try:
        return MqttConfig.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(f"MQTT configuration: {_problems(error)}.") from None


def _problems(error: ValidationError, prefix: str = "") -> str:
    texts = []
    for problem in error.errors(include_input=False, include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        label = f"{prefix}{name.upper()}" if prefix else name
        texts.append(f"{label}: {problem['msg']}".removeprefix(": ").replace("Value error, ", ""))
    return "; ".join(texts)


def _plain(changes: Mapping[str, object]) -> dict[str, object]:
    """An empty text clears what can be cleared: forms and scripts send it for None."""
    return {name: None if name in OPTIONAL and _reveal(value) == "" else value for name, value in changes.items()}


def _opened(box: SecretBox, sealed: str | None) -> str | None:
    """None too where another key sealed it, so that it can be replaced, and everything else changed meanwhile."""
    try:
        return box.open(sealed) if sealed is not None else None
    except BacpipesError:
        return None


def _unreadable(row: Mapping[str, object], plain: Mapping[str, object], name: str) -> bool:
    return name in SECRETS and row[name] is not None and plain[name] is None


def _sealed(box: SecretBox, name: str, value: object) -> object:
    return box.seal(str(value)) if name in SECRETS and value is not None else value


def _reveal(value: object) -> object:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _refuse_unknown_variables() -> None:
    known = {PREFIX + name.upper() for name in MqttConfig.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"Unknown variable: {', '.join(unknown)}.", "Is it misspelt? docs/mqtt.md lists all.")
