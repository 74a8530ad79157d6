"""Writes that stay safe: releases that fall due, the site's stop, the audit as a hash chain."""

from bacpipes.migrations import run_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what safe writes need."""
    run_file("0002_safe_writes.sql")
