"""The page's users and their logins."""

from bacpipes.migrations import run_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the tables of users, sessions and the first admin's token."""
    run_file("0004_users.sql")
