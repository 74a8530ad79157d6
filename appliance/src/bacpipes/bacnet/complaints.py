"""What bacpypes3 logs of packets that it can't process: a traceback each. Anybody on the network could fill a disk so;
here they are counted, and one line is said in ten minutes."""

import logging
import time

from bacpipes.log import get_logger

logger = get_logger(__name__)

LIBRARY = "bacpypes3"
SAID_EVERY = 600.0  # seconds


class Complaints(logging.Handler):
    """Takes the library's warnings and errors for as long as it is installed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0
        self._said: float | None = None

    def install(self) -> None:
        """In place of whatever would print them."""
        library = logging.getLogger(LIBRARY)
        library.addHandler(self)
        library.propagate = False

    def remove(self) -> None:
        """As it was."""
        library = logging.getLogger(LIBRARY)
        library.removeHandler(self)
        library.propagate = True

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        self.count += 1
        now = time.monotonic()
        if self._said is None or now > self._said + SAID_EVERY:
            self._said = now
            reason = record.getMessage().partition("\n")[0][:300]
            logger.warning("a BACnet packet could not be processed", reason=reason, until_now=self.count)
