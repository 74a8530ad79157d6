"""Our codec of ReadPropertyMultiple beside bacpypes3's: equal where it answers, silent where it does not."""

import asyncio
import math
from typing import Any

import pytest
from bacpypes3.apdu import ComplexAckPDU, ReadPropertyMultipleACK, ReadPropertyMultipleRequest
from bacpypes3.basetypes import (
    ErrorType,
    PropertyIdentifier,
    PropertyReference,
    ReadAccessResult,
    ReadAccessResultElement,
    ReadAccessResultElementChoice,
    ReadAccessSpecification,
    StatusFlags,
)
from bacpypes3.constructeddata import Any as BacnetAny
from bacpypes3.constructeddata import SequenceOf
from bacpypes3.pdu import Address
from bacpypes3.primitivedata import Atomic, CharacterString, Double, Enumerated, ObjectIdentifier, Real, Unsigned
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.bacnet import rpm
from bacpipes.bacnet.answers import decoded_by_library, result_of
from bacpipes.bacnet.errors import RefusedError

ANALOG = ("analog-input", "analog-output", "analog-value")
BINARY = ("binary-input", "binary-output", "binary-value")
STATES = ("multi-state-input", "multi-state-output", "multi-state-value")
ERRORS = (("object", "unknown-object"), ("property", "unknown-property"), ("device", "operational-problem"))
NAMES = ("present-value", "status-flags")

instances = st.integers(0, 4194302)
errors = st.sampled_from(ERRORS)
flags = st.lists(st.booleans(), min_size=4, max_size=4)


@st.composite
def answers(draw: st.DrawFn) -> list[tuple[rpm.ObjectId, Any, Any]]:
    """Objects with a value and flags each, or an error in the place of either."""
    objects = draw(st.lists(st.tuples(st.sampled_from(ANALOG + BINARY + STATES), instances), min_size=1, max_size=30))
    return [(each, draw(_value(each[0])), draw(flags | errors)) for each in objects]


def _value(object_type: str) -> st.SearchStrategy[Any]:
    if object_type in ANALOG:
        return st.floats(width=32, allow_nan=False).map(Real) | errors
    if object_type in BINARY:
        return st.integers(0, 1).map(Enumerated) | errors
    return st.integers(0, 2**32 - 1).map(Unsigned) | errors


@given(answers())
def test_what_a_poll_hears_is_what_the_library_hears(rows: list[tuple[rpm.ObjectId, Any, Any]]) -> None:
    question, answer = _question(rows), _encoded(rows)
    ours = [(object_id, name, _plain(value)) for object_id, name, value in question.decode(answer)]
    assert ours == _library(question, answer)


@given(st.lists(st.tuples(st.sampled_from(ANALOG + STATES), instances), min_size=1, max_size=40))
def test_the_request_is_the_library_s_request(objects: list[rpm.ObjectId]) -> None:
    names = (*NAMES, "reliability", "event-time-stamps")
    references = [PropertyReference(propertyIdentifier=PropertyIdentifier(name)) for name in names]
    specifications = [
        ReadAccessSpecification(objectIdentifier=ObjectIdentifier(each), listOfPropertyReferences=references)
        for each in objects
    ]
    request = ReadPropertyMultipleRequest(listOfReadAccessSpecs=SequenceOf(ReadAccessSpecification)(specifications))
    asked = rpm.question(tuple((each, names) for each in objects))
    assert asked.request == bytes(request.encode().pduData)


@given(answers(), st.data())
def test_damaged_answers_never_give_what_the_library_would_not(
    rows: list[tuple[rpm.ObjectId, Any, Any]], data: st.DataObject
) -> None:
    question, answer = _question(rows), bytearray(_encoded(rows))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(answer) - 1))
        damage = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if damage == "flip":
            answer[at] ^= data.draw(st.integers(1, 255))
        elif damage == "cut":
            del answer[at:]
        else:
            answer.insert(at, data.draw(st.integers(0, 255)))
        if not answer:
            break
    try:
        found = question.decode(bytes(answer))
    except rpm.UnexpectedAnswerError:
        return  # the library decides
    assert [row[:2] for row in found] == [(each, name) for each, names in question.wanted for name in names]
    ours = [(object_id, name, _plain(value)) for object_id, name, value in found]
    assert ours == _library(question, bytes(answer))


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    question = rpm.question(((("analog-input", 1), NAMES),))
    with pytest.raises(rpm.UnexpectedAnswerError):
        question.decode(noise)


