"""From a checked list of points to the database: what would change, and the one transaction that changes it."""

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from bacpipes import schema
from bacpipes.database import connect_now, first_line, query, schema_version_now
from bacpipes.errors import UnavailableError
from bacpipes.haystack import choose_topic, short_topic
from bacpipes.points.csv_file import PointFile, Problems, whole_text
from bacpipes.points.rows import LATER, TAGS, Key, PointRow, Problem, check_row, number_text

Connection = psycopg.Connection[Any]
LOCK_TIMEOUT = "10s"

# The columns of a file that may be missing → the row's field; the value in the database then stays.
_OPTIONAL = {
    "device_name": "device_name",
    "name": "name",
    "dis": "dis",
    "units": "units",
    "interval": "interval",
    "writable": "writable",
    "min": "minimum",
    "max": "maximum",
    "states": "states",
    **{name: name for name in LATER},
}
_COMPARED = ("name", "dis", "units", "interval", "enabled", "writable", "min", "max", "states", *LATER)


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """A device as a points file says it."""

    device_id: int
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class StoredDevice:
    """A device of the site as the database has it; ``polled``: it has points that are enabled."""

    device: DeviceRow
    polled: bool


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """A point as the database has it, with its row's id and its topic."""

    id: int
    row: PointRow
    topic: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """All devices and points of one site."""

    devices: Mapping[int, StoredDevice]
    points: Mapping[Key, StoredPoint]


@dataclass(frozen=True, slots=True)
class Change:
    """A point after the import, its topic, and what it was (None: it is new).

    ``fields`` are the columns that change: name, old text, new text.
    """

    row: PointRow
    topic: str | None
    before: StoredPoint | None
    fields: tuple[tuple[str, str, str], ...] = ()


@dataclass(slots=True)
class Plan:
    """What an import would do, or did where ``applied``. With errors in ``problems`` it can't be applied."""

    site: str
    file: PointFile
    prune: bool = False
    problems: Problems = field(default_factory=Problems)
    notes: list[Problem] = field(default_factory=list)
    devices: list[tuple[DeviceRow | None, DeviceRow]] = field(default_factory=list)  # before (None: new), after
    added: list[Change] = field(default_factory=list)
    changed: list[Change] = field(default_factory=list)
    missing: list[StoredPoint] = field(default_factory=list)  # in the database, not in the file
    applied: bool = False

    @property
    def pruned(self) -> list[StoredPoint]:
        """The points that are disabled because the file does not have them."""
        return [point for point in self.missing if point.row.enabled] if self.prune else []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to change."""
        return not (self.devices or self.added or self.changed or self.pruned)

    @property
    def counts(self) -> dict[str, int]:
        """How many points are of which fate, and how many devices are new or changed."""
        return {
            "added": len(self.added),
            "changed": len(self.changed),
            "unchanged": len(self.file.rows) - len(self.added) - len(self.changed),
            "missing": len(self.missing),
            "pruned": len(self.pruned),
            "devices": len(self.devices),
        }


def os_user() -> str:
    """Who runs this process, for the audit."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@contextmanager
def connection_to(url: str, application: str) -> Iterator[Connection]:
    """A connection (autocommit) to a database with this version's schema; raise `UnavailableError` or `SchemaError`."""
    try:
        with connect_now(url, application) as connection:
            schema.check(schema_version_now(connection))
            yield connection
    except (psycopg.OperationalError, psycopg.errors.InsufficientPrivilege) as error:
        raise UnavailableError(f"The database can't be used: {first_line(error)}.") from None


def load_stored(connection: Connection, site: str) -> Stored:
    """The devices and points of ``site``, in a stable order."""
    devices = {
        row[0]: StoredDevice(DeviceRow(*row[:3]), row[3])
        for row in connection.execute(query("points_load_stored_devices"), {"site": site})
    }
    points = (_stored_point(row) for row in connection.execute(query("points_load_stored"), {"site": site}))
    return Stored(devices, {point.row.key: point for point in points})


