"""Our registration as a foreign device at a BBMD (ASHRAE 135, annex J.5), so that broadcasts cross an IP router.

bacpypes3 registers and renews; but after one refusal it ignores every later answer, and after a long silence it stops
trying. The watchdog here sees both and registers anew.
"""

import asyncio
from typing import Any

from bacpypes3.pdu import IPv4Address

from bacpipes.log import Transition, get_logger

logger = get_logger(__name__)

LOOK_EVERY = 1.0  # seconds
RETRY = 5.0  # seconds between registrations that are not answered
EXPIRES = 30  # seconds that a BBMD grants beyond the time to live, and bacpypes3 too
OVERDUE = 10.0  # seconds that the answer to a renewal may take
REGISTERED = 0  # of bacpypes3's status; above: the code of a refusal; below: not yet answered


class Registration:
    """``link`` is bacpypes3's link layer of a foreign device; ``ttl`` is seconds."""

    def __init__(self, link: Any, bbmd: str, ttl: int) -> None:
        self._link, self._bbmd, self._ttl = link, bbmd, ttl
        self._health = Transition(logger, "registration at the BBMD", bbmd=bbmd)
        self._reason: str | None = f"not yet registered at the BBMD {bbmd}"
        self._tried = self._began = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._watch(), name="foreign device")

    @property
    def reason(self) -> str | None:
        """Why we are not registered, or None."""
        return self._reason

    async def close(self) -> None:
        """Tell the BBMD to forget us."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._link._stop_tracking_registration()
        await self._link._stop_registration(IPv4Address(self._bbmd))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self._reason = self._problem()
            if self._reason is None:
                self._health.recovered()
                continue
            now = asyncio.get_running_loop().time()
            if now < self._tried + RETRY:
                continue
            self._health.failed(self._reason)
            if self._link.bbmdRegistrationStatus != REGISTERED:
                self._tried = now
                self._link._stop_tracking_registration()  # else its next try goes on beside ours
                self._link.register(IPv4Address(self._bbmd), self._ttl)

    def _problem(self) -> str | None:
        status = self._link.bbmdRegistrationStatus
        if status > REGISTERED:
            return f"the BBMD {self._bbmd} refused the registration (result {status:#06x})"
        expiry = self._link._registration_timeout_handle
        now = asyncio.get_running_loop().time()
        if status < REGISTERED or expiry is None or now > expiry.when() - EXPIRES + OVERDUE:
            return f"the BBMD {self._bbmd} does not answer"
        return None
