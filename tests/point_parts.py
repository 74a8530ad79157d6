"""A point as the tests of pure code need it."""

from pathlib import Path
from typing import Any

from bacpipes.metrics import WorkerMetrics
from bacpipes.points import Device, Point
from bacpipes.settings import Settings
from bacpipes.worker.cov import CovWatch

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


def no_cov(alive: Any, told: Any) -> CovWatch:
    """What a poller watches changes by, where no point asks for it."""
    settings = Settings(site_id="duxton", database_url="postgresql:///none", state_dir=Path("unused"))
    return CovWatch(None, DEVICE, settings, WorkerMetrics(), alive, told)  # type: ignore[arg-type]
