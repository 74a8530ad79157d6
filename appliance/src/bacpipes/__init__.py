"""BacPipes: the appliance that polls a building's BACnet devices and takes validated setpoint writes."""

from importlib.metadata import version

__version__ = version("bacpipes")
