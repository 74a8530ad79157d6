"""Is this machine's clock kept right? Containers have the host's clock, and the kernel knows."""

import ctypes

_STATE_ERROR = 5  # TIME_ERROR of adjtimex(2): not synchronised
_TIMEX_SIZE = 512  # larger than struct timex on any architecture


def synchronised() -> bool:
    """What the kernel says (adjtimex(2), read only: needs no privilege). False where it can't be asked."""
    buffer = ctypes.create_string_buffer(_TIMEX_SIZE)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return False
    return bool(0 <= state != _STATE_ERROR)
