"""Why a broker can't be used, in plain words, and what to do about it."""

import socket
import ssl
from dataclasses import dataclass

from paho.mqtt.reasoncodes import ReasonCode

from bacpipes.errors import BacpipesError, UnavailableError
from bacpipes.mqtt.config import MqttConfig

# Codes of MQTT 5; paho hands those of 3.1.1 over as these.
UNSUPPORTED_PROTOCOL, BAD_CREDENTIALS, NOT_AUTHORIZED = 0x84, 0x86, 0x87
TOPIC_INVALID, PACKET_TOO_LARGE = 0x90, 0x95

CREDENTIALS = "Check username and password (bacpipes mqtt set), and the user at the broker."
CLIENT_CERTIFICATE = "Set a client certificate and key that the broker's CA has signed."
OUR_CA = "Set the CA that signed the broker's certificate (bacpipes mqtt set --ca FILE)."


@dataclass(frozen=True)
class Failure:
    """A reason, its remedy, and whether trying again soon is pointless (or would get us banned)."""

    reason: str
    remedy: str = ""
    patient: bool = False


class MqttError(UnavailableError):
    """A connection that could not be made, or ended."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.reason}.", failure.remedy)
        self.failure = failure


class NotConnectedError(UnavailableError):
    """Not connected, or the connection was lost before the broker had acknowledged: send all of it again."""


# code: (reason, remedy, patient)
_CODES: dict[int, tuple[str, str, bool]] = {
    0x81: ("the broker found a malformed packet", "", False),
    0x82: ("the broker found a protocol error", "Try the other protocol (--protocol 3.1.1).", True),
    UNSUPPORTED_PROTOCOL: (
        "protocol version not supported by the broker",
        "Set the other protocol (bacpipes mqtt set --protocol 3.1.1, or 5).",
        True,
    ),
    0x85: ("the broker refuses our client id", "Set another client id.", True),
    BAD_CREDENTIALS: ("wrong username or password", CREDENTIALS, True),
    NOT_AUTHORIZED: ("not authorised (wrong username or password?)", CREDENTIALS, True),
    0x88: ("the broker says that it is unavailable", "", False),
    0x89: ("the broker says that it is busy", "", False),
    0x8A: ("the broker has banned this client", "Lift the ban at the broker.", True),
    0x8B: ("the broker is shutting down", "", False),
    0x8C: ("the broker wants another authentication method", CREDENTIALS, True),
    0x8D: ("the broker heard nothing from us for too long", "", False),
    0x8E: (
        "another client connected with our client id and took over",
        "Give each appliance a client id of its own (bacpipes mqtt set --client-id).",
        True,
    ),
    0x93: ("the broker says that we sent too many messages at once", "", False),
    PACKET_TOO_LARGE: ("the broker says that a message was too large", "Raise its packet limit.", False),
    0x96: ("the broker says that we send too fast", "Raise its rate limit.", False),
    0x97: ("a quota at the broker is used up", "Raise the quota.", True),
    0x98: ("an administrator closed the connection", "", True),
    0x9A: ("the broker does not allow retained messages", "Allow them: the appliance's status is one.", True),
    0x9B: ("the broker does not allow QoS 1", "Allow it: acknowledgement is what no reading lost rests on.", True),
    0x9C: ("the broker sends us to another server", "Set that server as broker.", True),
    0x9D: ("the broker has moved", "Set the new server as broker.", True),
    0x9F: ("the broker says that we connect too often", "", True),
}

# What stands in OpenSSL's text: (reason, remedy). The broker's alerts come first: they are about our certificate.
_TLS: tuple[tuple[str, str, str], ...] = (
    ("CERTIFICATE_REQUIRED", "the broker requires a client certificate", CLIENT_CERTIFICATE),
    ("ALERT_UNKNOWN_CA", "the broker does not trust the CA of our client certificate", CLIENT_CERTIFICATE),
    ("ALERT_CERTIFICATE_EXPIRED", "the broker says that our client certificate has expired", CLIENT_CERTIFICATE),
    ("ALERT_CERTIFICATE_REVOKED", "the broker says that our client certificate is revoked", CLIENT_CERTIFICATE),
    ("ALERT_BAD_CERTIFICATE", "the broker refuses our client certificate", CLIENT_CERTIFICATE),
    ("ALERT_CERTIFICATE_UNKNOWN", "the broker refuses our client certificate", CLIENT_CERTIFICATE),
    (
        "ALERT_HANDSHAKE_FAILURE",
        "the broker refused the TLS handshake (does it require a client certificate?)",
        CLIENT_CERTIFICATE,
    ),
    ("PROTOCOL_VERSION", "the broker speaks no TLS of version 1.2 or newer", "Update the broker."),
    ("UNSUPPORTED_PROTOCOL", "the broker speaks no TLS of version 1.2 or newer", "Update the broker."),
    ("WRONG_VERSION_NUMBER", "no TLS on this port", "Set the broker's TLS port (--tls-port), or --no-tls."),
    ("RECORD_LAYER_FAILURE", "no TLS on this port", "Set the broker's TLS port (--tls-port), or --no-tls."),
    ("EOF", "closed the connection during the TLS handshake", "Is it the broker's TLS port?"),
)
_EXPIRED, _NOT_YET, _HOST_MISMATCH, _ADDRESS_MISMATCH = 10, 9, 62, 64
_UNTRUSTED = (18, 19, 20, 21)  # self-signed, self-signed in the chain, issuer unknown, first unverifiable


def from_code(code: ReasonCode, config: MqttConfig) -> Failure:
    """For a CONNACK or DISCONNECT of the broker."""
    value = int(code.value)
    reason, remedy, patient = _CODES.get(value, (f"the broker says: {code}", "", False))
    if value in (BAD_CREDENTIALS, NOT_AUTHORIZED) and config.username is None:
        reason = "not authorised (the broker wants a username and password)"
    return Failure(f"broker {config.address}: {reason}", remedy, patient)


def from_exception(error: BaseException, config: MqttConfig) -> Failure:
    """For what was raised while the name was resolved, the connection made, or TLS agreed."""
    if isinstance(error, MqttError):
        return error.failure
    if isinstance(error, BacpipesError):  # our own certificates can't be used
        return Failure(Exception.__str__(error).rstrip("."), error.remedy, patient=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        return _from_verification(error, config)
    if isinstance(error, ssl.SSLError):
        return from_tls_text(str(error), config)
    return _from_network(error, config)


def from_tls_text(text: str, config: MqttConfig) -> Failure:
    """For what OpenSSL says of a handshake; in TLS 1.3 the broker's refusal comes only after it."""
    for mark, reason, remedy in _TLS:
        if mark in text:
            return Failure(f"broker {config.address}: {reason}", remedy, patient=True)
    return Failure(f"broker {config.address}: TLS failed: {text}", "")


