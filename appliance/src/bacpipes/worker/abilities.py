"""What one device can do: asked once, found out where it refuses, remembered, and forgotten where it is another."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import AbortedError, BacnetError, NoAnswerError, RejectedError
from bacpipes.log import get_logger
from bacpipes.points import Device
from bacpipes.worker.batch_size import BatchSize
from bacpipes.worker.facts import Facts

logger = get_logger(__name__)

TOO_LONG = ("buffer-overflow", "segmentation-not-supported", "apdu-too-long")  # reasons of an abort
MAX_APDU, SEGMENTATION = "max-apdu-length-accepted", "segmentation-supported"
IDENTITY = ("vendor-name", "model-name", "firmware-revision", MAX_APDU)
ASKED = (*IDENTITY, SEGMENTATION)
LONGEST = 200  # characters of what a device says of itself


class Abilities:
    """``read_multiple``: does it know ReadPropertyMultiple? ``batch``: for how many points at once."""

    def __init__(self, client: BacnetClient, device: Device, on_learnt: Callable[[Facts], None]) -> None:
        self._client, self._device, self._on_learnt = client, device, on_learnt
        self.read_multiple = device.read_multiple
        since = device.batch_since
        self.batch = BatchSize(device.max_apdu, device.batch, since.timestamp() if since else None)
        self._facts = Facts(device.id, device.max_apdu, learnt_of=device.learnt_of)
        # What was found out holds as long as it is the same device: then it is asked again at each start.
        self._asked = device.max_apdu is not None and not self._restricted

    @property
    def _restricted(self) -> bool:
        return self.batch.kept is not None or not self.read_multiple

    async def learn(self) -> None:
        """Ask the device who it is, where that has to be known; raise `NoAnswerError`, and it is asked again."""
        if self._asked:
            return
        said = {name: await self._said(name) for name in ASKED}
        self._asked = True
        size = said[MAX_APDU]
        max_apdu = int(size) if size is not None and size.isdecimal() else None
        identity, before = " · ".join(said[name] or "?" for name in IDENTITY), self._facts.learnt_of
        self.batch.limit(max_apdu)
        if self._restricted and before not in (None, identity):
            logger.info("device has changed: what it can do is learnt anew", device=self._device.device_id)
            self.read_multiple = True
            self.batch.reset(max_apdu)
        vendor, model = said["vendor-name"], said["model-name"]
        self._facts = Facts(self._device.id, max_apdu, said[SEGMENTATION], vendor, model, learnt_of=identity)
        self._tell()

    async def _said(self, name: str) -> str | None:
        try:
            answer: Any = await self._client.read_property(
                self._device.address, ("device", self._device.device_id), name
            )
        except NoAnswerError:
            raise
        except BacnetError:
            return None
        return str(answer)[:LONGEST].replace("\x00", "")

    def came_back(self) -> None:
        """It was silent, and may be another one now, or a newer one."""
        self._asked = self._asked and not self._restricted

    def refused(self, error: BacnetError, points: int) -> bool:
        """Is it a request for so many points itself that the device can't answer, whichever they are?"""
        if isinstance(error, RejectedError) and "unrecognized-service" in str(error):
            self.read_multiple = False
            logger.info("device can't ReadPropertyMultiple", device=self._device.device_id)
        elif isinstance(error, AbortedError) and any(reason in str(error) for reason in TOO_LONG):
            self.batch.aborted(points)  # a device that is only busy is asked as before
        else:
            return False
        self._asked = self._asked and self._facts.learnt_of is not None  # of whom it holds must be known
        self._tell()
        return True

    def answered(self, points: int) -> None:
        """It has answered a request for so many."""
        if self.batch.answered(points):
            self._tell()

    def _tell(self) -> None:
        since = self.batch.since
        self._facts = replace(
            self._facts,
            read_multiple=self.read_multiple,
            batch=self.batch.kept,
            batch_since=datetime.fromtimestamp(since, UTC) if since is not None else None,
        )
        self._on_learnt(self._facts)
