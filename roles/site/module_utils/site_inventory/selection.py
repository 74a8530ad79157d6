"""What a run is for: the hosts that -l leaves, and the names and tags that it is given."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from .report import did_you_mean, listed
from .specs import known_tags

NAME = re.compile(r"[\w.-]+")  # of a host or group; a pattern has other characters besides
BUILT_IN = ("all", "always", "never", "tagged", "untagged")  # tags of Ansible's own
MOLECULE = ("notest", "molecule-notest", "molecule-idempotence-notest")  # left out, whether there are any or not


def check_selection(
    groups: Mapping[str, Sequence[str]],
    hosts: Collection[str],
    group: str,
    limit: str | None,
    tags: Sequence[str] = (),
    skipped: Sequence[str] = (),
) -> list[str]:
    """Why a run over ``hosts`` can't do what it is for: something with the hosts of ``group``.

    Ansible only warns of a name in ``limit`` that it does not know; of a play without hosts, and of tags that are
    nowhere, it says nothing at all.
    """
    problems = list(_unknown_hosts(groups, limit or ""))
    problems += [*_unknown_tags("--tags", tags), *_unknown_tags("--skip-tags", skipped)]
    if not groups.get(group):
        what = f"The inventory has no host in the group {group}."
        return [*problems, f"{what} Is -i the right one, and hosts.yml complete?"]
    if not problems and not set(groups[group]) & set(hosts):
        have = listed(groups[group])
        problems.append(f"-l {limit} leaves no host of the group {group}, which has: {have}. Name one of these.")
    return problems


def _unknown_hosts(groups: Mapping[str, Sequence[str]], limit: str) -> Iterator[str]:
    known = [*groups, *groups.get("all", ()), "localhost"]
    for part in re.split(r"[,:]", limit):
        name = part.strip().lstrip("!&")
        if NAME.fullmatch(name) and name not in known:
            yield _sentence(f"-l {name} is no host or group of the inventory", name, known)


def _unknown_tags(option: str, tags: Sequence[str]) -> Iterator[str]:
    for tag in tags:
        if tag not in known_tags() and tag not in (*BUILT_IN, *MOLECULE):
            yield _sentence(f"{option} {tag} is no tag of any playbook", tag, sorted(known_tags()))


def _sentence(what: str, name: str, known: Sequence[str]) -> str:
    return f"{what}{did_you_mean(name, known) or '.'} Correct the name."
