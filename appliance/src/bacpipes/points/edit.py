"""Changes of single cells of stored points, through the same checks and the same transaction as a whole file."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from psycopg.types.json import Jsonb

from bacpipes.database import query
from bacpipes.errors import InputError
from bacpipes.points.csv_file import PointFile, cells, read_points, write_points
from bacpipes.points.importer import LOCK_TIMEOUT, Connection, Plan, StoredPoint, describe, import_points, load_stored
from bacpipes.points.rows import COLUMNS

Cells = Mapping[str, str]
EDITABLE = tuple(
    column
    for column in COLUMNS
    if column not in ("device_id", "device_name", "address", "object_type", "object_instance", "site")
)
FORM = "the form"


class ConflictError(InputError):
    """Somebody else changed a point meanwhile."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A point as an editor begins with it: its editable cells as plain text, and the version that they are of."""

    cells: dict[str, str]
    updated_at: datetime


def open_points(connection: Connection, site: str, ids: Iterable[int]) -> dict[int, Opened]:
    """The points by id; those that are not there any more are absent."""
    wanted = list(ids)
    with connection.transaction():
        versions: dict[int, datetime] = dict(connection.execute(query("points_versions"), {"ids": wanted}).fetchall())
        stored = load_stored(connection, site).points.values()
    return {point.id: Opened(_plain_cells(point, site), versions[point.id]) for point in stored if point.id in versions}


def _plain_cells(point: StoredPoint, site: str) -> dict[str, str]:
    """Without the apostrophe by which a spreadsheet tells text from a formula."""
    texts = zip(COLUMNS, cells(point.row, site), strict=True)
    return {column: cell.removeprefix("'") for column, cell in texts if column in EDITABLE}


def edit_points(
    connection: Connection,
    site: str,
    changes: Mapping[int, Cells],
    *,
    seen: Mapping[int, datetime],
    actor: str,
    dry_run: bool = False,
) -> Plan:
    """Change the cells (by column of the points file) of points by id, all or nothing; look at the plan's ``problems``.

    ``seen`` are the points' ``updated_at`` as the editor saw them: `ConflictError` where one is newer by now.
    """
    with connection.transaction():
        if not dry_run:
            connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
            connection.execute(query("points_lock"))
        _refuse_conflicts(connection, seen)
        file = edited_file(load_stored(connection, site).points.values(), site, changes)
        if file.problems.errors:
            plan = Plan(site, file)
        else:
            plan = import_points(connection, file, site, dry_run=dry_run, actor=actor)
            _audit(connection, plan, actor)
        plan.problems.add(file.problems.kept)
    return plan


def edited_file(stored: Iterable[StoredPoint], site: str, changes: Mapping[int, Cells]) -> PointFile:
    """The points that change, as a points file with the new cells."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    found = [point for point in stored if point.id in changes]
    if len(found) != len(changes):
        raise InputError("A point that was to be changed is not there any more.", "Load the page again.")
    for point in found:
        row = dict(zip(COLUMNS, cells(point.row, site), strict=True))
        row |= {column: cell for column, cell in changes[point.id].items() if column in EDITABLE}
        row["site"] = ""
        writer.writerow(row[column] for column in COLUMNS)
    return read_points(io.BytesIO(text.getvalue().encode()), FORM, site)


def _audit(connection: Connection, plan: Plan, actor: str) -> None:
    """Each point with its old and new cells; an import of a file tells only counts."""
    if not plan.applied:
        return
    for change in plan.changed:
        fields = {column: [old, new] for column, old, new in change.fields}
        connection.execute(query("exporter_audit"), [actor, "point.edit", describe(change.row), Jsonb(fields)])


def with_changes(connection: Connection, site: str, changes: Mapping[int, Cells]) -> tuple[str, str]:
    """The whole points file of the site as text, before and after the changes; nothing is changed."""
    stored = list(load_stored(connection, site).points.values())
    file = edited_file(stored, site, changes)
    after = {row.key: row for row in file.rows}
    texts = []
    for rows in ([point.row for point in stored], [after.get(point.row.key, point.row) for point in stored]):
        text = io.StringIO()
        write_points(text, rows, site)
        texts.append(text.getvalue())
    return texts[0], texts[1]


def _refuse_conflicts(connection: Connection, seen: Mapping[int, datetime]) -> None:
    rows = connection.execute(query("points_versions"), {"ids": list(seen)}).fetchall()
    newer = [id_ for id_, updated in rows if updated != seen[id_]]
    if newer:
        raise ConflictError(
            f"Somebody else changed {len(newer)} of these points meanwhile; nothing was saved.",
            "Close this and open it again: it then shows what they are now.",
        )
