"""How single devices are asked: time-out, retries, requests at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Manners:
    """How one device is asked; None: as all others. ``timeout`` is seconds, ``concurrency`` requests at once."""

    timeout: float | None = None
    retries: int | None = None
    concurrency: int | None = None


class Transactions(list[Any]):
    """bacpypes3's list of requests under way. Each takes time-out and retries from our device object when it begins;
    here those of its device are put in their place."""

    def __init__(self, manners: Mapping[str, Manners]) -> None:
        super().__init__()
        self._manners = manners

    def append(self, transaction: Any) -> None:
        """A request begins."""
        manners = self._manners.get(str(transaction.pdu_address))
        if manners is not None and manners.timeout is not None:
            transaction.apduTimeout = int(manners.timeout * 1000)
        if manners is not None and manners.retries is not None:
            transaction.numberOfApduRetries = manners.retries
        super().append(transaction)
