"""Central's settings: those of a site that make sense there too, and a few of its own."""

from pydantic import Field, SecretStr

from bacpipes.settings import Settings, read_settings

UNLIMITED_DAYS = 1_500_000  # for functions that need a number: some 4,000 years, which PostgreSQL's times still hold


class CentralSettings(Settings):
    """What `bacpipes central …` reads at start. ``database_url`` is that of central's database."""

    site_id: str = Field("central", description="name of this central in logs and status topics")
    retention_days: int = Field(0, ge=0, description="days of readings kept at central; 0: all")
    site_database_url: SecretStr | None = Field(
        None, description="libpq connection string of the site that `central subscribe` and `central reconcile` dial"
    )
    live_skew: float = Field(300.0, ge=0, description="readings further ahead of central's clock are quarantined")
    refresh_every: float = Field(300.0, gt=0, description="seconds between refreshes of the aggregates, as tables")


def load_central_settings(**overrides: object) -> CentralSettings:
    """Read the settings, or raise `SettingsError` naming each variable that is missing or wrong."""
    return read_settings(CentralSettings, **overrides)
