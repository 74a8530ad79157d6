"""Python's garbage collector in a process that lives for months and must answer within milliseconds."""

import gc

# Objects more than before until the youngest are looked through, and how often until the older ones are. A poll of a
# big site makes a hundred thousand, and keeps none in cycles: each look must be short (2,500 take 2 ms).
_THRESHOLDS = (2_500, 5, 20)


def settle() -> None:
    """Take all that exists now out of the collector's sight, as what is loaded at start stays: looking through 50,000
    points takes it 70 ms, in which no answer is read. What is no longer used is freed nevertheless, but for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
