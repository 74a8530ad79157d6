"""ReadPropertyMultiple (ASHRAE 135, clause 15.7) in bytes: our own encoder and decoder for what a poll asks and hears.

bacpypes3 spends nearly all of a poll in its generic codec; here an answer is compared with what was asked, byte by
byte, and only values are taken out. Whatever does not look exactly as expected (another order, another type, an
optional index) is `UnexpectedAnswerError`, and the library decodes it instead: nothing is guessed.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bacpypes3.basetypes import ErrorClass, ErrorCode, PropertyIdentifier
from bacpypes3.primitivedata import ObjectIdentifier

ObjectId = tuple[str, int]
Wanted = tuple[tuple[ObjectId, tuple[str, ...]], ...]

SERVICE: Final = 14
_ACK: Final = 0x30  # ComplexAck without segments, clause 20.1.5
_OBJECT, _OPEN_LIST, _CLOSE_LIST = b"\x0c", b"\x1e", b"\x1f"  # context tags: 0 object identifier, 1 list
_OPEN_VALUE, _CLOSE_VALUE = 0x4E, b"\x4f"  # context tag 4
_OPEN_ERROR, _CLOSE_ERROR = b"\x5e", b"\x5f"  # context tag 5
_STATUS_FLAGS: Final = "status-flags"
_ENUMERATED = 9  # application tag, clause 20.2.11


class UnexpectedAnswerError(Exception):
    """The answer is not laid out as the fast decoder knows it; it may still be right."""


@dataclass(frozen=True, slots=True)
class AccessError:
    """The device's Error for one property, in the standard's words (clause 18)."""

    error_class: str
    error_code: str


Value = float | int | tuple[bool, ...] | AccessError | None
_Reader = Callable[[bytes, int], tuple[Value, int]]
_Properties = tuple[tuple[bytes, str, _Reader], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of one device in one request: the bytes to send, and what each part of the answer begins with."""

    wanted: Wanted
    request: bytes
    _usual: "_Usual | None"

    def decode(self, answer: bytes) -> list[tuple[ObjectId, str, Value]]:
        """(object, property, value) for all that was asked, in its order; raise `UnexpectedAnswerError`."""
        if self._usual is not None and (found := self._usual.decode(answer)) is not None:
            return found
        try:
            return self._decode(answer)
        except (IndexError, struct.error):
            raise UnexpectedAnswerError("the answer ends too soon") from None

    def decode_apdu(self, apdu: bytes) -> list[tuple[ObjectId, str, Value]]:
        """The same from a whole APDU, which must be an acknowledgement without segments."""
        if apdu[0] != _ACK or apdu[2] != SERVICE:
            raise UnexpectedAnswerError("no acknowledgement")
        return self.decode(apdu[3:])

    def _decode(self, answer: bytes) -> list[tuple[ObjectId, str, Value]]:
        found: list[tuple[ObjectId, str, Value]] = []
        at = 0
        for head, object_id, properties in _parts(self.wanted):
            at = _expect(answer, at, head)
            for tag, name, read in properties:
                at = _expect(answer, at, tag)
                value: Value
                if answer[at] == _OPEN_VALUE:
                    value, at = read(answer, at + 1)
                    at = _expect(answer, at, _CLOSE_VALUE)
                else:
                    value, at = _error(answer, at)
                found.append((object_id, name, value))
            at = _expect(answer, at, _CLOSE_LIST)
        if at != len(answer):
            raise UnexpectedAnswerError("more than was asked")
        return found


class _Usual:
    """The answer as it nearly always is: no errors, every value of its shortest encoding.

    Then all octets but the values' are known beforehand, and compared at once; the values are taken out at once, too.
    """

    __slots__ = ("_expected", "_known", "_values", "_wanted")

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        octets, known, layout = bytearray(), bytearray(), ">"
        for head, _, properties in _parts(wanted):
            octets += head
            layout += f"{len(head)}x"
            for tag, _, read in properties:
                before, code, size = _SHORTEST[read]
                start = tag + bytes([_OPEN_VALUE]) + before
                known += b"\xff" * (len(octets) + len(start) - len(known)) + bytes(size)
                octets += start + bytes(size) + _CLOSE_VALUE
                layout += f"{len(start)}x{code}x"
            octets += _CLOSE_LIST
            layout += "x"
        known += b"\xff" * (len(octets) - len(known))
        self._expected = int.from_bytes(octets, "big")
        self._known = int.from_bytes(known, "big")
        self._values = struct.Struct(layout)

    def decode(self, answer: bytes) -> "list[tuple[ObjectId, str, Value]] | None":
        """As `Question.decode`; None where this answer is laid out in another way."""
        if len(answer) != self._values.size or int.from_bytes(answer, "big") & self._known != self._expected:
            return None
        values = iter(self._values.unpack(answer))
        return [
            (object_id, name, _FLAGS[next(values) >> 4] if name == _STATUS_FLAGS else next(values))
            for object_id, names in self._wanted
            for name in names
        ]


