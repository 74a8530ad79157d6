"""The real Telegraf: built once by the ordinary Go client, with the plugins that our configuration uses and no others.

``python tests/telegraf.py FILE`` puts it there; docs/live-lane.md has the command for other machines.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from apart import outside

VERSION = "v1.39.3"  # as in playbooks/group_vars/all/versions.yml
TAGS = "custom,inputs.mqtt_consumer,parsers.value,outputs.postgresql,secretstores.docker"
MODULE = "github.com/influxdata/telegraf/cmd/telegraf"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bacpipes" / "telegraf"
BUILD_WITHIN = 900  # seconds, with all its modules fetched


class NoTelegrafError(Exception):
    """This host can't have Telegraf; the text says what is missing."""


def telegraf() -> Path:
    """Telegraf's program, from the cache or built now (about a minute)."""
    program = CACHE / f"{VERSION}-{TAGS.replace(',', '+')}" / "telegraf"
    program.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    go = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        raise NoTelegrafError("Telegraf is not built: there is no Go toolchain (go) on this host")
    partial = program.parent / "partial"
    environment = os.environ | {"GOBIN": str(partial), "CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false"}
    words = ["nice", go, "install", "-ldflags=-s -w", f"-tags={TAGS}", f"{MODULE}@{VERSION}"]
    try:
        done = subprocess.run(outside(words), env=environment, capture_output=True, text=True, timeout=BUILD_WITHIN)
    except subprocess.TimeoutExpired:
        raise NoTelegrafError(f"Telegraf is not built: go took longer than {BUILD_WITHIN} s") from None
    if done.returncode:
        raise NoTelegrafError(f"Telegraf is not built: {done.stderr.strip()[-400:]}")
    (partial / "telegraf").rename(program)
    partial.rmdir()


if __name__ == "__main__":
    try:
        shutil.copy2(telegraf(), sys.argv[1])
    except NoTelegrafError as error:
        sys.exit(str(error))
