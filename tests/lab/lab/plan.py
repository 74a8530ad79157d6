"""What stands in the lab, and where: the one declaration that everything else follows."""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
STATE = PROJECT / ".lab"  # keys, secrets, process ids, records of this lab; gone after `make lab-down`
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bacpipes" / "lab"  # stays

RELEASE = "trixie"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")  # in every image of the lab
MACHINE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "iproute2", "openssh-server", "sudo")  # beside them in a machine

LAN_BRIDGE = "bp-lan"  # the WAN of the sites, and the operator's way to them
LAN = "10.87.0.0/24"
LAN_ADDRESS = "10.87.0.1/24"  # of this host: gateway and controller
MACHINES = {"central": "10.87.0.10", "macau": "10.87.0.21", "klcc": "10.87.0.22"}
MOLECULE_BRIDGE = "bp-mol"  # a building network without a building, for role scenarios

KEY = STATE / "ssh" / "id_ed25519"
RUN = STATE / "run"


@dataclass(frozen=True)
class Building:
    """A simulated building on a bridge of its own; ``first`` is its first device's address."""

    site: str
    bridge: str
    network: str
    first: str
    devices: int = 10
    seed: int = 1

    @property
    def namespace(self) -> str:
        """The network namespace in which the devices live."""
        return f"bp-{self.site}"

    @property
    def points(self) -> Path:
        """The points file that onboarding imports."""
        return STATE / "points" / f"{self.site}.csv"


BUILDINGS = (
    Building("macau", "bp-macau", "10.87.21.0/24", "10.87.21.101", seed=1),
    Building("klcc", "bp-klcc", "10.87.22.0/24", "10.87.22.101", seed=2),
)
SITES = tuple(building.site for building in BUILDINGS)
