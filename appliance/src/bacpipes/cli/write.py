"""``bacpipes write``: one command by hand, on the same way as all others."""

import getpass
import json
import re
from typing import Any

import click

from bacpipes.errors import ExitCode
from bacpipes.objects import OBJECT_TYPES, Kind
from bacpipes.settings import load_settings
from bacpipes.writes.command import RELEASE_AFTER
from bacpipes.writes.request import WriteRequest, request_write


def _object(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, int]:
    object_type, _, instance = value.partition(":")
    if object_type not in OBJECT_TYPES or not instance.isdecimal():
        raise click.BadParameter(f"{value!r} is not an object, as analog-value:120 ({', '.join(OBJECT_TYPES)})")
    return object_type, int(instance)


NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


@click.command(context_settings={"ignore_unknown_options": True})  # a negative VALUE is no option
@click.argument("device", type=int)
@click.argument("object_id", metavar="TYPE:INSTANCE", callback=_object)
@click.argument("value", required=False)
@click.option("--release", is_flag=True, help="Give the priority back instead of writing a value.")
@click.option("--release-after", type=click.FloatRange(*RELEASE_AFTER), help="Give it back after so many seconds.")
@click.option("--priority", type=click.IntRange(1, 16), default=8, show_default=True)
@click.option("--reason", help="Why; stands in the audit trail.")
@click.option("--timeout", type=float, default=15, show_default=True, help="Seconds to wait for the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result's payload.")
def write(
    device: int,
    object_id: tuple[str, int],
    value: str | None,
    release: bool,
    release_after: float | None,
    priority: int,
    reason: str | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Write VALUE to a setpoint, or release it, and wait for the result.

    The running worker validates and executes it. Example: bacpipes write 12345 analog-value:120 65 --reason "test"
    """
    if (value is None) is not release:
        raise click.UsageError("Give either a VALUE or --release.")
    if release and release_after is not None:
        raise click.UsageError("--release-after goes with a VALUE.")
    number = None if value is None else _number(value, object_id[0])
    request = WriteRequest(device, *object_id, number, priority, reason, f"cli:{getpass.getuser()}", release_after)
    result = request_write(load_settings(), request, timeout)
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else _text(result))
    return ExitCode.OK if result["success"] else ExitCode.REFUSED


def _number(value: str, object_type: str) -> float:
    words = {"active": 1.0, "inactive": 0.0, "true": 1.0, "false": 0.0}
    if OBJECT_TYPES[object_type].kind is Kind.BINARY and value.lower() in words:
        return words[value.lower()]
    if not NUMBER.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not a number (or, for a binary object, active or inactive).")
    return float(value)


def _text(result: dict[str, Any]) -> str:
    lines = [f"{'Done' if result['success'] else 'Refused'}: job {result['jobId']}"]
    if result["error"]:
        lines.append(f"  {result['error']}")
    lines += [f"  - {text}" for text in result["validationErrors"]]
    if result.get("before") is not None or result.get("after") is not None:
        lines.append(f"  before {result.get('before')}, now {result.get('after')}")
    if held := result.get("heldBy"):
        lines.append(f"  overridden by priority {held['priority']}, which holds {held['value']}")
    return "\n".join(lines)
