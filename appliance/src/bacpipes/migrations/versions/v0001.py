"""The main path: devices, points, log, history, commands."""

from bacpipes.migrations import run_file

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the schema of the first version."""
    run_file("0001_main_path.sql")
