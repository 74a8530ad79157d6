"""Ending tasks: a cancellation that is lost once is repeated, and a failure is not swallowed. Taking turns: few go on
in one turn of the event loop, in their order, and nobody is forgotten."""

import asyncio

import pytest

from bacpipes.events import Turnstile, end_all


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


async def test_few_go_on_in_one_turn_of_the_loop_and_in_their_order() -> None:
    turnstile, passed = Turnstile(3), []
    turn = 0

    async def come(number: int) -> None:
        await turnstile.through()
        passed.append((turn, number))

    tasks = [asyncio.create_task(come(number)) for number in range(20)]
    while len(passed) < 20:
        turn += 1
        assert turn < 50
        await asyncio.sleep(0)
    assert [number for _, number in passed] == list(range(20))
    turns = [turn for turn, _ in passed]
    assert max(turns.count(turn) for turn in turns) == 3
    await asyncio.gather(*tasks)
    await asyncio.wait_for(turnstile.through(), 10)


async def test_who_is_cancelled_while_waiting_holds_nobody_up() -> None:
    turnstile = Turnstile(1)
    await turnstile.through()
    waiting = [asyncio.create_task(turnstile.through()) for _ in range(5)]
    await asyncio.sleep(0)
    for task in waiting[:4]:
        task.cancel()
    await asyncio.wait_for(waiting[4], 10)
    assert all(task.cancelled() for task in waiting[1:4])  # the first was through already
