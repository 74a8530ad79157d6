"""The fleet file: the resolved facts of the sites to verify, as the role `verify` writes them."""

import json
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from bacpipes.errors import InputError
from bacpipes.points.csv_file import read_points
from bacpipes.points.rows import PointRow


class FleetError(Exception):
    """The fleet file can't be used; the text says why."""


@dataclass(frozen=True)
class Connection:
    """How Ansible reaches the machine."""

    address: str
    port: int = 22
    user: str = "root"
    private_key_file: str = ""
    arguments: str = ""  # ansible_ssh_common_args and ansible_ssh_extra_args
    become: bool = False

    @property
    def by_jump_host(self) -> bool:
        """Whether the machine itself is out of the controller's reach."""
        return any(word in self.arguments.lower() for word in ("proxyjump", "proxycommand", "-j "))


@dataclass(frozen=True)
class Point:
    """A polled point, as the points file has it; ``topics``: the short one, and the longer one of a namesake."""

    device_id: int
    object_type: str
    object_instance: int
    haystack_name: str | None
    function: str | None
    interval: int
    writable: bool
    topics: tuple[str, ...]

    @property
    def object(self) -> str:
        return f"{self.object_type}:{self.object_instance}"


@dataclass(frozen=True)
class Site:
    """One site of the play. The role's variables `verify_…` are documented in its defaults."""

    host: str
    site: str
    connection: Connection
    points_file: str
    http_address: str
    title: str = ""
    points_owner: str = "inventory"
    directory: str = "/opt/bacpipes"
    project: str = "bacpipes"
    services: list[str] = field(default_factory=lambda: ["database", "broker", "worker", "exporter"])
    one_shot_services: list[str] = field(default_factory=lambda: ["migrate"])
    database: str = "bacpipes"
    database_port: int = 5432
    database_addresses: list[str] = field(default_factory=list)
    retention_days: int = 30
    compress_after_hours: int = 6
    broker_engine: str = "mosquitto"
    broker_port: int = 1883
    broker_user: str = "bacpipes_verify"
    broker_tls_addresses: list[str] = field(default_factory=list)
    broker_tls_port: int = 8883
    broker_client_certificate: bool = True
    http_port: int = 3001
    token_file: str = ""
    write_point: str = ""
    write_value: float | None = None
    write_priority: int = 8
    building_command: str = ""
    central_connection: Connection | None = None
    central_address: str = ""
    central_live: bool = False
    central_complete: bool = False
    ports: list[int] = field(default_factory=lambda: [22])
    scan: str = "known"
    bacnet_port: int = 47808
    certificate_names: list[str] = field(default_factory=list)
    certificate_days: int = 14
    clock_tolerance: float = 5.0
    patience: float = 150.0

    @property
    def secrets(self) -> str:
        return f"{self.directory}/secrets"

    @cached_property
    def points(self) -> list[Point]:
        """The points that are polled; empty where no file says so."""
        if not self.points_file:
            return []
        try:
            with Path(self.points_file).open("rb") as stream:
                file = read_points(stream, Path(self.points_file).name, self.site)
        except (OSError, InputError) as error:
            raise FleetError(f"{self.host}: the points file can't be read: {error}") from None
        rows = [row for row in file.rows if row.enabled is not False and row.tags[0] and row.tags[1]]
        return [_point(self.site, row) for row in rows]

    @cached_property
    def devices(self) -> dict[int, list[Point]]:
        """Points by device."""
        found: dict[int, list[Point]] = {}
        for point in self.points:
            found.setdefault(point.device_id, []).append(point)
        return found


def _point(site: str, row: PointRow) -> Point:
    # Written out here and not taken from the appliance: the check is whether the appliance keeps to the contract.
    equipment = f"{site}/{row.tags[0]}_{row.tags[1]}"
    last = f"{row.object_type.replace('-', '')}{row.object_instance}/presentValue"
    return Point(
        device_id=row.device_id,
        object_type=row.object_type,
        object_instance=row.object_instance,
        haystack_name=".".join([site, *(str(tag) for tag in row.tags)]) if all(row.tags) else None,
        function=row.tags[2],
        interval=row.interval,
        writable=row.writable,
        topics=(f"{equipment}/{last}", f"{equipment}/{row.device_id}/{last}"),
    )


def load(path: Path) -> list[Site]:
    """Read a fleet file; raise `FleetError` where it is none, or names no site, or one twice."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FleetError(f"{path}: {error}") from None
    entries = document.get("sites") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries:
        raise FleetError(f"{path} names no site: there is nothing to verify.")
    sites = [_site(path, entry) for entry in entries]
    for name in ("host", "site"):
        values = [getattr(site, name) for site in sites]
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise FleetError(f"{path}: {name} {', '.join(twice)} stands there more than once.")
    return sites


def chosen(sites: list[Site], hosts: list[str]) -> list[Site]:
    """The sites of these hosts; all where none is named. Raises `FleetError` where one of them is not there."""
    if missing := sorted(set(hosts) - {site.host for site in sites}):
        raise FleetError(f"--site: the fleet file has no host {', '.join(missing)}.")
    return [site for site in sites if not hosts or site.host in hosts]


def _site(path: Path, entry: dict[str, Any]) -> Site:
    known = {each.name for each in fields(Site)}
    if unknown := sorted(set(entry) - known):
        raise FleetError(f"{path}: unknown keys {', '.join(unknown)}.")
    try:
        names = [name.removeprefix("DNS:").removeprefix("IP:") for name in entry.get("certificate_names", [])]
        central = Connection(**entry["central_connection"]) if entry.get("central_connection") else None
        objects = {"connection": Connection(**entry["connection"]), "central_connection": central}
        return Site(**entry | objects | {"certificate_names": names})
    except (KeyError, TypeError) as error:
        raise FleetError(f"{path}: site {entry.get('host', '?')}: {error}") from None
