"""A site's own connection to central's database: TLS with a verified host name, or nothing."""

from ipaddress import ip_address
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from bacpipes.central.schema import PREFIX
from bacpipes.database import KEEPALIVE, TCP_TIMEOUT, Connection, first_line, schema_version
from bacpipes.errors import SchemaError, SettingsError, UnavailableError

VARIABLE = "BACPIPES_CENTRAL_DATABASE_URL"
CONNECT_TIMEOUT = 20  # seconds; a link of 200 ms with losses takes a while to shake hands


def refuse_unsafe(url: str, variable: str = VARIABLE) -> None:
    """Raise `SettingsError` for a connection that somebody on the way could read or answer."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise SettingsError(
            f"{variable} is not a PostgreSQL connection string.",
            "In a URI, special characters of the password are percent-encoded: %40 for @, %3A for :, %2F for /.",
        ) from None
    if "@" in str(parts.get("host") or ""):
        raise SettingsError(f"{variable} is not a PostgreSQL connection string.", "Write %40 for @ in the password.")
    hosts = [str(parts.get(name) or "") for name in ("host", "hostaddr")]
    near = all(_is_near(host) for names in hosts for host in names.split(","))
    if not near and parts.get("sslmode") != "verify-full":
        raise SettingsError(
            f"{variable} asks for sslmode={parts.get('sslmode', 'prefer')}, and the server is not on this machine.",
            "Add sslmode=verify-full, and sslrootcert with the fleet's CA: readings and commands pass there.",
        )


async def connect(url: str, application: str) -> Connection:
    """A connection in autocommit mode to a database that is central's; raise `UnavailableError` or `SchemaError`."""
    refuse_unsafe(url)
    parameters: dict[str, Any] = {
        "autocommit": True,
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": TCP_TIMEOUT,
        "application_name": f"bacpipes {application}",
        **KEEPALIVE,
    }
    try:
        connection = await psycopg.AsyncConnection.connect(url, **parameters)
    except psycopg.OperationalError as error:
        raise UnavailableError(f"Central's database can't be reached: {first_line(error)}.") from None
    version = await schema_version(connection)
    if version is None or not version.startswith(PREFIX):
        await connection.close()
        raise SchemaError("The database has no schema of central.", f"Is {VARIABLE} right?")
    return connection


def _is_near(host: str) -> bool:
    """A socket's folder, or loopback: nobody is between."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
