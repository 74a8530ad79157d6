"""What an import found and what it changes, as lines for a terminal."""

from collections.abc import Iterable, Iterator, Sequence

from bacpipes.points.csv_file import PointFile, Problems
from bacpipes.points.importer import Change, DeviceRow, Plan, StoredPoint, describe
from bacpipes.points.rows import Problem

LIMIT = 50  # lines of one kind; the rest are counted


def problem_lines(file: PointFile, problems: Problems, limit: int | None = LIMIT) -> Iterator[str]:
    """``file:line: error in column: …``, the errors first, each kind up to ``limit``."""
    errors = [problem for problem in problems.kept if not problem.warning]
    warnings = [problem for problem in problems.kept if problem.warning]
    yield from _limited(_problem_lines(file, errors), problems.errors, limit, "errors")
    yield from _limited(_problem_lines(file, warnings), problems.warnings, limit, "warnings")


def note_lines(plan: Plan, limit: int | None = LIMIT) -> Iterator[str]:
    """The points that got the longer topic."""
    lines = (f"{plan.file.where(note.line)}: note: {note.message}" for note in plan.notes)
    yield from _limited(lines, len(plan.notes), limit, "notes")


def diff_lines(plan: Plan, limit: int | None = LIMIT) -> Iterator[str]:
    """The difference between file and database: ``+`` new, ``~`` changed, ``-`` not in the file."""
    yield from _limited(_device_lines(plan.devices), len(plan.devices), limit, "devices")
    yield from _limited(_added_lines(plan.added), len(plan.added), limit, "new points")
    yield from _limited(_changed_lines(plan.changed), len(plan.changed), limit, "changed points")
    yield from _limited(_missing_lines(plan), len(plan.missing), limit, "points that are not in the file")


def summary(plan: Plan) -> str:
    """One line: how many points are of which fate."""
    counts = plan.counts
    parts = [f"{counts['added']} new", f"{counts['changed']} changed", f"{counts['unchanged']} unchanged"]
    if counts["missing"]:
        fate = f"{counts['pruned']} now disabled" if plan.prune else "left alone"
        parts.append(f"{counts['missing']} not in the file ({fate})")
    nothing = "nothing to change: " if plan.is_empty else ""
    return f"{plan.file.name}: {nothing}{', '.join(parts)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 error``, ``2 errors``."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or noun + 's'}"


def _problem_lines(file: PointFile, problems: Iterable[Problem]) -> Iterator[str]:
    for problem in problems:
        column = f" in {problem.column}" if problem.column else ""
        kind = "warning" if problem.warning else "error"
        yield f"{file.where(problem.line)}: {kind}{column}: {problem.message}"


def _limited(lines: Iterable[str], total: int, limit: int | None, what: str) -> Iterator[str]:
    """At most ``limit`` entries of ``lines`` (each may hold several lines), then how many more there are."""
    shown = 0
    for line in lines:
        if limit is not None and shown >= limit:
            break
        shown += 1
        yield line
    if total > shown:
        yield f"  … and {total - shown} more {what}"


def _device_lines(devices: Sequence[tuple[DeviceRow | None, DeviceRow]]) -> Iterator[str]:
    for before, after in devices:
        if before is None:
            yield f"+ device {after.device_id} {after.name!r} at {after.address}"
            continue
        changes = [
            f"\n    {column}: {_quoted(old)} → {_quoted(new)}"
            for column, old, new in (
                ("device_name", before.name, after.name),
                ("address", before.address, after.address),
            )
            if old != new
        ]
        yield f"~ device {after.device_id} {after.name!r}" + "".join(changes)


def _added_lines(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        yield f"+ {describe(change.row)} → {change.topic or 'no topic'}" + _disabled(change)


def _changed_lines(changes: Iterable[Change]) -> Iterator[str]:
    for change in changes:
        fields = (f"\n    {column}: {_quoted(old)} → {_quoted(new)}" for column, old, new in change.fields)
        yield f"~ {describe(change.row)}" + "".join(fields)


def _missing_lines(plan: Plan) -> Iterator[str]:
    pruned = {point.id for point in plan.pruned}
    for point in plan.missing:
        yield f"- {describe(point.row)}: not in the file, {_fate(point, point.id in pruned)}"


def _fate(point: StoredPoint, pruned: bool) -> str:
    if pruned:
        return "disabled"
    return "left alone" if point.row.enabled else "left alone (it is disabled)"


def _disabled(change: Change) -> str:
    return "" if change.row.enabled else " (disabled)"


def _quoted(text: str) -> str:
    return text or "(blank)"
