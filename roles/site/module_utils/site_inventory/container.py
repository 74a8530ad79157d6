"""The machine that a site runs on: who makes it, and whether it is large enough."""

import re
from collections.abc import Collection, Mapping
from math import ceil
from typing import Any

from .entry import Entry
from .points import polled
from .report import FIXED_DISK, Report, did_you_mean
from .values import RETENTION
from .variables import Variables

BYTES_A_ROW = 153  # uncompressed, indexes counted: docs/benchmarks.md
LEAST_MEMORY = {"mosquitto": 1024, "emqx": 1536}  # MiB
DAY = 86400
PROXMOX_ONLY = ("id", "storage")
TEMPLATES = {
    "lxc": (re.compile(r"/\S+"), "Write the path of a root's tarball on the host, from / on."),
    "proxmox": (re.compile(r"[\w.-]+:\S+"), "Write a volume, as local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst."),
}


def check_container(site: Entry, hostvars: Mapping[str, Variables], machines: Collection[str], report: Report) -> None:
    """``machines`` are the hosts that have an entry of their own: sites and centrals."""
    backend, given = site.get("container.backend"), site.given.get("container", {})
    if backend == "none":
        for key in (key for key in given if key not in ("backend", "memory", "disk")):
            what = "contradicts backend none, which makes no container"
            report.error(site.name(f"container.{key}"), what, "Remove it.")
        return
    if backend == "lxc":
        for key in (key for key in PROXMOX_ONLY if key in given):
            what = "says nothing to backend lxc"
            report.error(site.name(f"container.{key}"), what, "Remove it, or write backend proxmox.")
    if backend == "proxmox" and "id" not in given:
        report.error("site.container.id", "is missing, and backend proxmox needs it", "Write a free number.")
    if backend in TEMPLATES:
        _check_host(site, hostvars, machines, report)
        _check_template(site, report)


def _check_host(site: Entry, hostvars: Mapping[str, Variables], machines: Collection[str], report: Report) -> None:
    backend, host = site.get("container.backend"), site.get("container.host")
    if host is None:
        hosts = "the inventory host that runs LXC" if backend == "lxc" else "the name of the Proxmox node"
        report.error(site.name("container.host"), f"is missing, and backend {backend} needs it", f"Write {hosts}.")
    elif backend == "lxc" and host not in [*hostvars, "localhost"]:
        what = f"is no host of the inventory{did_you_mean(host, hostvars)}"
        report.error(site.where("container.host"), what, "Add it to hosts.yml, outside the group sites.")
    elif backend == "lxc" and host in machines:
        what = "is itself a machine that BacPipes runs on"
        report.error(site.where("container.host"), what, "Name the host that runs the LXC containers.")


def _check_template(site: Entry, report: Report) -> None:
    template, (form, remedy) = site.get("container.template"), TEMPLATES[site.get("container.backend")]
    if template is None:
        what = "is missing: the container is made from it"
        where = "Write it here, or for the whole fleet in fleet.site." if site.kind == "site" else remedy
        report.error(site.name("container.template"), what, where)
    elif not form.fullmatch(template):
        backend = site.get("container.backend")
        report.error(site.where("container.template"), f"is nothing that backend {backend} makes one from", remedy)


def check_capacity(site: Entry, file: Any, report: Report) -> None:
    """Does the disk hold the retention uncompressed, and the memory what runs?"""
    days, disk = site.get("history.retention_days"), site.get("container.disk")
    rows = 0.0
    if file is not None and days is not None and days <= RETENTION["site"][1]:
        rows = sum(DAY / row.interval for row in polled(file)) * days
    history = rows * BYTES_A_ROW / 2**30
    report.disk = ceil(FIXED_DISK + history)
    said = "disk" in site.given.get("container", {}) or site.made_by_us
    if said and isinstance(disk, int) and disk < report.disk:
        count = sum(1 for _ in polled(file)) if file is not None else 0
        what = (
            f"GiB are too few: {count} points make {rows / 1e6:.1f} million rows in {days} days"
            f" (site.history.retention_days), {history:.1f} GiB at {BYTES_A_ROW} bytes, and {FIXED_DISK} GiB are"
            " needed for system, images and logs"
        )
        report.error(site.where("container.disk"), what, f"Give at least {report.disk}, or keep fewer days.")
    memory, least = site.get("container.memory"), LEAST_MEMORY.get(site.get("broker.engine"), 1024)
    if memory is not None and memory < least and ("memory" in site.given.get("container", {}) or site.made_by_us):
        engine = site.get("broker.engine")
        what = f"MiB are too few for a site with {engine}"
        report.error(site.where("container.memory"), what, f"Give at least {least}.")
