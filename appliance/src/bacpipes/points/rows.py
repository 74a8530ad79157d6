"""One point as a person writes it down: its cells read, and checked against the rules that need no database.

The CSV file and the import from an earlier BacPipes both come through here.
"""

import difflib
import ipaddress
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from bacpipes.haystack import FIELDS, SETPOINT, BadNameError, normalise
from bacpipes.objects import MAX_INSTANCE, OBJECT_TYPES, Kind

# The header of a points file, in the order in which it is written; any order is read.
COLUMNS = (
    "device_id", "device_name", "address", "object_type", "object_instance", "name", "dis", "units",
    *FIELDS,
    "interval", "enabled", "writable", "min", "max", "states",
    "writes_per_minute", "min_on", "min_off",
    "publish", "deadband", "heartbeat",
    "cov", "poll_priority",
)  # fmt: skip
REQUIRED = ("device_id", "address", "object_type", "object_instance")
PACE, PUBLISH = COLUMNS[-8:-5], COLUMNS[-5:-2]
LATER = COLUMNS[-8:]  # files without them are complete too
TAGS = FIELDS[1:]  # the site is the appliance's

DEFAULT_INTERVAL = 60  # seconds, as the point table's default
MAX_INTERVAL = 86400
MAX_TEXT = 500
MAX_STATES = 2**31 - 1
MAX_WRITES, MAX_SECONDS = 10_000, 86_400  # a minute; of a minimum time or a heartbeat
POLICIES = ("every", "change")  # which readings are published: docs/publishing.md
POLL_PRIORITIES = ("high", "normal", "low")
BACNET_PORT = 47808

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_WHOLE = re.compile(r"[0-9]{1,18}")
_REAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_IP = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+")
_PORT = re.compile(r"[0-9]{1,5}")
_ROUTED = re.compile(r"([0-9]{1,5}):([0-9]{1,3}|0x(?:[0-9a-fA-F]{2}){1,7}|[0-9.]+(?::[0-9]{1,5})?)")

Key = tuple[int, str, int]  # a point's identity: device, object type, object instance


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one row (``line``), in which column, and what to do. A warning does not refuse the file."""

    line: int
    column: str
    message: str
    warning: bool = False


class CellError(ValueError):
    """A cell that can't be read; the text says why."""


@dataclass(frozen=True, slots=True)
class PointRow:
    """One checked row. ``interval`` is seconds; ``minimum`` and ``maximum`` are in the point's ``units``.

    ``tags`` are the seven haystack fields after the site (`TAGS`), normalised, None where blank. ``enabled`` is None
    where it is not said: then the point is polled if it has its equipment.
    """

    line: int
    device_id: int
    device_name: str
    address: str
    object_type: str
    object_instance: int
    name: str
    dis: str
    units: str
    tags: tuple[str | None, ...]
    interval: int
    enabled: bool | None
    writable: bool
    minimum: float | None
    maximum: float | None
    states: int | None
    writes_per_minute: int | None = None  # None: the site's default
    min_on: int | None = None  # seconds, binary objects; None: the site's default
    min_off: int | None = None
    publish: str | None = None  # one of POLICIES; None: the site's default
    deadband: float | None = None  # in ``units``, analog objects; None: 0
    heartbeat: int | None = None  # seconds; None: the site's default
    cov: bool = False  # told by the device when it changes, where the device does that
    poll_priority: str | None = None  # what a device that is too slow is asked first; None: normal

    @property
    def key(self) -> Key:
        """Device, object type and instance: what makes it this point and no other."""
        return self.device_id, self.object_type, self.object_instance

    @property
    def equipment(self) -> tuple[str, str] | None:
        """``equip`` and ``equip_ref``, or None where the point has none and so no topic."""
        equip, equip_ref = self.tags[:2]
        return (equip, equip_ref) if equip and equip_ref else None

    def haystack_name(self, site: str) -> str | None:
        """The full name, or None unless all fields are given."""
        return ".".join((site, *filter(None, self.tags))) if all(self.tags) else None


NO_TAGS: tuple[str | None, ...] = (None,) * len(TAGS)


