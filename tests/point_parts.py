"""A point as the tests of pure code need it."""

from typing import Any

from bacpipes.points import Device, Point

NAME = "duxton.ahu.1.sp.humidity.air.return.effective"
DEVICE = Device(1, 12345, "AHU-1", "10.0.0.1:47808", "10.0.0.1", None, True)


def point(object_type: str = "analog-value", **changes: Any) -> Point:
    values: dict[str, Any] = {
        "id": 7,
        "device": DEVICE,
        "object_type": object_type,
        "object_instance": 120,
        "name": "",
        "dis": "",
        "units": "%",
        "site": "duxton",
        "equip": "ahu",
        "equip_ref": "1",
        "haystack_name": NAME,
        "topic": "t",
        "interval": 60,
        "enabled": True,
        "writable": True,
        "minimum": 0.0,
        "maximum": 100.0,
        "states": None,
    }
    return Point(**(values | changes))
