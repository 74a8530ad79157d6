"""Batches on disk while the database is away: appended, bounded, read back in order, tolerant of a torn end."""

import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from bacpipes.log import get_logger
from bacpipes.reading import Batch, Gap, Quality, Reading, to_datetime

logger = get_logger(__name__)

FULL = "the spool was full while the database was away"
_FRAME = 8  # octets before each record: length and CRC-32


@dataclass
class _Dropped:
    """What the spool had no room for, to be recorded as a gap."""

    since: int
    until: int
    points: set[int] = field(default_factory=set)


class Spool:
    """One file of framed records below ``directory``; never larger than ``limit`` octets."""

    def __init__(self, directory: Path, limit: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "spool"
        self._limit = limit
        self._file: BinaryIO | None = None
        self._dropped: _Dropped | None = None

    @property
    def size(self) -> int:
        """Octets that wait on disk."""
        return self._path.stat().st_size if self._path.exists() else 0

    @property
    def empty(self) -> bool:
        """True where nothing waits and nothing was dropped."""
        return self.size == 0 and self._dropped is None

    def append(self, batch: Batch) -> None:
        """Keep a batch; on a full spool or disk its reads are remembered as a gap instead."""
        record = json.dumps(asdict(batch), default=_encode, separators=(",", ":")).encode()
        frame = len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big") + record
        if self.size + len(frame) > self._limit or not self._write(frame):
            self._drop(batch)

    def batches(self) -> Iterator[Batch]:
        """Everything that waits, oldest first; stops at a torn or damaged record and says so."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while header := file.read(_FRAME):
                record = file.read(int.from_bytes(header[:4], "big")) if len(header) == _FRAME else b""
                if not record or zlib.crc32(record) != int.from_bytes(header[4:], "big"):
                    logger.error("spool ends in a damaged record", path=str(self._path), octet=file.tell())
                    return
                yield _decode(json.loads(record))

    def gaps(self) -> list[Gap]:
        """What was dropped, as gaps."""
        if self._dropped is None:
            return []
        since, until = to_datetime(self._dropped.since), to_datetime(self._dropped.until + 1)
        return [Gap(tuple(sorted(self._dropped.points)), since, until, FULL)]

    def clear(self) -> None:
        """Forget everything: it is in the database."""
        self.close()
        self._path.unlink(missing_ok=True)
        self._dropped = None

    def close(self) -> None:
        """Close the file; what waits stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, frame: bytes) -> bool:
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            end = self._file.tell()
            if self._file.write(frame) != len(frame):
                self._file.truncate(end)  # a torn record would hide the ones behind it
                return False
            os.fsync(self._file.fileno())
        except OSError as error:
            logger.error("spool can't be written", path=str(self._path), reason=error.strerror)
            return False
        return True

    def _drop(self, batch: Batch) -> None:
        times = [reading.at for reading in batch.readings]
        if not times:
            return
        if self._dropped is None:
            logger.error("spool is full; readings are dropped and will be recorded as a gap", limit=self._limit)
            self._dropped = _Dropped(min(times), max(times))
        self._dropped.until = max(self._dropped.until, *times)
        self._dropped.points |= {reading.point_id for reading in batch.readings}


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _decode(data: dict[str, Any]) -> Batch:
    readings = [Reading(**(row | {"quality": Quality(row["quality"])})) for row in data["readings"]]
    gaps = [
        Gap(
            tuple(row["point_ids"]),
            datetime.fromisoformat(row["start"]),
            datetime.fromisoformat(row["end"]),
            row["reason"],
        )
        for row in data["gaps"]
    ]
    return Batch(data["interval"], data["cycle"], data["duration"], readings, gaps)
