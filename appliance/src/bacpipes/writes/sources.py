"""Sources of commands that send a heartbeat: what one holds is released once contact with it is lost.

A source is supervised from its first heartbeat on, also after a restart; one that never sent any is not.
"""

import asyncio
import json

from bacpipes.database import Connection, query
from bacpipes.log import get_logger
from bacpipes.mqtt.message import ReceivedMessage
from bacpipes.settings import Settings
from bacpipes.writes.command import MAX_TEXT, Command, json_safe
from bacpipes.writes.validator import Violation

logger = get_logger(__name__)

MOST = 1000  # sources
NOTED_EVERY = 60.0  # seconds between notes in the database of a source that is there


class Sources:
    """``heartbeat`` takes what comes on the heartbeat topic; `keep` tells the database, and makes releases due."""

    def __init__(self, settings: Settings) -> None:
        self._timeout = settings.write_heartbeat_timeout
        self._watched = bool(settings.write_heartbeat_topic)
        self._heard: dict[str, float] = {}
        self._noted: dict[str, float] = {}
        self._fresh: set[str] = set()  # heard in this run
        self._loaded = False

    def heartbeat(self, message: ReceivedMessage) -> None:
        """A message of the heartbeat topic: ``{"source": "…"}``. What the broker kept from earlier does not count."""
        if message.retain or message.oversized:
            return
        try:
            source = json.loads(message.payload)["source"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        known = isinstance(source, str) and 0 < len(source) <= MAX_TEXT and json_safe(source) == source
        if not known or (source not in self._heard and len(self._heard) >= MOST):
            return
        if source in self.lost():
            self._noted.pop(source, None)  # it is back: say so
        self._heard[source] = asyncio.get_running_loop().time()
        self._fresh.add(source)

    def lost(self) -> set[str]:
        """The sources that were heard once, and not within the time."""
        if not self._watched:
            return set()
        limit = asyncio.get_running_loop().time() - self._timeout
        return {source for source, heard in self._heard.items() if heard < limit}

    def violations(self, command: Command) -> list[Violation]:
        """A command of a source that is lost would be released again at once: it is refused."""
        if command.release or command.source not in self.lost():
            return []
        text = f"Source {command.source} has sent no heartbeat for {self._timeout:g} s"
        return [Violation("source-lost", text)]

    async def keep(self, connection: Connection) -> int:
        """Note who is there and who is lost, and make due what the lost ones hold; how many are lost."""
        if not self._watched:
            return 0
        now = asyncio.get_running_loop().time()
        if not self._loaded:
            cursor = await connection.execute("SELECT source FROM source_contact")
            for (source,) in await cursor.fetchall():
                self._heard.setdefault(source, now)  # it gets the full time after a start
            self._loaded = True
        lost = self.lost()
        for source in self._fresh - lost:
            if now - self._noted.get(source, float("-inf")) > NOTED_EVERY:
                await connection.execute(query("source_seen"), {"source": source})
                self._noted[source] = now
        if lost:
            await connection.execute(query("source_lost"), {"sources": list(lost)})
            await connection.execute(query("release_source"), {"sources": list(lost)})
        return len(lost)
