"""``bacpipes worker``."""

import click

from bacpipes import log
from bacpipes.settings import load_settings


@click.command()
def worker() -> None:
    """Poll, commit, publish, and carry out write commands, until SIGTERM."""
    settings = load_settings()
    log.configure(settings.log_format, settings.log_level)
    from bacpipes.worker.restart import serve  # after the settings, so that a wrong one is told at once

    serve(settings)
