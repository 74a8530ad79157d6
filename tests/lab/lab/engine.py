"""The controller's own Docker engine, on a socket of its own, and the lab's stand-ins for public images.

A registry is not needed: every image is built from Debian packages under the interface (environment, ports, volumes)
of the public one that production uses.
"""

import shutil
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
        before = _image_id(name)
        run(*_docker(), "build", "--network", "host", "--build-arg", f"BASE={BASE}", "--tag", name, folder)
        if _image_id(name) != before:
            made.append(name)
    return made


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
