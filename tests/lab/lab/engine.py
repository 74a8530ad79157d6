"""The controller's own Docker engine, on a socket of its own, and the lab's stand-ins for public images.

A registry is not needed: every image is built from Debian packages under the interface (environment, ports, volumes)
of the public one that production uses.
"""

import shutil
import sys
from pathlib import Path

from lab import process, root
from lab.plan import CACHE, PROJECT, RUN
from lab.shell import LabError, run, succeeds, wait_until

NAME = "dockerd"
SOCKET = Path("/run/bacpipes-lab/docker.sock")
HOST = f"unix://{SOCKET}"
IMAGES = PROJECT / "tests" / "lab" / "images"
BASE = "bacpipes-lab/debian:trixie"
PREFIX = "bacpipes-lab"
TELEGRAF = "telegraf"


def up() -> None:
    """Start the engine; it has no network of its own and leaves the host's rules alone."""
    SOCKET.parent.mkdir(parents=True, exist_ok=True)
    data = CACHE / "docker"
    data.mkdir(parents=True, exist_ok=True)
    where = ["--host", HOST, "--data-root", str(data), "--exec-root", str(SOCKET.parent / "exec")]
    quiet = [
        "--pidfile",
        str(SOCKET.parent / "docker.pid"),
        "--bridge",
        "none",
        "--iptables=false",
        "--ip6tables=false",
    ]
    process.start(NAME, ["/usr/sbin/dockerd", *where, *quiet])

    def answers() -> bool:
        if process.running(NAME) is None:
            raise LabError(f"dockerd ended; the end of its log:\n{process.log_tail(NAME)}")
        return succeeds(*_docker(), "version")

    wait_until("dockerd answers", answers)


def down() -> None:
    """Stop it; what it built stays in the cache."""
    process.stop(NAME, 60)
    shutil.rmtree(SOCKET.parent, ignore_errors=True)


def build() -> list[str]:
    """All images that stand in for public ones; returns the names of those that were built anew."""
    made = [BASE] if _import_base() else []
    for folder in sorted(path.parent for path in IMAGES.glob("*/Dockerfile")):
        name = f"{PREFIX}/{folder.name}:{root.RELEASE}"
        context = _with_telegraf(folder) if folder.name == TELEGRAF else folder
        if context is None:
            continue
        before = _image_id(name)
        run(*_docker(), "build", "--network", "host", "--build-arg", f"BASE={BASE}", "--tag", name, context)
        if _image_id(name) != before:
            made.append(name)
    return made


def has_telegraf() -> bool:
    """Whether there is an image of Telegraf: without a Go toolchain there is none, and central has no live lane."""
    return bool(_image_id(f"{PREFIX}/{TELEGRAF}:{root.RELEASE}"))


def _with_telegraf(folder: Path) -> Path | None:
    """The folder once more, with the program that its Dockerfile copies; None, and said, where it can't be built."""
    context = RUN / TELEGRAF
    context.mkdir(parents=True, exist_ok=True)
    shutil.copy2(folder / "Dockerfile", context)
    done = run(sys.executable, PROJECT / "tests" / "telegraf.py", context / "telegraf", check=False)
    if done.returncode:
        print(f"\nNO LIVE LANE IN THIS LAB: {done.stderr.strip()}", flush=True)
        return None
    return context


def _import_base() -> bool:
    label = run(
        *_docker(), "image", "inspect", "--format", '{{index .Config.Labels "recipe"}}', BASE, check=False
    ).stdout.strip()
    if label == root.recipe():
        return False
    plain = RUN / "image.tar"
    run("zstd", "-q", "-d", "-f", root.IMAGE_ROOT, "-o", plain)
    changes = ("--change", f"LABEL recipe={root.recipe()}", "--change", 'CMD ["/bin/bash"]')
    run(*_docker(), "import", *changes, plain, BASE)
    plain.unlink()
    return True


def _image_id(name: str) -> str:
    return run(*_docker(), "image", "inspect", "--format", "{{.Id}}", name, check=False).stdout.strip()


def _docker() -> tuple[str, ...]:
    return ("/usr/bin/docker", "--host", HOST)
