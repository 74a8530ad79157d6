"""Which sites central has: their rows, and their own login roles."""

from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from bacpipes.central import schema
from bacpipes.database import query, schema_version_now
from bacpipes.errors import InputError
from bacpipes.settings import RESERVED_SITE_IDS, SITE_ID

Connection = psycopg.Connection[Any]
LONGEST = 58  # 'site_' and the id are a role's name, of which PostgreSQL keeps 63 characters
GROUP = "central_site"


def role_of(site: str) -> str:
    """The login role of a site, which is the name of its subscription too."""
    return f"site_{site}"


def require_schema(connection: Connection) -> None:
    """Raise `SchemaError` unless the database is central's, of this version."""
    schema.check(schema_version_now(connection))


def require_site(connection: Connection, site: str) -> None:
    """Raise `InputError` unless the site is registered."""
    if connection.execute("SELECT FROM site WHERE id = %s", [site]).fetchone() is None:
        raise InputError(f"Central has no site {site!r}.", "`bacpipes central site list` shows them.")


def add(connection: Connection, site: str, **wanted: object) -> bool:
    """Register a site, or change what ``wanted`` (name, zone, lane, live) says of it; True where something changed."""
    if not SITE_ID.fullmatch(site) or site in RESERVED_SITE_IDS or len(site) > LONGEST:
        raise InputError(f"{site!r} is not a site's id.", f"Use 1 to {LONGEST} of a-z, 0-9, _ and -; not 'bacnet'.")
    values = {"site": site, "name": None, "zone": None, "lane": None, "live": None} | wanted
    return connection.execute(query("central_site_add"), values).fetchone() is not None


def add_role(connection: Connection, site: str, password: str | None) -> str:
    """Make the site's login role where it is missing, and set its password where one is given: ``made``, ``changed``,
    ``there``, or ``not allowed`` for want of CREATEROLE."""
    role = role_of(site)
    exists = connection.execute("SELECT to_regrole(%s) IS NOT NULL", [f'"{role}"']).fetchone() == (True,)
    may = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
    if exists and password is None:
        return "there"
    if connection.execute(may).fetchone() != (True,):
        return "there" if exists else "not allowed"
    name = sql.Identifier(role)
    if not exists:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT 8 IN ROLE {}").format(name, sql.Identifier(GROUP))
        )
    if password is not None:
        # The server gets the verifier, so that no password stands in its log.
        verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(verifier)))
    return "changed" if exists else "made"


def remove_role(connection: Connection, site: str) -> bool:
    """End a site's access: its role goes, and its connections with it. What it brought stays."""
    role = role_of(site)
    if connection.execute("SELECT to_regrole(%s) IS NULL", [f'"{role}"']).fetchone() == (True,):
        return False
    connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(role)))
    connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
    connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
    return True


def contradictions(connection: Connection, site: str) -> list[tuple[Any, ...]]:
    """Heads of a site's audit chain that contradict earlier ones and were not accepted: when, record, hash, what."""
    return connection.execute(query("central_audit"), {"site": site}).fetchall()


def accept_audit(connection: Connection, site: str, actor: str, reason: str) -> None:
    """What contradicts is settled: the site's next head begins anew."""
    connection.execute(
        "INSERT INTO site_audit_accepted (site_id, actor, reason) VALUES (%s, %s, %s)", [site, actor, reason]
    )


def everyone(connection: Connection) -> list[dict[str, Any]]:
    """All sites, as ``GET /api/sites`` tells them."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query("central_sites")).fetchall()
