"""``GET /api/timeseries/export``: history as CSV or JSON, from the server's own COPY, in flat memory."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from psycopg import AsyncClientCursor, sql
from psycopg.pq import TransactionStatus
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from bacpipes.database import Connection, first_line, query
from bacpipes.exporter import copy_out
from bacpipes.exporter.auth import Identity, require
from bacpipes.exporter.metrics import Metrics
from bacpipes.exporter.parameters import ExportRequest, export_request
from bacpipes.exporter.problem import DATABASE_ERRORS, of_database, unavailable
from bacpipes.exporter.store import Store, require_schema
from bacpipes.log import get_logger
from bacpipes.tokens import Role

logger = get_logger(__name__)
router = APIRouter()

CHUNK = 128 * 1024  # bytes collected before they go to the network
AT_ONCE = 4  # exports; each holds a connection to the database
CANCEL_WITHIN = 2.0  # seconds
# A client that stops reading holds a transaction open, which in turn keeps old partitions from being dropped.
STALLED_AFTER = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Format:
    """A statement that makes texts of rows, and what frames them; ``before`` takes the place of the first row's
    first ``drop`` bytes."""

    statement: str
    media_type: str
    disposition: str
    before: bytes = b""
    drop: int = 0
    after: bytes = b""


HEADER = b"time,haystack_name,dis,value,units,quality,device_name,device_ip,object_type,object_instance\n"
FORMATS = {
    "csv": Format("export_csv", "text/csv; charset=utf-8", "attachment", before=HEADER),
    "json": Format("export_json", "application/json", "inline", before=b"[", drop=1, after=b"]\n"),
}


class Exports:
    """The exports that run: there are never more than `AT_ONCE`."""

    def __init__(self) -> None:
        self.running = 0
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places, or raise a 503 `Problem` at once."""
        if self.running >= AT_ONCE:
            raise unavailable(f"{AT_ONCE} exports are running already.", "Try again when one of them has ended.")
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._ended.set()

    async def all_ended(self) -> None:
        """Return when none runs."""
        while self.running:
            self._ended.clear()
            await self._ended.wait()


PARAMETERS = [
    ("start", "Beginning, inclusive: a date or time; without an offset in the site's zone. Default: 24 h before end."),
    ("end", "End, inclusive: a date (through its end) or time. Default: now."),
    ("haystackName", "Only the point of this name."),
    ("format", "csv (default) or json."),
]


@router.get(
    "/api/timeseries/export",
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
            for name, text in PARAMETERS
        ]
    },
)
async def export(request: Request, _: Annotated[Identity, Depends(require(Role.VIEWER))]) -> Response:
    """History, newest first, streamed."""
    state = request.app.state
    wanted = export_request(request.query_params.multi_items(), state.settings.zone, datetime.now(UTC))
    return ExportResponse(wanted, state.store, state.exports, state.metrics)


class ExportResponse(Response):
    """Sends an export while the database produces it.

    What fails before the first byte is answered as a problem; what fails later ends the connection without the end
    of the body, so that no client takes a part for the whole.
    """

    def __init__(self, wanted: ExportRequest, store: Store, exports: Exports, metrics: Metrics) -> None:
        self._format = FORMATS[wanted.format]
        name = f"export_{time.time_ns() // 1_000_000}.{wanted.format}"
        disposition = f'{self._format.disposition}; filename="{name}"'
        super().__init__(media_type=self._format.media_type, headers={"Content-Disposition": disposition})
        del self.headers["content-length"]
        self._wanted = wanted
        self._store = store
        self._exports = exports
        self._metrics = metrics
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pump until all is sent, or the client goes away."""
        pump = asyncio.create_task(self._pump(send), name="export")
        gone = asyncio.create_task(_disconnected(receive), name="export's client")
        try:
            await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # The server is stopping, and this task ends here; an error would only add a traceback to its log.
            logger.warning("export: broken off", reason="the exporter is stopping")
            if not self._started:
                raise
            return
        finally:
            # On a disconnect, and on shutdown, this is what cancels the query on the server.
            pump.cancel()
            gone.cancel()
            await asyncio.gather(pump, gone, return_exceptions=True)
        if pump.cancelled():
            logger.info("export: the client went away")
        elif error := pump.exception():
            await self._failed(error, scope, receive, send)

    async def _pump(self, send: Send) -> None:
        async with self._exports.place():
            async with self._copy() as rows, aclosing(self._chunks(rows)) as chunks:
                async for chunk in chunks:
                    await self._send(send, chunk)
            await self._send(send, b"", last=True)  # only where the server, too, says that this was all

    @asynccontextmanager
    async def _copy(self) -> AsyncIterator[AsyncGenerator[copy_out.Block, None]]:
        connection = await self._store.dedicated("export")
        try:
            await require_schema(connection)
            await connection.execute("BEGIN")
            await connection.execute(query("export_plan"))
            parameters = await self._parameters(connection)
            # Binary, because then the server hands each text on as it is: no cell is looked through once more.
            statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(
                sql.SQL(query(self._format.statement).decode())
            )
            text = AsyncClientCursor(connection).mogrify(statement, parameters)
            async with aclosing(copy_out.texts(connection, text.encode())) as rows:
                yield rows
        finally:
            if connection.info.transaction_status == TransactionStatus.ACTIVE:  # it was not read to its end
                with suppress(Exception):
                    await connection.cancel_safe(timeout=CANCEL_WITHIN)
            await connection.close()

    async def _parameters(self, connection: Connection) -> dict[str, Any]:
        point = None
        if (name := self._wanted.haystack_name) is not None:
            row = await (await connection.execute(query("export_point"), [name])).fetchone()
            point = row[0] if row else 0  # 0 is no point: the export is empty
        mark = secrets.token_hex(8)  # stands for the time until that is known; no text can hold it but by guessing
        return {"start": self._wanted.start, "end": self._wanted.end, "point": point, "mark": mark}

    async def _chunks(self, blocks: AsyncGenerator[copy_out.Block, None]) -> AsyncGenerator[bytes, None]:
        """The rows in pieces of about `CHUNK` bytes; no more is held than that and what has just arrived."""
        buffer, rows, drop = bytearray(self._format.before), 0, self._format.drop
        async for block in blocks:
            rows += block.rows
            text = b"".join(block.texts)
            buffer += text[drop:] if drop else text
            drop = 0
            if len(buffer) >= CHUNK:
                yield bytes(buffer)
                buffer.clear()
                self._metrics.export_rows.inc(rows)
                rows = 0
        yield bytes(buffer + self._format.after)
        self._metrics.export_rows.inc(rows)

    async def _send(self, send: Send, chunk: bytes, *, last: bool = False) -> None:
        async with asyncio.timeout(STALLED_AFTER):
            if not self._started:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                self._started = True
            await send({"type": "http.response.body", "body": chunk, "more_body": not last})
        self._metrics.export_bytes.inc(len(chunk))

    async def _failed(self, error: BaseException, scope: Scope, receive: Receive, send: Send) -> None:
        if self._started:
            reason = "the client stopped reading" if isinstance(error, TimeoutError) else first_line(error)
            logger.error("export: broken off", reason=reason)
            return  # without the end of the body: the server then closes the connection
        if isinstance(error, DATABASE_ERRORS):
            logger.error("export: failed", reason=first_line(error))
            await of_database(error).response()(scope, receive, send)
            return
        raise error


async def _disconnected(receive: Receive) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
