"""One `Settings` object, read once at start from the environment and from secret files.

Every variable is `BACPIPES_` and the field's name in upper case. A secret may instead be a file of that name (lower
case, with the prefix) in `/run/secrets`, as Docker mounts them.
"""

import os
import re
import zlib
import zoneinfo
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bacpipes.errors import SettingsError

PREFIX = "BACPIPES_"
OTHERS = ("BACPIPES_MQTT_", "BACPIPES_TEST_")  # read, and checked, by mqtt_config and by the tests
SECRETS_DIRECTORY = Path("/run/secrets")
SITE_ID = re.compile(r"[a-z0-9_-]{1,63}")
RESERVED_SITE_IDS = frozenset({"bacnet"})


class Settings(BaseSettings):
    """Everything that the appliance's processes read at start. Times are seconds unless a name says otherwise."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    site_id: str = Field(description="this site's slug; first segment of every topic and haystack name")
    time_zone: str = Field("UTC", description="IANA zone of the site, for what people see and for bare dates")
    database_url: SecretStr = Field(description="libpq connection string or URI of the site's PostgreSQL")
    state_dir: Path = Field(Path("/var/lib/bacpipes"), description="spool, and the key of encrypted secrets")
    log_format: Literal["console", "json"] = Field("json", description="how log lines look: `json` or `console`")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")

    # BACnet/IP
    bacnet_address: str = Field("0.0.0.0:47808", description="address/prefix:port of our BACnet/IP interface")
    bacnet_device_id: int = Field(4194000, ge=0, le=4194302, description="our own device instance")
    bacnet_bbmd: str = Field("", description="`ip[:port]` of a BBMD where we register as a foreign device")
    bacnet_bbmd_ttl: int = Field(60, ge=5, le=65535, description="time to live of that registration")
    bacnet_follow: bool = Field(True, description="a silent device that answers elsewhere is polled there")
    bacnet_timeout: float = Field(3.0, gt=0, le=60, description="wait for one answer (APDU time-out)")
    bacnet_retries: int = Field(1, ge=0, le=10, description="repeats of a request that was not answered")
    bacnet_fast_codec: bool = Field(True, description="our own codec for ReadPropertyMultiple; false: the library's")
    bacnet_device_concurrency: int = Field(1, ge=1, le=16, description="requests outstanding to one device")
    bacnet_trunk_concurrency: int = Field(2, ge=1, le=64, description="requests outstanding to one remote network")

    # Polling
    cov_lifetime: int = Field(600, ge=10, le=86400, description="a subscription to changes (COV) holds so long")
    cov_poll: int = Field(300, ge=1, le=86400, description="points told by COV are polled so seldom all the same")
    poll_phase: float | None = Field(None, ge=0, description="offset of the polling grid; default: from the site's id")
    commit_window: float = Field(0.25, ge=0, le=5, description="how long a poll waits for others to share its commit")
    commit_readings: int = Field(1000, ge=1, le=20000, description="readings in one transaction at most")
    spool_megabytes: int = Field(512, ge=1, description="disk for batches while the database is away")

    # Publishing
    publish_policy: Literal["every", "change"] = Field(
        "every", description="which readings are published by MQTT where a point does not say: `every` or `change`"
    )
    publish_heartbeat: float = Field(
        900.0, gt=0, le=86400, description="with `change`: at least one message of each point within so many seconds"
    )

    # History
    retention_days: int = Field(30, ge=1, description="days of readings kept at the site")
    compress_after_hours: int = Field(6, ge=1, description="age at which chunks are compressed, where the engine can")

    # Writes
    write_ttl: float = Field(300.0, gt=0, description="a command older than this is refused")
    write_clock_skew: float = Field(30.0, ge=0, description="tolerated difference between a sender's clock and ours")
    write_priority_floor: int = Field(8, ge=1, le=16, description="lowest priority number that a command may use")
    write_without_limits: bool = Field(False, description="allow writes to analog points that have no min or max")
    write_rate_limit: int = Field(30, ge=0, description="writes to one point in a minute at most; 0: no limit")
    write_min_on: float = Field(0.0, ge=0, le=86400, description="binary points: stay on so long once we switched them")
    write_min_off: float = Field(0.0, ge=0, le=86400, description="binary points: stay off so long once we did")
    write_heartbeat_topic: str = Field("", description="topic of the heartbeats of commands' sources")
    write_heartbeat_timeout: float = Field(60.0, ge=1, le=86400, description="a source that is silent so long is lost")
    clock_check: bool = Field(True, description="refuse timed commands while the kernel's clock is not synchronised")

    # Central
    central_database_url: SecretStr | None = Field(
        None, description="libpq connection string of central's PostgreSQL; with it the site ships its log there"
    )
    ship_readings: bool = Field(True, description="false: central follows the log itself, by replication")
    ship_every: float = Field(
        0.0, ge=0, le=3600, description="seconds between shipments, so that several polls share one; 0: each at once"
    )
    command_look_every: float = Field(
        5.0, ge=1, le=3600, description="seconds between looks for commands at central, beside its notifications"
    )
    ship_rate: float = Field(5000.0, gt=0, description="readings per second at most while the shipper catches up")
    reconcile_every_hours: float = Field(24.0, ge=0, description="hours between comparisons with central; 0: never")
    reconcile_days: int = Field(2, ge=1, description="days that such a comparison looks back")

    # Exporter and the worker's own status page
    http_host: str = Field("127.0.0.1", description="address on which the exporter listens")
    http_port: int = Field(3001, ge=0, le=65535, description="port of the exporter")
    http_certificate: Path | None = Field(None, description="PEM file of the exporter's certificate with its chain")
    http_key: Path | None = Field(None, description="PEM file of that certificate's key")
    http_plain: bool = Field(
        False, description="serve plain HTTP beyond loopback: for a container whose port is published on loopback only"
    )
    session_hours: float = Field(12.0, gt=0, le=720, description="hours after which a login on the page ends")
    points_owner: Literal["page", "inventory"] = Field(
        "page", description="who owns the points: `inventory` makes them read-only on the page"
    )
    worker_http_host: str = Field("127.0.0.1", description="address of the worker's own status page; keep it local")
    worker_http_port: int = Field(9109, ge=0, le=65535, description="port of the worker's own status page")
    secret_key: SecretStr | None = Field(
        None,
        description="key of the secrets in the database; default: a file in the state directory, made on first use",
    )

    @field_validator("site_id")
    @classmethod
    def _site_id_is_a_slug(cls, value: str) -> str:
        if not SITE_ID.fullmatch(value):
            raise ValueError("must be 1 to 63 of a-z, 0-9, _ and -")
        if value in RESERVED_SITE_IDS:
            raise ValueError(f"{value!r} is reserved")
        return value

    @field_validator("time_zone")
    @classmethod
    def _time_zone_is_known(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("is not an IANA time zone, as for example Asia/Macau") from error
        return value

    @model_validator(mode="after")
    def _certificate_and_key_belong_together(self) -> "Settings":
        if (self.http_certificate is None) != (self.http_key is None):
            given, lacking = ("CERTIFICATE", "KEY") if self.http_certificate else ("KEY", "CERTIFICATE")
            raise ValueError(f"{PREFIX}HTTP_{given} is set, {PREFIX}HTTP_{lacking} is not; give both or neither")
        return self

    @cached_property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The site's time zone."""
        return zoneinfo.ZoneInfo(self.time_zone)

    def phase_of(self, interval: int) -> float:
        """Offset in seconds of this site's grid for one interval: the variable, or a number derived from the site's
        id, so that a thousand sites do not burst in the same second."""
        if self.poll_phase is not None:
            return self.poll_phase % interval
        return zlib.crc32(self.site_id.encode()) % (interval * 1000) / 1000


Kind = TypeVar("Kind", bound=Settings)


def load_settings(**overrides: object) -> Settings:
    """Read the settings, or raise `SettingsError` naming each variable that is missing or wrong."""
    return read_settings(Settings, **overrides)


def read_settings(kind: type[Kind], **overrides: object) -> Kind:
    """The same for a class that extends `Settings`."""
    secrets = {"_secrets_dir": SECRETS_DIRECTORY} if SECRETS_DIRECTORY.is_dir() else {}
    _refuse_unknown_variables(kind)
    try:
        return kind(**secrets, **overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], e["msg"]) for e in error.errors(include_input=False))
        remedy = "Set them in the environment; docs/settings.md lists all."
        raise SettingsError(f"Settings: {problems}.", remedy) from None


def _problem(location: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{PREFIX}{str(location[0]).upper()}: {text}" if location else text


def _refuse_unknown_variables(kind: type[Settings]) -> None:
    known = {PREFIX + name.upper() for name in kind.model_fields}
    unknown = sorted(
        name for name in os.environ if name.startswith(PREFIX) and name not in known and not name.startswith(OTHERS)
    )
    if unknown:
        raise SettingsError(f"Unknown variable: {', '.join(unknown)}.", "Is it misspelt? docs/settings.md lists all.")
