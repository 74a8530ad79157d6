"""The files of an inventory: what stands in one that nothing reads."""

import re
from collections.abc import Collection
from pathlib import Path

from .report import Report, did_you_mean
from .specs import playbook_names

ENDINGS = (".yml", ".yaml")
KEY = re.compile(r"([A-Za-z]\w*):", re.ASCII)


def check_files(folder: Path, hosts: Collection[str], report: Report) -> None:
    for file in _files(folder / "host_vars"):
        name = file.relative_to(folder / "host_vars").parts[0]
        if (host := name.removesuffix(file.suffix) if file.suffix in ENDINGS else name) not in hosts:
            what = f"is of no host of the inventory{did_you_mean(host, hosts)}"
            report.warning(f"host_vars/{name}", what, "Rename it, or add the host to hosts.yml.")
        for key in _keys(file, frozenset().union(*playbook_names().values())):
            what = "takes the place of what the playbooks make from `site` and `fleet`"
            report.warning(f"host_vars/{name} {key}", what, "Write it in `site` or `fleet`, if they have it.")
    for file in _files(folder / "group_vars"):
        _check_group(file, file.relative_to(folder / "group_vars").parts[0].removesuffix(file.suffix), folder, report)


def _check_group(file: Path, group: str, folder: Path, report: Report) -> None:
    """What the playbooks set for a group, they set over what an inventory says of groups."""
    over = playbook_names()
    names = frozenset().union(*over.values()) if group == "all" else over["sites"] | over["centrals"]
    for key in _keys(file, names):
        what = "is set by the playbooks for all machines, so that nothing reads it here"
        remedy = "Write what it is made from in `site` or `fleet`, or it in host_vars."
        report.error(f"{file.relative_to(folder)} {key}", what, remedy)


def _files(folder: Path) -> list[Path]:
    """What Ansible reads of it: YAML, in subfolders too."""
    found = folder.rglob("*") if folder.is_dir() else ()
    return sorted(path for path in found if path.is_file() and path.suffix in {"", ".json", *ENDINGS})


def _keys(file: Path, names: Collection[str]) -> list[str]:
    """Those variables that a file sets; an encrypted one shows none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [key[1] for line in lines if (key := KEY.match(line)) and key[1] in names]
