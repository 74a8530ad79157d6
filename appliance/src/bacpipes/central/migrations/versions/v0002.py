"""The heads of the sites' audit chains."""

from bacpipes.central.migrations import run_file

revision = "central_0002"
down_revision = "central_0001"


def upgrade() -> None:
    """Create the table that takes them."""
    run_file("0002_audit_heads.sql")
