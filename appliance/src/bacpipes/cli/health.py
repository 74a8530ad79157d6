"""``bacpipes health``: asks a running process how it is, as Docker's health checks do."""

import json
import os
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection

import click

from bacpipes.errors import ExitCode, SettingsError, UnavailableError

PATIENCE = 5.0  # seconds; both pages answer in less
# Read by hand and not by `Settings`: a health check runs every half minute, and loading pydantic takes longer than all
# the rest. A test holds the defaults against those of `Settings`. The exporter counts a client on its own loopback
# address as local; where it listens is for others.
PAGES = {
    "worker": ("BACPIPES_WORKER_HTTP_HOST", "127.0.0.1", "BACPIPES_WORKER_HTTP_PORT", "9109"),
    "exporter": ("BACPIPES_HTTP_HOST", "127.0.0.1", "BACPIPES_HTTP_PORT", "3001"),
}
EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 – compared with, not listened on


@click.command()
@click.argument("process", type=click.Choice(list(PAGES)))
@click.option("--alive", is_flag=True, help="Only whether it answers, not whether it is ready.")
def health(process: str, alive: bool) -> int:
    """Ask the PROCESS on this machine whether it is ready, and print what it lacks.

    The exit status is 0 where it is ready, 1 where it is not, 4 where it does not answer.
    """
    word, path = ("alive", "/healthz") if alive else ("ready", "/readyz")
    status, body = _ask(process, path)
    if status == 200:
        click.echo(f"The {process} is {word}.")
        return ExitCode.OK
    for reason in _reasons(body):
        click.echo(reason, err=True)
    click.echo(f"The {process} is not {word} (HTTP {status}).", err=True)
    return ExitCode.FAILED


def _ask(process: str, path: str) -> tuple[int, bytes]:
    host_variable, host, port_variable, port = PAGES[process]
    host, port = os.environ.get(host_variable, host), os.environ.get(port_variable, port)
    if not port.isdigit():
        raise SettingsError(f"{port_variable}: {port!r} is no port.")
    address = "127.0.0.1" if host in EVERYWHERE else host
    connection = _connection(process, address, int(port))
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(1_000_000)
    except (OSError, HTTPException) as error:
        raise UnavailableError(
            f"The {process} does not answer on {address}:{port}: {error}.", "Is it running? Its log says why it ended."
        ) from None
    finally:
        connection.close()


def _connection(process: str, address: str, port: int) -> HTTPConnection:
    if process != "exporter" or not os.environ.get("BACPIPES_HTTP_CERTIFICATE"):
        return HTTPConnection(address, port, timeout=PATIENCE)
    # Our own process on our own machine, whose certificate is made out to the name that others know: not verified, and
    # nothing secret is said.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(address, port, timeout=PATIENCE, context=context)


def _reasons(body: bytes) -> list[str]:
    try:
        page = json.loads(body)
        return [" ".join([f"{r['component']}: {r['reason']}", r.get("remedy") or ""]).strip() for r in page["reasons"]]
    except (ValueError, TypeError, KeyError):
        return []
