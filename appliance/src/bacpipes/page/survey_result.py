"""What a discovery has found so far, compared with the database."""

from dataclasses import dataclass, field, replace
from typing import Any

from bacpipes.points.rows import LATER, TAGS, PointRow

NEW, CHANGED, KNOWN, GONE = "new", "changed", "known", "gone"
COMPARED = ("name", "units", "address")


@dataclass(slots=True)
class Survey:
    """Devices, objects and problems; ``known`` are the table's rows of the database by device and object."""

    known: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    addresses: dict[int, str] = field(default_factory=dict)
    devices: dict[int, dict[str, Any]] = field(default_factory=dict)
    found: dict[tuple[int, str], PointRow] = field(default_factory=dict)
    status: dict[tuple[int, str], str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    seen: int = 0

    def take(self, event: dict[str, Any]) -> None:
        """One event of the worker's."""
        self.seen += 1
        match event["kind"]:
            case "found":
                self.devices.setdefault(event["device"], {"address": event["address"], "points": None, "name": ""})
            case "device":
                self.devices[event["device"]] = event
            case "object":
                row = PointRow(**(event["row"] | {"tags": tuple(event["row"]["tags"])}))
                key = (row.device_id, f"{row.object_type}:{row.object_instance}")
                self.found[key] = row
                self.status[key] = ", ".join(event["status"])
            case "problem":
                where = f"device {event['device']}: " if event["device"] is not None else ""
                self.problems.append(where + event["text"])

    def expected(self) -> int:
        """How many objects the devices that were read have."""
        return sum(device["points"] or 0 for device in self.devices.values())

    def rows(self, *, ended: bool) -> list[dict[str, Any]]:
        """A row for the table for each object; what is gone can only be told at the end, and only of devices that
        answered."""
        rows = [self._row(key, row) for key, row in sorted(self.found.items())]
        if ended:
            rows += [
                {"id": _id(key), "state": GONE, "device": key[0], "object": key[1], "name": old["name"]}
                | {"dis": old["dis"], "units": old["units"], "device_name": old["device_name"], "what": ""}
                for key, old in sorted(self.known.items())
                if key not in self.found and self.devices.get(key[0], {}).get("points") is not None
            ]
        return rows

    def merged(self, key: tuple[int, str]) -> PointRow:
        """What to import: of a point that is known only what the device says of itself; what a person chose stays."""
        row, old = self.found[key], self.known.get(key)
        if old is None:
            return row
        kept = {name: old[name] for name in ("dis", "interval", "enabled", "writable", "states", *LATER)}
        tags = tuple(old[tag] for tag in TAGS)
        return replace(row, tags=tags, minimum=old["min"], maximum=old["max"], **kept)

    def _row(self, key: tuple[int, str], row: PointRow) -> dict[str, Any]:
        old = self.known.get(key)
        shown = {"id": _id(key), "device": key[0], "object": key[1], "name": row.name, "dis": row.dis}
        shown |= {"units": row.units, "device_name": row.device_name, "status": self.status[key]}
        if old is None:
            return shown | {"state": NEW, "what": ""}
        before = {"name": old["name"], "units": old["units"], "address": self.addresses.get(key[0], row.address)}
        what = [
            f"{name}: {before[name]} → {getattr(row, name)}" for name in COMPARED if before[name] != getattr(row, name)
        ]
        return shown | {"state": CHANGED if what else KNOWN, "what": "; ".join(what)}


def _id(key: tuple[int, str]) -> str:
    return f"{key[0]} {key[1]}"
