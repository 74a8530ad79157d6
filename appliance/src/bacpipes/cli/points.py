"""``bacpipes points import | export | check``."""

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from bacpipes import database, secret_box
from bacpipes.errors import InputError, UnavailableError
from bacpipes.mqtt import config as mqtt_config
from bacpipes.points import importer as points_import
from bacpipes.points import legacy
from bacpipes.points import report as points_report
from bacpipes.points.csv_file import PointFile, read_points, write_points
from bacpipes.settings import SECRETS_DIRECTORY, Settings, load_settings

DATABASE_VARIABLE = "BACPIPES_DATABASE_URL"
_FILE = click.Path(dir_okay=False, path_type=Path, allow_dash=True)


@click.group()
def points() -> None:
    """The list of points as a CSV file; docs/points.md describes its columns."""


@points.command("import")
@click.argument("file", type=_FILE, required=False)
@click.option("--from-bacpipes", "dsn", metavar="DSN", help="Read the tables of an earlier BacPipes instead of a file.")
@click.option("--site-of", "sites", multiple=True, metavar="OLD", help="A siteId there that is this site (repeatable).")
@click.option("--with-mqtt", is_flag=True, help="Take over its broker settings too (secrets are stored encrypted).")
@click.option("--prune", is_flag=True, help="Disable points that are not in the file (their history stays).")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--full", is_flag=True, help="Show every line, however many.")
def import_(
    file: Path | None, dsn: str | None, sites: tuple[str, ...], with_mqtt: bool, prune: bool, dry_run: bool, full: bool
) -> None:
    """Make the database follow FILE ('-' reads standard input): all of it or, where anything is wrong, nothing.

    Shows the difference. Points that are not in FILE are left alone and listed. Safe to repeat.
    """
    if (file is None) == (dsn is None):
        raise click.UsageError("Give either FILE or --from-bacpipes DSN.")
    if dsn is None and (sites or with_mqtt):
        raise click.UsageError("--site-of and --with-mqtt belong to --from-bacpipes.")
    settings = load_settings()
    limit = None if full else points_report.LIMIT
    if dsn is None:
        source = _read(file or Path("-"), settings.site_id)
        _refuse_errors(source, source.problems.errors, limit)
        _import(settings, source, prune, dry_run, limit)
        return
    earlier = legacy.read_legacy(dsn, settings.site_id, sites)
    broker = _broker(earlier, settings) if with_mqtt else None
    _refuse_errors(earlier.points, earlier.points.problems.errors, limit)
    _import(settings, earlier.points, prune, dry_run, limit)
    if earlier.skipped:
        click.echo(f"{points_report.counted(earlier.skipped, 'point')} not imported, for the reasons above.", err=True)
    if broker is not None:
        _import_broker(settings, broker, dry_run)


@points.command()
@click.argument("file", type=_FILE)
@click.option("--site", help="The site's id; default: BACPIPES_SITE_ID.")
@click.option("--against-database", is_flag=True, help="Fail where the database can't be compared with.")
@click.option("--prune", is_flag=True, help="Compare as `points import --prune` would.")
@click.option("--full", is_flag=True, help="Show every line, however many.")
def check(file: Path, site: str | None, against_database: bool, prune: bool, full: bool) -> None:
    """Check FILE without changing anything; with a database at hand, show what an import would change."""
    settings, has_database = _offline_settings(site)
    if against_database and not has_database:
        raise click.UsageError(f"--against-database needs {DATABASE_VARIABLE}.")
    source = _read(file, settings.site_id)
    limit = None if full else points_report.LIMIT
    _refuse_errors(source, source.problems.errors, limit)
    if has_database:
        try:
            _import(settings, source, prune, True, limit)
        except UnavailableError as error:
            if against_database:
                raise
            click.echo(f"{error} The file was not compared with it.", err=True)
    devices = len({row.device_id for row in source.rows})
    counted = points_report.counted
    warnings = counted(source.problems.warnings, "warning")
    click.echo(f"{source.name}: good, {counted(len(source.rows), 'point')} on {counted(devices, 'device')}, {warnings}")


