"""The report of each site: text, JUnit, JSON, and one HTML page to file as the acceptance record.

Pure: results go in, verdicts and texts come out. A site passes only where every declared check has a result, none
failed, and at least one device was looked at.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from verification.plan import Check

PASSED, FAILED, NOT_VERIFIED = "ok", "failed", "not verified"
_STATUS = {PASSED: "passed", FAILED: "failed", NOT_VERIFIED: "not verified"}  # as JSON says it


@dataclass(frozen=True, slots=True)
class Result:
    """What one check came to at one site. ``observed``: what was seen; for a failure also what was expected."""

    check: str
    outcome: str
    observed: str
    seconds: float = 0.0


@dataclass(slots=True)
class DeviceRow:
    """One device on the record."""

    device_id: int
    name: str
    address: str
    points: int
    fresh: int
    last_time: str
    last_reading: str


@dataclass(slots=True)
class SiteFacts:
    """What a record says beside its checks."""

    host: str
    site: str
    title: str = ""
    address: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    devices: list[DeviceRow] = field(default_factory=list)
    expected_devices: int = 0
    expected_points: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One site's verdict."""

    facts: SiteFacts
    checks: tuple[Check, ...]
    results: dict[str, Result]
    began: datetime
    seconds: float
    run: str

    @property
    def passed(self) -> bool:
        return not self.counted(FAILED) and self.counted(PASSED) > 0

    def counted(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self.results.values())

    @property
    def verdict(self) -> str:
        if not self.passed:
            return f"FAILED: {self.counted(FAILED)} of {len(self.checks)} checks"
        left = self.counted(NOT_VERIFIED)
        return f"passed: {self.counted(PASSED)} checks" + (f", {left} not verified" if left else "")

    @property
    def rows(self) -> list[tuple[Check, Result]]:
        return [(check, self.results[check.name]) for check in self.checks]


def judge(
    sites: Sequence[SiteFacts],
    checks: Sequence[Check],
    results: dict[tuple[str, str], Result],
    began: datetime,
    run: str = "",
) -> list[Record]:
    """One record for each site; ``results`` by host and check. What is missing or says nothing counts as failed."""
    if not sites:
        raise ValueError("no site: there is nothing to verify, and nothing was")
    if not checks:
        raise ValueError("no check is declared")
    return [_record(facts, tuple(checks), results, began, run) for facts in sites]


def _record(
    facts: SiteFacts, checks: tuple[Check, ...], results: dict[tuple[str, str], Result], began: datetime, run: str
) -> Record:
    found = {check.name: _sound(check, results.get((facts.host, check.name))) for check in checks}
    if facts.expected_devices == 0:
        first = checks[0]
        why = "the site has no device: nothing was verified\nnext: import its points, or correct the points file"
        found[first.name] = Result(first.name, FAILED, f"{found[first.name].observed}\n{why}")
    seconds = sum(result.seconds for result in found.values())
    return Record(facts, checks, found, began, seconds, run)


def _sound(check: Check, result: Result | None) -> Result:
    if result is None:
        return Result(check.name, FAILED, "the check did not run\nnext: run verify without a selection of checks")
    if result.outcome not in (PASSED, FAILED, NOT_VERIFIED):
        return Result(check.name, FAILED, f"unknown outcome {result.outcome!r}", result.seconds)
    if not result.observed.strip():
        return Result(check.name, FAILED, f"{result.outcome}, but nothing was observed", result.seconds)
    return result


def text(record: Record) -> str:
    """A short table."""
    facts = record.facts
    head = f"{facts.host} (site {facts.site}, {facts.address}): {record.verdict}, in {record.seconds:.0f} s"
    lines = [head, "-" * min(len(head), 120)]
    before = ""
    for check, result in record.rows:
        observed = ["as above"] if result.observed == before else result.observed.strip().splitlines()
        before = result.observed
        lines.append(f"{result.outcome:<12} {result.seconds:6.1f} s  {check.title}: {observed[0]}")
        lines += [f"{'':<23}{line}" for line in observed[1:]]
    return "\n".join(lines)


def junit(record: Record) -> str:
    """JUnit's XML, one test case for each check."""
    suite = ElementTree.Element(
        "testsuite",
        name=f"verify.{_clean(record.facts.host)}",
        hostname=_clean(record.facts.host),
        tests=str(len(record.checks)),
        failures=str(record.counted(FAILED)),
        errors="0",
        skipped=str(record.counted(NOT_VERIFIED)),
        time=f"{record.seconds:.3f}",
        timestamp=record.began.isoformat(timespec="seconds"),
    )
    for check, result in record.rows:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"verify.{_clean(record.facts.host)}",
            name=check.name,
            time=f"{result.seconds:.3f}",
        )
        if result.outcome == FAILED:
            ElementTree.SubElement(case, "failure", message=check.title).text = _clean(result.observed)
        elif result.outcome == NOT_VERIFIED:
            ElementTree.SubElement(case, "skipped", message=_clean(result.observed))
        ElementTree.SubElement(case, "system-out").text = _clean(result.observed)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _clean(words: str) -> str:
    """Without the characters that XML can't hold."""
    return "".join(
        c
        for c in words
        if c in "\t\n\r"
        or 0x20 <= ord(c) <= 0xD7FF
        or (0xE000 <= ord(c) <= 0x10FFFF and ord(c) not in (0xFFFE, 0xFFFF))
    )


def as_json(record: Record) -> str:
    """For programs: the role reads it to fail the sites that failed."""
    document = {
        "run": record.run,
        "host": record.facts.host,
        "site": record.facts.site,
        "passed": record.passed,
        "verdict": record.verdict,
        "seconds": round(record.seconds, 1),
        "counts": {status: record.counted(outcome) for outcome, status in _STATUS.items()},
        "devices": record.facts.expected_devices,
        "points": record.facts.expected_points,
        "checks": [
            {
                "name": check.name,
                "title": check.title,
                "status": _STATUS[result.outcome],
                "observed": result.observed,
                "seconds": round(result.seconds, 3),
            }
            for check, result in record.rows
        ],
        "text": text(record),
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def html(record: Record) -> str:
    """The acceptance record: one page without anything from outside."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("record.html.j2").render(record=record, facts=record.facts)


def write(record: Record, folder: Path) -> None:
    """All forms of one record, named by its host."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"txt": text(record) + "\n", "xml": junit(record), "json": as_json(record), "html": html(record)}
    for suffix, content in forms.items():
        (folder / f"{record.facts.host}.{suffix}").write_text(content, encoding="utf-8")
