"""Cycles that nobody uses any more are freed when nothing is under way; what stays is not looked at."""

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from bacpipes import memory


class Knot:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(memory, "TIDY_EVERY", 0.01)
    monkeypatch.setattr(memory, "LOOK_EVERY", 0.01)
    thresholds = gc.get_threshold()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()
    gc.set_threshold(*thresholds)


async def until(condition: object) -> None:
    async with asyncio.timeout(20):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_knots_are_freed_once_it_is_quiet() -> None:
    looks, busy = 0, True

    def quiet() -> bool:
        nonlocal looks
        looks += 1
        return not busy

    stop, tidying = asyncio.Event(), memory.Tidying(quiet)
    running = asyncio.create_task(tidying.run(stop))
    knot = weakref.ref(Knot())
    await until(lambda: looks > 3)
    assert knot() is not None
    busy = False
    await until(lambda: knot() is None)
    second = weakref.ref(Knot())
    await until(lambda: second() is None)
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_where_it_is_never_quiet_knots_are_freed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "QUIET_WITHIN", 0.05)
    stop = asyncio.Event()
    running = asyncio.create_task(memory.Tidying(lambda: False).run(stop))
    knot = weakref.ref(Knot())
    await until(lambda: knot() is None)
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_after_a_change_what_was_put_aside_before_is_looked_through_once_more() -> None:
    knot = Knot()
    memory.settle()
    found = weakref.ref(knot)
    del knot
    gc.collect()
    assert found() is not None  # out of the collector's sight
    looks: list[bool] = []

    def quiet() -> bool:
        looks.append(True)
        return True

    stop, tidying = asyncio.Event(), memory.Tidying(quiet)
    tidying.changed = False
    running = asyncio.create_task(tidying.run(stop))
    await until(lambda: len(looks) > 3)
    assert found() is not None
    tidying.changed = True
    await until(lambda: found() is None)
    stop.set()
    await asyncio.wait_for(running, 10)
