"""Each file that lands on a machine says who wrote it there, and where its variables stand."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "templates"
# JSON has no comments, and Docker refuses keys that it does not know; what is only included has the whole's line.
WITHOUT = {"etc/docker/daemon.json.j2", "opt/bacpipes/_networks.yaml.j2"}
TEMPLATES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
LINE = re.compile(r"Ansible: role (\w+), variables (roles/\1/defaults/main\.yml); changes here are overwritten\.")


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def test_there_are_templates() -> None:
    assert {"opt/bacpipes/compose.yaml.j2", *WITHOUT} <= {name(path) for path in TEMPLATES}


@pytest.mark.parametrize("template", [path for path in TEMPLATES if name(path) not in WITHOUT], ids=name)
def test_a_file_says_where_it_came_from(template: Path) -> None:
    first = "\n".join(template.read_text().splitlines()[:2])  # a script's first line names its interpreter
    found = LINE.search(first)
    assert found, first
    assert (ROOT / found[2]).exists()