@pytest.mark.parametrize(
    ("object_id", "value"),
    [
        (("analog-value", 1), Double(21.5)),  # the library casts it, or refuses: it is asked
        (("analog-value", 1), Unsigned(21)),
        (("analog-value", 1), CharacterString("warm")),
        (("binary-input", 1), Unsigned(1)),
        (("multi-state-value", 1), Real(2.0)),
    ],
    ids=["double", "unsigned", "text", "binary as unsigned", "state as real"],
)
def test_another_type_than_the_standard_s_is_left_to_the_library(object_id: rpm.ObjectId, value: Atomic) -> None:
    rows = [(object_id, value, [False] * 4)]
    with pytest.raises(rpm.UnexpectedAnswerError):
        _question(rows).decode(_encoded(rows))


def test_another_object_in_the_answer_is_never_taken_for_the_one_asked() -> None:
    asked = [(("analog-input", 1), Real(1.0), [False] * 4), (("analog-input", 2), Real(2.0), [False] * 4)]
    with pytest.raises(rpm.UnexpectedAnswerError):
        _question(asked).decode(_encoded(list(reversed(asked))))


def test_a_property_that_a_poll_does_not_read_is_left_to_the_library() -> None:
    question = rpm.question(((("analog-input", 1), ("object-name",)),))
    head = bytes.fromhex("0c00000001 1e 294d 4e".replace(" ", ""))
    with pytest.raises(rpm.UnexpectedAnswerError):
        question.decode(head + bytes.fromhex("7502004f1f"))


def _question(rows: list[tuple[rpm.ObjectId, Any, Any]]) -> rpm.Question:
    return rpm.question(tuple((object_id, NAMES) for object_id, _, _ in rows))


def _encoded(rows: list[tuple[rpm.ObjectId, Any, Any]]) -> bytes:
    """The service data of an answer, as the library encodes it."""
    results = []
    for object_id, value, bits in rows:
        status = StatusFlags(bits) if isinstance(bits, list) else bits
        elements = [_element(name, content) for name, content in zip(NAMES, (value, status), strict=True)]
        results.append(ReadAccessResult(objectIdentifier=ObjectIdentifier(object_id), listOfResults=elements))
    answer = ReadPropertyMultipleACK(listOfReadAccessResults=SequenceOf(ReadAccessResult)(results))
    return bytes(answer.encode().pduData)


def _element(name: str, content: Any) -> ReadAccessResultElement:
    if isinstance(content, tuple):
        error = ErrorType(errorClass=content[0], errorCode=content[1])
        choice = ReadAccessResultElementChoice(propertyAccessError=error)
    else:
        choice = ReadAccessResultElementChoice(propertyValue=BacnetAny(content))
    return ReadAccessResultElement(propertyIdentifier=PropertyIdentifier(name), readResult=choice)


def _library(question: rpm.Question, answer: bytes) -> list[tuple[rpm.ObjectId, str, Any]]:
    """What bacpypes3 makes of the same bytes."""
    pdu = ComplexAckPDU(rpm.SERVICE, 1, source=Address("127.0.0.2"))
    pdu.put_data(answer)
    rows = asyncio.run(decoded_by_library(pdu, question.wanted))
    results = [result_of(*row) for row in rows]
    return [(row.object_id, row.property, _plain(row.value)) for row in results]


def _plain(value: Any) -> Any:
    if isinstance(value, rpm.AccessError):
        return value.error_class, value.error_code
    if isinstance(value, RefusedError):
        return value.error_class, value.error_code
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, int | float):
        return float(value)
    return tuple(bool(bit) for bit in value)
