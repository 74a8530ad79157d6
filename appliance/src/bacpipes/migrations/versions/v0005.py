"""How devices are asked, change of value, and what goes first."""

from bacpipes.migrations import run_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns to devices and points."""
    run_file("0005_engine.sql")
