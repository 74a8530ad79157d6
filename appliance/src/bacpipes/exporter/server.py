"""Runs the application on its port until a signal comes, and then ends within seconds."""

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from bacpipes.errors import SettingsError, UnavailableError
from bacpipes.events import end_all
from bacpipes.exporter.certificate import ServerCertificate
from bacpipes.log import get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)
DRAIN = 2  # whole seconds for running requests; with what follows, SIGTERM ends the process in under 5 s
BACKLOG = 128


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: it ends itself by the signal, we end with status 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: FastAPI, listener: socket.socket, certificate: ServerCertificate | None = None) -> None:
    """Answer requests on an open socket until SIGTERM or SIGINT, over TLS where there is a certificate."""
    config = uvicorn.Config(
        app,
        http="h11",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN,
        lifespan="on",
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
    )
    server = _Server(config)

    def stop() -> None:
        app.state.stopping.set()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    host, port = listener.getsockname()[:2]
    logger.info("listening", host=host, port=port, tls=certificate is not None)
    following = [asyncio.create_task(certificate.follow(), name="certificate")] if certificate else []
    try:
        await server.serve([listener])
    finally:
        await end_all(following)
    logger.info("stopped")


def refuse_plain(settings: Settings) -> None:
    """Raise `SettingsError` where passwords would cross a network unencrypted."""
    if settings.http_certificate is not None or settings.http_plain:
        return
    try:
        here = ipaddress.ip_address(settings.http_host).is_loopback
    except ValueError:
        here = settings.http_host == "localhost"
    if not here:
        raise SettingsError(
            f"BACPIPES_HTTP_HOST is {settings.http_host}, and there is no certificate: passwords would cross the "
            "network unencrypted.",
            "Set BACPIPES_HTTP_CERTIFICATE and BACPIPES_HTTP_KEY; or BACPIPES_HTTP_PLAIN=true, where only this machine "
            "can reach the port.",
        )


def listen(settings: Settings) -> socket.socket:
    """The socket that the settings name, open; raise `UnavailableError` where another process has it."""
    host, port = settings.http_host, settings.http_port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UnavailableError(f"Can't listen on {host}: {error.strerror}.", "Set BACPIPES_HTTP_HOST.") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            remedy = "Stop that process, or set BACPIPES_HTTP_PORT to another port."
            raise UnavailableError(f"Port {port} on {host} is taken by another process.", remedy) from None
        remedy = "Set BACPIPES_HTTP_HOST and BACPIPES_HTTP_PORT."
        raise UnavailableError(f"Can't listen on {host}:{port}: {error.strerror}.", remedy) from None
    listener.setblocking(False)
    return listener
