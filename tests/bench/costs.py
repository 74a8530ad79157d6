"""Micro-costs over time: each benchmark notes its figures in ``costs.csv`` and says where one has become worse.

What can be a ratio of two measurements in one run is one: it says the same on every machine. The other figures are
compared only with those of a machine with the same processor. As a program it shows what became of each (`make bench`
does so at its end).
"""

import csv
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

FILE = Path(os.environ.get("BACPIPES_TEST_COSTS", Path(__file__).with_name("costs.csv")))
COLUMNS = ("time", "commit", "machine", "name", "value", "load")  # of a minute
# What is noted: is more better? Everything else is a cost.
MORE_IS_BETTER = {"rpm_rate_beside_bacpypes3", "rpm_rate_beside_bac0", "export_beside_loop"}
EARLIER = 5  # figures that the new one is compared with
WORSE = 1.3  # times their median, from where it is told


def note(name: str, value: float) -> None:
    """Append a figure; print a line where it is worse than those before it."""
    new = not FILE.exists()
    with FILE.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(COLUMNS)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")
        writer.writerow([now, _commit(), _machine(), name, f"{value:.4g}", f"{os.getloadavg()[0]:.1f}"])
    if "WORSE" in (line := _line(name)):
        print(line)


def show() -> None:
    """Each figure of this machine, and the ratios: the newest beside those before it."""
    for name in dict.fromkeys(row["name"] for row in _rows()):
        if line := _line(name):
            print(line)


def _line(name: str) -> str:
    """A figure's newest value; empty where none can be compared with ours."""
    *earlier, newest = [None, *(row for row in _rows() if row["name"] == name and _comparable(row))]
    if newest is None:
        return ""
    text = f"  {name:38} {newest['value']:>8} at load {newest['load'] or '?'}"
    before = [float(row["value"]) for row in earlier if row is not None][-EARLIER:]
    if not before:
        return f"{text}, the first"
    worse = _worse(name, float(newest["value"]), median(before))
    return f"{text}, {'WORSE than ' if worse else ''}{median(before):.4g} (median of the {len(before)} before)"


def _worse(name: str, value: float, before: float) -> bool:
    return value * WORSE < before if name in MORE_IS_BETTER else value > before * WORSE


def _rows() -> list[dict[str, str]]:
    if not FILE.exists():
        return []
    with FILE.open(newline="") as file:
        return list(csv.DictReader(file))


def _comparable(row: dict[str, str]) -> bool:
    return row["name"].rpartition("_beside_")[1] != "" or row["machine"] == _machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"


def _machine() -> str:
    """The processor's name and how many there are."""
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return f"{name} × {os.cpu_count()}"


if __name__ == "__main__":
    show()
