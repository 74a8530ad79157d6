"""The documentation names what exists: files, headings, make targets, playbooks, commands of `bacpipes`, settings."""

import re
from functools import cache
from pathlib import Path

import click
import pytest

from bacpipes.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PLAYBOOKS = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def anchors(page: Path) -> frozenset[str]:
    """The headings of a page, as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return frozenset(text.strip().replace(" ", "-") for text in words)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_there_are_pages() -> None:
    assert ROOT / "README.md" in PAGES
    assert len(PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name(page)}: {link}"
        assert not anchor or anchor in anchors(target), f"{name(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_make_target_is_there(page: Path) -> None:
    """`make` at the start of a line of a command, of code in a sentence, or after the shell's separators."""
    named = re.findall(r"(?:^|`|&& |; )make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets()


def test_targets_are_found_at_all() -> None:
    assert {"demo", "test", "lab", "lab-down"} <= targets()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_playbook_is_there(page: Path) -> None:
    assert set(re.findall(r"playbooks/(\w+\.yml)", page.read_text())) <= PLAYBOOKS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_of_ours_is_there(page: Path) -> None:
    """Paths in code, from the repository's root on; with a <placeholder> or a pattern in them they are none."""
    folders = "appliance|docs|inventory/example|inventory/lab|molecule|playbooks|roles|templates|tests"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", page.read_text()):
        assert (ROOT / path).exists(), f"{name(page)}: {path}"


def commands(page: Path) -> list[str]:
    """What follows `bacpipes` at the start of code, with its lines that end in a backslash."""
    text = page.read_text().replace("\\\n", " ")
    fenced = "\n".join(FENCE.findall(text))
    return re.findall(r"^ *(?:sudo )?bacpipes ([^\n#|]*)", fenced, re.MULTILINE) + re.findall(
        r"`bacpipes ([^`\n]*)`", text
    )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_and_option_is_there(page: Path) -> None:
    for line in commands(page):
        command: click.Command = cli
        words = line.replace("[", " ").replace("]", " ").split()
        for word in words:
            if not isinstance(command, click.Group) or not re.fullmatch(r"[a-z-]+", word) or word.startswith("-"):
                break
            inner = command.get_command(click.Context(command), word)
            assert inner is not None, f"{name(page)}: bacpipes {line}"
            command = inner
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in known | {"--help", "--version"}, f"{name(page)}: bacpipes {line}"


def test_commands_are_found_at_all() -> None:
    assert sum(len(commands(page)) for page in PAGES) > 30