def import_points(
    connection: Connection,
    file: PointFile,
    site: str,
    *,
    prune: bool = False,
    dry_run: bool = False,
    actor: str = "",
) -> Plan:
    """Compare ``file`` with the database and, unless it is refused or ``dry_run``, make the database follow it.

    All in one transaction, under a lock against other imports. Look at the plan's ``problems`` and ``applied``.
    An import that changes something is recorded in ``audit``.
    """
    with connection.transaction():
        if not dry_run:
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            connection.execute(query("points_lock"))
        plan = make_plan(file, load_stored(connection, site), site, prune)
        if dry_run or plan.problems.errors:
            return plan
        if not plan.is_empty:
            _apply(connection, plan, actor or os_user())
        plan.applied = True
    return plan


def make_plan(file: PointFile, stored: Stored, site: str, prune: bool = False) -> Plan:
    """What has to change so that the database follows ``file``; pure. The file must have no errors of its own."""
    plan = Plan(site, file, prune)
    rows = [_merge(row, stored.points.get(row.key), file) for row in file.rows]
    keys = {row.key for row in rows}
    plan.missing = [point for key, point in stored.points.items() if key not in keys]
    if not file.is_complete:
        for row in rows:
            plan.problems.add(check_row(row))
    _plan_devices(plan, rows, stored)
    _check_names(plan, rows)
    topics = _Topics(plan, stored)
    for row in rows:
        before = stored.points.get(row.key)
        topic = topics.of(row, before)
        if before is None:
            plan.added.append(Change(row, topic, None))
        elif differences := tuple(_differences(before, row, topic)):
            plan.changed.append(Change(row, topic, before, differences))
    return plan


def _merge(row: PointRow, stored: StoredPoint | None, file: PointFile) -> PointRow:
    """The row with what the file does not say taken from the database."""
    values: dict[str, Any] = {}
    if stored is not None:
        absent = [name for column, name in _OPTIONAL.items() if column not in file.columns]
        values = {name: getattr(stored.row, name) for name in absent}
        if not file.has_tags:
            values["tags"] = stored.row.tags
    if row.enabled is None:
        tags = values.get("tags", row.tags)
        values["enabled"] = bool(tags[0] and tags[1])
    return replace(row, **values) if values else row


def _plan_devices(plan: Plan, rows: Iterable[PointRow], stored: Stored) -> None:
    wanted = {row.device_id: (DeviceRow(row.device_id, row.device_name, row.address), row.line) for row in rows}
    for device_id, (device, _) in wanted.items():
        known = stored.devices.get(device_id)
        before = known.device if known else None
        if before and "device_name" not in plan.file.columns:
            device = replace(device, name=before.name)  # noqa: PLW2901
        if before != device:
            plan.devices.append((before, device))
    lines = {device.address: line for device, line in wanted.values()}
    pruned = {point.row.device_id for point in plan.pruned}
    for device_id, known in stored.devices.items():
        line = lines.get(known.device.address)
        if line is None or device_id in wanted or not known.polled or device_id in pruned:
            continue
        text = f"{known.device.address} is also the address of device {device_id} in the database, which is polled"
        remedy = "correct one of them, or disable its points (points import --prune does, for what is not in the file)"
        plan.problems.add([Problem(line, "address", f"{text}; {remedy}")])


def _check_names(plan: Plan, rows: Iterable[PointRow]) -> None:
    staying = [point.row for point in plan.missing if point.row.enabled and point not in plan.pruned]
    taken = {name: row for row in staying if (name := row.haystack_name(plan.site))}
    for row in rows:
        owner = taken.get(row.haystack_name(plan.site) or "")
        if owner is not None:
            text = f"{row.haystack_name(plan.site)} is the name of {describe(owner)} in the database (not in this file)"
            remedy = "its history keeps the name; add that point to the file with another qualifier, or change this one"
            plan.problems.add([Problem(row.line, "qualifier", f"{text}; {remedy}")])


