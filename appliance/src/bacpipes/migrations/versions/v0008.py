"""What a device has aborted is remembered."""

from bacpipes.migrations import run_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add its columns."""
    run_file("0008_device_batch.sql")
