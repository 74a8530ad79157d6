"""The preflight of all sites as a filter. What it does is in module_utils/site_inventory."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A filter plugin is one file, and Ansible lets only modules import a role's module_utils. (In the package bacpipes a
# changed sentence would be a new image for every site.)
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "module_utils"))

from site_inventory import check_centrals, check_sites
from site_inventory.report import gathered
from site_inventory.selection import check_selection


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "site_preflight": check_sites,
            "site_central_preflight": check_centrals,
            "site_gathered": gathered,
            "site_selection_problems": check_selection,
        }
