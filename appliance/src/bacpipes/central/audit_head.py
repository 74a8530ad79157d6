"""The head of a site's audit chain goes to central, which remembers it: a chain that was made anew shows there."""

from psycopg.errors import UndefinedFunction

from bacpipes.database import Connection, query


async def record_of(site: Connection) -> int:
    """The number of the newest audit record."""
    row = await (await site.execute("SELECT id FROM audit_head")).fetchone()
    return int(row[0]) if row else 0


async def send(site: Connection, central: Connection, site_id: str) -> bool:
    """Tell central the head, and which hash the record of the head that it has now has here; False where central is
    older than this and takes none."""
    try:
        row = await (await central.execute("SELECT public.audit_head_known(%s)", [site_id])).fetchone()
    except UndefinedFunction:
        return False
    known = row[0] if row else None
    head = await (await site.execute(query("audit_head"), {"known": known})).fetchone()
    if head is not None and (head[0] or known):
        await central.execute(query("audit_head_land"), [site_id, head[0], head[1], known, head[2], head[3]])
    return True