@dataclass(slots=True)
class _Reader:
    """Reads one row's cells and collects what is wrong with them, so that all errors are told at once."""

    cells: Mapping[str, str]
    line: int
    decimal_comma: bool
    problems: list[Problem] = field(default_factory=list)

    def error(self, column: str, message: str) -> None:
        self.problems.append(Problem(self.line, column, message))

    def warning(self, column: str, message: str) -> None:
        self.problems.append(Problem(self.line, column, message, warning=True))

    def plain(self, column: str) -> str:
        return self.cells.get(column, "").removeprefix("'").strip()

    def text(self, column: str) -> str:
        try:
            return clean_text(self.cells.get(column, ""))
        except CellError as error:
            self.error(column, str(error))
            return ""

    def whole(self, column: str, low: int, high: int) -> int | None:
        cell = self.plain(column)
        if not cell:
            return None
        if not _WHOLE.fullmatch(cell) or not low <= int(cell) <= high:
            self.error(column, f"{cell!r} is not a whole number from {low} to {high}")
            return None
        return int(cell)

    def required_whole(self, column: str, high: int) -> int:
        number = self.whole(column, 0, high)
        if number is None and not self.plain(column):
            self.error(column, "is blank; every row needs it")
        return number or 0

    def real(self, column: str, at_least: float = -math.inf) -> float | None:
        cell = self.plain(column)
        if not cell:
            return None
        number = cell.replace(",", ".", 1) if self.decimal_comma else cell
        if not _REAL.fullmatch(number) or not math.isfinite(float(number)):
            self.error(column, f"{cell!r} is not a finite number" + _comma_hint(cell))
            return None
        if float(number) < at_least:
            self.error(column, f"{cell!r} is below {number_text(at_least)}")
            return None
        return float(number)

    def word(self, column: str, words: tuple[str, ...]) -> str | None:
        cell = self.plain(column).lower()
        if cell and cell not in words:
            self.error(column, f"{cell!r} is not one of {', '.join(words)}")
        return cell if cell in words else None

    def boolean(self, column: str) -> bool | None:
        cell = self.plain(column).lower()
        if cell and cell not in _BOOLEANS:
            self.error(column, f"{cell!r} is not one of true, false, yes, no, 1, 0")
        return _BOOLEANS.get(cell)

    def choice(self, column: str, words: tuple[str, ...]) -> str | None:
        cell = self.plain(column).lower()
        if cell and cell not in words:
            self.error(column, f"{cell!r} is not one of {', '.join(words)}")
            return None
        return cell or None


def read_row(
    cells: Mapping[str, str], line: int, site: str, decimal_comma: bool = False
) -> tuple[PointRow, list[Problem]]:
    """One row from its cells (absent ones count as blank), and everything that is wrong with it.

    The rules between the fields are `check_row`'s. Where a problem is an error the row is not to be used, except for
    looking for further errors.
    """
    reader = _Reader(cells, line, decimal_comma)
    tags = _tags(reader, site)
    states = reader.whole("states", 1, MAX_STATES)
    row = PointRow(
        line=line,
        device_id=reader.required_whole("device_id", MAX_INSTANCE),
        device_name=reader.text("device_name"),
        address=_address(reader),
        object_type=_object_type(reader),
        object_instance=reader.required_whole("object_instance", MAX_INSTANCE),
        name=reader.text("name"),
        dis=reader.text("dis"),
        units=reader.text("units"),
        tags=tags,
        interval=reader.whole("interval", 1, MAX_INTERVAL) or DEFAULT_INTERVAL,
        enabled=reader.boolean("enabled"),
        writable=reader.boolean("writable") or False,
        minimum=reader.real("min"),
        maximum=reader.real("max"),
        states=states,
        writes_per_minute=reader.whole("writes_per_minute", 0, MAX_WRITES),
        min_on=reader.whole("min_on", 0, MAX_SECONDS),
        min_off=reader.whole("min_off", 0, MAX_SECONDS),
        publish=reader.word("publish", POLICIES),
        deadband=reader.real("deadband", at_least=0),
        heartbeat=reader.whole("heartbeat", 1, MAX_SECONDS),
        cov=reader.boolean("cov") or False,
        poll_priority=reader.choice("poll_priority", POLL_PRIORITIES),
    )
    return row, reader.problems


