"""Points as a CSV file: read whole and checked before anything is done with it, and written so that it reads back."""

import csv
import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO

from bacpipes.errors import InputError
from bacpipes.points.rows import (
    COLUMNS,
    LATER,
    NO_TAGS,
    REQUIRED,
    TAGS,
    Key,
    PointRow,
    Problem,
    check_row,
    number_text,
    protect_text,
    read_row,
)

MAX_ROWS = 250_000  # far more than one site has; some 250 MB of memory
MAX_LINE = 1 << 20  # octets; a longer line is no CSV of points
MAX_PROBLEMS = 10_000  # kept in full; the rest are counted

_SEPARATOR_LINE = re.compile(r"sep=[,;]")  # written by Excel as the first line
_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(slots=True)
class Problems:
    """Errors and warnings in the order in which they were found; beyond `MAX_PROBLEMS` they are only counted."""

    kept: list[Problem] = field(default_factory=list)
    errors: int = 0
    warnings: int = 0

    def add(self, problems: Iterable[Problem]) -> None:
        """Take more problems in."""
        for problem in problems:
            if problem.warning:
                self.warnings += 1
            else:
                self.errors += 1
            if len(self.kept) < MAX_PROBLEMS:
                self.kept.append(problem)


@dataclass(slots=True)
class PointFile:
    """What a source of points says: its checked rows in order, and what is wrong with it.

    ``columns`` are those that it has; what it does not have is left as it is in the database. ``labels`` replace
    the line numbers where the source is not a file. ``rows`` is to be used only where ``problems.errors`` is 0.
    """

    name: str
    columns: frozenset[str]
    rows: list[PointRow] = field(default_factory=list)
    problems: Problems = field(default_factory=Problems)
    labels: Sequence[str] | None = None

    def where(self, line: int) -> str:
        """``file:line``, as editors understand it."""
        return f"{self.name}:{line}" if self.labels is None else f"{self.name} {self.labels[line]}"

    @property
    def has_tags(self) -> bool:
        """Whether any haystack field stands in the source at all."""
        return not self.columns.isdisjoint(TAGS)

    @property
    def is_complete(self) -> bool:
        """Whether every column is there, so that its rows can be judged without the database."""
        return self.columns >= set(COLUMNS) - {"site", *LATER}


Progress = Callable[[int], None]


def read_points(stream: BinaryIO, name: str, site: str, progress: Progress | None = None) -> PointFile:
    """Read a points file of ``site``; ``name`` is what messages call it. ``progress`` is told the rows read so far.

    Everything wrong with its rows is in the result's ``problems``. Raise `InputError` where it is no such file at all:
    another encoding, a header that is not ours, no rows.
    """
    lines = _Lines(stream, name)
    header_line, columns, delimiter = _header(lines, name)
    file = PointFile(name, frozenset(columns))
    whole = _WholeFile(file, site)
    for line, record in _records(lines, name, delimiter, header_line):
        if len(file.rows) >= MAX_ROWS:
            raise InputError(f"{name}:{line}: more than {MAX_ROWS} points.", "Is this the right file?")
        if len(record) != len(columns):
            message = f"{len(record)} cells, but the header has {len(columns)}; a separator or quote is wrong"
            file.problems.add([Problem(line, "", message)])
            continue
        row, problems = read_row(dict(zip(columns, record, strict=True)), line, site, delimiter == ";")
        file.problems.add(problems)
        if file.is_complete:
            broken = {problem.column for problem in problems}
            file.problems.add(p for p in check_row(row) if p.column not in broken)
        whole.add(row, {problem.column for problem in problems if not problem.warning})
        if progress and len(file.rows) % 1000 == 0:
            progress(len(file.rows))
    if not file.rows and not file.problems.errors:
        raise InputError(f"{name}: has a header but no points.", "Nothing was changed.")
    whole.share_device_names()
    return file


def write_points(stream: TextIO, rows: Iterable[PointRow], site: str) -> int:
    """Write a points file that reads back as the same rows; return how many."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        writer.writerow(cells(row, site))
        count += 1
    return count


def cells(row: PointRow, site: str) -> list[str]:
    """A row's cells, in the order of `COLUMNS`."""
    texts = (protect_text(text) for text in (row.name, row.dis, row.units))
    tags = (protect_text(tag or "") for tag in row.tags)
    named = row.tags != NO_TAGS
    return [
        str(row.device_id), protect_text(row.device_name), row.address, row.object_type, str(row.object_instance),
        *texts, site if named else "", *tags,
        str(row.interval), _boolean(row.enabled), _boolean(row.writable),
        number_text(row.minimum), number_text(row.maximum),
        *map(whole_text, (row.states, row.writes_per_minute, row.min_on, row.min_off)),
        row.publish or "", number_text(row.deadband), whole_text(row.heartbeat),
        "true" if row.cov else "", row.poll_priority or "",
    ]  # fmt: skip


def whole_text(number: int | None) -> str:
    """A whole number's cell."""
    return "" if number is None else str(number)


def _boolean(value: bool | None) -> str:
    return "" if value is None else str(value).lower()


