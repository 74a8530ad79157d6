"""What the reader makes of a device's answers; the device is a double that answers as it is told."""

from collections.abc import Sequence
from typing import Any

import pytest

from bacpipes.bacnet.answers import PropertyResult
from bacpipes.bacnet.errors import AbortedError, BacnetError, MalformedError, NoAnswerError, RefusedError, RejectedError
from bacpipes.bacnet.rpm import ObjectId
from bacpipes.points import Device
from bacpipes.reading import Quality, Reading
from bacpipes.worker.judgement import judge
from bacpipes.worker.quarantine import FIRST_TRY
from bacpipes.worker.reader import PATIENCE, DeviceReader
from point_parts import point

OBJECT = ("analog-value", 120)


def judged(value: Any, flags: Any = (0, 0, 0, 0), reliability: Any = None) -> tuple[float | None, str, str | None]:
    answers = {(OBJECT, "present-value"): value, (OBJECT, "status-flags"): flags, (OBJECT, "reliability"): reliability}
    reading = judge(point(), 0, answers)
    return reading.value, reading.quality.text, reading.reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((21.5,), (21.5, "good", None)),
        ((21.5, (1, 0, 0, 0)), (21.5, "good", None)),
        ((21.5, (0, 1, 0, 0)), (21.5, "bad", "fault")),
        ((21.5, (0, 1, 0, 0), "over-range"), (21.5, "bad", "fault: over-range")),
        ((21.5, (0, 0, 1, 0)), (21.5, "uncertain", "overridden")),
        ((21.5, (0, 0, 1, 1)), (21.5, "uncertain", "out-of-service, overridden")),
        ((21.5, RefusedError("property", "unknown-property")), (21.5, "good", None)),
        ((float("nan"),), (None, "bad", "device sent nan")),
        ((float("-inf"),), (None, "bad", "device sent -inf")),
        (((),), (None, "bad", "device sent Null")),
        (("text",), (None, "bad", "value of type str where a number was expected")),
        ((RefusedError("object", "unknown-object"),), (None, "bad", "object: unknown-object")),
    ],
)
def test_quality(answer: tuple[Any, ...], expected: tuple[float | None, str, str | None]) -> None:
    assert judged(*answer) == expected


def test_an_answer_for_another_object_is_no_answer() -> None:
    reading = judge(point(), 0, {(("analog-value", 121), "present-value"): 1.0})
    assert (reading.value, reading.quality) == (None, Quality.BAD)


class Double:
    """A BACnet client whose device fails as it is told: by batch size, for one object, or altogether."""

    def __init__(self, **faults: Any) -> None:
        self.faults = faults
        self.asked: list[int] = []

    def points(self, *names: str) -> set[int]:
        return {number for name in names for number in self.faults.get(name, ())}

    async def read_multiple(
        self, _address: str, wanted: Sequence[tuple[ObjectId, Sequence[str]]]
    ) -> list[PropertyResult]:
        self.asked.append(len(wanted))
        if error := self.faults.get("multiple"):
            raise error
        if len(wanted) > self.faults.get("longest", 1000):
            raise AbortedError("aborted: segmentation-not-supported")
        if any(object_id[1] in self.points("poison", "poison_together") for object_id, _ in wanted):
            raise MalformedError("answer can't be decoded")
        if any(object_id[1] in self.points("mute") for object_id, _ in wanted):
            raise NoAnswerError("no answer from the device")
        return [
            PropertyResult(object_id, name, 1.0 if name == "present-value" else (0, 0, 0, 0))
            for object_id, names in wanted
            for name in names
        ]

    async def read_property(self, _address: str, object_id: ObjectId, name: str) -> Any:
        self.asked.append(1)
        if error := self.faults.get("single"):
            raise error
        if object_id[1] in self.points("poison"):
            raise MalformedError("answer can't be decoded")
        if object_id[1] in self.points("mute"):
            raise NoAnswerError("no answer from the device")
        return 1.0 if name == "present-value" else (0, 0, 0, 0)


def reader(double: Double, max_apdu: int = 1476) -> DeviceReader:
    return DeviceReader(double, Device(1, 1, "", "10.0.0.1", "10.0.0.1", max_apdu, True))  # type: ignore[arg-type]


POINTS = [point(id=n, object_instance=n) for n in range(100)]


async def test_batches_fit_the_devices_apdu() -> None:
    for max_apdu, sizes in ((480, [20] * 5), (1024, [44, 44, 12]), (1476, [63, 37])):
        double = Double()
        readings = await reader(double, max_apdu).read(POINTS)
        assert (double.asked, [r.point_id for r in readings]) == (sizes, list(range(100)))


