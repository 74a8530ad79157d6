"""A publish policy for each point, and the audit's head for central."""

from bacpipes.migrations import run_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the policy's columns and the last published readings."""
    run_file("0006_publishing.sql")
