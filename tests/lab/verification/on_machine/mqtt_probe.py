"""Knocks at an MQTT broker once and says what it answered. Standard library only; runs on the machine and beside it.

With ``publish`` it comes in by MQTT 5, which has a word for what is refused, and sends one message there (QoS 1).
"""

import os
import socket
import ssl
import tempfile

WORDS = {0: "accepted", 4: "refused: wrong user name or password", 5: "refused: not authorised"}
SECONDS = 10


def main(attempts):
    return [knock(attempt) for attempt in attempts]


def knock(attempt):
    """`accepted`, `refused: …` (it answered, and no), or `unreachable: …`."""
    try:
        link = socket.create_connection((attempt["address"], attempt["port"]), SECONDS)
    except OSError as error:
        return f"unreachable: {error}"
    try:
        link.settimeout(SECONDS)
        if attempt.get("tls"):
            link = _encrypted(link, attempt["tls"])
        topic = attempt.get("publish")
        link.sendall(_connect(attempt.get("user"), attempt.get("password"), 5 if topic else 4))
        answer = _packet(link)
        if topic and answer[3:4] == b"\x00":
            return _publish(link, topic)
    except TimeoutError:
        return "unreachable: no answer"
    except (OSError, ssl.SSLError) as error:
        return f"refused: {getattr(error, 'reason', None) or error}"
    finally:
        link.close()
    if len(answer) < 4 or answer[0] != 0x20:
        return "refused: connection closed"
    return WORDS.get(answer[3], f"refused: code {answer[3]}")


def _encrypted(link, tls):
    context = ssl.create_default_context(cafile=tls["ca"])
    if tls.get("certificate_text"):  # made for this test only
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
            file.write(tls["certificate_text"])
            file.flush()
            context.load_cert_chain(file.name)
    elif tls.get("certificate"):
        context.load_cert_chain(tls["certificate"], tls["key"])
    return context.wrap_socket(link, server_hostname=tls["name"])


def _publish(link, topic):
    name = topic.encode()
    link.sendall(_framed(0x32, len(name).to_bytes(2, "big") + name + b"\x00\x01\x00" + b"verify"))
    answer = _packet(link)
    reason = answer[4] if len(answer) > 4 else 0  # left out where it is 0
    if answer[:1] != b"\x40":
        return "refused: connection closed"
    return "accepted" if reason < 0x80 else f"refused: code {reason:#x}"


def _packet(link):
    """One packet, a short one; as much of it as came before the connection ended."""
    packet = b""
    while len(packet) < 2 or len(packet) < 2 + packet[1]:
        more = link.recv(1)
        if not more:
            break
        packet += more
    return packet


def _connect(user, password, level=4):
    client = f"verify-{os.getpid()}-{os.urandom(4).hex()}".encode()
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = b"\x00\x04MQTT" + bytes([level, flags]) + b"\x00\x1e" + (b"\x00" if level == 5 else b"")
    for part in (client, user and user.encode(), password and password.encode()):
        if part:
            body += len(part).to_bytes(2, "big") + part
    return _framed(0x10, body)


def _framed(kind, body):
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return bytes([kind]) + length + body
