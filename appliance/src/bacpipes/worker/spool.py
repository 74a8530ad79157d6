"""Batches on disk while the database is away: appended, bounded, read back in order, tolerant of a torn end."""

import json
import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from bacpipes.log import Transition, get_logger
from bacpipes.reading import Batch, Gap, Quality, Reading, slot_gap
from bacpipes.secret_box import make_state_dir

logger = get_logger(__name__)

FULL = "the spool was full while the database was away"
_FRAME = 8  # octets before each record: length and CRC-32
_BEGINNING = b'{"interval":'  # of each record, and nowhere in it


class Spool:
    """One file of framed records below ``directory``; never larger than ``limit`` octets."""

    def __init__(self, directory: Path, limit: int) -> None:
        make_state_dir(directory)
        self._path = directory / "spool"
        self._limit = limit
        self._file: BinaryIO | None = None
        self._gaps_path = directory / "spool.gaps"
        self._damaged = False
        self._gaps = self._load_gaps()
        self._writing = Transition(logger, "spool", path=str(self._path))
        self._noting = Transition(logger, "note of dropped readings", path=str(self._gaps_path))

    @property
    def size(self) -> int:
        """Octets that wait on disk."""
        return self._path.stat().st_size if self._path.exists() else 0

    @property
    def empty(self) -> bool:
        """True where nothing waits and nothing was dropped."""
        return self.size == 0 and not self._gaps

    def append(self, batch: Batch) -> None:
        """Keep a batch; on a full spool or disk its reads are remembered as a gap instead."""
        record = json.dumps(asdict(batch), default=_encode, separators=(",", ":")).encode()
        frame = len(record).to_bytes(4, "big") + zlib.crc32(record).to_bytes(4, "big") + record
        if self.size + len(frame) > self._limit or not self._write(frame):
            self._drop(batch)

    @property
    def damaged(self) -> bool:
        """True where `batches` met records that can't be read: what they held has to be told as gaps."""
        return self._damaged

    def batches(self, after: int = 0) -> Iterator[Batch]:
        """Everything that waits ``after`` the first so many, oldest first; a damaged record is passed over and said."""
        if not self.size:
            return
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            for record in self._records(octets):
                if after:
                    after -= 1
                    continue
                yield _decode(json.loads(record))

    def _records(self, octets: mmap.mmap) -> Iterator[bytes]:
        """The whole records. One that was torn by a power cut may have others behind it, of the run after."""
        start = 0
        while start < len(octets):
            begin = start + _FRAME
            end = begin + int.from_bytes(octets[start : start + 4], "big")
            record = octets[begin:end]
            if record and zlib.crc32(record) == int.from_bytes(octets[start + 4 : begin], "big"):
                yield record
                start = end
                continue
            if not self._damaged:
                logger.error("spool has a damaged record", path=str(self._path), octet=start)
            self._damaged = True
            found = octets.find(_BEGINNING, begin + 1)
            start = len(octets) if found < 0 else found - _FRAME

    def gaps(self) -> list[Gap]:
        """What was dropped, as gaps; they outlive a restart."""
        return list(self._gaps)

    def clear(self) -> None:
        """Forget everything: it is in the database. A damaged file is kept aside for whoever wants to look."""
        self.close()
        if self._damaged:
            self._path.replace(self._path.with_name("spool.damaged"))
        self._path.unlink(missing_ok=True)
        self._gaps_path.unlink(missing_ok=True)
        self._gaps, self._damaged = [], False

    def close(self) -> None:
        """Close the file; what waits stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, frame: bytes) -> bool:
        try:
            if self._file is None:
                self._file = self._path.open("ab", buffering=0)
            end = os.fstat(self._file.fileno()).st_size
            if self._file.write(frame) != len(frame):
                os.ftruncate(self._file.fileno(), end)  # a torn record would hide the ones behind it
                return False
            os.fsync(self._file.fileno())
        except OSError as error:
            self._writing.failed(error.strerror or str(error))
            return False
        self._writing.recovered()
        return True

    def _drop(self, batch: Batch) -> None:
        if not self._gaps:
            logger.error("spool is full; readings are dropped and will be recorded as a gap", limit=self._limit)
        for gap in [*batch.gaps, *([slot_gap(batch, FULL)] if batch.readings else [])]:
            _join(self._gaps, gap)
        text = json.dumps([asdict(gap) for gap in self._gaps], default=_encode)
        try:
            new = self._gaps_path.with_suffix(".new")
            new.write_text(text)
            new.replace(self._gaps_path)  # whole, whenever the power goes
        except OSError as error:  # remembered for as long as we run
            self._noting.failed(error.strerror or str(error))
        else:
            self._noting.recovered()

    def _load_gaps(self) -> list[Gap]:
        try:
            return [_gap(row) for row in json.loads(self._gaps_path.read_text())]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, OSError) as error:
            logger.error("the note of dropped readings can't be read", reason=str(error))
            return []


def _join(gaps: list[Gap], gap: Gap) -> None:
    """Add a gap; slots that follow each other make one."""
    if gap in gaps:
        return
    for number, one in enumerate(gaps):
        if (one.point_ids, one.reason, one.end) == (gap.point_ids, gap.reason, gap.start):
            gaps[number] = Gap(one.point_ids, one.start, gap.end, one.reason)
            return
    gaps.append(gap)


def _encode(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


def _decode(data: dict[str, Any]) -> Batch:
    readings = [Reading(**(row | {"quality": Quality(row["quality"])})) for row in data["readings"]]
    gaps = [_gap(row) for row in data["gaps"]]
    return Batch(data["interval"], data["cycle"], data["duration"], readings, gaps, data["phase"])


def _gap(row: dict[str, Any]) -> Gap:
    start, end = (datetime.fromisoformat(row[key]) for key in ("start", "end"))
    return Gap(tuple(row["point_ids"]), start, end, row["reason"])
