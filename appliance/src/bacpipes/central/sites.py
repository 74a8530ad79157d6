"""``GET /api/sites`` and ``/metrics``: how every site does, seen from central."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from prometheus_client import Counter, Gauge
from starlette.responses import JSONResponse, Response

from bacpipes.central.store import CentralStore
from bacpipes.exporter.auth import Identity, local_or_viewer, require
from bacpipes.exporter.metrics import MEDIA_TYPE, Metrics
from bacpipes.exporter.parameters import take
from bacpipes.exporter.problem import DATABASE_ERRORS
from bacpipes.exporter.store import Store
from bacpipes.reading import iso_milliseconds
from bacpipes.tokens import Role

router = APIRouter()
SECONDS = {
    "lastReading": "bacpipes_central_last_reading_timestamp_seconds",
    "liveSeenAt": "bacpipes_central_live_seen_timestamp_seconds",
    "completeSeenAt": "bacpipes_central_complete_seen_timestamp_seconds",
    "auditSeenAt": "bacpipes_central_audit_seen_timestamp_seconds",
    "comparedAt": "bacpipes_central_compared_timestamp_seconds",
}
NUMBERS = {
    "liveLagSeconds": "bacpipes_central_live_lag_seconds",
    "completeLagSeconds": "bacpipes_central_complete_lag_seconds",
    "points": "bacpipes_central_points",
    "gaps": "bacpipes_central_gaps",
    "subscriptionEnabled": "bacpipes_central_subscription_enabled",
    "subscriptionWorking": "bacpipes_central_subscription_working",
    "subscriptionErrors": "bacpipes_central_subscription_errors",
    "pendingCommands": "bacpipes_central_commands_pending",
    "comparedDifferingHours": "bacpipes_central_differing_hours",
    "auditContradictions": "bacpipes_central_audit_contradictions",
    "comparedMissingHours": "bacpipes_central_missing_hours",
}


class CentralMetrics(Metrics):
    """The service's counters, and one gauge a site for each thing that ``/api/sites`` tells."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        registry = self.registry
        registry.unregister(self.worker_up)
        registry.unregister(self.dropped)
        self.commands = Counter("bacpipes_central_commands", "Commands at broker B", ["outcome"], registry=registry)
        self.broker = Gauge("bacpipes_central_broker_connected", "1 while connected to broker B", registry=registry)
        self._sites = {
            key: Gauge(name, f"{key} of GET /api/sites", ["site"], registry=registry)
            for key, name in (SECONDS | NUMBERS).items()
        }
        self._quarantined = Gauge(
            "bacpipes_central_quarantined",
            "What came and could not become a reading",
            ["site", "rule"],
            registry=registry,
        )

    def note(self, sites: list[dict[str, Any]], quarantine: list[dict[str, Any]]) -> None:
        """Take over what the database says; sites that are gone go."""
        for key, gauge in self._sites.items():
            gauge.clear()
            for site in sites:
                if (value := site[key]) is not None:
                    gauge.labels(site["siteId"]).set(value.timestamp() if isinstance(value, datetime) else value)
        self._quarantined.clear()
        for row in quarantine:
            self._quarantined.labels(row["site_id"], row["rule"]).set(row["count"])


@router.get("/api/sites")
async def sites(request: Request, _: Annotated[Identity, Depends(require(Role.VIEWER))]) -> Response:
    """Every site: its last reading, each lane's lag, gaps, quarantine, commands, the last comparison."""
    take(request.query_params.multi_items(), ())
    store: CentralStore = request.app.state.store
    rows = await store.rows("central_sites", {})
    return JSONResponse([{name: _plain(value) for name, value in row.items()} for row in rows])


@router.get("/metrics")
async def metrics(request: Request, _: Annotated[Identity, Depends(local_or_viewer)]) -> Response:
    """Prometheus' text format. Without the database the last known numbers of the sites are left out."""
    take(request.query_params.multi_items(), ())
    state = request.app.state
    try:
        rows = await state.store.rows("central_sites", {}), await state.store.rows("central_quarantine", {})
    except DATABASE_ERRORS:
        rows = [], []
    state.metrics.note(*rows)
    state.metrics.broker.set(state.dispatcher is not None and state.dispatcher.client.connected)
    return Response(state.metrics.text(), media_type=MEDIA_TYPE)


def _plain(value: Any) -> Any:
    return iso_milliseconds(value) if isinstance(value, datetime) else value
