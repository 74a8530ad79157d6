"""Reading a command from a payload."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.payload import encode
from bacpipes.writes.command import MalformedCommandError, json_safe, parse

# The specification's example, field by field.
EXAMPLE = {
    "jobId": "550e8400-e29b-41d4-a716-446655440000",
    "deviceId": 12345,
    "objectType": "analog-value",
    "objectInstance": 120,
    "value": 65.0,
    "priority": 8,
    "release": False,
    "timestamp": "2025-12-08T14:30:00.000Z",
    "source": "ml-optimizer",
    "reason": "energy-optimization",
    "siteId": "duxton",
    "equipmentType": "ahu",
    "equipmentId": "1",
    "haystackName": "duxton.ahu.1.sp.humidity.air.return.effective",
}


def test_the_specified_example() -> None:
    command = parse(json.dumps(EXAMPLE).encode())
    assert (command.job_id, command.object, command.value, command.priority) == (
        *(EXAMPLE["jobId"], "analog-value:120", 65.0, 8),
    )
    assert command.timestamp is not None
    assert command.timestamp.isoformat() == "2025-12-08T14:30:00+00:00"


def test_what_may_be_left_out() -> None:
    needed = {key: EXAMPLE[key] for key in ("jobId", "deviceId", "objectType", "objectInstance", "value")}
    command = parse(json.dumps(needed).encode())
    assert (command.priority, command.release, command.timestamp, command.site_id) == (8, False, None, None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"jobId": None}, "jobId is missing"),
        ({"jobId": ""}, "jobId is not a text of 1 to 200 characters"),
        ({"jobId": "a\x00"}, "jobId is not a text of 1 to 200 characters"),
        ({"deviceId": "12345"}, "deviceId is not an integer from 0 to 4194302"),
        ({"deviceId": True}, "deviceId is not an integer from 0 to 4194302"),
        ({"deviceId": 4194303}, "deviceId is not an integer from 0 to 4194302"),
        ({"objectType": 2}, "objectType is not a text of 1 to 500 characters"),
        ({"release": "no"}, "release is not true or false"),
        ({"timestamp": "yesterday"}, "timestamp is not an ISO 8601 time"),
        ({"expiresAt": "9999-12-31T23:59:59-01:00"}, "expiresAt is not between the years 2000 and 9000"),
        ({"releaseAfter": 0.5}, "releaseAfter is not a number of seconds from 1 to 2678400"),
        ({"releaseAfter": True}, "releaseAfter is not a number of seconds from 1 to 2678400"),
        ({"releaseAfter": math.nan}, "releaseAfter is not a number of seconds from 1 to 2678400"),
        ({"releaseAfter": 60, "release": True}, "releaseAfter is given for a release"),
        ({"timestamp": 1765204200}, "timestamp is not an ISO 8601 time"),
    ],
)
def test_each_wrong_field_is_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(MalformedCommandError) as caught:
        parse(json.dumps(EXAMPLE | change).encode())
    assert caught.value.problems == [problem]
    assert caught.value.job_id == (None if "jobId" in change else EXAMPLE["jobId"])


@given(st.binary(max_size=200))
def test_no_octets_do_harm(payload: bytes) -> None:
    with pytest.raises(MalformedCommandError):
        parse(payload)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists))
def test_every_value_can_stand_in_a_payload(value: Any) -> None:
    safe = json.loads(encode({"value": json_safe(value)}))["value"]
    if isinstance(value, float) and math.isfinite(value):
        assert safe == value


def test_a_job_is_not_named_as_a_release_is() -> None:
    with pytest.raises(MalformedCommandError, match="jobId ends with #release, which names the release of a write"):
        parse(json.dumps(EXAMPLE | {"jobId": "a#release"}).encode())
