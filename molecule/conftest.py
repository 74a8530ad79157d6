"""Every scenario's verification: it fails unless a test passed on each machine that it is for."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

GUARD = "every_scenario"
PLAYING = frozenset({"play", "converge"})  # helpers that start ansible-playbook


class Passed:
    """Which tests passed on which machine."""

    def __init__(self) -> None:
        self.by_host: dict[str, int] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        outcome = yield
        report = outcome.get_result()  # type: ignore[attr-defined]
        if report.when != "call" or not report.passed or item.path.parent.name == GUARD:
            return
        callspec = getattr(item, "callspec", None)
        host = callspec.params.get("_testinfra_host") if callspec else None
        if host:
            name = host.backend.get_hostname()
            self.by_host[name] = self.by_host.get(name, 0) + 1


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Passed(), "bacpipes-passed")


def wanted(config: pytest.Config) -> set[str]:
    """The hosts of the inventory that the option --hosts names; an unknown group is none."""
    place = ["-i", config.option.ansible_inventory] if config.option.ansible_inventory else []
    asked = subprocess.run(
        ["ansible-inventory", *place, "--list"], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if asked.returncode:
        raise pytest.UsageError(f"The inventory can't be read: {asked.stderr.strip()}")
    inventory = json.loads(asked.stdout)
    names: set[str] = set()
    for pattern in config.option.hosts.replace("ansible://", "").split(","):
        if pattern in inventory["_meta"]["hostvars"]:
            names.add(pattern)
        names.update(inventory.get(pattern, {}).get("hosts", []))
    return names


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    hosts = wanted(session.config)
    passed: Passed = session.config.pluginmanager.getplugin("bacpipes-passed")  # type: ignore[assignment]
    if exitstatus == pytest.ExitCode.OK and (not hosts or set(passed.by_host) != hosts):
        were, should = passed.by_host or "no machine", sorted(hosts) or "no machine at all"
        print(f"\nNothing verified: tests passed on {were}, wanted on each of {should}.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def plays_again(item: pytest.Item) -> bool:
    """Whether a test plays its role once more, which takes most of a scenario's time."""
    function = getattr(item, "function", None)
    return bool(PLAYING & set(function.__code__.co_names)) if function else False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what plays again where BACPIPES_TEST_MOLECULE is `quick`, and say so; the guard goes last."""
    if os.environ.get("BACPIPES_TEST_MOLECULE") == "quick":
        long = [item for item in items if plays_again(item)]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
        print(f"{len(long)} tests that play the role again are left out; `make test-faults` has them.")
    items.sort(key=lambda item: Path(item.path).parent.name == GUARD)
