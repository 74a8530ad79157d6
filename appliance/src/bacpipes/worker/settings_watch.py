"""Whether the settings that a worker began with still are those in force."""

from bacpipes import stored_settings
from bacpipes.database import Connection
from bacpipes.log import get_logger
from bacpipes.settings import Settings

logger = get_logger(__name__)


class SettingsWatch:
    """``settings`` are the worker's, ``environment`` what the process was started with."""

    def __init__(self, settings: Settings, environment: Settings) -> None:
        self._settings, self._environment = settings, environment
        self.replaced_by: Settings | None = None

    @property
    def fixed(self) -> frozenset[str]:
        """The settings that this process's environment sets."""
        return stored_settings.fixed(self._environment)

    async def look(self, connection: Connection) -> bool:
        """Whether others are in force, by which this worker can't go; they are kept in ``replaced_by``."""
        wanted = await stored_settings.in_force(connection, self._environment)
        changed = [n for n in stored_settings.OF_THE_WORKER if getattr(wanted, n) != getattr(self._settings, n)]
        if changed:
            logger.info("settings were changed on the page; the worker begins anew", changed=changed)
            self.replaced_by = wanted
        return bool(changed)
