"""Python's garbage collector in a process that lives for months and must answer within milliseconds."""

import gc

# Objects more than there were before the youngest are looked through: a poll makes many, and keeps none in cycles.
_YOUNG = 20_000


def settle() -> None:
    """Take all that exists now out of the collector's sight, as what is loaded at start stays: looking through 50,000
    points takes it 70 ms, in which no answer is read. What is no longer used is freed nevertheless, but for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