class _WholeFile:
    """The rules between rows: each point once, each name once, each device with one address and one name."""

    def __init__(self, file: PointFile, site: str) -> None:
        self._file = file
        self._site = site
        self._points: dict[Key, int] = {}
        self._names: dict[str, int] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._devices: dict[str, tuple[int, int]] = {}
        self._device_names: dict[int, tuple[str, int]] = {}

    def add(self, row: PointRow, broken: set[str]) -> None:
        """Take one row; ``broken`` are the columns that could not be read and so can't be compared."""
        identity_is_good = broken.isdisjoint(("device_id", "object_type", "object_instance"))
        if identity_is_good:
            self._once(self._points, row.key, row.line, "object_instance", "the same device and object")
        if row.enabled is not False and broken.isdisjoint(TAGS) and (haystack_name := row.haystack_name(self._site)):
            self._once(self._names, haystack_name, row.line, "qualifier", f"the same haystack name {haystack_name}")
        if "device_id" not in broken:
            self._device(row, broken)
        self._file.rows.append(row)

    def share_device_names(self) -> None:
        """A device's name stands in every row of it, also where only some give it."""
        rows = self._file.rows
        for number, row in enumerate(rows):
            name = self._device_names.get(row.device_id, ("", 0))[0]
            if row.device_name != name:
                values = {f: getattr(row, f) for f in PointRow.__slots__}
                rows[number] = PointRow(**(values | {"device_name": name}))

    def _once(self, seen: dict[Any, int], value: object, line: int, column: str, what: str) -> None:
        first = seen.setdefault(value, line)
        if first != line:
            self._error(line, column, f"{what} as in {self._file.where(first)}; each may stand there once")

    def _device(self, row: PointRow, broken: set[str]) -> None:
        if "address" not in broken:
            address, line = self._addresses.setdefault(row.device_id, (row.address, row.line))
            if address != row.address:
                text = f"device {row.device_id} is at {row.address} here, but at {address} in {self._file.where(line)}"
                self._error(row.line, "address", text)
            device_id, line = self._devices.setdefault(row.address, (row.device_id, row.line))
            if device_id != row.device_id:
                text = f"device {row.device_id} has the address {row.address} of device {device_id} in "
                self._error(row.line, "address", text + self._file.where(line))
        if row.device_name and "device_name" not in broken:
            name, line = self._device_names.setdefault(row.device_id, (row.device_name, row.line))
            if name != row.device_name:
                text = f"device {row.device_id} is {row.device_name!r} here, but {name!r} in {self._file.where(line)}"
                self._error(row.line, "device_name", text)

    def _error(self, line: int, column: str, message: str) -> None:
        self._file.problems.add([Problem(line, column, message)])


class _Lines:
    """The lines of a binary stream as text; raises `InputError` with the line's number where they are not UTF-8."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        octets = self._stream.readline(MAX_LINE)
        if not octets:
            raise StopIteration
        self.number += 1
        if self.number == 1:
            self._check_mark(octets)
        if len(octets) == MAX_LINE or b"\0" in octets:
            raise InputError(f"{self._name}:{self.number}: is not a line of text.", "A CSV file in UTF-8 is expected.")
        try:
            return octets.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            place = f"{self._name}:{self.number}: octet {octets[error.start]:#04x} is not UTF-8"
            raise InputError(f"{place} (Windows-1252 or Latin-1?).", "Save the file as “CSV UTF-8”.") from None

    def _check_mark(self, octets: bytes) -> None:
        if encoding := _BYTE_ORDER_MARKS.get(octets[:2]):
            raise InputError(f"{self._name}: is {encoding}, not UTF-8.", "Save the file as “CSV UTF-8”.")


def _header(lines: _Lines, name: str) -> tuple[int, list[str], str]:
    first = next(lines, "")
    if _SEPARATOR_LINE.fullmatch(first.strip()):
        first = next(lines, "")
    if not first.strip():
        raise InputError(f"{name}: is empty or begins with a blank line.", f"The first line is {','.join(COLUMNS)}.")
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        columns = [cell.strip().lower() for cell in next(csv.reader([first], delimiter=delimiter))]
    except csv.Error as error:  # an old Macintosh's line ends, for example
        raise InputError(f"{name}:{lines.number}: is not CSV ({error}).", "Nothing was changed.") from None
    problems = _header_problems(columns)
    if problems:
        known = f"Known columns: {', '.join(COLUMNS)}."
        raise InputError(f"{name}:{lines.number}: {'; '.join(problems)}.", f"{known} Nothing was changed.")
    return lines.number, columns, delimiter


def _header_problems(columns: list[str]) -> list[str]:
    problems = []
    for column in dict.fromkeys(columns):
        if column not in COLUMNS:
            close = difflib.get_close_matches(column, COLUMNS, 1)
            problems.append(f"unknown column {column!r}" + (f" (did you mean {close[0]}?)" if close else ""))
    problems += [f"column {column} is missing" for column in REQUIRED if column not in columns]
    problems += [f"column {column} stands there {n} times" for column, n in Counter(columns).items() if n > 1]
    return problems


def _records(lines: _Lines, name: str, delimiter: str, offset: int) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of the line on which it begins; blank ones are passed over."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = offset + 1
    try:
        for record in reader:
            if any(cell.strip() for cell in record):
                yield line, record
            line = offset + reader.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{name}:{line}: is not CSV ({error}).", "Is a quote not closed? Nothing was changed."
        ) from None
