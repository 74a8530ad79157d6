"""The ways to central on the dashboard: what each state is called, and what is said of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bacpipes.exporter.live import Bridge
from bacpipes.page import lanes

NOW = datetime.now(UTC)
OLD = timedelta(minutes=20)  # ago, when the test runs
SHIPS: dict[str, Any] = {"ships": True, "reason": None, "shipped": timedelta(), "waiting": 0, "oldest": None}
SLOT: dict[str, Any] = {"name": "bacpipes_duxton", "active": True, "wal_status": "reserved", "behind": 2_500_000}


@pytest.mark.parametrize(
    ("bridges", "reason", "value", "level"),
    [
        ({}, None, "none", ""),
        ({}, "refused", "unknown", "warning"),
        ({"bridge.duxton": Bridge(True, NOW)}, None, "up", "good"),
        ({"bridge.duxton": Bridge(False, NOW), "other": Bridge(True, NOW)}, None, "down", "bad"),
    ],
)
def test_the_bridge(bridges: dict[str, Bridge], reason: str | None, value: str, level: str) -> None:
    tile = lanes.bridge_tile(bridges, reason)
    assert (tile.value, tile.level) == (value, level)
    found = lanes.bridge_findings(bridges)
    assert [one.text.split(" to central")[0] for one in found] == [
        f"The broker's bridge {name}" for name, bridge in bridges.items() if not bridge.up
    ]


@pytest.mark.parametrize(
    ("changes", "value", "level", "words"),
    [
        ({}, "up to date", "good", "last shipped"),
        ({"waiting": 3, "oldest": timedelta()}, "up to date", "good", "last shipped"),
        ({"waiting": 900, "oldest": OLD}, "behind", "warning", "900 batches wait, the oldest 20 min ago"),
        ({"waiting": 1, "oldest": OLD, "reason": "refused"}, "not connected", "bad", "1 batch wait"),
        ({"shipped": None}, "up to date", "good", "nothing shipped since the start"),
        ({"ships": False}, "connected", "good", "commands and results go over our connection"),
    ],
)
def test_shipping(changes: dict[str, Any], value: str, level: str, words: str) -> None:
    now = datetime.now(UTC)
    state = {
        name: (now - each).isoformat() if isinstance(each, timedelta) else each
        for name, each in (SHIPS | changes).items()
    }
    tile = lanes.central_tile({"central": state}, [])
    assert (tile.value, tile.level) == (value, level)
    assert words in tile.note
    late = lanes.central_findings({"central": state}, [])
    assert bool(late) == (value == "behind")


def test_replication() -> None:
    tile = lanes.central_tile({"central": None}, [SLOT])
    assert (tile.value, tile.level, tile.note) == ("replicating", "good", "bacpipes_duxton: 2.5 MB of log behind")
    assert lanes.central_findings({"central": None}, [SLOT]) == []
    away = SLOT | {"active": False}
    assert lanes.central_tile({"central": None}, [away]).level == "bad"
    assert "is not in use" in lanes.central_findings(None, [away])[0].text
    assert "given up" in lanes.central_findings(None, [away | {"wal_status": "lost"}])[0].text


def test_a_site_by_itself_and_a_worker_that_is_away() -> None:
    assert lanes.central_tile({"central": None}, []).value == "none"
    assert (lanes.central_tile(None, []).value, lanes.central_tile(None, []).level) == ("unknown", "bad")
