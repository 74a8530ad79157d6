"""Names: the haystack name of a point and the MQTT topic that follows from it (docs/points.md, docs/mqtt.md)."""

import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, fields

from bacpipes.settings import RESERVED_SITE_IDS, SITE_ID

# A dot would split the name, a slash the topic; + and # are MQTT's wildcards (MQTT 5.0, 4.7.1).
_FORBIDDEN = re.compile(r"[.+#/\x00-\x1f\x7f-\x9f]")
_UNSEEN = ("Cf", "Cs", "Cn")  # zero-width and the like: two names must not look the same and differ
_MAX_SEGMENT = 63
SETPOINT = "sp"


class BadNameError(ValueError):
    """A segment that can't stand in a haystack name or a topic; the text says which and why."""


@dataclass(frozen=True, slots=True)
class HaystackName:
    """``{site}.{equip}.{equipRef}.{function}.{quantity}.{substance}.{location}.{qualifier}``.

    ``function`` is "position 4"; ``sp`` there marks a setpoint.
    """

    site: str
    equip: str
    equip_ref: str
    function: str
    quantity: str
    substance: str
    location: str
    qualifier: str

    def __str__(self) -> str:
        return ".".join(getattr(self, f.name) for f in fields(self))


FIELDS = tuple(f.name for f in fields(HaystackName))


def normalise(field: str, text: str) -> str:
    """Lower case, spaces become underscores, accents composed; refuse what can't stand in a topic, naming the field."""
    if match := _FORBIDDEN.search(text):
        raise BadNameError(f"{field}: {match.group()!r} is not allowed in {text!r}")
    segment = re.sub(r"\s+", "_", unicodedata.normalize("NFC", text.strip().lower()))
    if unseen := [c for c in segment if unicodedata.category(c) in _UNSEEN]:
        raise BadNameError(f"{field}: the invisible character U+{ord(unseen[0]):04X} is not allowed in {text!r}")
    if not segment:
        raise BadNameError(f"{field}: is empty")
    if len(segment) > _MAX_SEGMENT:
        raise BadNameError(f"{field}: {len(segment)} characters, at most {_MAX_SEGMENT}")
    if field == "site" and (not SITE_ID.fullmatch(segment) or segment in RESERVED_SITE_IDS):
        raise BadNameError(f"site: {text!r} is not a site id (a-z, 0-9, _ and -; 'bacnet' is reserved)")
    return segment


def split_haystack_name(name: str) -> HaystackName:
    """Parse a full name; raise `BadNameError` where it does not have eight good segments."""
    segments = name.split(".")
    if len(segments) != len(FIELDS):
        expected = f"{len(FIELDS)} expected ({'.'.join(FIELDS)})"
        raise BadNameError(f"haystack name {name!r}: {len(segments)} segments, {expected}")
    return HaystackName(*(normalise(f, s) for f, s in zip(FIELDS, segments, strict=True)))


def function_of(haystack_name: str) -> str:
    """Position 4 of a haystack name, or ``missing``."""
    segments = haystack_name.split(".")
    return segments[3] if len(segments) > 3 else "missing"


def short_topic(site: str, equip: str, equip_ref: str, object_type: str, instance: int) -> str:
    """``{site}/{equipmentType}_{equipmentId}/{objectType without hyphens}{instance}/presentValue``."""
    return f"{site}/{equip}_{equip_ref}/{object_type.replace('-', '')}{instance}/presentValue"


def long_topic(site: str, equip: str, equip_ref: str, device_id: int, object_type: str, instance: int) -> str:
    """The same with the device's number, for the later of two points that would otherwise share a topic."""
    return f"{site}/{equip}_{equip_ref}/{device_id}/{object_type.replace('-', '')}{instance}/presentValue"


def choose_topic(
    site: str, equip: str, equip_ref: str, device_id: int, object_type: str, instance: int, taken: Container[str]
) -> str:
    """The short topic, or the longer one where another point already has the short one."""
    short = short_topic(site, equip, equip_ref, object_type, instance)
    return long_topic(site, equip, equip_ref, device_id, object_type, instance) if short in taken else short
