"""Waiting for the first of several events, with a limit."""

import asyncio


async def first_of(*events: asyncio.Event, within: float) -> None:
    """Return when one of the events is set, or after ``within`` seconds."""
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED, timeout=within)
    for waiter in waiters:
        waiter.cancel()
