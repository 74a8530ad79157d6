"""The simulated building: BACnet/IP devices with plain physics, and faults on command (docs/simulator.md)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bacpipes.simulator.building import Building
    from bacpipes.simulator.device import Device, Write
    from bacpipes.simulator.faults import Fault

__all__ = ["Building", "Device", "Fault", "Write"]


def __getattr__(name: str) -> Any:
    """The names above, once somebody asks: they load bacpypes3, which the command line rarely needs."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bacpipes.simulator import building, device, faults

    return {
        "Building": building.Building,
        "Device": device.Device,
        "Fault": faults.Fault,
        "Write": device.Write,
    }[name]
