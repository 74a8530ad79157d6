"""Settings that the page keeps."""

from bacpipes.migrations import run_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create their table."""
    run_file("0007_setting.sql")
