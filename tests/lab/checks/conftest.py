"""Verification of sites: `pytest tests/lab/checks --fleet FILE` (docs/verification.md).

Each check runs for each site of the fleet file; it says what it observed, and every site gets a record.
"""

import multiprocessing
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from verification import ports, report
from verification.fleet import FleetError, Site, chosen, load
from verification.observed import Observed
from verification.plan import CHECKS, declared
from verification.report import FAILED, NOT_VERIFIED, PASSED, Result

RUN = pytest.StashKey["Run"]()
AT_ONCE = 16  # sites that are connected to at the same time


class Run:
    """One verification: its sites, and what came out so far."""

    def __init__(self, config: pytest.Config) -> None:
        self.sites = chosen(load(Path(config.option.fleet)), config.option.site)
        self.checks = declared(config.option.intrusive)
        self.folder = Path(config.option.record_dir or Path(config.option.fleet).parent)
        self.id = config.option.run_id or str(uuid.uuid4())
        self.began = datetime.now(UTC)
        self.observed: dict[str, Observed] = {}
        self.results: dict[tuple[str, str], Result] = {}
        self.records: list[report.Record] = []
        self._threads = ThreadPoolExecutor(AT_ONCE)
        # a process of its own: a scan takes thousands of descriptors, and paho waits by select() below 1,024
        self._scanner = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def prepare(self, folder: Callable[[str], Path]) -> None:
        """Begin to observe all sites at once, so that the waiting for readings and for ports overlaps."""
        self.observed = {
            site.host: Observed(site, folder(f"s{number}"), self._threads) for number, site in enumerate(self.sites)
        }
        for each in self.observed.values():
            each.scan = self._scanner.submit(ports.scan, each.site)
        list(self._threads.map(Observed.prepare, self.observed.values()))
        for each in self.observed.values():
            each.look_from_outside()

    def close(self) -> None:
        list(self._threads.map(Observed.close, self.observed.values()))
        self._scanner.shutdown(wait=False, cancel_futures=True)

    def finish(self) -> None:
        """Judge and write the records."""
        facts = [
            self.observed[site.host].record if site.host in self.observed else report.SiteFacts(site.host, site.site)
            for site in self.sites
        ]
        self.records = report.judge(facts, self.checks, self.results, self.began, self.id)
        for record in self.records:
            report.write(record, self.folder)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("verification of sites")
    group.addoption("--fleet", metavar="FILE", help="the sites, as the role `verify` writes them (required)")
    group.addoption("--site", metavar="HOST", action="append", default=[], help="only this one; may be given again")
    group.addoption("--intrusive", action="store_true", help="also kill, restart and reboot: never in production")
    group.addoption("--record-dir", metavar="DIR", help="where the records go; default: beside the fleet file")
    group.addoption(
        "--run-id", metavar="ID", help="stands in the records, so that a stale one is not taken for this run's"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.collectonly and not config.option.fleet:
        return
    if not config.option.fleet:
        raise pytest.UsageError(
            "--fleet FILE is required: without it there is nothing to verify (docs/verification.md)"
        )
    try:
        config.stash[RUN] = Run(config)
    except FleetError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every check for every site."""
    if "observed" in metafunc.fixturenames:
        run = metafunc.config.stash.get(RUN, None)
        sites = run.sites if run else []
        metafunc.parametrize("observed", sites, ids=[site.host for site in sites], indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Exactly the declared checks, in their order, site by site."""
    run = config.stash.get(RUN, None)
    if run is None:
        return
    by_name = {check.name: check for check in CHECKS}
    order = [check.name for check in CHECKS]
    hosts = [site.host for site in run.sites]
    stray = sorted({_name(item) for item in items} - by_name.keys())
    if stray:
        raise pytest.UsageError(f"not declared in verification/plan.py: {', '.join(stray)}")
    wanted = {check.name for check in run.checks}
    dropped = [item for item in items if _name(item) not in wanted]
    items[:] = [item for item in items if _name(item) in wanted]
    for item in items:
        item.add_marker("intrusive" if by_name[_name(item)].intrusive else "safe")

    def place(item: pytest.Item) -> tuple[int, bool, bool, int]:
        check = by_name[_name(item)]
        return hosts.index(_site(item).host), check.intrusive, check.late, order.index(check.name)

    items.sort(key=place)
    config.hook.pytest_deselected(items=dropped)


def _name(item: pytest.Item) -> str:
    return str(getattr(item, "originalname", item.name)).removeprefix("test_")


def _site(item: pytest.Item) -> Site:
    site: Site = item.callspec.params["observed"]  # type: ignore[attr-defined]
    return site


@pytest.fixture(scope="session")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The verification, with every site observed from its beginning."""
    run = request.config.stash[RUN]
    run.prepare(tmp_path_factory.mktemp)
    yield run
    run.close()


@pytest.fixture(scope="session")
def observed(request: pytest.FixtureRequest, run: Run) -> Observed:
    """The site of this check."""
    return run.observed[request.param.host]


@pytest.fixture
def site(observed: Observed) -> Site:
    return observed.site


@pytest.fixture
def host(observed: Observed) -> Host:
    """The site's machine for testinfra."""
    observed.machine.open()
    return observed.machine.testinfra


@pytest.fixture(autouse=True)
def reachable(observed: Observed) -> None:
    """No check begins without the machine."""
    observed.machine.open()


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """What a check saw; it stands in the record."""
    seen: list[str] = []
    request.node.user_properties.append(("observed", seen))
    return seen.append


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Keep the result of each check."""
    outcome = yield
    phase: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    run = item.config.stash.get(RUN, None)
    if run is None:
        return
    key = (_site(item).host, _name(item))
    earlier = run.results.get(key)
    ended = phase.when == "call" or phase.failed or phase.skipped
    if ended and (earlier is None or phase.failed):
        run.results[key] = _result(item, phase, call)


def _result(item: pytest.Item, phase: pytest.TestReport, call: pytest.CallInfo[Any]) -> Result:
    seen = "; ".join(text for name, texts in item.user_properties if name == "observed" for text in texts)  # type: ignore[union-attr]
    if phase.passed:
        return Result(_name(item), PASSED, seen, phase.duration)
    assert call.excinfo is not None
    error = call.excinfo.value
    if phase.skipped:
        return Result(_name(item), NOT_VERIFIED, str(getattr(error, "msg", error)), phase.duration)
    words = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
    if not words.startswith("expected:"):
        words = f"seen: {words.strip() or type(error).__name__}"
    if "next:" not in words:
        words += f"\nnext: in {_site(item).directory} on the machine: `docker compose ps -a`, `docker compose logs`"
    return Result(_name(item), FAILED, words + (f"\nbefore that: {seen}" if seen else ""), phase.duration)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """The records decide how the run ends, not what pytest happened to run."""
    run = session.config.stash.get(RUN, None)
    if run is None or session.config.option.collectonly or exitstatus in (3, 4):
        return
    run.finish()
    if any(not record.passed for record in run.records) or exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The text of every record."""
    run = config.stash.get(RUN, None)
    for record in run.records if run else []:
        terminalreporter.write_line("")
        terminalreporter.write_line(report.text(record))
        terminalreporter.write_line(f"Record: {run.folder / record.facts.host}.html")
