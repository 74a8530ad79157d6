"""A site's name and its numbers."""

import difflib
import re
import zoneinfo
from functools import cache

from .entry import Site
from .report import Report

SITE_ID = re.compile(r"[a-z0-9_-]{1,63}")
RANGES = {
    "container.id": (100, 999_999_999),
    "container.cores": (1, 1024),
    "container.disk": (1, 65536),
    "bacnet.port": (1, 65535),
    "bacnet.device_id": (0, 4_194_302),
    "history.retention_days": (1, 3650),
    "history.compress_after_hours": (1, 87600),
    "writes.priority_floor": (1, 16),
}


def check_identity(site: Site, report: Report) -> None:
    site_id, zone = site.get("id"), site.get("time_zone")
    if site_id is not None and not SITE_ID.fullmatch(site_id):
        report.error(site.where("id"), "is no slug", "Use 1 to 63 of a-z, 0-9, _ and -.")
    elif site_id is not None and site.made_by_us and site_id != site_id.strip("-_"):
        what = "begins or ends with - or _, and the container's name is made from it"
        report.error(site.where("id"), what, "Begin and end with a letter or digit.")
    if site_id == "bacnet":
        report.error(site.where("id"), "is reserved", "Its topics would be those of the commands; give another id.")
    zones = _time_zones()
    if zone is not None and zones and zone not in zones:
        close = {name.lower(): name for name in sorted(zones)}
        city = [name for name in close if name.endswith(f"/{zone.lower()}")]
        near = city or difflib.get_close_matches(zone.lower(), close, 1, 0.8)
        hint = f"; did you mean {close[near[0]]}?" if near else ""
        report.error(site.where("time_zone"), f"is no IANA time zone{hint}", "Write one as Asia/Macau.")


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())  # empty where the controller has no time zone data


def check_ranges(site: Site, report: Report) -> None:
    for path, (low, high) in RANGES.items():
        value = site.get(path)
        if value is not None and not low <= value <= high:
            report.error(site.where(path), f"is not from {low} to {high}", "Correct the number.")
    days, hours = site.get("history.retention_days"), site.get("history.compress_after_hours")
    if days and hours and hours >= days * 24:
        what = f"hours are not less than the {days} days of site.history.retention_days"
        report.error(site.where("history.compress_after_hours"), what, "Compress earlier, or keep more days.")
