"""``bacpipes doctor``."""

import asyncio
import json

import click

from bacpipes.doctor import Finding, Level, examine
from bacpipes.errors import ExitCode
from bacpipes.settings import load_settings

MARKS = {Level.OK: ("✓", "green"), Level.WARNING: ("!", "yellow"), Level.PROBLEM: ("✗", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(as_json: bool) -> int:
    """Look at database, polling, devices, broker, BACnet interface, clock and disk, and say what to do.

    The exit status is 0 where there is no problem (warnings may remain), else 1.
    """
    findings = asyncio.run(examine(load_settings()))
    if as_json:
        rows = [{"subject": f.subject, "level": f.level.value, "text": f.text, "remedy": f.remedy} for f in findings]
        click.echo(json.dumps(rows, ensure_ascii=False))
    else:
        for finding in findings:
            _show(finding)
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if not as_json:
        click.echo(f"\n{problems} problem{'' if problems == 1 else 's'}." if problems else "\nAll is well.")
    return ExitCode.FAILED if problems else ExitCode.OK


def _show(finding: Finding) -> None:
    mark, colour = MARKS[finding.level]
    click.echo(f"{click.style(mark, fg=colour)} {finding.subject:<9} {finding.text}")
    if finding.remedy:
        click.echo(f"            → {finding.remedy}")
