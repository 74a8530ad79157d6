"""The spool: in order, bounded, and tolerant of what a power cut leaves."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from bacpipes.reading import Batch, Gap, Quality, Reading
from bacpipes.worker.spool import FULL, Spool


def batch(cycle: int, readings: int = 3) -> Batch:
    moments = [cycle * 1000 + n for n in range(readings)]
    rows = [Reading(n, at, None if n else 1.5, Quality.BAD if n else Quality.GOOD, "é" if n else None)
            for n, at in enumerate(moments)]  # fmt: skip
    gap = Gap((1, 2), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC), "why")
    return Batch(1, cycle, 5, rows, [gap])


def test_what_goes_in_comes_out_in_order_also_after_a_restart(tmp_path: Path) -> None:
    first = Spool(tmp_path, 10**6)
    for cycle in range(3):
        first.append(batch(cycle))
    first.close()
    second = Spool(tmp_path, 10**6)
    second.append(batch(3))
    assert list(second.batches()) == [batch(cycle) for cycle in range(4)]
    second.clear()
    assert second.empty
    assert list(second.batches()) == []


def test_a_full_spool_remembers_what_it_dropped_as_a_gap(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 2000)
    for cycle in range(100):
        spool.append(batch(cycle))
    kept = list(spool.batches())
    assert spool.size <= 2000
    assert kept == [batch(cycle) for cycle in range(len(kept))]
    dropped, own = sorted(spool.gaps(), key=lambda gap: gap.reason)
    assert (dropped.point_ids, dropped.reason) == ((0, 1, 2), FULL)
    assert (dropped.start.timestamp(), dropped.end.timestamp()) == (len(kept), 100), "whole slots"
    assert own == batch(0).gaps[0], "the gaps that a dropped batch told of"
    spool.close()
    again = Spool(tmp_path, 2000)
    assert again.gaps() == spool.gaps(), "a restart does not forget"
    again.clear()
    assert Spool(tmp_path, 2000).empty


def test_short_writes_leave_nothing_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, 10**6)
    spool.append(batch(0))
    file = spool._file
    assert file is not None
    monkeypatch.setattr(spool, "_file", _Short(file))
    spool.append(batch(1))
    spool.append(batch(2))
    monkeypatch.setattr(spool, "_file", file)
    spool.append(batch(3))
    assert list(spool.batches()) == [batch(0), batch(3)]
    assert {gap.reason for gap in spool.gaps()} == {FULL, "why"}


class _Short:
    """A file on a disk that takes only half of what it is given."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        written: int = self._file.write(data[: len(data) // 2])
        return written

    def fileno(self) -> int:
        number: int = self._file.fileno()
        return number


@pytest.mark.parametrize("cut", [1, 5, 9, 50])
def test_a_torn_end_costs_only_the_last_record(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, 10**6)
    for cycle in range(3):
        spool.append(batch(cycle))
    spool.close()
    path = tmp_path / "spool"
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(Spool(tmp_path, 10**6).batches()) == [batch(0), batch(1)]


def test_a_damaged_record_is_not_taken_for_readings(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6)
    spool.append(batch(0))
    spool.append(batch(1))
    spool.close()
    data = bytearray((tmp_path / "spool").read_bytes())
    data[len(data) * 3 // 4] ^= 0xFF
    (tmp_path / "spool").write_bytes(data)
    assert list(Spool(tmp_path, 10**6).batches()) == [batch(0)]


def test_what_lies_behind_a_damaged_record_is_read(tmp_path: Path) -> None:
    """A record that a power cut tore, and those of the run after it."""
    first = Spool(tmp_path, 10**6)
    for cycle in range(3):
        first.append(batch(cycle))
    first.close()
    path = tmp_path / "spool"
    whole = path.read_bytes()
    for cut in range(1, 40):
        path.write_bytes(whole[:-cut])
        second = Spool(tmp_path, 10**6)
        second.append(batch(3))
        second.append(batch(4))
        assert list(second.batches()) == [batch(cycle) for cycle in (0, 1, 3, 4)], cut
        assert list(second.batches(2)) == [batch(3), batch(4)]
        assert second.damaged
        second.close()
    second.clear()
    assert (tmp_path / "spool.damaged").exists(), "kept for whoever wants to look"
    assert not second.damaged


@given(st.integers(0, 2**16), st.integers(1, 255))
def test_one_damaged_octet_costs_one_record_at_most(place: int, flip: int) -> None:
    with TemporaryDirectory() as directory:
        spool, last = Spool(Path(directory), 10**6), 0
        for cycle in range(4):
            last = spool.size  # where the last record begins, with four octets of its length
            spool.append(batch(cycle))
        spool.close()
        path = Path(directory) / "spool"
        data = bytearray(path.read_bytes())
        place %= len(data)
        whole = last <= place < last + 4 and data[place] ^ flip > data[place]  # it ends with the file
        data[place] ^= flip
        path.write_bytes(data)
        found = [one.cycle for one in Spool(Path(directory), 10**6).batches()]
        assert len(found) == (4 if whole else 3)
        assert found == sorted(set(found))


def test_a_disk_that_can_not_be_written_is_a_gap_not_a_crash(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 10**6)
    (tmp_path / "spool").mkdir()
    with capture_logs() as logs:
        for cycle in range(5):
            spool.append(batch(cycle))
        (tmp_path / "spool").rmdir()
        spool.append(batch(5))
    assert {gap.reason for gap in spool.gaps()} == {FULL, "why"}
    told = [entry["event"] for entry in logs if entry["event"].startswith("spool:")]
    assert told == ["spool: failed", "spool: recovered"], "once, and not with every poll"
    assert [one.cycle for one in spool.batches()] == [5]
