"""Which versions of central's schema this code knows. They begin with ``central_``, so that no site's database can be
taken for central's, nor central's for a site's."""

from bacpipes.central.migrations import DIRECTORY
from bacpipes.errors import SchemaError

PREFIX = "central_"
REMEDY = "Run `bacpipes central migrate`."


def known() -> list[str]:
    """The versions that this code can bring a database to, oldest first."""
    return sorted(PREFIX + path.stem.removeprefix("v") for path in (DIRECTORY / "versions").glob("v*.py"))


def head() -> str:
    """The version that this code works with."""
    return known()[-1]


def check(current: str | None) -> None:
    """Raise `SchemaError` unless ``current`` (from `database.schema_version`) is this code's version."""
    if current is None:
        raise SchemaError("The database has no schema of central.", REMEDY)
    if not current.startswith(PREFIX):
        raise SchemaError(
            f"The database is a site's (schema {current}), not central's.", "Is BACPIPES_DATABASE_URL right?"
        )
    if current == head():
        return
    if current not in known():
        raise SchemaError(
            f"Central's schema is {current}, newer than this version of BacPipes knows (it is for {head()}).",
            "Upgrade BacPipes, or restore the backup that was made before the upgrade. Nothing was changed.",
        )
    raise SchemaError(f"Central's schema is {current}, this is for {head()}.", REMEDY)
