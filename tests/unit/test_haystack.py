"""Names and topics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.haystack import (
    BadNameError,
    HaystackName,
    choose_topic,
    function_of,
    long_topic,
    normalise,
    short_topic,
    split_haystack_name,
)
from bacpipes.objects import OBJECT_TYPES

NAME = "duxton.ahu.1.sensor.temp.air.supply.actual"


def test_a_name_is_split_and_joined_again() -> None:
    name = split_haystack_name(NAME)
    assert name == HaystackName("duxton", "ahu", "1", "sensor", "temp", "air", "supply", "actual")
    assert str(name) == NAME
    assert function_of(NAME) == "sensor"
    assert function_of("a.b") == "missing"


@pytest.mark.parametrize("name", ["", "a.b", NAME + ".x", NAME.replace("temp", ""), NAME.replace("duxton", "bacnet")])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(BadNameError):
        split_haystack_name(name)


@pytest.mark.parametrize(
    ("text", "segment"), [("  Supply Air ", "supply_air"), ("VAV\u00a012", "vav_12"), ("a  b", "a_b"), ("Ö", "ö")]
)
def test_normalise(text: str, segment: str) -> None:
    assert normalise("equip", text) == segment


@pytest.mark.parametrize(
    "text", ["", "  ", "a+", "#", "a/b", "a.b", "a\tb", "a\n", "\x00", "x" * 64, "a\u200bb", "a\ufeff", "\ufffe"]
)
def test_what_breaks_a_topic_or_can_not_be_seen_is_refused(text: str) -> None:
    with pytest.raises(BadNameError, match=r"^equip: "):
        normalise("equip", text)


def test_composed_and_decomposed_letters_are_one_name() -> None:
    assert normalise("equip", "e\u0301tage") == normalise("equip", "étage")


def test_topics_of_the_specification() -> None:
    assert short_topic("duxton", "ahu", "1", "analog-input", 101) == "duxton/ahu_1/analoginput101/presentValue"
    assert long_topic("duxton", "ahu", "1", 7, "analog-value", 1) == "duxton/ahu_1/7/analogvalue1/presentValue"


segments = st.text("ab_", min_size=1, max_size=3)
points = st.tuples(segments, segments, st.integers(1, 3), st.sampled_from(list(OBJECT_TYPES)), st.integers(0, 2))


@given(st.lists(points, max_size=40, unique_by=lambda point: point[2:]))
def test_no_two_points_share_a_topic(site: list[tuple[str, str, int, str, int]]) -> None:
    taken: set[str] = set()
    for equip, equip_ref, device, object_type, instance in site:
        topic = choose_topic("duxton", equip, equip_ref, device, object_type, instance, taken)
        assert topic not in taken
        taken.add(topic)
