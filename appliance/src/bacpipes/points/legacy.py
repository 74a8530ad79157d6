"""The database of an earlier BacPipes, read once: its tables Device, Point and MqttConfig. Nothing is written there.

Their columns differed between versions, so what is there is looked up first; names may be camelCase or lower case.
Unlike a points file, rows that can't be used are left out, each with the reason, and the others go on.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row

from bacpipes.database import CONNECT_TIMEOUT, first_line, query
from bacpipes.errors import InputError, UnavailableError
from bacpipes.haystack import BadNameError, HaystackName, normalise, split_haystack_name
from bacpipes.objects import OBJECT_TYPES
from bacpipes.points.csv_file import PointFile
from bacpipes.points.rows import (
    MAX_INTERVAL,
    TAGS,
    Key,
    PointRow,
    Problem,
    number_text,
    object_type_name,
    protect_text,
    read_row,
    tidy_text,
)

Row = Mapping[str, Any]  # a row of theirs; the keys are their columns in lower case

_NEEDED = {
    "device": ("id", "deviceId", "ipAddress"),
    "point": ("id", "deviceId", "objectType", "objectInstance"),
    "mqttconfig": ("broker", "port"),
}
_WANTED = {
    "device": ("deviceName", "port"),
    "point": (
        "pointName", "dis", "units", "siteId", "equipmentType", "equipmentId", "haystackPointName", "isWritable",
        "minPresValue", "maxPresValue", "mqttPublish", "pollInterval", "enabled",
    ),
    "mqttconfig": (
        "clientId", "enabled", "username", "password", "tlsEnabled", "tlsPort", "caCertificate", "clientCertificate",
        "clientKey", "writeCommandTopic", "writeResultTopic",
    ),
}  # fmt: skip
# Our column → theirs that says it. What an old version does not have stays as it is in our database.
_SOURCES = {
    "device_name": "devicename",
    "name": "pointname",
    "dis": "dis",
    "units": "units",
    "interval": "pollinterval",
    "writable": "iswritable",
    "min": "minpresvalue",
    "max": "maxpresvalue",
}
_ALWAYS = frozenset({"device_id", "address", "object_type", "object_instance", "enabled", *TAGS})
_MQTT_FIELDS = {
    "broker": "broker",
    "port": "port",
    "clientid": "client_id",
    "enabled": "enabled",
    "username": "username",
    "password": "password",
    "tlsenabled": "tls_enabled",
    "tlsport": "tls_port",
    "cacertificate": "ca_certificate",
    "clientcertificate": "client_certificate",
    "clientkey": "client_key",
    "writecommandtopic": "write_command_topic",
    "writeresulttopic": "write_result_topic",
}
_CLEARABLE = frozenset({"username", "password", "ca_certificate", "client_certificate", "client_key"})


@dataclass(frozen=True, slots=True)
class Legacy:
    """What an earlier BacPipes knew: its points, and its broker settings as `mqtt_config.save` takes them (plain)."""

    points: PointFile
    mqtt: dict[str, object] | None = field(repr=False)
    skipped: int


def read_legacy(dsn: str, site: str, sites_of: Collection[str] = ()) -> Legacy:
    """Read an earlier BacPipes' database as points of ``site``; ``sites_of`` are siteIds there that also mean it.

    Raise `InputError` where it is no such database or holds points of another site, `UnavailableError` where it
    can't be reached.
    """
    devices, points, mqtt, columns = _read_tables(dsn)
    _check_sites(points, site, sites_of)
    ours = _ALWAYS | {column for column, theirs in _SOURCES.items() if theirs in columns}
    labels = [f"Point {point['id']}" for point in points]
    file = PointFile("earlier BacPipes", frozenset(ours), labels=labels)
    converter = _Converter(file, site, sites_of)
    by_id = {device["id"]: device for device in devices}
    for line, point in enumerate(points):
        converter.add(line, point, by_id.get(point["deviceid"]))
    return Legacy(file, _mqtt_values(mqtt), len(points) - len(file.rows))


def _read_tables(dsn: str) -> tuple[list[Row], list[Row], list[Row], set[str]]:
    """Their devices, points and broker settings, and the columns (lower case) that the first two have."""
    _check_dsn(dsn)
    try:
        with psycopg.connect(
            dsn, connect_timeout=CONNECT_TIMEOUT, application_name="bacpipes points import", row_factory=dict_row
        ) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            tables = _columns(connection)
            rows = {kind: _select(connection, kind, *tables[kind]) for kind in tables}
    except psycopg.OperationalError as error:
        raise UnavailableError(f"The earlier database can't be reached: {first_line(error)}.") from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise InputError(f"The earlier database can't be read: {first_line(error)}.", "Grant SELECT on it.") from None
    columns = {name.lower() for kind in ("device", "point") for name in tables[kind][1]}
    return rows["device"], rows["point"], rows.get("mqttconfig", []), columns


def _check_dsn(dsn: str) -> None:
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:  # its text may hold the password
        raise InputError(
            "--from-bacpipes: this is not a connection string.", "As postgresql://user@host:5434/database."
        ) from None


def _columns(connection: psycopg.Connection[Any]) -> dict[str, tuple[sql.Identifier, list[str]]]:
    """Their tables by lower-case name, each with its qualified name and those of its columns that we know."""
    found: dict[str, tuple[sql.Identifier, list[str]]] = {}
    for row in connection.execute(query("points_legacy_columns"), {"tables": list(_NEEDED)}):
        found.setdefault(row["kind"], (sql.Identifier(row["table_schema"], row["table_name"]), row["columns"]))
    for kind, (_, columns) in found.items():
        missing = [name for name in _NEEDED[kind] if name.lower() not in {column.lower() for column in columns}]
        if missing:
            raise InputError(
                f"The table {kind} there has no column {', '.join(missing)}.",
                "Is this the configuration database of an earlier BacPipes? Nothing was changed.",
            )
    if missing := [kind for kind in ("device", "point") if kind not in found]:
        raise InputError(
            f"There is no table {' and no table '.join(name.title() for name in missing)}.",
            "Is this the configuration database of an earlier BacPipes? Nothing was changed.",
        )
    return found


def _select(connection: psycopg.Connection[Any], kind: str, table: sql.Identifier, columns: Sequence[str]) -> list[Row]:
    known = {name.lower() for name in (*_NEEDED[kind], *_WANTED[kind])}
    chosen = [
        sql.SQL("{} AS {}").format(sql.Identifier(c), sql.Identifier(c.lower())) for c in columns if c.lower() in known
    ]
    order = sql.SQL(" ORDER BY id") if "id" in {column.lower() for column in columns} else sql.SQL("")
    statement = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(chosen), table)
    return list(connection.execute(statement + order))


def _check_sites(points: Sequence[Row], site: str, sites_of: Collection[str]) -> None:
    others = Counter(
        str(point["siteid"]).strip() for point in points if not _is_ours(point.get("siteid"), site, sites_of)
    )
    if others:
        listed = ", ".join(f"{other!r} ({number} points)" for other, number in others.most_common())
        options = " ".join(f"--site-of '{other}'" for other in others)
        raise InputError(
            f"The earlier database has points of another siteId: {listed}; this appliance is site {site!r}.",
            f"If they mean this site, add {options}. Nothing was changed.",
        )


def _is_ours(site_id: object, site: str, sites_of: Collection[str]) -> bool:
    text = _plain(site_id)
    return not text or text in sites_of or _slug(text) in {site, *map(_slug, sites_of)}


def _slug(text: str) -> str:
    return "_".join(text.lower().split())


def _mqtt_values(rows: Sequence[Row]) -> dict[str, object] | None:
    """Broker settings of the row that is in force there: the first that is enabled, else the first."""
    row = next((row for row in rows if row.get("enabled")), rows[0] if rows else None)
    if row is None:
        return None
    values = {ours: row[theirs] for theirs, ours in _MQTT_FIELDS.items() if theirs in row}
    return {name: value for name, value in values.items() if value is not None or name in _CLEARABLE}


class _Converter:
    """Turns their rows into ours, one by one, and notes what had to be changed or left out."""

    def __init__(self, file: PointFile, site: str, sites_of: Collection[str]) -> None:
        self._file = file
        self._site = site
        self._sites_of = sites_of
        self._points: dict[Key, int] = {}
        self._names: dict[str, int] = {}
        self._addresses: dict[int, str] = {}
        self._devices: dict[str, int] = {}
        self._line = 0

    def add(self, line: int, point: Row, device: Row | None) -> None:
        """Take one of their points, with its device."""
        self._line = line
        if device is None:
            self._skip(f"its deviceId {point['deviceid']} is no Device")
            return
        cells = self._cells(point, device)
        row, problems = read_row(cells, line, self._site)
        if problems:
            self._skip("; ".join(f"{problem.column}: {problem.message}" for problem in problems))
        elif self._fits(row):
            self._file.rows.append(self._with_own_name(row))

    def _cells(self, point: Row, device: Row) -> dict[str, str]:
        tags = self._tags(point)
        object_type = object_type_name(_plain(point["objecttype"])) or _plain(point["objecttype"])
        limits, writable = self._limits(point, object_type)
        return {
            "device_id": _plain(device["deviceid"]),
            "device_name": _text(device.get("devicename")),
            "address": _address(device),
            "object_type": object_type,
            "object_instance": _plain(point["objectinstance"]),
            "name": _text(point.get("pointname")),
            "dis": _text(point.get("dis")),
            "units": _text(point.get("units")),
            "interval": self._interval(point.get("pollinterval")),
            "enabled": str(self._enabled(point, tags)).lower(),
            "writable": str(writable).lower(),
            **limits,
            **{tag: protect_text(value) for tag, value in tags.items()},
        }

    def _tags(self, point: Row) -> dict[str, str]:
        equipment = self._equipment(point)
        name = self._haystack_name(_plain(point.get("haystackpointname")))
        if name is None:
            return equipment
        named = {"equip": name.equip, "equip_ref": name.equip_ref}
        if equipment and equipment != named:
            old, new = "_".join(equipment.values()), "_".join(named.values())
            self._remark("equip", f"equipment {old}, but {new} in its haystack name, which is kept: its topic changes")
        return {tag: getattr(name, tag) for tag in TAGS}

    def _equipment(self, point: Row) -> dict[str, str]:
        given = {"equip": _plain(point.get("equipmenttype")), "equip_ref": _plain(point.get("equipmentid"))}
        try:
            return {tag: normalise(tag, text) for tag, text in given.items()}
        except BadNameError as error:
            if any(given.values()):
                self._remark("equip", f"equipment is left out: {error}")
            return {}

    def _haystack_name(self, text: str) -> HaystackName | None:
        if not text:
            return None
        try:
            name = split_haystack_name(text)
        except BadNameError as error:
            self._remark("function", f"haystack name is left out: {error}")
            return None
        if not _is_ours(name.site, self._site, self._sites_of):
            self._remark("site", f"its haystack name {text!r} says site {name.site!r}; it is now {self._site!r}")
        return name

    def _limits(self, point: Row, object_type: str) -> tuple[dict[str, str], bool]:
        writable = bool(point.get("iswritable"))
        if writable and object_type in OBJECT_TYPES and not OBJECT_TYPES[object_type].writable:
            self._remark("writable", f"isWritable, but {object_type} is measured: imported as not writable")
            writable = False
        low, high = (_number(point.get(column)) for column in ("minpresvalue", "maxpresvalue"))
        if not _is_range(low, high):
            self._remark("min", f"limits {low} to {high} are no range: left out, and the point is not writable")
            return {"min": "", "max": ""}, False
        return {"min": number_text(low), "max": number_text(high)}, writable

    def _interval(self, value: object) -> str:
        text = _plain(value)
        if not text or (text.isdecimal() and 1 <= int(text) <= MAX_INTERVAL):
            return text
        self._remark("interval", f"pollInterval {text} is not 1 to {MAX_INTERVAL} seconds: the default is taken")
        return ""

    def _enabled(self, point: Row, tags: Mapping[str, str]) -> bool:
        wanted = point.get("enabled") is not False and point.get("mqttpublish") is not False
        if wanted and not tags:
            self._remark("enabled", "has no equipment and so no topic: imported disabled")
        return wanted and bool(tags)

    def _fits(self, row: PointRow) -> bool:
        """Whether the row agrees with those before it; where not, it is left out."""
        first = self._points.setdefault(row.key, self._line)
        if first != self._line:
            self._skip(f"the same device and object as {self._label(first)}")
        elif self._addresses.setdefault(row.device_id, row.address) != row.address:
            self._skip(f"device {row.device_id} is at {self._addresses[row.device_id]} and at {row.address}")
        elif (other := self._devices.setdefault(row.address, row.device_id)) != row.device_id:
            remedy = "if it is behind a router, add it by a points file with its network:mac"
            self._skip(f"device {row.device_id} has the address {row.address} of device {other}; {remedy}")
        else:
            return True
        return False

    def _with_own_name(self, row: PointRow) -> PointRow:
        name = row.haystack_name(self._site)
        if name is None or (first := self._names.setdefault(name, self._line)) == self._line:
            return row
        self._remark("qualifier", f"{name} is also {self._label(first)}: imported without a haystack name")
        return replace(row, tags=(*row.tags[:2], *(None for _ in row.tags[2:])))

    def _label(self, line: int) -> str:
        return self._file.labels[line] if self._file.labels else str(line)

    def _remark(self, column: str, message: str) -> None:
        self._file.problems.add([Problem(self._line, column, message, warning=True)])

    def _skip(self, reason: str) -> None:
        self._remark("", f"not imported: {reason}")


def _plain(value: object) -> str:
    return "" if value is None else str(value).strip()


def _text(value: object) -> str:
    return protect_text(tidy_text(value))


def _address(device: Row) -> str:
    address, port = _plain(device["ipaddress"]), _plain(device.get("port"))
    return f"{address}:{port}" if port and ":" not in address else address


def _number(value: object) -> float | None:
    try:
        return None if value is None or value == "" else float(str(value))
    except ValueError:
        return math.nan


def _is_range(low: float | None, high: float | None) -> bool:
    finite = all(limit is None or math.isfinite(limit) for limit in (low, high))
    return finite and (low is None or high is None or low <= high)
