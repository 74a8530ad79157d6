"""Waiting for the first of several events, with a limit; ending tasks."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")
CANCEL_AGAIN = 0.5  # seconds


async def first_of(*events: asyncio.Event, within: float) -> None:
    """Return when one of the events is set, or after ``within`` seconds."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED, timeout=within)
    for waiter in waiters:
        waiter.cancel()


async def unless(stop: asyncio.Event, work: Coroutine[Any, Any, Result], patience: float) -> Result | None:
    """What ``work`` returns; None where it is not done ``patience`` seconds after ``stop``, and was cancelled."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        await asyncio.wait({task}, timeout=patience)
    if not task.done():
        task.cancel()
        return None
    return task.result()


async def end_all(tasks: Iterable["asyncio.Task[Any]"]) -> None:
    """Cancel the tasks until they have ended; raise what one of them had failed with.

    Once is not enough: `asyncio.wait_for` of Python 3.11 loses a cancellation that comes just as what it waits for is
    done, and psycopg waits by it.
    """
    all_tasks = list(tasks)
    pending = set(all_tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN)
    for task in all_tasks:
        if not task.cancelled() and (error := task.exception()):
            raise error
