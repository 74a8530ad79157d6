"""CPU and throughput of `publish_all` against a Mosquitto on loopback.

PYTHONPATH=tests .venv/bin/python tests/bench/mqtt_publish.py [messages] [rounds]
"""

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import costs
import structlog
from pydantic import SecretStr

from bacpipes.mqtt import window as mqtt_window
from bacpipes.mqtt.client import MqttClient
from bacpipes.mqtt.config import MqttConfig
from mqtt_parts import Mosquitto

BATCH = 500  # readings that one commit hands to the publisher
WINDOWS = (20, 50, 100)
COUNT, ROUNDS = 10_000, 3


async def measure(config: MqttConfig, count: int) -> tuple[float, float]:
    """Messages a second, and milliseconds of CPU (user and system, this process) for 1,000 messages."""
    messages = [(f"duxton/ahu_{n % 40}/analoginput{n % 500}/presentValue", b"x" * 330) for n in range(count)]
    client, stop = MqttClient(config, site_id="duxton", on_command=lambda _message: None), asyncio.Event()
    task = asyncio.create_task(client.run(stop))
    await client.wait_connected()
    wall, cpu = time.perf_counter(), time.process_time()
    for start in range(0, count, BATCH):
        assert await client.publish_all(messages[start : start + BATCH]) == []
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    stop.set()
    await task
    return count / wall, cpu / count * 1e6


def main(count: int = COUNT, rounds: int = ROUNDS) -> None:
    """Alternate the windows, so that a busy machine treats them alike; print the medians."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    found: dict[int, list[tuple[float, float]]] = {window: [] for window in WINDOWS}
    more = ("log_type error", "max_inflight_messages 1000")
    with Mosquitto(Path(tempfile.mkdtemp()), users={"u": "p"}, more=more) as broker:
        config = MqttConfig(broker="127.0.0.1", port=broker.port, enabled=True, username="u", password=SecretStr("p"))
        for _ in range(rounds):
            for window in WINDOWS:
                mqtt_window.IN_FLIGHT = window
                found[window].append(asyncio.run(measure(config, count)))
    for window, results in found.items():
        rate, cpu = (statistics.median(column) for column in zip(*results, strict=True))
        if window == WINDOWS[-1] and (count, rounds) == (COUNT, ROUNDS):
            costs.note("mqtt_publish_cpu_ms_per_1000", cpu)
        print(f"{window:4} in flight: {rate:7,.0f} messages/s, {cpu:5.1f} ms of CPU per 1,000")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
