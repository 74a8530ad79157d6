"""A reading's payload: the specification's keys in their order, valid JSON whatever the texts hold."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.payload import ReadingPayloads
from bacpipes.reading import Quality, Reading, iso_milliseconds, to_datetime
from point_parts import DEVICE, point

KEYS = [
    "value", "timestamp", "units", "quality", "dis", "haystackName", "deviceIp", "deviceId", "objectType",
    "objectInstance",
]  # fmt: skip
texts = st.text(max_size=20)


@given(
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    at=st.integers(0, 4102444800000),
    quality=st.sampled_from(Quality),
    reason=st.none() | texts,
    units=texts,
    dis=texts,
    name=st.none() | texts,
)
def test_it_says_what_the_point_and_the_reading_say(
    value: float | None, at: int, quality: Quality, reason: str | None, units: str, dis: str, name: str | None
) -> None:
    ours = point(units=units, dis=dis, haystack_name=name)
    payload = json.loads(ReadingPayloads().encode(ours, Reading(ours.id, at, value, quality, reason)))
    expected = [value, iso_milliseconds(to_datetime(at)), units, quality.text, dis, name, DEVICE.ip, DEVICE.device_id]
    expected += [ours.object_type, ours.object_instance]
    assert list(payload) == KEYS + (["reason"] if reason is not None else [])
    assert list(payload.values()) == expected + ([reason] if reason is not None else [])
    assert str(payload["value"]) == str(value)


def test_a_changed_point_is_told_as_it_is_now() -> None:
    payloads, reading = ReadingPayloads(), Reading(7, 0, 1.0)
    before = point(dis="before")
    assert json.loads(payloads.encode(before, reading))["dis"] == "before"
    assert json.loads(payloads.encode(replace(before, dis="now"), reading))["dis"] == "now"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_nan(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ReadingPayloads().encode(point(), Reading(7, 0, value))
