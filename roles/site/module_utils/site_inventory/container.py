"""The machine that a site runs on: who makes it, and whether it is large enough."""

from collections.abc import Mapping
from math import ceil
from typing import Any

from .entry import Site
from .points import polled
from .report import FIXED_DISK, Report, did_you_mean
from .values import RANGES
from .variables import Variables

BYTES_A_ROW = 153  # uncompressed, indexes counted: docs/benchmarks.md
LEAST_MEMORY = {"mosquitto": 1024, "emqx": 1536}  # MiB
DAY = 86400
PROXMOX_ONLY = ("id", "storage")


def check_container(site: Site, hostvars: Mapping[str, Variables], report: Report) -> None:
    backend, host = site.get("container.backend"), site.get("container.host")
    given = site.given.get("container", {})
    if backend == "none":
        for key in (key for key in given if key not in ("backend", "memory", "disk")):
            report.error(f"site.container.{key}", "contradicts backend none, which makes no container", "Remove it.")
        return
    if backend in ("lxc", "proxmox") and host is None:
        hosts = "the inventory host that runs LXC" if backend == "lxc" else "the name of the Proxmox node"
        report.error("site.container.host", f"is missing, and backend {backend} needs it", f"Write {hosts}.")
    if backend == "lxc" and host is not None and host not in [*hostvars, "localhost"]:
        what = f"is no host of the inventory{did_you_mean(host, hostvars)}"
        report.error(site.where("container.host"), what, "Add it to hosts.yml, outside the group sites.")
    if backend == "lxc":
        for key in (key for key in PROXMOX_ONLY if key in given):
            report.error(f"site.container.{key}", "says nothing to backend lxc", "Remove it, or write backend proxmox.")
    if backend in ("lxc", "proxmox") and site.get("container.template") is None:
        what = "is missing: the container is made from it"
        report.error("site.container.template", what, "Write it here, or for the whole fleet in fleet.site.")
    if backend == "proxmox" and "id" not in given:
        report.error("site.container.id", "is missing, and backend proxmox needs it", "Write a free number.")


def check_capacity(site: Site, file: Any, report: Report) -> None:
    """Does the disk hold the retention uncompressed, and the memory what runs?"""
    days, disk = site.get("history.retention_days"), site.get("container.disk")
    rows = 0.0
    if file is not None and days is not None and days <= RANGES["history.retention_days"][1]:
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
