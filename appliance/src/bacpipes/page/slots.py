"""A point's priority array as the device has it now, with who holds what."""

from dataclasses import dataclass
from typing import Any

from bacpipes.exporter.store import Store
from bacpipes.exporter.worker import WorkerPage
from bacpipes.objects import OBJECT_TYPES, Kind
from bacpipes.settings import Settings
from bacpipes.writes.values import number_text

PATIENCE = 20.0  # seconds for each half of an answer from the worker
LEVELS = {  # ANSI/ASHRAE 135, 19.2.2
    1: "manual life safety",
    2: "automatic life safety",
    5: "critical equipment control",
    6: "minimum on/off",
    8: "manual operator",
}
NOT_OURS = "another writer"


@dataclass(frozen=True, slots=True)
class Slot:
    """One level that holds something."""

    priority: int
    level: str
    value: float
    holder: str


@dataclass(frozen=True, slots=True)
class Array:
    """What the device says: the present value, and the slots that are taken. ``error``: why it could not be asked."""

    value: float | None = None
    slots: tuple[Slot, ...] = ()
    commandable: bool = True
    error: str = ""


async def look(worker: WorkerPage, store: Store, settings: Settings, point: dict[str, Any]) -> Array:
    """Ask the device through the worker, and the book of what we hold."""
    path = f"/priority-array?device={point['device_id']}&type={point['object_type']}&object={point['object_instance']}"
    answer = await worker.ask(path, patience=PATIENCE)
    if answer is None:
        return Array(error="The worker does not answer; is it running?")
    status, body = answer
    if status != 200:
        return Array(error=f"The device could not be asked: {body.get('error', f'HTTP {status}')}.")
    held = {row["priority"]: row for row in await store.rows("page_held", {"point": point["id"]})}
    found = [
        Slot(priority, LEVELS.get(priority, ""), value, _holder(held.get(priority), value, settings))
        for priority, value in enumerate(body["array"] or (), start=1)
        if value is not None
    ]
    return Array(body["value"], tuple(found), body["array"] is not None)


def _holder(row: dict[str, Any] | None, value: float, settings: Settings) -> str:
    if row is None or abs(row["value"] - value) > 1e-6 * max(1.0, abs(value)):
        return NOT_OURS
    when = row["written_at"].astimezone(settings.zone).strftime("%Y-%m-%d %H:%M")
    return f"{row['actor']}, {when}" + (f": {row['reason']}" if row["reason"] else "")


def shown(value: float | None, point: dict[str, Any]) -> str:
    """A value as a person reads it."""
    if value is None:
        return "—"
    if OBJECT_TYPES[point["object_type"]].kind is Kind.BINARY:
        return "active" if value else "inactive"
    return f"{number_text(value)} {point['units'] or ''}".strip()


def limits(point: dict[str, Any]) -> str:
    """What may be written, in words."""
    kind = OBJECT_TYPES[point["object_type"]].kind
    if kind is Kind.BINARY:
        return "active or inactive"
    if kind is Kind.MULTISTATE:
        return f"1 to {point['states']}" if point["states"] else "the number of states is unknown"
    low, high = point["minimum"], point["maximum"]
    if low is None and high is None:
        return "no limits are set"
    return " ".join(
        filter(
            None,
            [
                f"from {number_text(low)}" if low is not None else "",
                f"to {number_text(high)}" if high is not None else "",
            ],
        )
    )
