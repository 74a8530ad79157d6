"""All pages; importing this registers them."""

from bacpipes.page import account, dashboard, discovery, first_steps, monitor, points, settings, users, writes

ALL = (dashboard, monitor, points, writes, discovery, settings, users, account, first_steps)


def register() -> None:
    """Let NiceGUI know every page."""
    for module in ALL:
        module.register()