def check_row(row: PointRow) -> list[Problem]:
    """The rules between the fields of one row: errors, and warnings of what will be refused at a write."""
    if row.object_type not in OBJECT_TYPES:
        return []
    kind = OBJECT_TYPES[row.object_type].kind
    problems = _limits(row)
    if row.enabled and row.equipment is None:
        problems.append(
            Problem(row.line, "enabled", "true, but the point has no topic: fill in equip and equip_ref, or say false")
        )
    if row.states is not None and kind is not Kind.MULTISTATE:
        problems.append(Problem(row.line, "states", f"only multi-state objects have states, not {row.object_type}"))
    for column in ("min_on", "min_off"):
        if getattr(row, column) is not None and kind is not Kind.BINARY:
            problems.append(Problem(row.line, column, f"only binary objects are switched, not {row.object_type}"))
    problems += _publishing(row, kind)
    if row.writable and (row.equipment or not OBJECT_TYPES[row.object_type].writable):
        problems += _writable(row, kind)  # of what is not tagged yet there is nothing to warn
    return problems


def _limits(row: PointRow) -> list[Problem]:
    low, high = row.minimum, row.maximum
    if low is None or high is None or low <= high:
        return []
    return [Problem(row.line, "min", f"{number_text(low)} is above max {number_text(high)}")]


def _publishing(row: PointRow, kind: Kind) -> list[Problem]:
    problems = []
    if row.deadband is not None and kind is not Kind.ANALOG:
        text = f"only analog objects have one, not {row.object_type}: every change of it is published"
        problems.append(Problem(row.line, "deadband", text))
    for column in ("deadband", "heartbeat"):
        if getattr(row, column) is not None and row.publish == "every":
            text = "has no effect: publish is 'every', so each reading goes out anyway"
            problems.append(Problem(row.line, column, text, warning=True))
    return problems


def _writable(row: PointRow, kind: Kind) -> list[Problem]:
    if not OBJECT_TYPES[row.object_type].writable:
        return [Problem(row.line, "writable", f"true, but {row.object_type} is measured, it can't be written")]
    problems = []
    function = row.tags[TAGS.index("function")]
    if function != SETPOINT:
        found = f"is {function!r}" if function else "is blank"
        text = f"true, but function {found}, not {SETPOINT!r}: every write will be refused"
        problems.append(Problem(row.line, "writable", text, warning=True))
    if kind is Kind.ANALOG and row.minimum is None and row.maximum is None:
        text = "true, but there is no min and no max: writes are refused unless BACPIPES_WRITE_WITHOUT_LIMITS is set"
        problems.append(Problem(row.line, "writable", text, warning=True))
    elif kind is Kind.ANALOG and (row.minimum is None or row.maximum is None):
        missing = "min" if row.minimum is None else "max"
        problems.append(Problem(row.line, missing, "is blank: writes are checked against one bound only", warning=True))
    if kind is Kind.MULTISTATE and row.states is None:
        problems.append(Problem(row.line, "states", "is blank: a write can't be checked against it", warning=True))
    return problems


def clean_text(cell: str) -> str:
    """A text cell as it is stored: a leading apostrophe (a spreadsheet's mark for "this is text") goes and the rest
    stays as it is; without one, spaces around it go. Raise `CellError` where it can't be stored or shown."""
    text = cell[1:] if cell.startswith("'") else cell.strip()
    if _CONTROL.search(text):
        raise CellError("holds a line break or another control character; take it out")
    if len(text) > MAX_TEXT:
        raise CellError(f"is {len(text)} characters long, at most {MAX_TEXT}; is a closing quote missing?")
    return text


def tidy_text(value: object) -> str:
    """A text from elsewhere (a device, another database) on one line and no longer than it may be; blank for None."""
    printable = "".join(c if c.isprintable() else " " for c in str(value if value is not None else ""))
    return " ".join(printable.split())[:MAX_TEXT].strip()


