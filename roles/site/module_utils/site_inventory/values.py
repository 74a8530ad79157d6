"""Names and numbers of a site, or of central."""

import difflib
import re
import zoneinfo
from functools import cache

from .entry import Entry
from .report import Report

SITE_ID = re.compile(r"[a-z0-9_-]{1,63}")
RANGES = {
    "container.id": (100, 999_999_999),
    "container.cores": (1, 1024),
    "container.disk": (1, 65536),
    "bacnet.port": (1, 65535),
    "bacnet.device_id": (0, 4_194_302),
    "database.memory": (256, 1_048_576),
    "history.compress_after_hours": (1, 87600),
    "writes.priority_floor": (1, 16),
}
RETENTION = {"site": (1, 3650), "central": (0, 36500)}  # days; at central 0 is for ever


def check_identity(site: Entry, report: Report) -> None:
    site_id = site.get("id")
    if site_id is not None and not SITE_ID.fullmatch(site_id):
        report.error(site.where("id"), "is no slug", "Use 1 to 63 of a-z, 0-9, _ and -.")
    elif site_id is not None and site.made_by_us and site_id != site_id.strip("-_"):
        what = "begins or ends with - or _, and the container's name is made from it"
        report.error(site.where("id"), what, "Begin and end with a letter or digit.")
    if not all(character.isprintable() for character in site.get("name") or ""):
        what = "has a line break or another control character"
        report.error(site.where("name"), what, "Write it on one line, without tabs.")
    if site_id == "bacnet":
        report.error(site.where("id"), "is reserved", "Its topics would be those of the commands; give another id.")


def check_priority(site: Entry, report: Report) -> None:
    if site.get("writes.priority_floor") == 6:  # verification writes with it
        what = "is the priority of minimum on and off times, with which nothing is written"
        report.error(site.where("writes.priority_floor"), what, "Write 7 or more, or 5 or less.")


def check_time_zone(site: Entry, report: Report) -> None:
    zone, zones = site.get("time_zone"), _time_zones()
    if zone is not None and zones and zone not in zones:
        close = {name.lower(): name for name in sorted(zones)}
        city = [name for name in close if name.endswith(f"/{zone.lower()}")]
        near = city or difflib.get_close_matches(zone.lower(), close, 1, 0.8)
        hint = f"; did you mean {close[near[0]]}?" if near else ""
        report.error(site.where("time_zone"), f"is no IANA time zone{hint}", "Write one as Asia/Macau.")


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())  # empty where the controller has no time zone data


def check_ranges(site: Entry, report: Report) -> None:
    for path, (low, high) in (RANGES | {"history.retention_days": RETENTION[site.kind]}).items():
        value = site.get(path)
        if value is not None and not low <= value <= high:
            report.error(site.where(path), f"is not from {low} to {high}", "Correct the number.")
    days, hours = site.get("history.retention_days"), site.get("history.compress_after_hours")
    if days and hours and hours >= days * 24:
        what = f"hours are not less than the {days} days of site.history.retention_days"
        report.error(site.where("history.compress_after_hours"), what, "Compress earlier, or keep more days.")
