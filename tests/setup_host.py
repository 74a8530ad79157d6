"""What `make` needs from the host: says what is missing, and installs Debian packages where it is root.

Run with any Python 3; standard library only.
"""

import os
import shutil
import subprocess
import sys

# command that proves it → Debian package
PACKAGES = {"chromium": "chromium", "mosquitto": "mosquitto", "node": "nodejs", "npm": "npm"}
# A root with PostgreSQL 17 and TimescaleDB, and clocks that can be set in it; without root they can't run.
ROOT_PACKAGES = {"debootstrap": "debootstrap", "faketime": "faketime"}


LAB_PACKAGES = {
    "debootstrap": "debootstrap",
    "dockerd": "docker.io",
    "lxc-start": "lxc",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "ssh": "openssh-client",
    "zstd": "zstd",
}


def check_python() -> None:
    """Python 3.11 or newer with venv, or exit with the command that installs it."""
    if sys.version_info < (3, 11):
        sys.exit(f"BacPipes needs Python 3.11 or newer; this is {sys.version.split()[0]}. Set PYTHON=python3.12, say.")
    try:
        import ensurepip  # noqa: F401 - this is what Debian splits off
    except ImportError:
        sys.exit("Python's venv module is missing. As root: apt-get install python3-venv")


def check_packages() -> None:
    """Install what the tests of the appliance use, or say what is missing."""
    _provide(PACKAGES | (ROOT_PACKAGES if os.geteuid() == 0 else {}))


def check_lab() -> None:
    """Install what the lab uses; it is for root only."""
    if os.geteuid() != 0:
        sys.exit("The lab makes containers and bridges: it needs root.")
    _provide(LAB_PACKAGES)


def check_lab_tests() -> None:
    """As `check_lab`; without root the tests that need it skip, and say so."""
    if os.geteuid() == 0:
        check_lab()


def _provide(wanted: dict[str, str]) -> None:
    path = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"
    missing = sorted({package for command, package in wanted.items() if shutil.which(command, path=path) is None})
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(
            f"These Debian packages are missing: {' '.join(missing)}. As root: apt-get install {' '.join(missing)}"
        )
    print(f"Installing {' '.join(missing)} …", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    subprocess.run(["apt-get", "update", "-qq"], check=True, stdout=subprocess.DEVNULL, env=environment)
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":
    checks = {"python": check_python, "packages": check_packages, "lab": check_lab, "lab-tests": check_lab_tests}
    checks[sys.argv[1]]()
