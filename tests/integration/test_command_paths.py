"""Commands from central to a device, with every part as it is deployed: by broker B and its bridge, and by the site's
own connection, whichever is up; and not at all once they have expired.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import live_parts
from fault_parts import SITE, System, running
from live_parts import Client, wait

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
COMMAND, RESULT = "bacnet/write/command", "bacnet/write/result"
HUMIDITY = {"deviceId": 12345, "objectType": "analog-value", "objectInstance": 120}
QUEUE = """
    INSERT INTO write_commands (job_id, site_id, point_id, value, expires_at)
    SELECT %s, site_id, id, %s, now() + %s * interval '1 second' FROM point
    WHERE device_id = 12345 AND object_type = 'analog-value' AND object_instance = 120 RETURNING 1
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A site and central, with its service."""
    folder = tmp_path_factory.mktemp("system")
    with (
        running(folder, "COMMANDS FROM CENTRAL TO A DEVICE ARE") as system,
        system.central_service() as url,
    ):
        wait(lambda: httpx.get(f"{url}/readyz").status_code == 200, "the dispatcher is connected")
        yield system


@pytest.fixture
def optimiser(system: System) -> Iterator[Client]:
    """Somebody on broker B who sends commands and hears results."""
    with system.optimiser() as client:
        client.subscribe(RESULT)
        yield client


def result(client: Client, job: str) -> dict[str, Any]:
    """Of a job, from the fixed topic."""
    found: list[dict[str, Any]] = []

    def there() -> bool:
        found[:] = [one for topic, one in ((t, json.loads(p)) for t, p in list(client.heard)) if one["jobId"] == job]
        return bool(found)

    wait(there, f"the result of {job}", 40)
    return found[0]


def read_back(system: System, value: float) -> None:
    """Wait until the setpoint reads so at the device."""
    newest = "SELECT l.value FROM last_value l JOIN point p ON p.id = l.point_id WHERE p.topic = %s"
    topic = f"{SITE}/ahu_1/analogvalue120/presentValue"
    wait(lambda: system.one(newest, topic)[0] == value, f"the setpoint is {value}")


def status(system: System, job: str) -> str:
    """What central says of it."""
    return str(system.one("SELECT status FROM write_command_status WHERE job_id = %s", job, central=True)[0])


def test_the_seeds_messages_work(system: System, optimiser: Client) -> None:
    """As they stand there, with this site's name and, on broker B, its ``siteId``."""
    valid = HUMIDITY | {
        "jobId": "test-123", "value": 70.0, "priority": 8, "siteId": SITE,
        "haystackName": f"{SITE}.ahu.1.sp.humidity.air.return.effective",
    }  # fmt: skip
    sensor = {
        "jobId": "test-456", "deviceId": 12345, "objectType": "analog-input", "objectInstance": 101, "value": 25.0,
        "haystackName": f"{SITE}.ahu.1.sensor.temp.air.supply.actual", "siteId": SITE,
    }  # fmt: skip
    for message in (valid, sensor):
        assert optimiser.publish(COMMAND, json.dumps(message)) in ("Success", "No matching subscribers")
    done = result(optimiser, "test-123")
    assert (done["success"], done["error"], done["validationErrors"], done["siteId"]) == (True, None, [], SITE)
    read_back(system, 70.0)
    refused = result(optimiser, "test-456")
    assert not refused["success"]
    assert any("position 4 is 'sensor', not 'sp'" in violation for violation in refused["validationErrors"])


def test_by_the_bridge_alone(system: System, optimiser: Client) -> None:
    system.sql.cut()
    try:
        optimiser.publish(COMMAND, json.dumps(HUMIDITY | {"jobId": "bridge", "value": 61.0, "siteId": SITE}))
        assert result(optimiser, "bridge")["success"]
        read_back(system, 61.0)
    finally:
        system.sql.mend()


def test_by_the_site_s_own_connection_alone(system: System, optimiser: Client) -> None:
    system.mqtt.cut()
    try:
        wait(lambda: system.metric("bacpipes_ship_connected") == 1, "the other way is open", 60)
        system.one(QUEUE, "pulled", 62.0, 60, central=True)
        assert result(optimiser, "pulled")["success"]
        read_back(system, 62.0)
    finally:
        system.mqtt.mend()
    assert status(system, "pulled") == "completed"
    system.live_lane_drained()
    assert system.one("SELECT count(*) FROM write_results WHERE job_id = 'pulled'")[0] == 1, "executed once"


def test_not_after_an_outage(system: System, optimiser: Client) -> None:
    """Both ways are down until it has expired; it waits in broker B's session and in the queue, and is not executed."""
    read_back(system, 62.0)
    system.cut()
    system.one(QUEUE, "too late", 63.0, 3, central=True)
    wait(lambda: status(system, "too late") == "expired", "its time is over")
    system.mend()
    system.live_lane_drained()
    wait(lambda: system.metric("bacpipes_ship_connected") == 1, "both ways are open", 90)
    system.one(QUEUE, "in time", 64.0, 60, central=True)
    assert result(optimiser, "in time")["success"]
    read_back(system, 64.0)
    values = "SELECT count(*) FROM sensor_readings WHERE object_instance = 120 AND value = 63"
    assert system.one(values)[0] == 0
    assert system.one("SELECT count(*) FROM write_results WHERE job_id = 'too late' AND success")[0] == 0
    assert status(system, "too late") in ("expired", "failed")