def closed_early(config: MqttConfig) -> Failure:
    """For a broker that ended the connection before it had answered our CONNECT."""
    tls = "" if config.tls_enabled else " Does this port expect TLS?"
    remedy = f"Is it an MQTT broker, and does it speak protocol {config.protocol}?{tls}"
    return Failure(f"broker {config.address}: closed the connection before it answered", remedy)


def lost(config: MqttConfig) -> Failure:
    """For a connection that ended without a word."""
    return Failure(f"broker {config.address}: connection lost")


def lost_again_and_again(config: MqttConfig) -> Failure:
    """For connections that are all lost soon after they were made; some brokers don't say why."""
    reason = "connection lost again and again, soon after it was made"
    remedy = f"Does another client use the client id {config.client_id!r}? Give each its own (--client-id)."
    return Failure(f"broker {config.address}: {reason}", remedy, patient=True)


def _from_verification(error: ssl.SSLCertVerificationError, config: MqttConfig) -> Failure:
    where = f"broker {config.address}:"
    if error.verify_code == _EXPIRED:
        return Failure(f"{where} the broker's certificate has expired", "Renew it at the broker.", True)
    if error.verify_code == _NOT_YET:
        return Failure(f"{where} the broker's certificate is not valid yet", "Is our clock right?", True)
    if error.verify_code in (_HOST_MISMATCH, _ADDRESS_MISMATCH):
        reason = f"host name mismatch: the broker's certificate is not made out to {config.broker}"
        return Failure(f"{where} {reason}", "Set a name that is in the certificate as broker.", True)
    if error.verify_code in _UNTRUSTED:
        by = "the configured CA" if config.ca_certificate else "a CA that this system trusts"
        return Failure(f"{where} certificate of the broker is not signed by {by}", OUR_CA, True)
    return Failure(f"{where} certificate of the broker is refused: {error.verify_message}", OUR_CA, True)


def _from_network(error: BaseException, config: MqttConfig) -> Failure:
    where = f"broker {config.address}:"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Failure(f"{where} name can't be resolved", "Check the name, and the appliance's DNS.")
    if isinstance(error, ConnectionRefusedError):
        return Failure(f"{where} connection refused", "Is the broker running, and is the port right?")
    if isinstance(error, TimeoutError) and "handshake" in str(error):
        return Failure(f"{where} no answer to the TLS handshake", "Is it the broker's TLS port?")
    if isinstance(error, TimeoutError):
        return Failure(f"{where} no answer", "Check the address, the route and firewalls.")
    if isinstance(error, ConnectionError) and config.tls_enabled:
        return Failure(f"{where} closed the connection during the TLS handshake", "Is it the broker's TLS port?")
    if isinstance(error, ConnectionError):
        return Failure(f"{where} closed the connection while it was being made", "Is it the right port?")
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return Failure(f"{where} {text}", "")
