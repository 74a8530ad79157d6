"""Waiting for the first of several events, with a limit."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


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
