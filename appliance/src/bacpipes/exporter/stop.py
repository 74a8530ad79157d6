"""The site's stop over HTTP: what a page's button calls."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from bacpipes.exporter import description
from bacpipes.exporter.auth import Identity, require
from bacpipes.exporter.parameters import take
from bacpipes.exporter.problem import bad_parameter
from bacpipes.exporter.store import Store
from bacpipes.exporter.writes import read_body
from bacpipes.reading import iso_milliseconds
from bacpipes.tokens import Role
from bacpipes.writes import stop
from bacpipes.writes.command import MAX_TEXT

router = APIRouter()
Operator = Annotated[Identity, Depends(require(Role.OPERATOR))]

LONGEST_REASON = MAX_TEXT  # characters


@router.get("/api/stop", dependencies=[Depends(require(Role.VIEWER))])
async def show(request: Request) -> Response:
    """Is the site stopped, since when, by whom and why, and how many slots are still held."""
    take(request.query_params.multi_items(), ())
    return await _answer(request.app.state.store)


@router.post("/api/stop", openapi_extra=description.body(description.STOP, required=False))
async def begin(request: Request, who: Operator) -> Response:
    """Stop the site: the worker releases all that it holds, and refuses writes until the stop is lifted."""
    take(request.query_params.multi_items(), ())
    return await _change(request, who, stopped=True, reason=_reason(await read_body(request)))


@router.delete("/api/stop")
async def lift(request: Request, who: Operator) -> Response:
    """Let the site be written again."""
    take(request.query_params.multi_items(), ())
    return await _change(request, who, stopped=False, reason=None)


async def _change(request: Request, who: Identity, *, stopped: bool, reason: str | None) -> Response:
    store: Store = request.app.state.store
    async with store.connection() as connection:
        await stop.change(connection, stopped=stopped, actor=f"api:{who.name}", reason=reason)
    return await _answer(store)


async def _answer(store: Store) -> Response:
    async with store.connection() as connection:
        now = await stop.load(connection)
    body: dict[str, Any] = {"stopped": now.stopped, "since": None, "actor": None, "reason": None, "held": now.waiting}
    if now.stopped:
        body |= {"since": iso_milliseconds(now.since), "actor": now.actor, "reason": now.reason}
    return JSONResponse(body)


def _reason(body: bytes) -> str | None:
    """The reason out of an optional ``{"reason": "…"}``."""
    try:
        fields = json.loads(body.decode("utf-8")) if body.strip() else {}
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict) or fields.keys() - {"reason"}:
        raise bad_parameter("body", 'The body is not {"reason": "…"}.', 'nothing, or {"reason": "…"}')
    reason = fields.get("reason")
    if reason is not None and (not isinstance(reason, str) or not 0 < len(reason) <= LONGEST_REASON or "\0" in reason):
        raise bad_parameter("reason", "The reason is not a text.", f"a text of 1 to {LONGEST_REASON} characters")
    return reason
