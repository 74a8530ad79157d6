"""The secret files of a site, and whether somebody else can read them: tried, not computed."""

import os
import pwd
import stat
import subprocess
from pathlib import Path

NOBODY = 65534


def main(data):
    folder = Path(data["directory"])
    names = [path for path in (folder / "secrets").rglob("*") if path.is_file()]
    names += [path for path in folder.rglob("*.key") if path.is_file() and path not in names]
    return [_look(path) for path in sorted(names)]


def _look(path):
    it = path.stat()
    return {
        "path": str(path),
        "mode": oct(stat.S_IMODE(it.st_mode))[2:],
        "owner": _name(it.st_uid),
        "uid": it.st_uid,
        "gid": it.st_gid,
        "empty": it.st_size == 0,
        "nobody_reads": _readable_for_nobody(path),
    }


def _readable_for_nobody(path):
    command = ["cat", str(path)]
    done = subprocess.run(
        command, user=NOBODY, group=NOBODY, extra_groups=[], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd="/", env={"PATH": os.environ["PATH"]}, check=False,
    )  # fmt: skip
    return done.returncode == 0


def _name(uid):
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
