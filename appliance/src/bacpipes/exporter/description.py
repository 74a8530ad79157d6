"""Parts of the OpenAPI description that no signature tells: bodies that we read by hand, and refusals."""

from typing import Any

from bacpipes.objects import MAX_INSTANCE, OBJECT_TYPES
from bacpipes.writes.command import MAX_JOB_ID, MAX_TEXT, RELEASE_AFTER

_TEXT = {"type": "string", "maxLength": MAX_TEXT}
_TIME = {"type": "string", "format": "date-time", "description": "With an offset, or Z."}
_INSTANCE = {"type": "integer", "minimum": 0, "maximum": MAX_INSTANCE}
COMMAND: dict[str, Any] = {
    "type": "object",
    "required": ["deviceId", "objectType", "objectInstance"],
    "additionalProperties": False,
    "properties": {
        "jobId": {"type": "string", "minLength": 1, "maxLength": MAX_JOB_ID, "description": "Executed at most once."},
        "deviceId": _INSTANCE,
        "objectType": {"type": "string", "enum": sorted(OBJECT_TYPES)},
        "objectInstance": _INSTANCE,
        "value": {
            "oneOf": [{"type": "number"}, {"type": "boolean"}, {"type": "string", "enum": ["active", "inactive"]}]
        },
        "priority": {"type": "integer", "minimum": 1, "maximum": 16, "default": 8},
        "release": {"type": "boolean", "default": False, "description": "Give the priority back, without a value."},
        "timestamp": _TIME,
        "expiresAt": _TIME,
        "releaseAfter": {"type": "number", "minimum": RELEASE_AFTER[0], "maximum": RELEASE_AFTER[1]},
        "source": _TEXT,
        "reason": _TEXT,
        "siteId": _TEXT,
        "equipmentType": _TEXT,
        "equipmentId": _TEXT,
        "haystackName": _TEXT,
    },
}
STOP: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"reason": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}},
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "parameter": {"type": "string"},
        "expected": {"type": "string"},
        "remedy": {"type": "string"},
    },
}
REFUSALS = {
    "400": "The request is wrong: which parameter, and what is expected.",
    "401": "A token or a login is needed, or has ended.",
    "403": "The role does not allow it.",
    "503": "The database, or what else is needed, is away; Retry-After says when to try again.",
}


def body(schema: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    """For a route's ``openapi_extra``: a JSON body of this schema."""
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def add_refusals(description: dict[str, Any]) -> None:
    """Let every operation tell how it refuses."""
    for operations in description["paths"].values():
        for operation in operations.values():
            for status, text in REFUSALS.items():
                answer = {"description": text, "content": {"application/json": {"schema": _ERROR}}}
                operation["responses"].setdefault(status, answer)
