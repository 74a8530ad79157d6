"""How long a setpoint takes on an idle appliance, from the MQTT message to the result, beside the device's own answers.

Run: python tests/bench/setpoint.py [writes]. The device is the simulator's, in a process of its own.
"""

import asyncio
import csv
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import quantiles
from typing import Any

import costs
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from bacpipes.bacnet.client import BacnetClient
from bacpipes.embedded import LOOPBACK, EmbeddedBroker, EmbeddedPostgres, free_port, stop

PROGRAM = [sys.executable, "-m", "bacpipes"]
BASE = "127.0.31.1"
AHU, OBJECT = 12345, ("analog-value", 120)
VALUES = itertools.cycle((40.0, 45.0))
WARM = 10  # writes that are not counted
WITHIN = 30.0  # seconds


def main(writes: int = 200) -> None:
    with tempfile.TemporaryDirectory(prefix="bacpipes-bench-") as name:
        directory = Path(name)
        with (
            EmbeddedPostgres(directory / "pg") as server,
            EmbeddedBroker(directory / "broker", "bench", os.urandom(9).hex()) as broker,
        ):
            measure(directory, server.url(), broker, writes)


def measure(directory: Path, url: str, broker: EmbeddedBroker, writes: int) -> None:
    username, password = broker.credentials
    environment = os.environ | {
        "BACPIPES_SITE_ID": "duxton",
        "BACPIPES_DATABASE_URL": url,
        "BACPIPES_STATE_DIR": str(directory / "state"),
        "BACPIPES_BACNET_ADDRESS": f"{LOOPBACK}:47931",
        "BACPIPES_WORKER_HTTP_PORT": str(free_port()),
        "BACPIPES_LOG_LEVEL": "warning",
        "BACPIPES_WRITE_RATE_LIMIT": "0",
        "BACPIPES_MQTT_ENABLED": "true",
        "BACPIPES_MQTT_BROKER": LOOPBACK,
        "BACPIPES_MQTT_PORT": str(broker.port),
        "BACPIPES_MQTT_USERNAME": username,
        "BACPIPES_MQTT_PASSWORD": password,
        "BACPIPES_MQTT_PROTOCOL": broker.protocol,
    }
    points = directory / "points.csv"
    building_of = ["simulate", "--base", BASE, "--vavs", "1"]
    subprocess.run([*PROGRAM, *building_of, "--points", str(points)], check=True, capture_output=True)
    only_the_device(points)
    for command in (["migrate"], ["points", "import", str(points)]):
        subprocess.run([*PROGRAM, *command], check=True, capture_output=True, env=environment)
    building = subprocess.Popen([*PROGRAM, *building_of], stdout=subprocess.DEVNULL)
    worker = subprocess.Popen([*PROGRAM, "worker"], env=environment)
    try:
        sender = Sender(broker.port, username, password)
        times = [sender.write() for _ in range(WARM + writes)][WARM:]
    finally:
        stop(worker)
    try:
        device = asyncio.run(own_answers(writes))
    finally:
        stop(building)
    ours, its = (quantiles(each, n=100) for each in (times, device))
    print(f"{writes} setpoints, MQTT message to result: p50 {ours[49]:.1f} ms, p99 {ours[98]:.1f} ms")
    print(f"the same three requests (read, write, read back) alone: p50 {its[49]:.1f} ms, p99 {its[98]:.1f} ms; "
          f"beside them p50 {ours[49] - its[49]:.1f} ms, p99 {ours[98] - its[98]:.1f} ms")  # fmt: skip
    costs.note("setpoint_p50_ms_beside_its_requests", ours[49] - its[49])


def only_the_device(path: Path) -> None:
    """Leave the device of the setpoint, polled each minute."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row | {"interval": "60"} for row in csv.DictReader(file) if row["device_id"] == str(AHU)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class Sender:
    """Publishes a command and waits for its result."""

    def __init__(self, port: int, username: str, password: str) -> None:
        self._arrived = threading.Event()
        self._result: dict[str, Any] = {}
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(username, password)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("bacnet/write/result", qos=1)
        # Else our next command waits for the broker to confirm our acknowledgement of the last result: 40 ms.
        self._client.on_socket_open = lambda _client, _userdata, sock: sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )
        self._client.connect(LOOPBACK, port)
        self._client.loop_start()
        self._number = 0
        deadline = time.monotonic() + WITHIN
        while not self._once(1.0):  # until the worker is there to hear it
            assert time.monotonic() < deadline, "the worker does not answer"

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        result = json.loads(message.payload)
        if result["jobId"] == self._job:
            self._result = result
            self._arrived.set()

    def _once(self, within: float) -> bool:
        self._number += 1
        self._job = f"bench-{self._number}"
        self._arrived.clear()
        command = {"jobId": self._job, "deviceId": AHU, "objectType": OBJECT[0], "objectInstance": OBJECT[1]}
        command |= {"value": next(VALUES), "priority": 8}
        self._client.publish("bacnet/write/command", json.dumps(command), qos=1)
        return self._arrived.wait(within)

    def write(self) -> float:
        """Milliseconds until the result, which must be a success."""
        began = time.perf_counter()
        assert self._once(WITHIN), "no result"
        elapsed = (time.perf_counter() - began) * 1000
        assert self._result["success"], self._result
        return elapsed


async def own_answers(writes: int) -> list[float]:
    """Milliseconds for the requests that a write consists of, from a client that does nothing else."""
    from bacpypes3.primitivedata import Real

    times = []
    address = f"{BASE}:47808"
    wanted = [(OBJECT, ("present-value", "priority-array"))]
    async with BacnetClient(f"{LOOPBACK}:47931") as client:
        for number in range(WARM + writes):
            began = time.perf_counter()
            await client.read_multiple(address, wanted)
            await client.write_property(address, OBJECT, "present-value", Real(next(VALUES)), 8)
            await client.read_multiple(address, wanted)
            if number >= WARM:
                times.append((time.perf_counter() - began) * 1000)
    return times


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
