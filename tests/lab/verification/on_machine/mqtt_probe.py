"""Knocks at an MQTT broker once and says what it answered. Standard library only; runs on the machine and beside it."""

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
        link.sendall(_connect(attempt.get("user"), attempt.get("password")))
        answer = link.recv(4)
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


def _connect(user, password):
    client = f"verify-{os.getpid()}-{os.urandom(4).hex()}".encode()
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x1e"
    for part in (client, user and user.encode(), password and password.encode()):
        if part:
            body += len(part).to_bytes(2, "big") + part
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (0x80 if size else 0)])
        if not size:
            return b"\x10" + length + body
