"""``COPY … TO STDOUT (FORMAT binary)`` of a text and how many rows are in it (a bigint), read in blocks.

psycopg's own reader takes a turn of the event loop for each row, which costs more than the row. Here libpq's buffer is
emptied in one go, and the loop is only waited on where the server has nothing ready.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from psycopg import errors
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from bacpipes.database import Connection

# What stands before the first row; before each (the number of columns, the text's length); behind its text (the length
# of the count, and the count). A message holds one row.
_SIGNATURE, _HEADER, _BEFORE, _BEHIND, _COUNT = b"PGCOPY\n\xff\r\n\0", 19, 6, 12, 8
_TRAILER = b"\xff\xff"  # in the place of one more row
AT_ONCE = 64 * 1024  # bytes of texts in one block, roughly


@dataclass(slots=True)
class Block:
    """Texts that came together, and how many rows there are in them."""

    texts: list[bytes] = field(default_factory=list)
    rows: int = 0
    size: int = 0  # octets


async def texts(connection: Connection, statement: bytes) -> AsyncGenerator[Block, None]:
    """The texts, as many at a time as have arrived; raise what the server says.

    The connection is of no use afterwards unless all was read: cancel and close it.
    """
    pgconn = connection.pgconn
    pgconn.send_query(statement)
    while pgconn.flush():
        await _ready(pgconn, write=True)
    result = await _result(pgconn)
    if result is None or result.status != ExecStatus.COPY_OUT:
        raise _error(result)
    size = 1
    while size >= 0:
        block = Block()
        size = _take(pgconn, block)
        while size == 0 and block.size < AT_ONCE:  # the loop is asked only where the kernel has nothing either
            before = block.size
            pgconn.consume_input()
            size = _take(pgconn, block)
            if block.size == before:
                break
        if block.texts:
            yield block
            await asyncio.sleep(0)  # there are others
        if size == 0:
            await _ready(pgconn)
            pgconn.consume_input()
    while (result := await _result(pgconn)) is not None:
        if result.status != ExecStatus.COMMAND_OK:
            raise _error(result)


def _take(pgconn: PGconn, block: Block) -> int:
    """Append the texts that libpq holds, about `AT_ONCE` bytes at most. 0: it holds no more yet; -1: that was all."""
    while block.size < AT_ONCE:
        size, data = pgconn.get_copy_data(1)
        if size <= 0:
            return size
        row = bytes(data)
        if row.startswith(_SIGNATURE):
            row = row[_HEADER:]
        if row and row != _TRAILER:
            block.texts.append(row[_BEFORE:-_BEHIND])
            block.rows += int.from_bytes(row[-_COUNT:], "big")
        block.size += size
    return 1


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
