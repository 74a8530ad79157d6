"""Query parameters, read strictly: what is misspelt, repeated or malformed is refused with what is expected."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from bacpipes.exporter.problem import bad_parameter

FORMATS = ("csv", "json")
DEFAULT_SPAN = timedelta(hours=24)
INSTANT = timedelta(microseconds=1)  # PostgreSQL's resolution
EXPECTED_TIME = (
    "a date (2025-12-31, a day of the site's zone) or a time (2025-12-31T14:30:00Z, 2025-12-31T14:30:00+08:00, "
    "or 2025-12-31T14:30 in the site's zone); a + in a URL is written %2B"
)
# A '+' that was not escaped in the URL arrives as a space; before an offset it can mean nothing else.
_TIME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(?P<offset>[Zz]|[+\- ]\d\d:?\d\d)?)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export; both ends are inclusive, aware and in UTC."""

    start: datetime
    end: datetime
    haystack_name: str | None
    format: str


def take(pairs: Iterable[tuple[str, str]], allowed: Iterable[str]) -> dict[str, str]:
    """The parameters by name; an empty one counts as absent. Unknown and repeated ones are refused."""
    names, found = tuple(allowed), dict[str, str]()
    for name, value in pairs:
        if name not in names:
            expected = f"one of {', '.join(names)}" if names else "no parameters"
            raise bad_parameter(name, f"Unknown parameter {name!r}.", expected)
        if name in found:
            raise bad_parameter(name, f"Parameter {name!r} is given more than once.", "one value")
        found[name] = value
    return {name: value for name, value in found.items() if value}


def export_request(pairs: Iterable[tuple[str, str]], zone: ZoneInfo, now: datetime) -> ExportRequest:
    """Read the export's parameters; without ``end`` up to now, without ``start`` the 24 hours before the end."""
    given = take(pairs, ("start", "end", "haystackName", "format"))
    end = moment("end", given["end"], zone, last=True) if "end" in given else now
    start = moment("start", given["start"], zone, last=False) if "start" in given else _before(end)
    if start > end:
        raise bad_parameter(
            "start" if "start" in given else "end", "start lies after end.", f"start not after {end.isoformat()}"
        )
    return ExportRequest(start, end, _name(given.get("haystackName")), _format(given.get("format", "csv")))


def moment(name: str, text: str, zone: ZoneInfo, *, last: bool) -> datetime:
    """The instant that a parameter means, in UTC: of a bare date the first, or with ``last`` the last of that day.

    A local time that occurs twice (the clocks went back) means the earlier, or with ``last`` the later one.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise bad_parameter(name, f"{name} is not a date or time: {text!r}.", EXPECTED_TIME)
    try:
        return _instant(match, zone, last=last).astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad_parameter(name, f"{name} is not a date or time that exists: {text!r}.", EXPECTED_TIME) from None


def _instant(match: re.Match[str], zone: ZoneInfo, *, last: bool) -> datetime:
    day = date.fromisoformat(match["date"])
    if match["time"] is None:
        if last:
            return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC) - INSTANT
        return datetime.combine(day, time(), zone)
    local = datetime.combine(day, time.fromisoformat(match["time"]))
    if match["offset"] is None:
        return local.replace(tzinfo=zone, fold=int(last))
    return local.replace(tzinfo=_offset(match["offset"]))


def _offset(text: str) -> timezone:
    if text in "Zz":
        return UTC
    hours, minutes = int(text[1:3]), int(text[-2:])
    if minutes > 59:
        raise ValueError(text)
    size = timedelta(hours=hours, minutes=minutes)
    return timezone(-size if text[0] == "-" else size)


def _before(end: datetime) -> datetime:
    try:
        return end - DEFAULT_SPAN
    except OverflowError:
        return end


def _name(text: str | None) -> str | None:
    if text is not None and "\x00" in text:
        raise bad_parameter("haystackName", "haystackName holds a NUL character.", "a haystack name")
    return text


def _format(text: str) -> str:
    if text not in FORMATS:
        raise bad_parameter("format", f"Unknown format {text!r}.", f"one of {', '.join(FORMATS)}")
    return text
