"""``GET /api/monitoring/stream`` and ``GET /api/timeseries/trend``: what is now, and how it came."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from bacpipes.exporter.auth import Identity, authenticate, require
from bacpipes.exporter.live import Live, events
from bacpipes.exporter.parameters import moment, take
from bacpipes.exporter.problem import Problem, bad_parameter, unavailable
from bacpipes.exporter.store import Store
from bacpipes.reading import iso_milliseconds
from bacpipes.tokens import Role

router = APIRouter()

KEEP_ALIVE = 10.0  # seconds
WATCHERS = 50
RECHECK = 30.0  # seconds after which a stream asks whether its token or login still holds
BUCKETS, MOST_BUCKETS = 600, 5000
MOST_POINTS = 8
LONGEST = timedelta(days=3660)


@router.get("/api/monitoring/stream", response_class=StreamingResponse)
async def stream(request: Request, _: Annotated[Identity, Depends(require(Role.VIEWER))]) -> Response:
    """Server-sent events: ``reading`` (the MQTT payload with its topic), ``state`` (whether the broker is there)."""
    take(request.query_params.multi_items(), ())
    live: Live = request.app.state.live
    if live.watchers >= WATCHERS:
        raise unavailable(f"{WATCHERS} streams are open already.", "Close one.")
    return StreamingResponse(_guarded(request, live), media_type="text/event-stream")


async def _guarded(request: Request, live: Live) -> Any:
    """The events, until whoever asked may not see them any more."""
    clock = asyncio.get_running_loop()
    checked = clock.time()
    async for text in events(live, request.app.state.stopping, KEEP_ALIVE):
        if clock.time() - checked > RECHECK:
            checked = clock.time()
            try:
                await authenticate(request)
            except Problem:
                return
        yield text


TREND = [
    ("points", "Ids of up to 8 points, separated by commas (GET /api/points tells them)."),
    ("start", "Beginning: a date or time; without an offset in the site's zone. Default: 24 h before the end."),
    ("end", "End: a date (through its end) or time. Default: now."),
    ("buckets", f"Into how many pieces the range is divided, 1 to {MOST_BUCKETS}; default {BUCKETS}."),
]


@router.get(
    "/api/timeseries/trend",
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string"}} for name, text in TREND
        ]
    },
)
async def trend(request: Request, _: Annotated[Identity, Depends(require(Role.VIEWER))]) -> Response:
    """History for drawing: of each piece of the range the mean, the least and the greatest value."""
    state = request.app.state
    given = take(request.query_params.multi_items(), [name for name, _ in TREND])
    end = moment("end", given["end"], state.settings.zone, last=True) if "end" in given else datetime.now(UTC)
    start = moment("start", given["start"], state.settings.zone, last=False) if "start" in given else _before(end)
    series = await sampled(
        state.store, _ids(given.get("points", "")), start, end, _whole("buckets", given.get("buckets", str(BUCKETS)))
    )
    body = {"start": iso_milliseconds(start), "end": iso_milliseconds(end), "series": series}
    return JSONResponse(body)


async def sampled(
    store: Store, points: list[int], start: datetime, end: datetime, buckets: int = BUCKETS
) -> list[dict[str, Any]]:
    """``[{"point": id, "data": [[ms since 1970, mean, least, greatest, bad reads], …]}, …]``."""
    if start >= end:
        raise bad_parameter("start", "start does not lie before end.", "an earlier start")
    if end - start > LONGEST:
        raise bad_parameter("start", "The range is longer than ten years.", "a later start")
    width = max(timedelta(seconds=1), (end - start) / buckets)
    values = {"start": start, "end": end, "width": width}
    found = []
    for point in points:
        rows = await store.rows("page_trend", values | {"point": point})
        data = [
            [int(row["bucket"].timestamp() * 1000), row["mean"], row["low"], row["high"], row["bad"]] for row in rows
        ]
        found.append({"point": point, "data": data})
    return found


def _ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not 1 <= len(parts) <= MOST_POINTS:
        raise bad_parameter("points", f"{len(parts)} points are given.", f"1 to {MOST_POINTS} ids, separated by commas")
    return list(dict.fromkeys(_whole("points", part, 2**31 - 1) for part in parts))


def _whole(name: str, text: str, most: int = MOST_BUCKETS) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 11 and 1 <= int(text) <= most):
        raise bad_parameter(name, f"{name} is not a number from 1 to {most}: {text!r}.", f"1 to {most}")
    return int(text)


def _before(end: datetime) -> datetime:
    try:
        return end - timedelta(hours=24)
    except OverflowError:
        raise bad_parameter("end", "end lies too early.", "a time of our days") from None
