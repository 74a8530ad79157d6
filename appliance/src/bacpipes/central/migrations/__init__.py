"""Central's schema, as SQL files that Alembic applies in order."""

from pathlib import Path

DIRECTORY = Path(__file__).parent


def run_file(name: str) -> None:
    """Run one SQL file of this folder in Alembic's transaction, as it stands (no parameters)."""
    from alembic import op

    op.get_bind().connection.driver_connection.execute((DIRECTORY / name).read_bytes())  # type: ignore[union-attr]
