"""Which schema versions this code knows, told without loading the migration tool."""

from bacpipes.errors import SchemaError
from bacpipes.migrations import DIRECTORY


def known() -> list[str]:
    """The versions that this code can bring a database to, oldest first."""
    return sorted(path.stem.removeprefix("v") for path in (DIRECTORY / "versions").glob("v*.py"))


def head() -> str:
    """The version that this code works with."""
    return known()[-1]


def check(current: str | None) -> None:
    """Raise `SchemaError` unless ``current`` (from `database.schema_version`) is this code's version."""
    if current is None:
        raise SchemaError("The database has no BacPipes schema.", "Run `bacpipes migrate`.")
    if current == head():
        return
    if current not in known():
        raise newer(current)
    raise SchemaError(f"The database's schema is version {current}, this is for {head()}.", "Run `bacpipes migrate`.")


def newer(current: str) -> SchemaError:
    """The error for a schema that a newer BacPipes made."""
    return SchemaError(
        f"The database's schema is version {current}, newer than this version of BacPipes knows (it is for {head()}).",
        "Upgrade BacPipes, or restore the backup that was made before the upgrade. Nothing was changed.",
    )
