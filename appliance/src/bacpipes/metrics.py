"""What the worker counts, in Prometheus' terms. Names begin with ``bacpipes_``; times are seconds."""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

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
        self.withheld = Counter(
            "bacpipes_mqtt_withheld",
            "Readings that their point's publish policy did not select",
            registry=self.registry,
        )
        self.publish_refused = Counter(
            "bacpipes_mqtt_refused", "Messages that the broker refused", registry=self.registry
        )
        self.mqtt_connected = Gauge(
            "bacpipes_mqtt_connected", "1 while connected to the broker", registry=self.registry
        )
        self.log_backlog = Gauge("bacpipes_log_backlog", "Batches that wait to be published", registry=self.registry)
        self.devices_silent = Gauge("bacpipes_devices_silent", "Devices that did not answer", registry=self.registry)
        self.device_silent = Gauge(
            "bacpipes_device_silent", "1 for each device that does not answer", ["device"], registry=self.registry
        )
        self.point_quarantined = Gauge(
            "bacpipes_point_quarantined", "1 for each point in quarantine", ["device", "object"], registry=self.registry
        )
        self.datagrams_ignored = Gauge(
            "bacpipes_bacnet_ignored",
            "Datagrams that are no BACnet/IP (damaged), or answer nothing that was asked (stray)",
            ["why"],
            registry=self.registry,
        )
        self.points = Gauge("bacpipes_points_enabled", "Points that are polled", registry=self.registry)
        self.commands = Counter("bacpipes_commands", "Write commands, by outcome", ["outcome"], registry=self.registry)
        self.held_slots = Gauge(
            "bacpipes_held_slots", "Slots of priority arrays that hold a value of ours", registry=self.registry
        )
        self.held_slot = Gauge(
            "bacpipes_held_slot",
            "What a slot of a priority array holds that we wrote",
            ["device", "object", "priority"],
            registry=self.registry,
        )
        self.releases_pending = Gauge("bacpipes_releases_pending", "Releases that are to come", registry=self.registry)
        self.values_remembered = Gauge(
            "bacpipes_values_remembered",
            "Objects without a priority array that we wrote: their old value comes back at the stop",
            registry=self.registry,
        )
        self.releases_overdue = Gauge(
            "bacpipes_releases_overdue",
            "Releases that a device has not done in time",
            registry=self.registry,
        )
        self.sources_lost = Gauge(
            "bacpipes_sources_lost", "Sources of commands whose heartbeat is missed", registry=self.registry
        )
        self.site_stopped = Gauge("bacpipes_site_stopped", "1 while the site is stopped", registry=self.registry)
        self.malformed = Counter(
            "bacpipes_commands_malformed", "Messages on the command topic that are no command", registry=self.registry
        )
        self.device_behind = Gauge(
            "bacpipes_device_behind",
            "1 for each device that is too slow for its points",
            ["device"],
            registry=self.registry,
        )
        self.reads_shed = Gauge(
            "bacpipes_reads_shed",
            "Scheduled reads left out for what goes first, since the device's polling began",
            ["device"],
            registry=self.registry,
        )
        self.clock_steps = Counter("bacpipes_clock_steps", "Times that the clock was set", registry=self.registry)
        self.packets_damaged = Gauge(
            "bacpipes_packets_damaged", "Packets since the start that could not be processed", registry=self.registry
        )
        self.answers_malformed = Gauge(
            "bacpipes_answers_malformed",
            "Answers since the start that can't be decoded, or are not for what was asked",
            registry=self.registry,
        )
        self.i_am = Counter("bacpipes_i_am", "I-Am heard, whoever sent them", registry=self.registry)
        self.devices_moved = Counter(
            "bacpipes_devices_moved", "Devices followed to another address", registry=self.registry
        )
        self.device_double = Gauge(
            "bacpipes_device_double",
            "1 for each address where another device has the number of one of ours",
            ["device", "address"],
            registry=self.registry,
        )
        self._cov(self.registry)
        self._ship(self.registry)

    def _cov(self, registry: CollectorRegistry) -> None:
        """Change of value."""
        self.point_cov = Gauge(
            "bacpipes_point_cov",
            "Points that ask for COV: 1 while the device tells them, 0 while they are polled instead",
            ["device", "object"],
            registry=registry,
        )
        self.cov_told = Counter("bacpipes_cov_notifications", "Notifications taken", registry=registry)
        self.cov_merged = Counter(
            "bacpipes_cov_merged", "Notifications that a later one replaced within 0.1 s", registry=registry
        )
        self.cov_failed = Counter("bacpipes_cov_failed", "Subscriptions that ceased to hold", registry=registry)
        self.cov_strays = Gauge(
            "bacpipes_cov_strays", "Notifications that nobody asked for, or that can't be read", registry=registry
        )

    def show_pace(self, devices: Iterable[tuple[int, bool, int]]) -> None:
        """Device number, is it too slow, and how many reads were left out for it."""
        self.device_behind.clear()
        self.reads_shed.clear()
        for number, behind, shed in devices:
            if behind:
                self.device_behind.labels(number).set(1)
            if shed:
                self.reads_shed.labels(number).set(shed)

    def show_cov(self, states: Iterable[tuple[int, Mapping[str, str | None]]], strays: int) -> None:
        """Name the points that ask for COV: device number, and of each object why it is polled, or None."""
        self.point_cov.clear()
        for number, objects in states:
            for name, reason in objects.items():
                self.point_cov.labels(number, name).set(reason is None)
        self.cov_strays.set(strays)

    def _ship(self, registry: CollectorRegistry) -> None:
        """The way to central."""
        self.shipped = Counter("bacpipes_ship_readings", "Readings committed at central", registry=registry)
        self.shipped_octets = Counter("bacpipes_ship_bytes", "Bytes of readings sent to central", registry=registry)
        self.ship_connected = Gauge("bacpipes_ship_connected", "1 while connected to central", registry=registry)
        self.ship_lag_batches = Gauge("bacpipes_ship_lag_batches", "Batches that wait for central", registry=registry)
        self.ship_lag_seconds = Gauge("bacpipes_ship_lag_seconds", "Age of the oldest of them", registry=registry)
        self._compared = {
            name: Gauge(f"bacpipes_reconcile_{name}", text, registry=registry)
            for name, text in (
                ("site_rows", "Readings at the site in the last comparison with central"),
                ("central_rows", "Readings at central then, before what was missing was sent"),
                ("missing_hours", "Hours that differed then"),
                ("sent_rows", "Readings sent to repair them"),
                ("differing_hours", "Hours that differ still"),
            )
        }
        self._compared_at = Gauge("bacpipes_reconcile_timestamp_seconds", "When that was", registry=registry)

    def note_comparison(self, figures: Mapping[str, Any], at: datetime) -> None:
        """What a comparison with central found (`central.reconcile.Report.figures`)."""
        for name, gauge in self._compared.items():
            gauge.set(figures[name])
        self._compared_at.set(at.timestamp())

    def count(self, batch: Batch) -> None:
        """Note a committed batch."""
        for quality, number in Tally(reading.quality for reading in batch.readings).items():
            self.readings.labels(Quality(quality).text).inc(number)
        self.gaps.inc(len(batch.gaps))
        if batch.readings and batch.duration > 0:
            self.poll_seconds.observe(batch.duration / 1000)

    def show_devices(self, devices: Iterable[tuple[int, bool, Iterable[str]]]) -> None:
        """Name what is wrong now: device number, is it silent, and its objects in quarantine."""
        silent = 0
        self.device_silent.clear()
        self.point_quarantined.clear()
        for number, is_silent, objects in devices:
            silent += is_silent
            if is_silent:
                self.device_silent.labels(number).set(1)
            for name in objects:
                self.point_quarantined.labels(number, name).set(1)
        self.devices_silent.set(silent)

    def show_held(self, slots: Sequence[tuple[int, str, int, float]]) -> None:
        """Name the slots that hold a value of ours: device number, object, priority, value."""
        self.held_slot.clear()
        for number, name, priority, value in slots:
            self.held_slot.labels(number, name, priority).set(value)
        self.held_slots.set(len(slots))

    def show_ignored(self, damaged: int, stray: int) -> None:
        """How many BACnet datagrams were of no use since the start."""
        self.datagrams_ignored.labels("damaged").set(damaged)
        self.datagrams_ignored.labels("stray").set(stray)

    def text(self) -> bytes:
        """All of it in the exposition format."""
        return generate_latest(self.registry)