@lru_cache(maxsize=4096)
def question(wanted: Wanted) -> Question:
    """Prepare a request; a poll asks the same again and again."""
    request, known = bytearray(), True
    for object_id, names in wanted:
        references, properties = _properties(object_id[0], names)
        request += _OBJECT + _packed(object_id) + _OPEN_LIST + references + _CLOSE_LIST
        known = known and all(read in _SHORTEST for _, _, read in properties)
    return Question(wanted, bytes(request), _Usual(wanted) if known else None)


def _parts(wanted: Wanted) -> Iterator[tuple[bytes, ObjectId, _Properties]]:
    """What an answer consists of: the beginning of each object's part, the object, and its properties."""
    for object_id, names in wanted:
        yield _OBJECT + _packed(object_id) + _OPEN_LIST, object_id, _properties(object_id[0], names)[1]


@lru_cache(maxsize=256)
def _properties(object_type: str, names: tuple[str, ...]) -> tuple[bytes, _Properties]:
    """How the properties are asked for, and for each what its part of the answer begins with, name, and reader."""
    numbers = [(int(PropertyIdentifier(name)), name) for name in names]
    readers = tuple((_context(2, number), name, _reader(object_type, name)) for number, name in numbers)
    return b"".join(_context(0, number) for number, _ in numbers), readers


def _packed(object_id: ObjectId) -> bytes:
    """An object identifier's four octets: type in 10 bits, instance in 22 (clause 20.2.14)."""
    object_type, instance = tuple[int, int](ObjectIdentifier(object_id))
    return (int(object_type) << 22 | int(instance)).to_bytes(4, "big")


def _context(tag: int, number: int) -> bytes:
    """A context-tagged unsigned number (clause 20.2.4)."""
    size = max(1, (number.bit_length() + 7) // 8)
    return bytes([tag << 4 | 8 | size]) + number.to_bytes(size, "big")


def _expect(answer: bytes, at: int, what: bytes) -> int:
    end = at + len(what)
    if answer[at:end] != what:
        raise UnexpectedAnswerError(f"not as asked, at octet {at}")
    return end


def _reader(object_type: str, name: str) -> _Reader:
    """How the value of a property is encoded by the standard; what we do not poll is left to the library."""
    if name == _STATUS_FLAGS:
        return _flags
    if name != "present-value":
        return _unknown
    return {"analog": _real, "binary": _enumerated, "multi-state": _unsigned}.get(
        object_type.rpartition("-")[0], _unknown
    )


def _real(answer: bytes, at: int) -> tuple[Value, int]:
    if answer[at] != 0x44:
        raise UnexpectedAnswerError(f"no Real, at octet {at}")
    return struct.unpack_from(">f", answer, at + 1)[0], at + 5


def _unsigned(answer: bytes, at: int) -> tuple[Value, int]:
    return _whole(answer, at, 0x20)


def _enumerated(answer: bytes, at: int) -> tuple[Value, int]:
    return _whole(answer, at, _ENUMERATED << 4)


def _whole(answer: bytes, at: int, tag: int) -> tuple[int, int]:
    """An unsigned number of one to four octets under an application tag."""
    size = answer[at] - tag
    if not 1 <= size <= 4:
        raise UnexpectedAnswerError(f"a value of another type, at octet {at}")
    end = at + 1 + size
    if end > len(answer):
        raise UnexpectedAnswerError("the answer ends too soon")
    return int.from_bytes(answer[at + 1 : end], "big"), end


def _flags(answer: bytes, at: int) -> tuple[Value, int]:
    """Status_Flags: a bit string of four bits (two octets: 4 unused bits, the bits)."""
    if answer[at] != 0x82 or answer[at + 1] != 4:
        raise UnexpectedAnswerError(f"no status flags, at octet {at}")
    return _FLAGS[answer[at + 2] >> 4], at + 3


def _unknown(_answer: bytes, _at: int) -> tuple[Value, int]:
    raise UnexpectedAnswerError("a property that the fast decoder does not know")


def _error(answer: bytes, at: int) -> tuple[AccessError, int]:
    at = _expect(answer, at, _OPEN_ERROR)
    error_class, at = _whole(answer, at, _ENUMERATED << 4)
    error_code, at = _whole(answer, at, _ENUMERATED << 4)
    return _named(error_class, error_code), _expect(answer, at, _CLOSE_ERROR)


@lru_cache(maxsize=256)
def _named(error_class: int, error_code: int) -> AccessError:
    return AccessError(str(ErrorClass(error_class)), str(ErrorCode(error_code)))


_FLAGS = tuple(tuple(bool(bits & mask) for mask in (8, 4, 2, 1)) for bits in range(16))
# What stands before a value, how `struct` takes it out, and its octets, where it is encoded as shortly as it can be.
_SHORTEST: dict[_Reader, tuple[bytes, str, int]] = {
    _real: (b"\x44", "f", 4),
    _enumerated: (b"\x91", "B", 1),
    _unsigned: (b"\x21", "B", 1),
    _flags: (b"\x82\x04", "B", 1),
}
