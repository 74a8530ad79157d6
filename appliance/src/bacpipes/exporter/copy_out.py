"""``COPY … TO STDOUT``, read in blocks.

psycopg's own reader takes a turn of the event loop for each row, which costs more than the row. Here libpq's buffer is
emptied in one go, and the loop is only waited on where the server has nothing ready.
"""

import asyncio
from collections.abc import AsyncGenerator

from psycopg import errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from bacpipes.database import Connection


async def rows(connection: Connection, statement: bytes) -> AsyncGenerator[list[bytes], None]:
    """The rows as the server formats them, as many at a time as have arrived; raise what the server says.

    The connection is of no use afterwards unless all was read: cancel and close it.
    """
    pgconn = connection.pgconn
    pgconn.send_query(statement)
    while pgconn.flush():
        await _ready(pgconn, write=True)
    result = await _result(pgconn)
    if result is None or result.status != ExecStatus.COPY_OUT:
        raise _error(result)
    found: list[bytes] = []
    while True:
        size, data = pgconn.get_copy_data(1)
        if size > 0:
            found.append(bytes(data))
            continue
        if found:
            yield found
            found = []
        if size < 0:
            break
        await _ready(pgconn)
        pgconn.consume_input()
    while (result := await _result(pgconn)) is not None:
        if result.status != ExecStatus.COMMAND_OK:
            raise _error(result)


async def _result(pgconn: PGconn) -> PGresult | None:
    while pgconn.is_busy():
        await _ready(pgconn)
        pgconn.consume_input()
    return pgconn.get_result()


async def _ready(pgconn: PGconn, *, write: bool = False) -> None:
    """Wait until the socket can be read, or written."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    socket = pgconn.socket
    (loop.add_writer if write else loop.add_reader)(socket, ready.set)
    try:
        await ready.wait()
    finally:
        (loop.remove_writer if write else loop.remove_reader)(socket)


def _error(result: PGresult | None) -> Exception:
    if result is None:
        return errors.OperationalError("the server did not answer to COPY")
    return errors.error_from_result(result)
