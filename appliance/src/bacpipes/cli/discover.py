"""``bacpipes discover``."""

import asyncio
import csv
import ipaddress
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click

from bacpipes import discovery
from bacpipes.bacnet.client import BacnetClient
from bacpipes.cli.points import output_file
from bacpipes.errors import ExitCode, InputError
from bacpipes.objects import MAX_INSTANCE
from bacpipes.points.address import CellError, canonical_address
from bacpipes.points.csv_file import write_points
from bacpipes.points.report import counted
from bacpipes.points.rows import PointRow, protect_text
from bacpipes.settings import SECRETS_DIRECTORY, Settings, load_settings

MAX_ADDRESSES = 4096
SAY_EVERY = 2.0  # seconds between lines of progress where there is no terminal
DEVICE_COLUMNS = ("device_id", "device_name", "address", "vendor", "model", "max_apdu", "segmentation", "points")
_NUMBER = click.IntRange(0, MAX_INSTANCE)


@click.command()
@click.option("--low", type=_NUMBER, help="Lowest device number to ask for.")
@click.option("--high", type=_NUMBER, help="Highest device number to ask for.")
@click.option("--address", "addresses", multiple=True, metavar="IP[:PORT]", help="Ask this address (repeatable).")
@click.option("--range", "ranges", multiple=True, metavar="FIRST-LAST[:PORT]", help="Ask each address (repeatable).")
@click.option("--timeout", type=click.FloatRange(0.1, 600), default=3.0, show_default=True, help="Seconds for Who-Is.")
@click.option("--devices-only", is_flag=True, help="List the devices and read no objects.")
@click.option("--interface", metavar="IP/PREFIX[:PORT]", help="Our own interface; default: BACPIPES_BACNET_ADDRESS.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True), default="-")
@click.option("--force", is_flag=True, help="Overwrite an existing output file.")
def discover(
    low: int | None,
    high: int | None,
    addresses: tuple[str, ...],
    ranges: tuple[str, ...],
    timeout: float,
    devices_only: bool,
    interface: str | None,
    output: Path,
    force: bool,
) -> int:
    """Find BACnet devices and their objects, as a points file that only needs its haystack fields.

    Asks by a broadcast, or each --address and --range. Reads only; progress and problems go to standard error.
    """
    if low is not None and high is not None and low > high:
        raise click.BadParameter(f"{low} is above --high {high}.", param_hint="--low")
    targets = dict.fromkeys((*map(_address, addresses), *(one for text in ranges for one in _range(text))))
    if len(targets) > MAX_ADDRESSES:
        raise click.BadParameter(f"{len(targets)} addresses, at most {MAX_ADDRESSES}.", param_hint="--range")
    if output != Path("-") and output.exists() and not force:
        raise InputError(f"{output} exists.", "It may hold somebody's tags: name another file, or add --force.")
    if not output.absolute().parent.is_dir():
        raise InputError(f"{output} can't be written: there is no such folder.")
    scope = discovery.Scope(low, high, tuple(targets), timeout)
    survey = asyncio.run(_survey(_settings(interface), scope, devices_only))
    if not survey.found:
        click.echo(_nobody(scope), err=True)
        return ExitCode.FAILED
    with output_file(output) as stream:
        if devices_only:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(DEVICE_COLUMNS)
            writer.writerows(survey.device_rows())
        else:
            write_points(stream, survey.sorted_rows(), "")
    for line in survey.report(devices_only):
        click.echo(line, err=True)
    return ExitCode.OK


@dataclass(slots=True)
class _Survey:
    """What was found so far, and its progress on standard error."""

    found: list[discovery.DeviceFound] = field(default_factory=list)
    devices: dict[int, discovery.DeviceRead] = field(default_factory=dict)
    rows: list[PointRow] = field(default_factory=list)
    states: dict[str, int] = field(default_factory=dict)
    problems: int = 0
    _said: float = 0.0

    def take(self, event: discovery.Event) -> None:
        match event:
            case discovery.DeviceFound():
                self.found.append(event)
            case discovery.DeviceRead():
                self.devices[event.device_id] = event
            case discovery.ObjectRead():
                self.rows.append(event.row)
                for name in event.status:
                    self.states[name] = self.states.get(name, 0) + 1
            case discovery.Problem():
                self.problems += 1
                self._clear()
                place = "" if event.device_id is None else f"device {event.device_id}: "
                click.echo(f"{place}{event.text}", err=True)
        self._progress()

    def sorted_rows(self) -> list[PointRow]:
        """Rows by device and object, so that two runs can be compared."""
        return sorted(self.rows, key=lambda row: row.key)

    def device_rows(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for answer in (event.device for event in self.found):
            read = self.devices.get(answer.device_id)
            known = read if read is not None and read.address == answer.address else None
            texts = (known.name, known.vendor, known.model) if known else ("", "", "")
            name, vendor, model = map(protect_text, texts)
            ours = (answer.device_id, name, answer.address, vendor, model)
            rows.append((*ours, answer.max_apdu, answer.segmentation, known.points if known else ""))
        return rows

    def report(self, devices_only: bool) -> list[str]:
        self._clear()
        devices, wanted = len(self.devices), sum(device.points for device in self.devices.values())
        points = counted(wanted, "point") if devices_only else f"{len(self.rows)} of {counted(wanted, 'point')} read"
        lines = [f"{counted(len(self.found), 'device')} answered, {devices} read: {points}."]
        others: Counter[str] = sum((device.others for device in self.devices.values()), Counter())
        if others:
            listed = ", ".join(f"{number} {kind}" for kind, number in others.most_common())
            lines.append(f"Left out, as they are no points: {listed}.")
        if self.states:
            listed = ", ".join(f"{number} {name}" for name, number in self.states.items())
            lines.append(f"Status of the points: {listed}.")
        if self.problems:
            lines.append(f"{counted(self.problems, 'problem')}, see above.")
        elif not devices_only:
            lines.append(
                "Next: fill in the haystack fields, then `bacpipes points check` and `bacpipes points import`."
            )
        return lines

    def _progress(self) -> None:
        terminal, now = sys.stderr.isatty(), time.monotonic()
        if now - self._said < (0.1 if terminal else SAY_EVERY) or not self.devices:
            return
        self._said = now
        wanted = sum(device.points for device in self.devices.values())
        text = (
            f"{len(self.devices)} of {counted(len(self.found), 'device')}, {len(self.rows)} of {wanted} points so far"
        )
        click.echo(f"\r\033[K{text}" if terminal else text, nl=not terminal, err=True)

    def _clear(self) -> None:
        if sys.stderr.isatty():
            click.echo("\r\033[K", nl=False, err=True)


async def _survey(settings: Settings, scope: discovery.Scope, devices_only: bool) -> _Survey:
    survey = _Survey()
    async with BacnetClient.from_settings(settings) as client:
        whom = f"{len(scope.addresses)} addresses" if scope.addresses else "the local network"
        click.echo(f"Asking {whom} from {settings.bacnet_address} …", err=True)
        async for event in discovery.discover(client, scope, devices_only=devices_only):
            survey.take(event)
    return survey


def _nobody(scope: discovery.Scope) -> str:
    if scope.addresses:
        return "No device answered. Are the addresses right, and is UDP let through to them?"
    return (
        "No device answered. Is --interface on the controllers' network, with its prefix and on their port (47808)? "
        "Devices on other networks: ask them with --address or --range."
    )


def _settings(interface: str | None) -> Settings:
    """The BACnet settings; the site and its database are not needed here and may be missing."""
    overrides: dict[str, object] = {"bacnet_address": interface} if interface else {}
    for name in ("site_id", "database_url"):
        variable = f"BACPIPES_{name.upper()}"
        if variable not in os.environ and not (SECRETS_DIRECTORY / variable.lower()).exists():
            overrides[name] = "none"
    return load_settings(**overrides)


def _address(text: str) -> str:
    try:
        return canonical_address(text.strip())
    except CellError as error:
        raise click.BadParameter(f"{error}.", param_hint="--address") from None


def _range(text: str) -> list[str]:
    first, _, rest = text.strip().partition("-")
    last, colon, port = rest.partition(":")
    try:
        low, high = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not FIRST-LAST[:PORT] ({error}).", param_hint="--range") from None
    number = int(high) - int(low) + 1
    if not 1 <= number <= MAX_ADDRESSES:
        reason = "begins after its end" if number < 1 else f"has {number} addresses, at most {MAX_ADDRESSES}"
        raise click.BadParameter(f"{text!r} {reason}.", param_hint="--range")
    return [_address(f"{ipaddress.IPv4Address(one)}{colon}{port}") for one in range(int(low), int(high) + 1)]