@points.command()
@click.argument("file", type=_FILE, default="-")
def export(file: Path) -> None:
    """Write all points to FILE (default: standard output), so that importing it changes nothing."""
    settings = load_settings()
    with points_import.connection_to(settings.database_url.get_secret_value(), "points export") as connection:
        stored = points_import.load_stored(connection, settings.site_id)
    rows = [point.row for point in stored.points.values()]
    with output_file(file) as stream:
        write_points(stream, rows, settings.site_id)
    if file != Path("-"):
        click.echo(f"{file}: {points_report.counted(len(rows), 'point')} of site {settings.site_id}", err=True)


@contextlib.contextmanager
def output_file(path: Path) -> Iterator[Any]:
    """A text stream in UTF-8 to standard output ('-') or to a file, which appears whole or not at all."""
    if path == Path("-"):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as draft:
            try:
                yield draft
            except BaseException:
                Path(draft.name).unlink()
                raise
        Path(draft.name).chmod(0o644)
        Path(draft.name).replace(path)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error.strerror}.") from None


def _read(path: Path, site: str) -> PointFile:
    """Read a points file, with progress on a terminal."""
    try:
        with _open(path) as stream:
            progress = _show_progress if sys.stderr.isatty() else None
            file = read_points(stream, "standard input" if path == Path("-") else str(path), site, progress)
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None
    if sys.stderr.isatty():
        click.echo("\r\033[K", nl=False, err=True)
    return file


def _open(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdin.buffer) if path == Path("-") else path.open("rb")


def _show_progress(rows: int) -> None:
    click.echo(f"\r{rows} rows read", nl=False, err=True)


def _import(
    settings: Settings,
    source: PointFile,
    prune: bool,
    dry_run: bool,
    limit: int | None,
) -> None:
    with points_import.connection_to(settings.database_url.get_secret_value(), "points import") as connection:
        plan = points_import.import_points(connection, source, settings.site_id, prune=prune, dry_run=dry_run)
    for line in points_report.problem_lines(source, plan.problems, limit):
        click.echo(line, err=True)
    if plan.problems.errors:
        raise _refusal(source, plan.problems.errors)
    for line in points_report.note_lines(plan, limit):
        click.echo(line, err=True)
    for line in points_report.diff_lines(plan, limit):
        click.echo(line)
    dry = " (dry run: nothing was changed)" if dry_run and not plan.is_empty else ""
    click.echo(points_report.summary(plan) + dry)


def _refuse_errors(source: PointFile, errors: int, limit: int | None) -> None:
    for line in points_report.problem_lines(source, source.problems, limit):
        click.echo(line, err=True)
    if errors:
        raise _refusal(source, errors)


def _refusal(source: PointFile, errors: int) -> InputError:
    counted = points_report.counted(errors, "error")
    return InputError(f"{source.name}: refused, {counted}; nothing was changed.", "Correct the lines named above.")


def _broker(earlier: legacy.Legacy, settings: Settings) -> dict[str, object] | None:
    """The earlier broker settings, checked before anything is changed."""
    if earlier.mqtt is None:
        click.echo("The earlier database has no MqttConfig: the broker settings stay as they are.", err=True)
        return None
    mqtt_config.check(earlier.mqtt)
    secret_box.secret_box(settings)  # or its error, before anything is changed
    return earlier.mqtt


def _import_broker(settings: Settings, values: dict[str, object], dry_run: bool) -> None:
    broker = mqtt_config.check(values)
    if dry_run:
        click.echo(f"MQTT broker: would become {broker.address}")
        return
    changed = asyncio.run(_save_broker(settings, values))
    said = f"changed {', '.join(changed)}" if changed else "nothing to change"
    click.echo(f"MQTT broker {broker.address}: {said}")


async def _save_broker(settings: Settings, values: dict[str, object]) -> list[str]:
    async with await database.connect(settings, "points import") as connection:
        return await mqtt_config.save(connection, settings, values, actor=points_import.os_user())


def _offline_settings(site: str | None) -> tuple[Settings, bool]:
    """Settings that need no database, and whether they have one."""
    overrides: dict[str, object] = {"site_id": site.strip().lower()} if site else {}
    has_database = DATABASE_VARIABLE in os.environ or (SECRETS_DIRECTORY / DATABASE_VARIABLE.lower()).exists()
    if not has_database:
        overrides["database_url"] = ""
    return load_settings(**overrides), has_database
