"""Settings that the page keeps in the database: they stand in for defaults, never for what the environment sets.

A process reads them after its start, and again when the table changes: the exporter takes them over as it runs, the
worker ends cleanly and begins anew (`worker.restart`).
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb
from pydantic import ValidationError

from bacpipes.database import Connection, query
from bacpipes.errors import InputError
from bacpipes.log import get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)

OF_THE_WORKER = (
    "bacnet_address",
    "bacnet_device_id",
    "bacnet_timeout",
    "bacnet_retries",
    "bacnet_device_concurrency",
    "bacnet_trunk_concurrency",
    "retention_days",
)
OF_THE_PAGE = ("time_zone", "session_hours")
EDITABLE = (*OF_THE_WORKER, *OF_THE_PAGE)

Values = Mapping[str, str]  # by the field of `Settings`; what is blank or absent has no row


class ConflictError(InputError):
    """Somebody else changed a setting meanwhile."""


class WrongValuesError(InputError):
    """``wrong`` says by field why its value can't be taken."""

    def __init__(self, wrong: dict[str, str]) -> None:
        texts = "; ".join(f"{name}: {text}" for name, text in wrong.items())
        super().__init__(f"{texts}. Nothing was saved.")
        self.wrong = wrong


def fixed(environment: Settings) -> frozenset[str]:
    """The fields that the environment sets, and nobody else can."""
    return frozenset(EDITABLE) & environment.model_fields_set


def overlay(environment: Settings, stored: Values) -> Settings:
    """The settings in force. A stored value that is none (any more) is passed over, and said in the log."""
    wanted = _wanted(environment, stored)
    try:
        return _with(environment, wanted)
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors(include_input=False) if problem["loc"]}
        logger.error("stored settings can't be used", settings=sorted(wrong), remedy="Correct them under Settings.")
        return _with(environment, {name: text for name, text in wanted.items() if name not in wrong})


async def load(connection: Connection) -> dict[str, str]:
    """What is stored."""
    return {name: value async for name, value in await connection.execute(query("setting_load"))}


async def in_force(connection: Connection, environment: Settings) -> Settings:
    """`overlay` with what is stored now."""
    return overlay(environment, await load(connection))


async def save(
    connection: Connection, environment: Settings, changes: Values, *, seen: Values, actor: str
) -> list[str]:
    """Store what was filled in, clear what was left blank; return the names of the fields that changed.

    All or nothing: `InputError` names each value that is wrong, `ConflictError` says that one of them is not stored as
    ``seen`` any more.
    """
    _refuse_others(environment, changes)
    async with connection.transaction():
        await connection.execute(query("setting_lock"))
        stored = await load(connection)
        if moved := sorted(name for name in changes if stored.get(name, "") != seen.get(name, "")):
            raise ConflictError(
                f"Somebody else changed {', '.join(moved)} meanwhile; nothing was saved.",
                "Load the page again: it then shows what they are now.",
            )
        wanted = {name: text.strip() for name, text in changes.items()}
        _check(environment, stored | wanted)
        changed = sorted(name for name, text in wanted.items() if text != stored.get(name, ""))
        for name in changed:
            statement = "setting_save" if wanted[name] else "setting_clear"
            await connection.execute(query(statement), {"name": name, "value": wanted[name]})
        if changed:
            detail = {name: [stored.get(name), wanted[name] or None] for name in changed}
            await connection.execute(query("exporter_audit"), [actor, "setting.change", "setting", Jsonb(detail)])
    return changed


def _refuse_others(environment: Settings, changes: Values) -> None:
    if not_ours := sorted(changes.keys() - set(EDITABLE)):
        raise InputError(f"{', '.join(not_ours)} can't be set here.")
    if owned := sorted(changes.keys() & fixed(environment)):
        raise InputError(f"The environment sets {', '.join(owned)}.", "Change it in the inventory.")


def _check(environment: Settings, stored: Values) -> None:
    wanted = _wanted(environment, stored)
    wrong: dict[str, str] = {}
    try:
        _with(environment, wanted)
    except ValidationError as error:
        problems = error.errors(include_input=False)
        wrong = {str(one["loc"][0]): one["msg"].removeprefix("Value error, ") for one in problems if one["loc"]}
    if "bacnet_address" in wanted and not _is_interface(wanted["bacnet_address"]):
        wrong["bacnet_address"] = f"{wanted['bacnet_address']!r} is not address/prefix:port, as 10.1.2.3/24:47808"
    if wrong:
        raise WrongValuesError(wrong)


def _is_interface(text: str) -> bool:
    """``address[/prefix][:port]``, as `bacnet.parse_interface` reads it."""
    address, colon, port = text.partition(":")
    try:
        ipaddress.IPv4Interface(address)
    except ValueError:
        return False
    return not colon or (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536)


def _wanted(environment: Settings, stored: Values) -> dict[str, str]:
    return {n: text for n, text in stored.items() if n in EDITABLE and n not in fixed(environment) and text != ""}


def _with(environment: Settings, values: Values) -> Settings:
    fields: dict[str, Any] = environment.model_dump()
    return type(environment)(**(fields | dict(values))) if values else environment
