"""The setpoint that verification may write."""

from math import isfinite
from typing import Any

from .entry import Entry
from .report import Report, did_you_mean
from .typed import kind, type_name


def check_verify(site: Entry, file: Any, report: Report) -> None:
    name, value = site.get("verify.write_point"), site.get("verify.value")
    if name is None:
        if value is not None:
            report.error(site.where("verify.value"), "has no site.verify.write_point", "Write both or none.")
        else:
            remedy = "Name a harmless setpoint there, if the building has one."
            report.warning("site.verify.write_point", "is not set: verification tries no write", remedy)
        return
    if value is None:
        report.error("site.verify.value", "is missing beside site.verify.write_point", "Write both or none.")
    if file is None:
        return
    site_id = site.get("id")
    row = next((row for row in file.rows if row.haystack_name(site_id) == name), None)
    if row is None:
        names = [known for row in file.rows if row.writable and (known := row.haystack_name(site_id))]
        what = f"is no point of {site.get('points.file')}{did_you_mean(name, names)}"
        report.error(site.where("verify.write_point"), what, "Write the haystack name of a writable setpoint.")
        return
    _check_write(site, row, value, report)


def _check_write(site: Entry, row: Any, value: Any, report: Report) -> None:
    where = site.where("verify.write_point")
    if not row.writable or row.tags[2] != "sp" or row.enabled is False:
        what = f"is no writable, enabled setpoint (line {row.line} of {site.get('points.file')})"
        report.error(where, what, "Choose one whose function is sp and whose column writable is true.")
    if value is None:
        return
    low, high = row.minimum, row.maximum
    if row.object_type.startswith("binary"):
        low, high = 0, 1
    elif row.object_type.startswith("multi-state"):
        low, high = 1, row.states
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (type_name(value) == "float" and not isfinite(value))
    ):
        report.error(site.where("verify.value"), f"is {kind(value)}, no number", "Write a number; 0 or 1 for binary.")
    elif (low is not None and value < low) or (high is not None and value > high):
        what = f"is outside {low} to {high} of {row.haystack_name(site.get('id'))}"
        report.error(site.where("verify.value"), what, "Write a value within the point's limits.")
