"""Waiting for the first of several events, with a limit; taking turns; ending tasks."""

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")
CANCEL_AGAIN = 0.5  # seconds


class Turnstile:
    """Lets at most ``most`` through in one turn of the event loop, first come, first served: what a thousand begin in
    the same moment must not keep the others from their work."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._queue: deque[asyncio.Future[None]] = deque()
        self._turning = False

    async def through(self) -> None:
        """Wait for one's turn; at once where few came in this turn."""
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        if self._left > 0:
            self._left -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        await turn

    def _turn(self) -> None:
        self._left = self._most
        self._turning = bool(self._queue)
        while self._queue and self._left > 0:
            turn = self._queue.popleft()
            if not turn.done():  # else its caller was cancelled
                self._left -= 1
                turn.set_result(None)
        if self._turning:
            asyncio.get_running_loop().call_soon(self._turn)


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
