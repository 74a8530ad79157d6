"""Programs that the lab calls, and the lines that it prints."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LabError(Exception):
    """Something that the lab can't go on from; the text says what to do."""


def run(*command: str | Path, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program quietly; a failure is raised with the end of what it printed."""
    words = [str(word) for word in command]
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "stdin": subprocess.DEVNULL,
        "text": True,
    } | options
    if options.get("input") is not None:
        del options["stdin"]
    done = subprocess.run(words, check=False, **options)  # type: ignore[call-overload]
    if check and done.returncode != 0:
        tail = "\n".join((done.stdout or "").splitlines()[-25:])
        raise LabError(f"{' '.join(words[:6])} … failed with status {done.returncode}:\n{tail}")
    return done


def succeeds(*command: str | Path) -> bool:
    """Whether a program ends with status 0."""
    return run(*command, check=False).returncode == 0


def follow(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> None:
    """Run a program whose output the user is to see."""
    done = subprocess.run([str(word) for word in command], env=dict(environment), cwd=folder, check=False)
    if done.returncode != 0:
        raise LabError(f"{Path(str(command[0])).name} ended with status {done.returncode}; its own words are above.")


@contextmanager
def step(title: str) -> Iterator[list[str]]:
    """Print a step with its seconds; what the block appends to the list stands behind it."""
    print(f"· {title} …", end="\r" if sys.stdout.isatty() else "\n", flush=True)
    began, remarks = time.monotonic(), list[str]()
    try:
        yield remarks
    except BaseException:
        print(f"✗ {title}  {time.monotonic() - began:.1f} s", flush=True)
        raise
    rest = f"  {'; '.join(remarks)}" if remarks else ""
    print(f"✓ {title}  {time.monotonic() - began:.1f} s{rest}", flush=True)


def wait_until(what: str, condition: object, seconds: float = 30.0) -> None:
    """Wait until ``condition()`` is true."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not so after {seconds:.0f} s.")
        time.sleep(0.1)


def needs(*programs: str) -> None:
    """Refuse where a program is missing."""
    missing = [program for program in programs if shutil.which(program, path=SEARCH) is None]
    if missing:
        raise LabError(f"Missing on this host: {' '.join(missing)}. As root: python3 tests/setup_host.py lab")
