"""Long-running processes of the lab, each with a file that holds its id and birth."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.plan import RUN
from lab.shell import wait_until


def start(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Start it in the background unless it runs; its output goes to ``NAME.log``."""
    if running(name):
        return
    RUN.mkdir(parents=True, exist_ok=True)
    with (RUN / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
        )
    (RUN / f"{name}.pid").write_text(f"{process.pid} {_birth(process.pid)}")


def running(name: str) -> int | None:
    """Its process id, if that process is still the one that we started."""
    try:
        pid, birth = (RUN / f"{name}.pid").read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if _birth(int(pid)) == birth else None


def stop(name: str, seconds: float = 20.0) -> None:
    """SIGTERM, and SIGKILL where that is not heard."""
    pid = running(name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        try:
            wait_until(f"{name} ends", lambda: running(name) is None, seconds)
        except Exception:
            os.kill(pid, signal.SIGKILL)
            raise
    (RUN / f"{name}.pid").unlink(missing_ok=True)


def names() -> list[str]:
    """Everything that has been started."""
    return sorted(file.stem for file in RUN.glob("*.pid"))


def log_tail(name: str, lines: int = 10) -> str:
    """The end of what it printed."""
    file = RUN / f"{name}.log"
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else ""


def _birth(pid: int) -> str:
    """When the kernel started it, in clock ticks since boot; empty for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
