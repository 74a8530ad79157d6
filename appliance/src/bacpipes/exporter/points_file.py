"""``/api/points/export`` and ``/api/points/import``: the points file, with the command line's checks and difference."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from bacpipes.errors import InputError
from bacpipes.exporter import point_store
from bacpipes.exporter.auth import Identity, require
from bacpipes.exporter.parameters import take
from bacpipes.exporter.problem import Problem, bad_parameter
from bacpipes.tokens import Role

router = APIRouter()
NAME = "body"
FLAGS = [
    ("dryRun", "true: only tell what would change."),
    ("prune", "true: disable points that the file lacks."),
]


@router.get("/api/points/export", response_class=Response)
async def export(request: Request, _: Annotated[Identity, Depends(require(Role.VIEWER))]) -> Response:
    """All points as CSV, so that importing it changes nothing."""
    take(request.query_params.multi_items(), ())
    settings = request.app.state.settings
    headers = {"Content-Disposition": f'attachment; filename="{settings.site_id}.csv"'}
    return Response(await point_store.export(settings), 200, headers, "text/csv; charset=utf-8")


@router.post(
    "/api/points/import",
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "description": text, "schema": {"type": "string", "enum": ["true", "false"]}}
            for name, text in FLAGS
        ],
        "requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}},
    },
)
async def import_(request: Request, who: Annotated[Identity, Depends(require(Role.ADMIN))]) -> Response:
    """Make the points follow a CSV: all of it or, where anything is wrong, nothing (400 with the reasons)."""
    given = take(request.query_params.multi_items(), ("dryRun", "prune"))
    dry_run, prune = (_flag(name, given.get(name, "false")) for name in ("dryRun", "prune"))
    settings = request.app.state.settings
    if settings.points_owner != "page" and not dry_run:
        raise Problem(409, "The inventory owns this site's points.", remedy="Change its CSV; dryRun=true compares.")
    channel = "api" if who.session is None else "page"
    try:
        file, plan = await point_store.import_file(
            settings, await _body(request), NAME, f"{channel}:{who.name}", prune=prune, dry_run=dry_run
        )
    except InputError as error:
        raise bad_parameter("body", str(error), "a CSV as GET /api/points/export gives it") from None
    report = point_store.report_lines(file, plan)
    if plan is None or plan.problems.errors:
        raise Problem(400, "The file is refused; nothing was changed.", parameter="body", report=report)
    return JSONResponse({"applied": plan.applied, "counts": plan.counts, "report": report})


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > point_store.LARGEST_FILE:
            raise Problem(413, f"The body is larger than {point_store.LARGEST_FILE} bytes.")
    return bytes(body)


def _flag(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise bad_parameter(name, f"{name} is neither true nor false: {text!r}.", "true or false")
    return text == "true"
