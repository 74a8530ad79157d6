"""Sites, points, commands, quarantine: central's first schema."""

from bacpipes.central.migrations import run_file

revision = "central_0001"
down_revision = None


def upgrade() -> None:
    """Create the schema of the first version."""
    run_file("0001_central.sql")
