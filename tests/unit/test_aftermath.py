"""Jobs that an earlier run left without a result are answered once each, also where the database goes away then."""

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from bacpipes.writes import aftermath
from bacpipes.writes.command import Command
from bacpipes.writes.execution import INTERRUPTED
from bacpipes.writes.turns import Turns
from conftest import make_settings

FIELDS = {"deviceId": 12345, "objectType": "analog-value", "objectInstance": 120, "value": 70.0, "priority": 8}


class Execution:
    """Fails where the database is away, and notes what was answered."""

    def __init__(self) -> None:
        self.away = False
        self.answered: list[tuple[str, str | None]] = []

    async def known(self, _command: Command) -> Any:
        if self.away:
            raise psycopg.OperationalError("the connection is lost")
        return SimpleNamespace(point=None)

    async def finish(self, command: Command, _point: Any, outcome: Any, *_: object) -> None:
        self.answered.append((command.job_id, outcome.error))
        self.away = self.away or command.job_id == "b"


async def test_the_database_goes_away_amid_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC)
    asked = 0

    async def unresolved(_connection: object) -> list[tuple[dict[str, Any], datetime, datetime | None]]:
        nonlocal asked
        asked += 1
        return [(FIELDS | {"jobId": job}, now, now if job == "d" else None) for job in "abcd"]

    async def unsettled(_connection: object) -> list[Any]:
        return []

    monkeypatch.setattr(aftermath.ledger, "unresolved", unresolved)
    monkeypatch.setattr(aftermath.ledger, "unsettled", unsettled)
    execution, failures = Execution(), []
    book: Any = SimpleNamespace(failed=failures.append)
    left = aftermath.Aftermath(make_settings("", tmp_path), None, book, Turns(), execution)  # type: ignore[arg-type]

    async def look() -> None:
        await left.load(None)  # type: ignore[arg-type]
        for work in left.work():
            await work

    await look()
    assert [job for job, _ in execution.answered] == ["a", "b"]
    assert len(failures) == 1
    await look()
    assert [job for job, _ in execution.answered] == ["a", "b"], "it is still away"
    execution.away = False
    await look()
    await look()
    assert execution.answered == [
        ("a", INTERRUPTED),
        ("b", INTERRUPTED),
        ("c", INTERRUPTED),
        ("d", aftermath.POINT_GONE),
    ]
    assert asked == 1, "what is claimed since then is under way, and not interrupted"
