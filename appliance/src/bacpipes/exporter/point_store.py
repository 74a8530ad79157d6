"""Points for page and API: loaded, changed and imported in threads, over the same code as the command line."""

import asyncio
import difflib
import io
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import psycopg

from bacpipes.errors import InputError
from bacpipes.points import edit
from bacpipes.points import importer as points_import
from bacpipes.points import report as points_report
from bacpipes.points.csv_file import PointFile, read_points, write_points
from bacpipes.points.edit import Cells, Opened
from bacpipes.points.importer import Connection, Plan
from bacpipes.settings import Settings

Result = TypeVar("Result")
LARGEST_FILE = 64 * 1024 * 1024
OWNED = (
    "The inventory owns this site's points (BACPIPES_POINTS_OWNER), and the next playbook run would undo changes made "
    "here. Edit all the same: you get the difference as a file for the inventory's CSV."
)


async def rows(store: Any, settings: Settings) -> list[dict[str, Any]]:
    """All points with their last values, as the table shows them."""
    found: list[dict[str, Any]] = await store.rows("page_points", {"site": settings.site_id})
    return found


async def opened(settings: Settings, ids: Iterable[int]) -> dict[int, Opened]:
    """`points.edit.open_points` on a connection of its own."""
    return await _with_connection(settings, lambda found: edit.open_points(found, settings.site_id, ids))


async def change(
    settings: Settings, changes: Mapping[int, Cells], seen: Mapping[int, datetime], actor: str, *, dry_run: bool
) -> Plan:
    """`points.edit.edit_points` on a connection of its own."""
    site = settings.site_id
    return await _with_connection(
        settings, lambda found: edit.edit_points(found, site, changes, seen=seen, actor=actor, dry_run=dry_run)
    )


async def difference(settings: Settings, changes: Mapping[int, Cells]) -> str:
    """What the changes would change in the exported file, as a unified diff."""
    before, after = await _with_connection(settings, lambda found: edit.with_changes(found, settings.site_id, changes))
    name = f"{settings.site_id}.csv"
    return "".join(difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{name}", f"b/{name}"))


async def export(settings: Settings) -> str:
    """The site's points file."""

    def write(connection: Connection) -> str:
        stored = points_import.load_stored(connection, settings.site_id)
        text = io.StringIO()
        write_points(text, [point.row for point in stored.points.values()], settings.site_id)
        return text.getvalue()

    return await _with_connection(settings, write)


async def import_file(
    settings: Settings, content: bytes, name: str, actor: str, *, prune: bool, dry_run: bool
) -> tuple[PointFile, Plan | None]:
    """Check a file and, unless ``dry_run``, import it. No plan: the file has errors of its own."""
    if len(content) > LARGEST_FILE:
        raise InputError(f"{name} has {len(content) / 1e6:.0f} MB, at most {LARGEST_FILE / 1e6:.0f} are taken.")

    def run(connection: Connection) -> tuple[PointFile, Plan | None]:
        file = read_points(io.BytesIO(content), name, settings.site_id)
        if file.problems.errors:
            return file, None
        plan = points_import.import_points(
            connection, file, settings.site_id, prune=prune, dry_run=dry_run, actor=actor
        )
        return file, plan

    return await _with_connection(settings, run)


def report_lines(file: PointFile, plan: Plan | None) -> list[str]:
    """What the command line would print: problems, notes, difference, summary."""
    lines = list(points_report.problem_lines(file, file.problems))
    if plan is None:
        return [*lines, "Refused; nothing was changed. Correct the lines named above."]
    lines += points_report.problem_lines(file, plan.problems)
    if plan.problems.errors:
        return [*lines, "Refused; nothing was changed. Correct the lines named above."]
    return [*lines, *points_report.note_lines(plan), *points_report.diff_lines(plan), points_report.summary(plan)]


async def _with_connection(settings: Settings, work: Callable[[Connection], Result]) -> Result:
    def run() -> Result:
        url = settings.database_url.get_secret_value()
        try:
            with points_import.connection_to(url, "exporter points") as connection:
                return work(connection)
        except psycopg.errors.UniqueViolation:
            raise InputError("Another change came in between.", "Try again.") from None
        except psycopg.errors.LockNotAvailable:
            raise InputError("Another import is under way.", "Try again when it has ended.") from None

    return await asyncio.to_thread(run)
