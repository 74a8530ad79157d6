"""Is the audit's hash chain whole? Computed from the rows; what the database's own functions say does not count."""

from dataclasses import dataclass

import psycopg

from bacpipes.database import query


@dataclass(frozen=True, slots=True)
class Chain:
    """``rows`` in the chain, its ``head`` (``ID:HASH``, SHA-256 in hex), and what is ``wrong`` with it, or None."""

    rows: int
    head: str
    wrong: str | None


def verify(connection: psycopg.Connection[tuple[object, ...]], noted: tuple[int, str] | None = None) -> Chain:
    """Look at every row; ``noted`` is a head (id and hash in hex) that was seen earlier, at central for example."""
    cursor = connection.execute(query("audit_verify"), {"noted": noted[0] if noted else None})
    row = cursor.fetchone()
    assert row is not None  # noqa: S101 - one row always
    rows, last, digest, head_id, head_digest, broken, found = row
    assert isinstance(rows, int)  # noqa: S101 - a count
    assert isinstance(digest, bytes)  # noqa: S101 - a bytea
    wrong = None
    if broken is not None:
        wrong = f"row {broken} is not what was written, or the row before it is missing or was changed"
    elif (last, digest) != (head_id, head_digest):
        wrong = f"row {last} is the last, but the chain's head is row {head_id}: rows were cut off, or put in"
    elif noted is not None and found != noted[1]:
        what = "is missing" if found is None else f"has the hash {found}"
        wrong = f"row {noted[0]} {what}; the chain was written anew since that head was noted"
    return Chain(rows, f"{last}:{digest.hex()}", wrong)
