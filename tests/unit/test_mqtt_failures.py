"""Back-off, and the words for what goes wrong."""

import socket
import ssl

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from bacpipes.mqtt import failures as mqtt_failures
from bacpipes.mqtt.client import Backoff, _Tries
from bacpipes.mqtt.config import MqttConfig

PLAIN = MqttConfig(broker="10.0.60.3", enabled=True)
USER = MqttConfig(broker="10.0.60.3", username="u", enabled=True)
TLS = MqttConfig(broker="mqtt.example", tls_enabled=True, enabled=True)


def test_back_off_doubles_to_its_end_with_jitter() -> None:
    backoff = Backoff(first=1, last=60, patient=15)
    for failures, nominal in [(1, 1), (2, 2), (3, 4), (7, 60), (1000, 60)]:
        delays = {backoff.delay(failures, patient=False) for _ in range(50)}
        assert nominal / 2 <= min(delays) <= max(delays) <= nominal
        assert len(delays) > 1
    assert 7.5 <= backoff.delay(1, patient=True) <= 15
    assert 30 <= backoff.delay(9, patient=True) <= 60


def test_a_stable_connection_starts_the_back_off_anew() -> None:
    tries = _Tries()
    for lasted in (None, 0.1, 0.1):
        tries.note(lasted)
    assert (tries.failed, tries.brief) == (3, 2)
    tries.note(3600.0)
    assert (tries.failed, tries.brief) == (1, 0)


@pytest.mark.parametrize(
    ("error", "config", "text"),
    [
        (socket.gaierror(-2, "x"), PLAIN, "broker 10.0.60.3:1883: name can't be resolved"),
        (ConnectionRefusedError(), PLAIN, "broker 10.0.60.3:1883: connection refused"),
        (TimeoutError(), PLAIN, "broker 10.0.60.3:1883: no answer"),
        (ConnectionResetError(), TLS, "broker mqtt.example:8883: closed the connection during the TLS handshake"),
        (OSError(113, "No route to host"), PLAIN, "broker 10.0.60.3:1883: No route to host"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong"), TLS, "broker mqtt.example:8883: no TLS on this port"),
        (ssl.SSLError(1, "[SSL: TLSV1_ALERT_PROTOCOL_VERSION]"), TLS, "speaks no TLS of version 1.2 or newer"),
    ],
)
def test_words_for_exceptions(error: Exception, config: MqttConfig, text: str) -> None:
    assert text in mqtt_failures.from_exception(error, config).reason


@pytest.mark.parametrize(
    ("name", "config", "text", "patient"),
    [
        ("Not authorized", USER, "not authorised (wrong username or password?)", True),
        ("Not authorized", PLAIN, "the broker wants a username and password", True),
        ("Bad user name or password", USER, "wrong username or password", True),
        ("Unsupported protocol version", USER, "protocol version not supported", True),
        ("Server busy", USER, "busy", False),
        ("Banned", USER, "banned", True),
        ("Implementation specific error", USER, "Implementation specific error", False),
    ],
)
def test_words_for_the_brokers_codes(name: str, config: MqttConfig, text: str, patient: bool) -> None:
    failure = mqtt_failures.from_code(ReasonCode(PacketTypes.CONNACK, name), config)
    assert text in failure.reason
    assert failure.patient is patient
