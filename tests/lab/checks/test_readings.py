"""Readings arrive: what the site is for."""

import re
from collections.abc import Callable
from datetime import UTC
from typing import Any

from verification.fleet import Point
from verification.listener import Heard
from verification.observed import Observed, some
from verification.outcome import fail, wait_for
from verification.report import DeviceRow

Observe = Callable[[str], None]
Key = tuple[Any, Any, Any]  # device, object type, object instance

KEYS = [
    "value", "timestamp", "units", "quality", "dis", "haystackName", "deviceIp", "deviceId", "objectType",
    "objectInstance",
]  # fmt: skip
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
COMPARED = 200


def test_services_run(observed: Observed, observe: Observe) -> None:
    problem = observed.services_down = observed.wait_for_services()
    containers = observed.containers()
    _note_versions(observed, containers)
    if problem:
        remedy = f"in {observed.site.directory}: `docker compose ps -a`, `docker compose logs SERVICE`"
        fail(f"{', '.join(observed.site.services)} run and are healthy", problem, remedy)
    observe(", ".join(f"{each['service']} {each['status']}" for each in containers))


def test_readings_in_database(observed: Observed, observe: Observe) -> None:
    devices = observed.devices
    if not devices:
        fail("at least one device", "the site has no point", "import the points file: `bacpipes points import`")
    missing_points = _not_in_database(observed)
    if missing_points:
        seen = f"{len(missing_points)} points of the file are not polled: {some(missing_points)}"
        fail(
            "every point of the points file is in the database",
            seen,
            "run onboard.yml --tags appliance_points for this site",
        )
    found, missing = observed.wait_for_readings(observed.patience_left)
    late = _late(observed)
    _note_devices(observed, found)
    if missing or late:
        why = [f"{device} ({_why(observed, device)})" for device in [*missing, *late]]
        remedy = "`bacpipes doctor` on the machine; ping the device from the BACnet interface; is its address right?"
        fail(f"a fresh usable reading of all {len(devices)} devices", f"none of {some(why)}", remedy)
    good = sum(row["good"] for row in found.values())
    slow = len(devices) - len(observed.quick)
    told = f"{len(devices)} of {len(devices)} devices; {good} of {len(observed.points)} points read since the start"
    observe(told + (f"; {slow} devices are read seldom, their last reading is in time" if slow else ""))


def test_readings_on_broker(observed: Observed, observe: Observe) -> None:
    _require_listener(observed)
    by_key = {(point.device_id, point.object_type, point.object_instance): point for point in observed.points}
    quick = observed.quick

    def devices_heard() -> bool:
        return len(_usable(observed, by_key)) >= len(quick)

    wait_for(devices_heard, observed.patience_left)
    problems = [text for message in observed.listener.heard for text in _faults(message, by_key)]
    if problems:
        fail(
            "topics and payloads as specified",
            some(problems, 3),
            "compare with docs/mqtt.md; is the appliance's version right?",
        )
    heard = _usable(observed, by_key)
    if silent := sorted(quick.keys() - heard):
        seen = f"nothing of {some(silent)}; heard {observed.listener.count} messages in all"
        fail(
            f"a reading of all {len(quick)} devices on the broker",
            seen,
            "`bacpipes mqtt test` on the machine; docs/mqtt.md",
        )
    sample = observed.listener.heard[0]
    observe(f"{len(heard)} devices, {len(observed.listener.heard)} topics, for example {sample.topic}")


def test_readings_agree(observed: Observed, observe: Observe) -> None:
    _require_listener(observed)

    def usable() -> list[dict[str, Any]]:
        fields = [message.fields for message in observed.listener.heard if message.topic.endswith("/presentValue")]
        return [each for each in fields if each and each.get("quality") in ("good", "uncertain")][:COMPARED]

    messages = wait_for(usable, observed.patience_left)
    if not messages:
        fail("readings on the broker", "none", "see the check before")
    lost = wait_for(lambda: not _differing(observed, messages), 15, every=1.0)
    if not lost:
        different = _differing(observed, messages)
        fail("the same time and value on both", some(different, 3), "look for errors in `docker compose logs worker`")
    observe(f"{len(messages)} readings compared: same time, same value")


def _differing(observed: Observed, messages: list[dict[str, Any]]) -> list[str]:
    times = [message["timestamp"] for message in messages]
    rows = observed.sql(
        "SELECT device_id, object_type, object_instance, time, value FROM sensor_readings "
        "WHERE time = ANY(%s::timestamptz[]) AND site_id = %s",
        [times, observed.site.site],
    )
    stored = {
        (row["device_id"], row["object_type"], row["object_instance"], _stamp(row["time"])): row["value"]
        for row in rows
    }
    found = []
    for each in messages:
        key = (each["deviceId"], each["objectType"], each["objectInstance"], each["timestamp"])
        if key not in stored:
            found.append(f"{key} is not in the database")
        elif stored[key] != each["value"]:
            found.append(f"{key}: {each['value']} on the broker, {stored[key]} in the database")
    return found


def _stamp(moment: Any) -> str:
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%dT%H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def _require_listener(observed: Observed) -> None:
    if observed.listener.problem:
        seen = f"{observed.listener.problem}"
        remedy = f"is {observed.site.broker_user} among the broker's users, with read access to {observed.site.site}/#?"
        fail("the broker lets us listen", seen, remedy)


