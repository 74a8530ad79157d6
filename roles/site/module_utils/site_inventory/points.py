"""A site's points file, read by the appliance's own reader."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .entry import Entry
from .ipv4 import parse_address
from .report import Report, shown

POINT_PROBLEMS = 20  # lines of one points file that are shown; the rest are counted


def check_points(site: Entry, report: Report) -> Any:
    """The points file, read by the appliance's own reader; None where there is none that can be used."""
    text, folder = site.get("points.file"), site.variables.get("inventory_dir")
    if text is None or not isinstance(folder, str) or site.get("id") is None:
        return None
    where = site.where("points.file")
    relative = Path(text)
    if relative.is_absolute() or "\0" in text or relative.suffix != ".csv":
        report.error(where, "is not a .csv file relative to the inventory folder", "Write it as points/macau.csv.")
        return None
    path, page = Path(folder) / relative, site.get("points.owner") == "page"
    if not _is_file(path):
        if not page:  # else it is fetched back into the inventory
            remedy = f"`bacpipes discover --output {relative}` writes a first one; it belongs into {folder}."
            report.error(where, "does not exist", remedy)
        return None
    return _read_points(site, path, report.warning if page else report.error, report)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _read_points(site: Entry, path: Path, say: Callable[[str, str, str], None], report: Report) -> Any:
    try:
        from bacpipes.errors import InputError
        from bacpipes.points.csv_file import read_points
    except ImportError:
        remedy = "Run the ansible-playbook that `make controller` installs (docs/onboarding.md)."
        report.error("site.points.file", "can't be checked, because the package bacpipes is not installed", remedy)
        return None
    where = site.where("points.file")
    try:
        with path.open("rb") as stream:
            file = read_points(stream, site.get("points.file"), site.get("id"))
    except (InputError, OSError) as error:
        say(where, f"can't be used: {' '.join(str(error).split()).rstrip('.')}", "Correct the file.")
        return None
    for problem in [p for p in file.problems.kept if not p.warning][:POINT_PROBLEMS]:
        where_line = f"site.points.file {file.where(problem.line)}"
        say(where_line, f"{problem.column}: {problem.message}", "Correct that line.")
    if (more := file.problems.errors - POINT_PROBLEMS) > 0:
        command = f"bacpipes points check --full --site {shown(site.get('id'))} {shown(site.get('points.file'))}"
        say(where, f"has {more} more errors", f"`{command}` shows all.")
    for problem in [p for p in file.problems.kept if p.warning][:POINT_PROBLEMS]:
        where_line = f"site.points.file {file.where(problem.line)}"
        report.warning(where_line, f"{problem.column}: {problem.message}", "Such writes are refused or less checked.")
    return None if file.problems.errors else file


def polled(file: Any) -> Iterator[Any]:
    return (row for row in file.rows if row.equipment and row.enabled is not False)


def check_devices(site: Entry, file: Any, report: Report) -> None:
    """We are a device among those of the points file: neither our number nor our address may be there."""
    bacnet = site.interface("bacnet.address")
    if file is None:
        return
    outside: dict[int, str] = {}
    for row in file.rows:
        where = f"site.points.file {file.where(row.line)}"
        if row.device_id == site.get("bacnet.device_id"):
            what = f"device_id: {row.device_id} is site.bacnet.device_id, the appliance's own"
            report.error(where, what, "Give site.bacnet.device_id a number that no controller has.")
            return
        host, _, port = row.address.partition(":")
        address = parse_address(host)
        if bacnet is None or address is None:
            continue
        if address == bacnet.ip and int(port or 47808) == site.get("bacnet.port"):
            what = f"address: {row.address} is site.bacnet.address, the appliance's own"
            report.error(where, what, "Give site.bacnet.address a free address.")
            return
        if address not in bacnet.network:
            outside.setdefault(row.device_id, f"{row.address}")
    for device, where in list(outside.items())[:POINT_PROBLEMS]:
        what = f"has device {device} at {where}, outside the network of site.bacnet.address {bacnet}"
        report.warning(site.where("points.file"), what, "It is reached only if a router leads there.")