async def test_too_long_answers_make_smaller_batches_and_are_remembered() -> None:
    double = Double(longest=10)
    slow = reader(double)
    assert all(r.quality is Quality.GOOD for r in await slow.read(POINTS))
    double.asked.clear()
    assert all(r.quality is Quality.GOOD for r in await slow.read(POINTS))
    assert max(double.asked) <= 10


async def test_one_bad_point_costs_no_other_a_reading() -> None:
    readings = await reader(Double(poison=[37])).read(POINTS)
    assert [r.point_id for r in readings if r.quality is Quality.BAD] == [37]
    assert readings[37].reason == "answer can't be decoded"


async def test_a_device_without_read_property_multiple_is_asked_no_more() -> None:
    double = Double(multiple=RejectedError("rejected: unrecognized-service"))
    old = reader(double)
    assert all(r.quality is Quality.GOOD for r in await old.read(POINTS))
    assert not old.abilities.read_multiple
    double.asked.clear()
    await old.read(POINTS)
    assert set(double.asked) == {1}


@pytest.mark.parametrize("error", [NoAnswerError("no answer from the device")])
async def test_a_silent_device_is_asked_once_a_poll(error: BacnetError) -> None:
    double = Double(multiple=error, single=error)
    silent = reader(double)
    readings = await silent.read(POINTS)
    assert (len(readings), {r.reason for r in readings}, len(double.asked)) == (100, {str(error)}, 1)
    assert silent.silent


class Clock:
    """Time that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("bacpipes.worker.quarantine.time.monotonic", lambda: self.now)


def bad(readings: list[Reading]) -> dict[int, str | None]:
    return {r.point_id: r.reason for r in readings if r.quality is Quality.BAD}


@pytest.mark.parametrize("poison", [[37], [0], [99], [3, 4, 62, 63]])
async def test_a_bad_point_is_quarantined_and_tried_again(monkeypatch: pytest.MonkeyPatch, poison: list[int]) -> None:
    clock, double = Clock(monkeypatch), Double(poison=poison)
    patient = reader(double)
    reason = "answer can't be decoded"
    assert bad(await patient.read(POINTS)) == dict.fromkeys(poison, reason)
    assert set(patient.quarantine.points.values()) == {reason}
    double.asked.clear()
    assert bad(await patient.read(POINTS)) == dict.fromkeys(poison, f"quarantined: {reason}")
    assert len(double.asked) == 2, "it costs no request any more"
    clock.now += FIRST_TRY
    assert bad(await patient.read(POINTS)) == dict.fromkeys(poison, reason), "tried again, alone"
    double.faults.clear()
    clock.now += FIRST_TRY
    assert len(bad(await patient.read(POINTS))) == len(poison), "the second time it takes longer"
    clock.now += FIRST_TRY
    assert bad(await patient.read(POINTS)) == {}
    assert patient.quarantine.points == {}
    double.asked.clear()
    await patient.read(POINTS)
    assert len(double.asked) == 2, "together with the others again"


async def test_a_point_that_can_only_be_read_by_itself_is(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    double = Double(poison_together=[37])
    patient = reader(double)
    assert bad(await patient.read(POINTS)) == {}
    double.asked.clear()
    assert bad(await patient.read(POINTS)) == {}
    assert len(double.asked) <= 6, "the batches without it and its neighbour, and each of them by itself"
    assert patient.quarantine.points == {}


async def test_a_device_that_refuses_everything_has_no_point_in_quarantine() -> None:
    double = Double(multiple=MalformedError("garbage"), single=MalformedError("garbage"))
    patient = reader(double)
    assert set(bad(await patient.read(POINTS)).values()) == {"garbage"}
    assert patient.quarantine.points == {}


@pytest.mark.parametrize("mute", [[0], [50], [99]])
async def test_one_mute_object_is_found_once_the_device_answers_a_probe(
    monkeypatch: pytest.MonkeyPatch, mute: list[int]
) -> None:
    Clock(monkeypatch)
    patient = reader(Double(mute=mute))
    await patient.read(POINTS)
    assert patient.silent, "it looks like a dead device"
    assert await patient.probe()
    assert bad(await patient.read(POINTS)) == dict.fromkeys(mute, "no answer from the device")
    assert not patient.silent
    assert bad(await patient.read(POINTS)) == dict.fromkeys(mute, "quarantined: no answer from the device")


async def test_a_device_that_dies_after_a_probe_is_not_asked_for_every_point() -> None:
    double = Double()
    patient = reader(double)
    assert await patient.probe()
    double.faults = {"multiple": NoAnswerError("no answer from the device"), "single": NoAnswerError("no answer")}
    double.asked.clear()
    assert len(bad(await patient.read(POINTS))) == 100
    assert patient.silent
    assert len(double.asked) <= PATIENCE
    assert patient.quarantine.points == {}