def _usable(observed: Observed, by_key: dict[Key, Point]) -> set[int]:
    """Devices of which something usable was heard."""
    found = set()
    for message in observed.listener.heard:
        if message.fields and message.fields.get("quality") in ("good", "uncertain"):
            point = by_key.get(_key(message.fields))
            found |= {point.device_id} if point and message.topic in point.topics else set()
    return found


def _faults(message: Heard, by_key: dict[Key, Point]) -> list[str]:
    """What is not as the contract says."""
    if not message.topic.endswith("/presentValue"):
        return []
    fields = message.fields
    if fields is None:
        return [f"{message.topic}: the payload is no JSON object"]
    found = []
    if [key for key in fields if key != "reason"] != KEYS:
        found.append(f"{message.topic}: keys {', '.join(fields)}")
    if not TIMESTAMP.fullmatch(str(fields.get("timestamp"))):
        found.append(f"{message.topic}: timestamp {fields.get('timestamp')!r}")
    if fields.get("quality") not in ("good", "uncertain", "bad"):
        found.append(f"{message.topic}: quality {fields.get('quality')!r}")
    if fields.get("quality") == "bad" and (fields.get("value") is not None or not fields.get("reason")):
        found.append(f"{message.topic}: a bad reading without a reason, or with a value")
    point = by_key.get(_key(fields))
    if point is None:
        found.append(f"{message.topic}: {_key(fields)} is no point of the site")
    elif message.topic not in point.topics:
        found.append(f"{message.topic}: the topic should be {' or '.join(point.topics)}")
    return found


def _key(fields: dict[str, Any]) -> Key:
    return fields.get("deviceId"), fields.get("objectType"), fields.get("objectInstance")


def _not_in_database(observed: Observed) -> list[str]:
    rows = observed.admin(
        "SELECT d.device_id, p.object_type || ':' || p.object_instance AS object "
        "FROM point p JOIN device d ON d.id = p.device WHERE p.enabled"
    )
    there = {(row["device_id"], row["object"]) for row in rows}
    return [
        f"{point.device_id} {point.object}" for point in observed.points if (point.device_id, point.object) not in there
    ]


def _late(observed: Observed) -> list[int]:
    """Devices that are read too seldom to wait for, and whose last reading is older than two intervals."""
    late = []
    for device, points in observed.devices.items():
        if device in observed.quick:
            continue
        interval = min(point.interval for point in points)
        rows = observed.sql(
            "SELECT 1 FROM sensor_readings WHERE device_id = %s AND quality <> 'bad' "
            "AND time > now() - %s * interval '1 s' LIMIT 1",
            [device, 2 * interval],
        )
        late += [] if rows else [device]
    return late


def _why(observed: Observed, device: int) -> str:
    reasons = {
        message.fields.get("reason")
        for message in observed.listener.heard
        if message.fields and message.fields.get("deviceId") == device and message.fields.get("reason")
    }
    return "; ".join(sorted(str(reason) for reason in reasons)) or "no reading at all"


def _note_devices(observed: Observed, found: dict[int, dict[str, Any]]) -> None:
    """The record's table of devices."""
    rows = observed.sql(
        "SELECT DISTINCT ON (device_id) device_id, device_name, device_ip, "
        "coalesce(nullif(dis, ''), point_name) AS dis, "
        "value, units, quality, time FROM sensor_readings WHERE time > now() - interval '1 day' AND site_id = %s "
        "ORDER BY device_id, (quality = 'bad'), time DESC",
        [observed.site.site],
    )
    last = {row["device_id"]: row for row in rows}
    observed.record.devices = []
    for device, points in sorted(observed.devices.items()):
        row = last.get(device)
        value = "" if row is None or row["value"] is None else f"{row['value']:.6g}"
        observed.record.devices.append(
            DeviceRow(
                device_id=device,
                name=row["device_name"] if row else "",
                address=row["device_ip"] if row else "",
                points=len(points),
                fresh=found.get(device, {}).get("good", 0),
                last_time=_stamp(row["time"]) if row else "never",
                last_reading=f"{row['dis']}: {value} {row['units']} ({row['quality']})" if row else "none",
            )
        )


def _note_versions(observed: Observed, containers: list[dict[str, Any]]) -> None:
    """The record's list of what runs."""
    facts = observed.record.facts
    run = observed.machine.run
    facts["Operating system"] = run("sh", "-c", ". /etc/os-release; echo $PRETTY_NAME, kernel $(uname -r)").strip()
    facts["Docker"] = run("docker", "version", "-f", "{{.Server.Version}}", check=False).strip()
    facts["Docker Compose"] = run("docker", "compose", "version", "--short", check=False).strip()
    by_service = {each["service"]: each for each in containers}
    if by_service.get("database", {}).get("status") == "running":
        versions = observed.psql(
            "SELECT current_setting('server_version') || coalesce(', TimescaleDB ' || "
            "(SELECT extversion || ' (' || current_setting('timescaledb.license') || ')' FROM pg_extension "
            "WHERE extname = 'timescaledb'), ', without TimescaleDB')"
        )
        facts["PostgreSQL"] = versions.strip()
    facts["Broker"] = observed.site.broker_engine
    for service, each in sorted(by_service.items()):
        facts[f"Image of {service}"] = f"{each['image']} ({each['image_id'].removeprefix('sha256:')[:12]})"
