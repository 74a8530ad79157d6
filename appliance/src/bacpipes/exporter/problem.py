"""Answers that say what is wrong: JSON with ``error``, and with ``parameter`` and ``expected`` where one is at fault.

They never hold a secret or a connection string.
"""

from typing import Any

import psycopg
import psycopg_pool
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from bacpipes.database import first_line
from bacpipes.errors import BacpipesError, SchemaError, UnavailableError
from bacpipes.log import get_logger

logger = get_logger(__name__)
RETRY_AFTER = 5  # seconds


class Problem(Exception):  # noqa: N818 - a word of its own, as in RFC 9457
    """A request that can't be answered as asked."""

    def __init__(self, status: int, error: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(error)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {"error": error, **more}

    def response(self) -> Response:
        """The answer."""
        return JSONResponse(self.body, self.status, self.headers)


def bad_parameter(name: str, error: str, expected: str) -> Problem:
    """400, with the parameter's name and what is expected."""
    return Problem(400, error, parameter=name, expected=expected)


def unavailable(error: str, remedy: str = "") -> Problem:
    """503, to be tried again."""
    more = {"remedy": remedy} if remedy else {}
    return Problem(503, error, {"Retry-After": str(RETRY_AFTER)}, **more)


# What can go wrong between us and the database, and that waiting or an operator can mend.
DATABASE_ERRORS = (psycopg.Error, psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed, UnavailableError, SchemaError)


def of_database(error: Exception) -> Problem:
    """The answer for one of `DATABASE_ERRORS`."""
    message, remedy = reason_of(error)
    return unavailable(message, remedy)


def reason_of(error: Exception) -> tuple[str, str]:
    """What is wrong with the database and what to do, in plain words."""
    if isinstance(error, BacpipesError):
        text = str(error).removesuffix(error.remedy).strip()
        return text, error.remedy or (_remedy(text) if isinstance(error, UnavailableError) else "")
    if isinstance(error, psycopg.errors.DiskFull):
        return "The database's disk is full.", "Free space on the database's disk."
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed):
        return "The database can't be reached, or all connections are busy.", "GET /readyz says why."
    if isinstance(error, psycopg.OperationalError):
        return f"The database can't be reached: {first_line(error)}.", _remedy(first_line(error))
    return f"The database refused a query: {first_line(error)}.", ""


def _remedy(text: str) -> str:
    if "password" in text or "authentication" in text:
        return "Check user and password in BACPIPES_DATABASE_URL; it is read at start."
    return "Check that PostgreSQL runs and that BACPIPES_DATABASE_URL names it; the exporter keeps trying."


async def answer_problem(_request: Request, error: Exception) -> Response:
    """FastAPI's handler for `Problem`."""
    assert isinstance(error, Problem)  # noqa: S101 - registered for it
    return error.response()


async def answer_database(request: Request, error: Exception) -> Response:
    """FastAPI's handler for `DATABASE_ERRORS`."""
    if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.OperationalError):
        logger.error("the database refused a query", path=request.url.path, reason=first_line(error))
    return of_database(error).response()


async def answer_http(_request: Request, error: Exception) -> Response:
    """FastAPI's handler for its own refusals (unknown route, method)."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)
