"""Puts the page on the exporter's application."""

import logging
import os
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from bacpipes.page import context, login
from bacpipes.page.login import Gatekeeper

STATIC = Path(__file__).parent / "static"
RECONNECT_WITHIN = 30.0  # seconds for which a page that lost its connection keeps its state here
HISTORY = 500  # messages that are sent again after an interruption


def _gzip(app: ASGIApp) -> GZipMiddleware:
    """Fast rather than small: an appliance has little CPU, and its network is near."""
    return GZipMiddleware(app, minimum_size=1000, compresslevel=3)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    """Who was refused has been told; that is no fault of ours."""
    return not (record.exc_info and isinstance(record.exc_info[1], context.RefusedError)) and not isinstance(
        record.msg, context.RefusedError
    )


def mount(app: FastAPI) -> None:
    """Add login and page to an application; once in a process, for NiceGUI has one application of its own."""
    os.environ.setdefault("NICEGUI_STORAGE_PATH", str(app.state.settings.state_dir / ".nicegui"))  # never written to
    import nicegui
    from nicegui import ui

    from bacpipes.page import pages
    from bacpipes.page.gate import Gate

    context.bind(app.state)
    app.state.gatekeeper = Gatekeeper()
    app.state.assets = []  # what every page loads, once one was made
    app.include_router(login.router)
    app.mount("/page", StaticFiles(directory=STATIC), name="page")
    nicegui.app.add_middleware(Gate, state=app.state)
    pages.register()
    nicegui_log = logging.getLogger("nicegui")
    nicegui_log.setLevel(logging.WARNING)
    nicegui_log.addFilter(_is_no_refusal)
    ui.run_with(
        app,
        title="BacPipes",
        favicon=STATIC / "icon.svg",
        language="en-US",
        tailwind=False,
        reconnect_timeout=RECONNECT_WITHIN,
        message_history_length=HISTORY,
        binding_refresh_interval=None,
        show_welcome_message=False,
        gzip_middleware_factory=_gzip,
    )