class _Topics:
    """Chooses topics: once, when a point gets its equipment. What had a topic before this import keeps it taken."""

    def __init__(self, plan: Plan, stored: Stored) -> None:
        self._plan = plan
        self._owners = {point.topic: point.row for point in stored.points.values() if point.topic}

    def of(self, row: PointRow, before: StoredPoint | None) -> str | None:
        if row.equipment is None:
            return None
        if before is not None and before.topic and before.row.equipment == row.equipment:
            return before.topic
        own = self._owners.pop(before.topic, None) if before is not None and before.topic else None
        arguments = (self._plan.site, *row.equipment)
        topic = choose_topic(*arguments, row.device_id, row.object_type, row.object_instance, self._owners)
        short = short_topic(*arguments, row.object_type, row.object_instance)
        if topic != short:
            text = f"{short} is already the topic of {describe(self._owners[short])}; this point gets {topic}"
            self._plan.notes.append(Problem(row.line, "equip_ref", text, warning=True))
        self._owners[topic] = row
        if own is not None and before is not None and before.topic:
            self._owners.setdefault(before.topic, own)
        return topic


def describe(row: PointRow) -> str:
    """A point in a message: ``device 1001 analog-input:1 'SAT'``."""
    return f"device {row.device_id} {row.object_type}:{row.object_instance}" + (f" {row.name!r}" if row.name else "")


def _differences(before: StoredPoint, row: PointRow, topic: str | None) -> Iterator[tuple[str, str, str]]:
    old, new = _shown(before.row, before.topic), _shown(row, topic)
    for column, text in new.items():
        if old[column] != text:
            yield column, old[column], text


def _shown(row: PointRow, topic: str | None) -> dict[str, str]:
    tags = {tag: value or "" for tag, value in zip(TAGS, row.tags, strict=True)}
    values = (row.name, row.dis, row.units, str(row.interval), str(bool(row.enabled)).lower())
    limits = (number_text(row.minimum), number_text(row.maximum), whole_text(row.states))
    pace = map(whole_text, (row.writes_per_minute, row.min_on, row.min_off))
    publishing = (row.publish or "", number_text(row.deadband), whole_text(row.heartbeat))
    polling = ("true" if row.cov else "", row.poll_priority or "")
    texts = (*values, str(row.writable).lower(), *limits, *pace, *publishing, *polling)
    return dict(zip(_COMPARED, texts, strict=True)) | tags | {"topic": topic or ""}


def _apply(connection: Connection, plan: Plan, actor: str) -> None:
    devices = [{"site": plan.site} | asdict(device) for _, device in plan.devices]
    if devices:
        connection.cursor().executemany(query("points_save_device"), devices)
    if plan.pruned:  # first: what is added may take over a name
        connection.execute(query("points_disable"), {"ids": [point.id for point in plan.pruned]})
    if plan.added or plan.changed:
        _stage(connection, [*plan.changed, *plan.added])
    if plan.changed:
        connection.execute(query("points_release_names"))
        connection.execute(query("points_update"))
    if plan.added:
        connection.execute(query("points_insert"), {"site": plan.site})
    detail = Jsonb(plan.counts | {"warnings": plan.file.problems.warnings})
    connection.execute(query("points_audit"), {"actor": actor, "subject": plan.file.name, "detail": detail})


def _stage(connection: Connection, changes: Iterable[Change]) -> None:
    connection.execute(query("points_stage"))
    with connection.cursor().copy(query("points_copy")) as copy:
        for change in changes:
            row = change.row
            copy.write_row(
                (
                    change.before.id if change.before else None,
                    *row.key, row.name, row.dis, row.units, *row.tags,
                    row.interval, row.enabled, row.writable, row.minimum, row.maximum, row.states,
                    row.writes_per_minute, row.min_on, row.min_off, row.publish, row.deadband, row.heartbeat,
                    row.cov, row.poll_priority,
                    change.topic, row.line,
                )
            )  # fmt: skip


def _stored_point(row: tuple[Any, ...]) -> StoredPoint:
    values: list[Any] = [0, *row[1:9], row[9:16], *row[16:30]]
    return StoredPoint(row[0], PointRow(*values), row[30])
