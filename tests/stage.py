"""Runs one stage of the tests and notes how long it took; ``--summary`` prints all stages.

Standard library only: it runs before anything is installed.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

NOTES = Path(".stages")


def run(name: str, command: list[str]) -> int:
    """Run a stage; returns its exit status."""
    print(f"── {name}", flush=True)
    began = time.monotonic()
    status = subprocess.run(command).returncode
    with NOTES.open("a") as notes:
        notes.write(json.dumps({"name": name, "seconds": time.monotonic() - began, "status": status}) + "\n")
    if status:
        print(summary(), flush=True)
    return status


def summary() -> str:
    """A line for each stage, and their sum."""
    stages = [json.loads(line) for line in NOTES.read_text().splitlines()] if NOTES.exists() else []
    lines = [_line(stage["name"], stage["seconds"], "ok" if stage["status"] == 0 else "FAILED") for stage in stages]
    return "\n".join([*lines, _line("all", sum(stage["seconds"] for stage in stages), "")])


def _line(name: str, seconds: float, outcome: str) -> str:
    return f"stage {name:<10} {int(seconds) // 60:3d} min {int(seconds) % 60:02d} s  {outcome}".rstrip()


if __name__ == "__main__":
    if sys.argv[1:] == ["--summary"]:
        print(summary())
    else:
        sys.exit(run(sys.argv[1], sys.argv[2:]))
