"""What the dashboard is made of: findings in words, and tiles with numbers."""

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be: how bad (``bad`` or ``warning``), what, what to do, and a page for it."""

    level: str
    text: str
    remedy: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """A number with its title and a note; ``level`` is ``good``, ``warning``, ``bad`` or nothing."""

    title: str
    value: str
    note: str = ""
    level: str = ""


def age(moment: datetime | None) -> str:
    """How long ago, in words."""
    if moment is None:
        return "never"
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
