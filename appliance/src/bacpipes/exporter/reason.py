"""Why something is not ready."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reason:
    """What is not ready, why, and what an operator can do."""

    component: str
    reason: str
    remedy: str
