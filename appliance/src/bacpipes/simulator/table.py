"""The building as text: the points CSV that the importer reads, and the table that is printed at start."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from bacpipes.errors import InputError
from bacpipes.haystack import FIELDS
from bacpipes.objects import Kind
from bacpipes.simulator.plan import DevicePlan, SitePlan
from bacpipes.simulator.points import Point, number_of_states

COLUMNS = (
    *("device_id", "device_name", "address", "object_type", "object_instance", "name", "dis", "units"),
    *FIELDS,
    *("interval", "enabled", "writable", "min", "max", "states"),
)


def points_csv(plan: SitePlan) -> str:
    """All points, fully tagged, one a line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(plan))
    return text.getvalue()


def write_points(plan: SitePlan, path: Path) -> int:
    """Write the points CSV; the number of points."""
    try:
        path.write_text(points_csv(plan), encoding="utf-8")
    except OSError as error:
        raise InputError(f"Can't write {path}: {error.strerror}.") from None
    return sum(len(device.points) for device in plan.devices)


def _rows(plan: SitePlan) -> Iterator[dict[str, str]]:
    return (_row(plan, device, point) for device in plan.devices for point in device.points)


def _row(plan: SitePlan, device: DevicePlan, point: Point) -> dict[str, str]:
    name = plan.haystack(device, point)
    states = number_of_states(point)
    return {field: getattr(name, field) for field in FIELDS} | {
        "device_id": str(device.device_id),
        "device_name": device.name,
        "address": device.address,
        "object_type": point.object_type,
        "object_instance": str(point.instance),
        "name": point.name,
        "dis": point.dis,
        "units": point.unit.text,
        "interval": str(point.interval),
        "enabled": "true",
        "writable": "true" if point.writable else "false",
        "min": _bound(point, point.minimum),
        "max": _bound(point, point.maximum),
        "states": "" if states is None else str(states),
    }


def _bound(point: Point, bound: float | None) -> str:
    return f"{bound:g}" if bound is not None and point.type.kind is Kind.ANALOG else ""


def device_table(plan: SitePlan) -> str:
    """Number, address, name and points of each device, and the sum."""
    rows = [(str(d.device_id), d.address, d.name, str(len(d.points)), d.description) for d in plan.devices]
    head = ("device", "address", "name", "points", "what it is")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [f"Site {plan.site}", ""]
    for device, address, name, points, what in [head, *rows]:
        lines.append(
            f"{device:>{widths[0]}}  {address:<{widths[1]}}  {name:<{widths[2]}}  {points:>{widths[3]}}  {what}"
        )
    total = sum(len(device.points) for device in plan.devices)
    return "\n".join([*lines, "", f"{len(rows)} devices, {total} points"])
