"""Ending tasks: a cancellation that is lost once is repeated, and a failure is not swallowed."""

import asyncio

import pytest

from bacpipes.events import end_all


async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    lost = 0

    async def forgetful() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(forgetful())
    await asyncio.sleep(0)
    await end_all([task])
    assert task.cancelled()
    assert lost == 2


async def test_what_a_task_failed_with_is_raised() -> None:
    async def broken() -> None:
        raise ValueError("broken")

    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="broken"):
        await end_all([task])
