"""``bacpipes exporter``."""

import asyncio
import gc
import logging

import click

from bacpipes import log
from bacpipes.settings import load_settings


@click.command()
def exporter() -> None:
    """Serve the page and the HTTP API: export, points, writes, metrics and health.

    It starts without the database, and recovers by itself when the database is back. SIGTERM ends it in under 5 s.
    """
    from bacpipes.exporter.app import create_app
    from bacpipes.exporter.certificate import ServerCertificate
    from bacpipes.exporter.server import listen, refuse_plain, serve
    from bacpipes.page.mount import mount

    settings = load_settings()
    log.configure(settings.log_format, settings.log_level)
    # The pool repeats itself on each try; readiness logs the failure and the recovery.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    refuse_plain(settings)
    certificate = ServerCertificate.of(settings)
    with listen(settings) as listener:
        app = create_app(settings, certificate)
        mount(app)
        asyncio.run(serve(app, listener, certificate))
    gc.freeze()  # all is closed: without it the interpreter spends seconds of a busy machine on clearing up
