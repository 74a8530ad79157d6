"""What devices say of themselves, kept so that the next start need not ask."""

import asyncio
from dataclasses import asdict, dataclass
from datetime import datetime

import psycopg

from bacpipes.database import connect, first_line, query
from bacpipes.errors import UnavailableError
from bacpipes.log import Transition, get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)

SAVE_AFTER = 1.0  # seconds in which they are collected
AGAIN_AFTER = 10.0  # seconds, where the database is away


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device says of itself, None where it does not; octets for ``max_apdu``."""

    device: int
    max_apdu: int | None = None
    segmentation: str | None = None
    vendor: str | None = None
    model: str | None = None
    learnt_of: str | None = None  # who it was of whom the following was found out
    read_multiple: bool = True
    batch: int | None = None  # points a request, where an abort has left fewer
    batch_since: datetime | None = None


class FactsKeeper:
    """Stores facts, many at a time: at first all devices tell theirs, and each change has the points read anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._learnt: dict[int, Facts] = {}
        self._saving: asyncio.Task[None] | None = None
        self._health = Transition(logger, "keeping what devices say of themselves")

    def learn(self, facts: Facts) -> None:
        """Take what a device said; never blocks."""
        self._learnt[facts.device] = facts
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save())

    async def close(self) -> None:
        """Store what waits."""
        if self._saving is not None:
            self._saving.cancel()
        if self._learnt:
            await self._store()

    async def _save(self) -> None:
        pause = SAVE_AFTER
        while self._learnt:
            await asyncio.sleep(pause)
            pause = SAVE_AFTER if await self._store() else AGAIN_AFTER

    async def _store(self) -> bool:
        learnt = dict(self._learnt)
        try:
            async with await connect(self._settings, "facts") as connection, connection.transaction():
                await connection.cursor().executemany(query("save_facts"), [asdict(one) for one in learnt.values()])
        except (psycopg.Error, UnavailableError) as error:
            self._health.failed(first_line(error), devices=sorted(learnt))
            return False
        self._health.recovered()
        self._learnt = {key: facts for key, facts in self._learnt.items() if learnt.get(key) is not facts}
        return True
