"""What the worker counts, in Prometheus' terms. Names begin with ``bacpipes_``; times are seconds."""

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from bacpipes.reading import Batch, Quality


class WorkerMetrics:
    """The worker's own registry; the exporter hands its text on."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="bacpipes_worker", registry=self.registry)
        self.readings = Counter("bacpipes_readings", "Readings committed", ["quality"], registry=self.registry)
        self.gaps = Counter("bacpipes_gaps", "Gaps recorded", registry=self.registry)
        self.poll_seconds = Histogram("bacpipes_poll_seconds", "Length of one device's poll", registry=self.registry)
        self.commit_seconds = Histogram("bacpipes_commit_seconds", "Length of one commit", registry=self.registry)
        self.spool_bytes = Gauge("bacpipes_spool_bytes", "Batches on disk, not yet committed", registry=self.registry)
        self.published = Counter(
            "bacpipes_mqtt_published", "Readings acknowledged by the broker", registry=self.registry
        )
        self.publish_refused = Counter(
            "bacpipes_mqtt_refused", "Messages that the broker refused", registry=self.registry
        )
        self.mqtt_connected = Gauge(
            "bacpipes_mqtt_connected", "1 while connected to the broker", registry=self.registry
        )
        self.log_backlog = Gauge("bacpipes_log_backlog", "Batches that wait to be published", registry=self.registry)
        self.devices_silent = Gauge("bacpipes_devices_silent", "Devices that did not answer", registry=self.registry)
        self.points = Gauge("bacpipes_points_enabled", "Points that are polled", registry=self.registry)
        self.commands = Counter("bacpipes_commands", "Write commands, by outcome", ["outcome"], registry=self.registry)
        self.malformed = Counter(
            "bacpipes_commands_malformed", "Messages on the command topic that are no command", registry=self.registry
        )

    def count(self, batch: Batch) -> None:
        """Note a committed batch."""
        for quality, number in Tally(reading.quality for reading in batch.readings).items():
            self.readings.labels(Quality(quality).text).inc(number)
        self.gaps.inc(len(batch.gaps))
        if batch.readings:
            self.poll_seconds.observe(batch.duration / 1000)

    def text(self) -> bytes:
        """All of it in the exposition format."""
        return generate_latest(self.registry)
