"""How a check ends: with what it observed, with what is wrong, or with the reason why it could not look."""

import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

Found = TypeVar("Found")


class CheckFailedError(AssertionError):
    """What was expected, what was seen, and what to do next."""

    def __init__(self, expected: str, seen: str, remedy: str) -> None:
        super().__init__(f"expected: {expected}\nseen: {seen}\nnext: {remedy}")


def fail(expected: str, seen: str, remedy: str) -> NoReturn:
    """End the check as failed."""
    raise CheckFailedError(expected, seen, remedy)


def not_verified(reason: str) -> NoReturn:
    """End the check without a verdict; the report shows the reason."""
    pytest.skip(reason)


def wait_for(look: Callable[[], Found], seconds: float, every: float = 0.5) -> Found:
    """Look until what is found is true, or the time is up; return what was found last."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(every)
    return found