def protect_text(text: str) -> str:
    """The cell that `clean_text` reads back as ``text``, and that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "'")) or text != text.strip() else text


def number_text(number: float | None) -> str:
    """A limit as it is written: the shortest text that reads back as the same number; blank for None."""
    return "" if number is None else repr(number).removesuffix(".0")


def object_type_name(text: str) -> str | None:
    """The standard's hyphenated name of one of our nine object types, also from camelCase and from words with spaces
    or underscores; None for any other."""
    hyphenated = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", text.strip())
    name = re.sub(r"[\s_-]+", "-", hyphenated).lower()
    return name if name in OBJECT_TYPES else None


@lru_cache(maxsize=65536)
def canonical_address(text: str) -> str:
    """A device's address as bacpypes3 writes it (without BACnet's own port); raise `CellError` where it is none.

    ``ip``, ``ip:port`` or, behind a router, ``network:mac``. Host names are refused, so that nothing is looked up.
    """
    if _IP.fullmatch(text.partition(":")[0]):
        return _ip_address(text, text)
    if not (match := _ROUTED.fullmatch(text)):
        raise CellError(f"{text!r} is not ip, ip:port or network:mac (as 10.0.0.5, 10.0.0.5:47809 or 2001:12)")
    if not 1 <= int(match[1]) <= 65534:
        raise CellError(f"{text!r}: a BACnet network is a number from 1 to 65534")
    from bacpypes3.pdu import Address  # slow to import, and most files have no routed device

    mac = match[2]
    if "." in mac:
        _ip_address(text, mac)
    try:
        return str(Address(text))
    except ValueError as error:
        raise CellError(f"{text!r} is not a network:mac address ({error})") from None


def _ip_address(text: str, part: str) -> str:
    host, colon, port = part.partition(":")
    try:
        ip = ipaddress.IPv4Address(host)
    except ValueError as error:
        raise CellError(f"{text!r} is not an IPv4 address ({error})") from None
    if ip.is_unspecified or ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        raise CellError(f"{text!r} is not the address of one device")
    if colon and (not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535):
        raise CellError(f"{text!r}: a port is a number from 1 to 65535")
    return f"{ip}:{int(port)}" if port and int(port) != BACNET_PORT else str(ip)


def _address(reader: _Reader) -> str:
    cell = reader.plain("address")
    if not cell:
        reader.error("address", "is blank; every row needs it")
        return ""
    try:
        return canonical_address(cell)
    except CellError as error:
        reader.error("address", str(error))
        return ""


def _object_type(reader: _Reader) -> str:
    cell = reader.plain("object_type")
    name = object_type_name(cell)
    if name is not None:
        return name
    if not cell:
        reader.error("object_type", "is blank; every row needs it")
    else:
        close = difflib.get_close_matches(cell.lower(), OBJECT_TYPES, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(OBJECT_TYPES)}"
        reader.error("object_type", f"{cell!r} is not an object type that can be polled; {hint}")
    return ""


def _tags(reader: _Reader, site: str) -> tuple[str | None, ...]:
    _check_site(reader, site)
    given = {tag: cell for tag in TAGS if (cell := reader.plain(tag))}
    missing = [tag for tag in TAGS if tag not in given]
    if given and missing and set(given) != {"equip", "equip_ref"}:
        remedy = "give all, or only equip and equip_ref, or none"
        also = f" (so are {', '.join(missing[1:])})" if missing[1:] else ""
        reader.error(missing[0], f"is blank{also}, but {', '.join(given)} given; {remedy}")
    for tag, cell in given.items():
        try:
            given[tag] = _normalise(tag, cell)
        except BadNameError as error:
            reader.error(tag, str(error).removeprefix(f"{tag}: "))
    return tuple(given.get(tag) for tag in TAGS)


_normalise = lru_cache(maxsize=65536)(normalise)  # the same few words stand in every row


def _check_site(reader: _Reader, site: str) -> None:
    cell = reader.plain("site")
    if cell and cell.lower() != site:
        reader.error("site", f"{cell!r}, but this appliance is site {site!r}; leave it blank or correct it")


def _comma_hint(cell: str) -> str:
    return "; write a decimal point, not a comma" if "," in cell else ""
