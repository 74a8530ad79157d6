"""What a device answered, as plain values and our errors: bacpypes3 raises what derives from BaseException, returns
errors as values, and does not look what an answer is for."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bacpypes3.apdu import (
    APDU,
    AbortPDU,
    AbortReason,
    APCISequence,
    ErrorPDU,
    ErrorRejectAbortNack,
    ReadPropertyACK,
    RejectPDU,
    RejectReason,
)
from bacpypes3.basetypes import ErrorType, PropertyIdentifier
from bacpypes3.constructeddata import Array
from bacpypes3.pdu import PDU
from bacpypes3.primitivedata import Atomic, ObjectIdentifier, Unsigned
from bacpypes3.service.object import ReadWritePropertyMultipleServices
from bacpypes3.vendor import get_vendor_info

from bacpipes.bacnet import rpm
from bacpipes.bacnet.errors import (
    AbortedError,
    BacnetError,
    MalformedError,
    NoAnswerError,
    RefusedError,
    RejectedError,
)
from bacpipes.bacnet.interface import parse_address
from bacpipes.bacnet.rpm import ObjectId

SILENCE = "no answer from the device"


class PropertyResult(NamedTuple):
    """One property of a ReadPropertyMultiple answer: ``value`` is a bacpypes3 value, or a `BacnetError`."""

    object_id: ObjectId
    property: str
    value: Any


class _Answered(ReadWritePropertyMultipleServices):  # type: ignore[misc,unused-ignore]
    """bacpypes3's reader of ReadPropertyMultiple, for an answer that is here already."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def request(self, _request: Any) -> Any:
        return APCISequence.decode(self._answer)


async def decoded_by_library(answer: Any, wanted: rpm.Wanted) -> Any:
    source = answer.pduSource
    return await _Answered(answer).read_property_multiple(source, arguments_of(wanted), vendor_info=get_vendor_info(0))


async def decoded_apdu(apdu: bytes, address: str, wanted: rpm.Wanted) -> Any:
    """What bacpypes3 makes of an answer: rows; raise a `BacnetError` for an Error, Reject or Abort, or for nonsense."""
    try:
        answer = APDU.decode(PDU(apdu, source=parse_address(address)))
        if isinstance(answer, ErrorPDU):
            answer = APCISequence.decode(answer)
        raise_returned(answer)
        return await decoded_by_library(answer, wanted)
    except ErrorRejectAbortNack as error:  # a BaseException
        raise translate(error) from None
    except BacnetError:
        raise
    except Exception as error:  # bacpypes3's decoder raises whatever it trips over
        raise MalformedError(f"answer can't be decoded ({type(error).__name__}: {error})") from error


def arguments_of(wanted: Sequence[tuple[ObjectId, Sequence[str]]]) -> list[Any]:
    arguments: list[Any] = []
    for object_id, names in wanted:
        arguments += [ObjectIdentifier(object_id), [PropertyIdentifier(name) for name in names]]
    return arguments


def from_rpm(object_id: ObjectId, name: str, value: rpm.Value) -> PropertyResult:
    if type(value) is rpm.AccessError:
        return PropertyResult(object_id, name, RefusedError(value.error_class, value.error_code))
    return PropertyResult(object_id, name, value)


def to_number(value: Any) -> float | None:
    """A present value as the number that we store: reals, enumerations (inactive 0, active 1) and states.

    None for a Null; raise `MalformedError` for what is no number.
    """
    if isinstance(value, bool | int | float):
        return float(value)
    if value is None or value == ():  # Null
        return None
    raise MalformedError(f"value of type {type(value).__name__} where a number was expected")


def property_value(answer: Any, object_id: ObjectId, name: str, index: int | None) -> Any:
    """The value in an answer to ReadProperty; bacpypes3 itself does not look what the answer is for."""
    if not isinstance(answer, ReadPropertyACK):
        raise MalformedError(f"not an answer to ReadProperty ({type(answer).__name__})")
    asked = (ObjectIdentifier(object_id), PropertyIdentifier(name), index)
    if (answer.objectIdentifier, answer.propertyIdentifier, answer.propertyArrayIndex) != asked:
        raise MalformedError("the answer is for another object or property")
    object_class = get_vendor_info(0).get_object_class(asked[0][0])
    kind = object_class.get_property_type(asked[1]) if object_class else None
    if kind is None:
        raise MalformedError(f"bacpypes3 knows no {name} of {object_id[0]}")
    if issubclass(kind, Array) and index is not None:
        kind = Unsigned if index == 0 else kind._subtype
    return answer.propertyValue.cast_out(kind, null=issubclass(kind, Atomic))


def result_of(object_id: Any, name: Any, _index: Any, value: Any) -> PropertyResult:
    if isinstance(value, ErrorType):
        value = RefusedError(str(value.errorClass), str(value.errorCode))
    return PropertyResult((str(object_id[0]), int(object_id[1])), str(name), value)


def raise_returned(value: Any) -> None:
    if isinstance(value, ErrorRejectAbortNack):
        raise translate(value)
    if isinstance(value, ErrorType):
        raise RefusedError(str(value.errorClass), str(value.errorCode))
    if isinstance(value, str) and value.startswith("-no "):  # "-no object class-", "-no property type-"
        raise MalformedError(f"bacpypes3 knows no such object or property ({value.strip('-')})")


def translate(error: Any) -> BacnetError:
    if isinstance(error, ErrorPDU):
        return RefusedError(str(error.errorClass), str(error.errorCode))
    if isinstance(error, RejectPDU):
        return RejectedError(f"rejected: {RejectReason(error.apduAbortRejectReason)}")
    if isinstance(error, AbortPDU):
        if error.apduAbortRejectReason in (AbortReason.noResponse, AbortReason.tsmTimeout):
            return NoAnswerError(SILENCE)
        return AbortedError(f"aborted: {AbortReason(error.apduAbortRejectReason)}")
    return BacnetError(f"not delivered: {error}")
