"""What the site has and how it does: points, devices and the summary."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from bacpipes.exporter.auth import require
from bacpipes.exporter.parameters import take
from bacpipes.reading import iso_milliseconds
from bacpipes.tokens import Role

router = APIRouter(dependencies=[Depends(require(Role.VIEWER))])


@router.get("/api/points")
async def points(request: Request) -> Response:
    """All points with their last values."""
    return JSONResponse(await _rows(request, "exporter_points"))


@router.get("/api/devices")
async def devices(request: Request) -> Response:
    """All devices, with how many points they have and when one of them was last read."""
    return JSONResponse(await _rows(request, "exporter_devices"))


@router.get("/api/dashboard/summary")
async def summary(request: Request) -> Response:
    """The site in a dozen numbers."""
    settings = request.app.state.settings
    (numbers,) = await _rows(request, "exporter_summary")
    return JSONResponse({"siteId": settings.site_id, "timeZone": settings.time_zone, **numbers})


async def _rows(request: Request, name: str) -> list[dict[str, Any]]:
    take(request.query_params.multi_items(), ())
    state = request.app.state
    rows = await state.store.rows(name, {"site": state.settings.site_id})
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    return iso_milliseconds(value) if isinstance(value, datetime) else value
