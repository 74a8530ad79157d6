"""The way to central: the shipper's cursors, metadata for replication, checksums."""

from bacpipes.migrations import run_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what the complete lane and `bacpipes reconcile` need."""
    run_file("0003_central.sql")
    run_file("reading_checksum.sql")
