"""What devices say of themselves, kept so that the next start need not ask."""

import asyncio
from dataclasses import asdict, dataclass

import psycopg

from bacpipes.database import connect, first_line, query
from bacpipes.errors import UnavailableError
from bacpipes.log import get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)

SAVE_AFTER = 1.0  # seconds in which they are collected


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device says of itself, None where it does not; octets for ``max_apdu``."""

    device: int
    max_apdu: int | None = None
    segmentation: str | None = None
    vendor: str | None = None
    model: str | None = None
    read_multiple: bool = True


class FactsKeeper:
    """Stores facts, many at a time: at first all devices tell theirs, and each change has the points read anew."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._learnt: dict[int, Facts] = {}
        self._saving: asyncio.Task[None] | None = None

    def learn(self, facts: Facts) -> None:
        """Take what a device said; never blocks."""
        self._learnt[facts.device] = facts
        if self._saving is None or self._saving.done():
            self._saving = asyncio.create_task(self._save())

    async def _save(self) -> None:
        while self._learnt:
            await asyncio.sleep(SAVE_AFTER)
            learnt, self._learnt = self._learnt, {}
            rows = [asdict(facts) for facts in learnt.values()]
            try:
                async with await connect(self._settings, "facts") as connection, connection.transaction():
                    await connection.cursor().executemany(query("save_facts"), rows)
            except (psycopg.Error, UnavailableError) as error:
                devices, reason = sorted(learnt), first_line(error)
                logger.warning("what devices said of themselves was not kept", devices=devices, reason=reason)
