"""The roots that everything in the lab is made from: a small Debian for images, one with systemd for bare machines, and
a machine's that has the Debian packages already which the roles ask for, as an operator's own template may."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import yaml

from lab.plan import BASE_PACKAGES, CACHE, MACHINE_PACKAGES, PROJECT, RELEASE
from lab.shell import LabError, run

RECIPE = 6  # raise it when the way of making a root changes
MACHINE_ROOT = CACHE / "root.tar.zst"  # Molecule's: there the roles install every package themselves
FLEET_ROOT = CACHE / "fleet.tar.zst"
IMAGE_ROOT = CACHE / "image.tar.zst"
# Left out, as the public slim images do: what only a reader at a terminal would miss.
LEFT_OUT = ("doc", "locale", "man", "info")
LEAN = "".join(f"path-exclude=/usr/share/{name}/*\n" for name in LEFT_OUT) + "path-include=/usr/share/doc/*/copyright\n"
# In images only, where no package is installed twice: apt keeps neither what it downloaded nor what it computed.
TIDY = """\
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb"; };
"""
MASKED = ("sys-kernel-debug.mount", "systemd-modules-load.service")  # they can't work in a container


def recipe() -> str:
    """Changes when a root has to be made anew."""
    words = " ".join((RELEASE, str(RECIPE), *BASE_PACKAGES, *MACHINE_PACKAGES, *role_packages(), *_sources()))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def role_packages() -> list[str]:
    """What the roles base and docker install from Debian, as they say it themselves."""
    base, docker = (
        yaml.safe_load((PROJECT / "roles" / role / "vars" / "main.yml").read_text()) for role in ("base", "docker")
    )
    return sorted({*base["_base_packages"], *docker["_docker_packages"]["debian"]})


def ensure() -> bool:
    """Make the roots where one is missing or out of date; returns whether that was needed."""
    marker = CACHE / "root.recipe"
    roots = (IMAGE_ROOT, MACHINE_ROOT, FLEET_ROOT)
    if marker.is_file() and marker.read_text() == recipe() and all(each.exists() for each in roots):
        return False
    CACHE.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="root-", dir=CACHE) as folder:
        root = Path(folder) / "root"
        _bootstrap(root)
        tidy = root / "etc/apt/apt.conf.d/tidy"
        tidy.write_text(TIDY)
        _pack(root, IMAGE_ROOT)
        tidy.unlink()
        _install(root, MACHINE_PACKAGES)
        _make_machine(root)
        _pack(root, MACHINE_ROOT)
        _install(root, role_packages())
        _leave_to_the_roles(root)
        _pack(root, FLEET_ROOT)
    marker.write_text(recipe())
    return True


def _bootstrap(root: Path) -> None:
    include = f"--include={','.join(BASE_PACKAGES)}"
    run("debootstrap", "--variant=minbase", include, RELEASE, root, _mirror(), env=_environment())
    (root / "etc/apt/sources.list").write_text("\n".join(_sources()) + "\n")
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/dpkg/dpkg.cfg.d/lean").write_text(LEAN)
    for file in (file for name in LEFT_OUT for file in (root / "usr/share" / name).rglob("*")):
        if file.name != "copyright" and (file.is_symlink() or not file.is_dir()):
            file.unlink()


def _install(root: Path, packages: Iterable[str]) -> None:
    """apt inside the root; nothing is started."""
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    inside = ("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    run(*inside, "apt-get", "update", "-qq", env=_environment())
    run(*inside, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, env=_environment())
    run(*inside, "apt-get", "clean", env=_environment())
    (root / "usr/sbin/policy-rc.d").unlink()
    (root / "etc/resolv.conf").write_text("")
    # The lists are not packed; a machine must not take their folder's age for theirs (cache_valid_time).
    os.utime(root / "var/lib/apt/lists", (0, 0))
    (root / "var/lib/apt/periodic/update-success-stamp").unlink(missing_ok=True)


def _make_machine(root: Path) -> None:
    """What is each machine's own is not in the root, nor what can't work in a container."""
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "etc/machine-id").write_text("")


def _leave_to_the_roles(root: Path) -> None:
    """Packages enable their services; here a role does, after it has configured them."""
    services = ("docker.service", "docker.socket", "containerd.service")
    run("chroot", root, "systemctl", "disable", "--quiet", *services, env=_environment())


def _pack(root: Path, archive: Path) -> None:
    partial = archive.with_suffix(".partial")
    tar = ["tar", "-C", str(root), "--numeric-owner", "--exclude=./var/lib/apt/lists/*", "-c", "."]
    with partial.open("wb") as file, subprocess.Popen(tar, stdout=subprocess.PIPE) as packing:
        packed = subprocess.run(["zstd", "-q", "-3", "-T0"], stdin=packing.stdout, stdout=file)
    if packing.returncode or packed.returncode:
        raise LabError(f"Packing {archive.name} failed; is the disk full?")
    partial.replace(archive)


def _targets() -> list[tuple[str, str]]:
    """(codename, address) of where this host itself gets Debian from."""
    form = ("--format", "$(CODENAME) $(REPO_URI)", "Origin: Debian", "Created-By: Packages")
    lines = run("apt-get", "indextargets", *form).stdout.splitlines()
    return [(codename, uri) for codename, _, uri in (line.partition(" ") for line in lines)]


def _mirror() -> str:
    for codename, uri in _targets():
        if "-" not in codename:  # as in bookworm-security, which has no whole release
            return uri
    raise LabError("This host's apt knows no Debian mirror. Is it Debian, and did apt-get update run?")


def _sources() -> list[str]:
    """apt's sources in the new root: the mirrors that the host uses, of the root's release."""
    lines = [f"deb {_mirror()} {RELEASE} main"]
    for codename, uri in _targets():
        if codename.endswith("-security") and f"deb {uri} {RELEASE}-security main" not in lines:
            lines.append(f"deb {uri} {RELEASE}-security main")
    return lines


def _environment() -> dict[str, str]:
    """Ours without the locale, and with apt's own proxy where there is one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    kept |= {
        "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
        "LC_ALL": "C",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    proxy = run("apt-config", "shell", "proxy", "Acquire::http::Proxy").stdout.strip()
    proxy = proxy.removeprefix("proxy=").strip("'")
    return kept | ({"http_proxy": proxy} if proxy else {})
