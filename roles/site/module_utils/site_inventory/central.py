"""Central's own entry: what its machine needs, and what the sites reach of it."""

import re

from .entry import Entry
from .ipv4 import HOST, parse_address
from .report import Report, shown

NEEDED = ("container.cores", "container.memory", "container.disk", "lan.bridge")  # of a container that we make
LEAST_MEMORY = 1024  # MiB, beside the database's
USER = re.compile(r"[A-Za-z0-9_-]{1,64}")
SIZE = re.compile(r"[1-9][0-9]*[kmg]")


def check_central(central: Entry, report: Report) -> None:
    """What is central's alone; names, addresses and the container are checked as a site's."""
    address, dials_from = central.get("address"), central.get("dials_from")
    if address is not None and not (HOST.fullmatch(address) and _is_a_name_or_address(address)):
        what = "is neither a name nor an IPv4 address"
        report.error(central.where("address"), what, "Write it as the sites reach it, without a port.")
    if dials_from is not None and parse_address(dials_from) is None:
        report.error(central.where("dials_from"), "is no IPv4 address", "Write the one that the sites see.")
    if central.made_by_us:
        for path in (path for path in NEEDED if central.get(path) is None):
            report.error(central.name(path), "is missing, and a container needs it", "Write it as a site has it.")
    if not central.get("lan.sites"):
        remedy = "Name the networks that they come from, if there are any."
        report.warning(central.name("lan.sites"), "is empty: no site reaches broker and database", remedy)
    _check_users([user.get("name") for user in central.get("broker.users") or []], central, report)
    _check_memory(central, report)


def _check_users(names: list[str | None], central: Entry, report: Report) -> None:
    """Sites' users have their ids as names: one that was named here too would have its rights as well."""
    for number, name in enumerate(names):
        if name is None:
            continue
        where = f"{central.name(f'broker.users[{number}].name')} {shown(name)}"
        if not USER.fullmatch(name):
            report.error(where, "is no user's name", "Write letters, digits, _ and -, 64 at most.")
        elif name.startswith("bacpipes_"):
            report.error(where, "is a name of our own services", "Give the user another.")
        elif name in names[:number]:
            report.error(where, "stands there twice", "Give each user once, with all that it may do.")


def _is_a_name_or_address(text: str) -> bool:
    return parse_address(text) is not None or not re.fullmatch(r"[0-9.]+", text)


def _check_memory(central: Entry, report: Report) -> None:
    broker, database, whole = (central.get(f"{part}.memory") for part in ("broker", "database", "container"))
    if broker is not None and not SIZE.fullmatch(broker):
        report.error(central.where("broker.memory"), "is no size", "Write one as 512m or 1g.")
    if whole is not None and database is not None and whole < database + LEAST_MEMORY:
        what = f"MiB are too few: the database has {database} of them (central.database.memory)"
        report.error(central.where("container.memory"), what, f"Give at least {database + LEAST_MEMORY}.")
