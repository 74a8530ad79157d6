"""``GET /metrics``: the exporter's own numbers, followed by the worker's."""

from collections.abc import Iterable
from math import nan
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from bacpipes.exporter.auth import Identity, local_or_viewer
from bacpipes.exporter.parameters import take
from bacpipes.exporter.store import Store

router = APIRouter()
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The exporter's counters, in a registry of their own."""

    def __init__(self, store: Store) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "bacpipes_exporter_requests", "Answered requests.", ["method", "route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "bacpipes_exporter_request_seconds", "Time until a request was answered.", ["route"], registry=self.registry
        )
        self.export_rows = Counter("bacpipes_exporter_export_rows", "Readings sent in exports.", registry=self.registry)
        self.export_bytes = Counter("bacpipes_exporter_export_bytes", "Bytes sent in exports.", registry=self.registry)
        self.exports_running = Gauge(
            "bacpipes_exporter_exports_running", "Exports that run now.", registry=self.registry
        )
        self.dropped = Gauge(
            "bacpipes_broker_dropped_messages",
            "Messages that found a full queue since the broker's start, as Mosquitto tells; NaN where it does not.",
            registry=self.registry,
        )
        self.worker_up = Gauge("bacpipes_worker_up", "1 where the worker answers.", registry=self.registry)
        self.registry.register(_Pool(store))

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


class _Pool(Collector):
    """The connection pool's own numbers, read when they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        stats = self._store.pool.get_stats()
        family = GaugeMetricFamily(
            "bacpipes_exporter_db_connections", "Connections in the database pool.", labels=["state"]
        )
        size, free = stats.get("pool_size", 0), stats.get("pool_available", 0)
        family.add_metric(["idle"], free)
        family.add_metric(["busy"], max(0, size - free))
        yield family
        waiting = stats.get("requests_waiting", 0)
        yield GaugeMetricFamily("bacpipes_exporter_db_waiting", "Requests that wait for a connection.", value=waiting)


@router.get("/metrics")
async def metrics(request: Request, _: Annotated[Identity, Depends(local_or_viewer)]) -> Response:
    """Prometheus' text format: the exporter's, then the worker's."""
    take(request.query_params.multi_items(), ())
    state = request.app.state
    state.metrics.exports_running.set(state.exports.running)
    theirs = await state.worker.metrics()
    state.metrics.worker_up.set(theirs is not None)
    dropped = state.live.dropped
    state.metrics.dropped.set(nan if dropped is None else dropped)
    return Response(state.metrics.text() + (theirs or b""), media_type=MEDIA_TYPE)
