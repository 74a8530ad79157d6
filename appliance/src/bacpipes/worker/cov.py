"""Change of value (COV): subscriptions at one device, supervised; what can't be told is polled again.

A subscription counts once the device has acknowledged it and told a first value. It is renewed after half its lifetime;
one renewal that fails is enough, and the point is polled in each slot again until a later one holds. A subscription
carries the point's number in our database, so that the same one is taken up again after a restart, and none piles up.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bacpypes3.apdu import SubscribeCOVRequest
from bacpypes3.primitivedata import ObjectIdentifier

from bacpipes.bacnet.client import BacnetClient
from bacpipes.bacnet.errors import BacnetError, NoAnswerError
from bacpipes.bacnet.notifications import ObjectId, Values
from bacpipes.events import first_of
from bacpipes.log import Transition, get_logger
from bacpipes.metrics import WorkerMetrics
from bacpipes.objects import Kind
from bacpipes.points import Device, Point
from bacpipes.reading import Reading
from bacpipes.settings import Settings
from bacpipes.worker.judgement import FLAGS, VALUE, judge

logger = get_logger(__name__)

FIRST_WORD = 5.0  # seconds in which a new subscription must tell its first value
RETRY_FIRST, RETRY_LAST = 10.0, 600.0  # seconds until a subscription that failed is tried again, doubling
REFUSED_FIRST, REFUSED_LAST = 600.0, 3600.0  # the same where the device says no
WINDOW = 0.1  # seconds; of what one point tells in it, the last counts
QUIET = 60.0  # seconds without a word, after which a device is asked whether it is there
GRACE = 3.0  # seconds that a change which a poll has seen may take to be told
NEVER = math.inf
SILENT, NO_WORD, UNTOLD = "no answer from the device", "no value was told", "changes are not told"


@dataclass(slots=True, eq=False)
class _Subscription:
    """One point's. Times are the event loop's."""

    point: Point
    due: float  # when it is subscribed, renewed or looked at next
    reason: str | None = "not yet subscribed"  # why it does not count, or None
    acknowledged: bool = False
    told: bool = False  # a value, since it was subscribed
    expires: float = 0.0
    delay: float = 0.0
    value: float | None = None  # the last that was told, and when
    told_at: float = 0.0
    doubt: tuple[float, float] | None = None  # another value that a poll saw, and when it must have been told

    @property
    def object_id(self) -> ObjectId:
        return self.point.object_type, self.point.object_instance


class CovWatch:
    """One device's subscriptions. ``deliver`` takes what is told, in order; ``alive`` asks whether the device answers.

    With ``after`` nothing is subscribed before that task has ended (an earlier watch takes its leave).
    """

    def __init__(
        self,
        client: BacnetClient,
        device: Device,
        settings: Settings,
        metrics: WorkerMetrics,
        alive: Callable[[], Awaitable[bool]],
        deliver: Callable[[list[Reading]], None],
    ) -> None:
        self._client, self._device, self._settings, self._metrics = client, device, settings, metrics
        self._alive, self._deliver = alive, deliver
        self.after: asyncio.Task[None] | None = None
        self._subscriptions: dict[int, _Subscription] = {}
        self._gone: list[_Subscription] = []
        self._pending: dict[int, Reading] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._word = 0.0  # when the device was heard last
        self._lost = False
        self._health = Transition(logger, "COV subscription", device=device.device_id)

    @property
    def states(self) -> dict[str, str | None]:
        """Each object that is to be told by COV: None while it is, else why it is polled."""
        return {one.point.object: one.reason for one in self._subscriptions.values()}

    def update(self, points: Sequence[Point]) -> None:
        """Subscribe to those of the points that ask for it, and no longer to others."""
        wanted = {point.id: point for point in points if point.cov} if self._device.cov != "off" else {}
        for key in self._subscriptions.keys() - wanted.keys():
            self._end(self._subscriptions.pop(key))
        for key, point in wanted.items():
            known = self._subscriptions.get(key)
            if known is None:
                self._subscriptions[key] = _Subscription(point, NEVER if self._lost else self._now())
            else:
                known.point = point
        if (self._subscriptions or self._gone) and self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"cov {self._device.device_id}")
        self._news.set()

    def asked(self, points: Sequence[Point], last: int, cycle: int) -> list[Point]:
        """Those to be polled in the slots after ``last`` up to ``cycle``: what is told by the device only in those of a
        slow grid, which are every n-th of the point's own."""
        if not self._subscriptions:
            return list(points)
        found = []
        for point in points:
            every = max(1, self._settings.cov_poll // point.interval)
            if last // every < cycle // every or not self.covers(point):
                found.append(point)
        return found

    def covers(self, point: Point) -> bool:
        """Is the point told by the device just now, so that it need not be polled in each slot?"""
        one = self._subscriptions.get(point.id)
        return one is not None and one.reason is None and self._now() < one.expires

    def polled(self, readings: Sequence[Reading]) -> None:
        """What a poll saw: a value that was never told shows a subscription that has died."""
        self._word = self._now()
        for reading in readings:
            one = self._subscriptions.get(reading.point_id)
            if one is None or one.reason is not None or reading.value is None or one.value is None:
                continue
            if reading.value != one.value and one.doubt is None:
                one.doubt = (reading.value, self._word + GRACE)
                one.due = min(one.due, one.doubt[1])
                self._news.set()

    def lost(self) -> None:
        """The device does not answer: nothing that it told holds any more."""
        self._lost = True
        for one in self._subscriptions.values():
            self._fail(one, SILENT, NEVER)

    def found(self) -> None:
        """It answers (again)."""
        self._word = self._now()
        if not self._lost:
            return
        self._lost = False
        for one in self._subscriptions.values():
            one.due, one.delay = self._word, 0.0
        self._news.set()

    def flush(self) -> None:
        """Deliver what was told up to now."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._pending:
            readings, self._pending = list(self._pending.values()), {}
            self._deliver(readings)

    async def close(self) -> None:
        """Take leave of the device, so that it tells us nothing more; what is left of it ends with its lifetime."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.flush()
        for one in self._subscriptions.values():
            self._end(one)
        self._subscriptions = {}
        await self._leave()

    # --- supervision

    async def _run(self) -> None:
        if self.after is not None:
            await asyncio.wait([self.after])
        while True:
            self._news.clear()
            try:
                await self._supervise()
            except Exception as error:  # a fault of ours must not leave points that nobody polls
                logger.exception("COV failed unexpectedly", device=self._device.device_id)
                for one in self._subscriptions.values():
                    self._fail(
                        one, f"internal error: {type(error).__name__}", self._later(one, RETRY_FIRST, RETRY_LAST)
                    )
                self._news.clear()
            # While the device is lost nothing is due, whatever a request that ran into its silence has put down.
            waiting = [] if self._lost else [one.due for one in self._subscriptions.values()]
            waiting.append(self._word + QUIET if self._counting() else NEVER)
            delay = min(waiting) - self._now()
            await first_of(self._news, within=min(max(delay, 0.0), QUIET))  # the loop's others have their turn, always

    async def _supervise(self) -> None:
        await self._leave()
        now = self._now()
        for one in [one for one in self._subscriptions.values() if one.due <= now]:
            if self._subscriptions.get(one.point.id) is one and not self._lost:
                await self._attend(one)
        await self._listen()

    async def _attend(self, one: _Subscription) -> None:
        now = self._now()
        if one.doubt is not None and one.doubt[1] <= now and not await self._resolve(one):
            return
        if one.acknowledged and not one.told:
            self._fail(one, NO_WORD, self._later(one, RETRY_FIRST, RETRY_LAST))
        elif self._renewal(one) <= now:
            await self._subscribe(one)
        else:
            one.due = self._renewal(one)

    def _renewal(self, one: _Subscription) -> float:
        return one.expires - self._settings.cov_lifetime / 2 if one.acknowledged else one.due

    async def _subscribe(self, one: _Subscription) -> None:
        began = self._now()
        key = (self._device.address, one.point.id)
        self._client.notifications.listen(*key, one.object_id, lambda values: self._take(one, values))
        try:
            await self._request(one, self._settings.cov_lifetime)
        except NoAnswerError as error:
            self._fail(one, str(error), self._later(one, RETRY_FIRST, RETRY_LAST))
        except BacnetError as error:
            self._fail(one, f"the device refuses: {error}", self._later(one, REFUSED_FIRST, REFUSED_LAST))
        else:
            one.acknowledged, one.expires = True, began + self._settings.cov_lifetime
            one.due = self._renewal(one) if one.told else self._now() + FIRST_WORD
            self._judge(one)

    async def _request(self, one: _Subscription, lifetime: int | None) -> None:
        """Subscribe (13.14); without a lifetime: cancel."""
        request = SubscribeCOVRequest(
            subscriberProcessIdentifier=one.point.id, monitoredObjectIdentifier=ObjectIdentifier(one.object_id)
        )
        if lifetime is not None:
            request.issueConfirmedNotifications = self._device.cov == "confirmed"
            request.lifetime = lifetime
        await self._client.request(self._device.address, request)

    def _judge(self, one: _Subscription) -> None:
        """Acknowledged and told: from now on it counts."""
        if one.acknowledged and one.told and one.reason is not None:
            one.reason, one.delay, one.due = None, 0.0, self._renewal(one)
            if all(other.reason is None for other in self._subscriptions.values()):
                self._health.recovered()

    def _fail(self, one: _Subscription, reason: str, due: float) -> None:
        if one.reason is None:
            self._metrics.cov_failed.inc()
        if not self._health.failing:  # once for the device; doctor names the points, each with its reason
            self._health.failed(reason, object=one.point.object)
        one.reason, one.due, one.doubt = reason, due, None
        one.acknowledged = one.told = False
        self._news.set()

    def _later(self, one: _Subscription, first: float, last: float) -> float:
        one.delay = min(last, max(first, one.delay * 2))
        return self._now() + one.delay

    async def _resolve(self, one: _Subscription) -> bool:
        """A poll saw another value than was told: was it told meanwhile, or is it too little to be told?"""
        assert one.doubt is not None  # noqa: S101 - the caller looked
        value, until = one.doubt
        one.doubt = None
        if one.told_at > until - GRACE or one.value is None:
            return True
        if one.point.type.kind is Kind.ANALOG:
            try:
                increment = await self._client.read_property(self._device.address, one.object_id, "cov-increment")
                if abs(value - one.value) <= float(increment):
                    return True
            except (BacnetError, TypeError, ValueError):
                return True  # then there is no telling
        self._fail(one, UNTOLD, self._later(one, RETRY_FIRST, RETRY_LAST))
        return False

    async def _listen(self) -> None:
        """A device that tells nothing, and is not polled either, may be gone."""
        if not self._counting() or self._now() - self._word < QUIET:
            return
        if await self._alive():
            self._word = self._now()
        else:
            self.lost()

    def _counting(self) -> bool:
        return any(one.reason is None for one in self._subscriptions.values())

    # --- what is told

    def _take(self, one: _Subscription, values: Values) -> None:
        if VALUE not in values or self._subscriptions.get(one.point.id) is not one:
            return
        answers = {(one.object_id, name): value for name, value in values.items() if name in (VALUE, FLAGS)}
        reading = judge(one.point, time.time_ns() // 1_000_000, answers)
        self._word = one.told_at = self._now()
        one.value, one.told = reading.value, True
        self._metrics.cov_told.inc()
        self._judge(one)
        if one.point.id in self._pending:
            self._metrics.cov_merged.inc()
        self._pending[one.point.id] = reading
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(WINDOW, self.flush)

    # --- taking leave

    def _end(self, one: _Subscription) -> None:
        self._client.notifications.unlisten(self._device.address, one.point.id)
        if one.acknowledged:
            self._gone.append(one)

    async def _leave(self) -> None:
        while self._gone:
            one = self._gone.pop()
            if one.point.id in self._subscriptions:
                continue  # asked for again meanwhile
            try:
                await self._request(one, None)
            except NoAnswerError:
                self._gone = []  # it would not answer for the others either
            except BacnetError:
                pass  # it does not know of it any more

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
