"""What the MQTT tests share: a configurable Mosquitto, an observer, a link that can be cut, a broker by script."""

import asyncio
import contextlib
import getpass
import os
import secrets
import shutil
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bacpipes.embedded import LOOPBACK, free_port, stop, wait_for_port
from pki import Pair

WITHIN = 40.0  # seconds for anything that a test waits for, on a slow machine with other work, too


async def until(condition: Callable[[], object], what: str, within: float = WITHIN, pause: float = 0.01) -> None:
    """Wait for a condition; fail with ``what`` when it does not come true. ``pause`` is between two looks: one that is
    costly must not starve what it waits for."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(pause)


class Mosquitto:
    """A Mosquitto with the configuration that a test asks for; can be killed and started again on its port."""

    def __init__(
        self,
        directory: Path,
        *,
        users: dict[str, str] | None = None,
        tls: Pair | None = None,
        client_ca: str | None = None,
        acl: str | None = None,
        more: tuple[str, ...] = (),
    ) -> None:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        assert program, "mosquitto is not installed; `make test` as root installs it"
        self._program = program
        self._directory = directory / f"mosquitto-{secrets.token_hex(4)}"
        self._directory.mkdir(parents=True)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"listener {self.port} {LOOPBACK}", "persistence false", f"user {getpass.getuser()}", *more]
        lines += self._users(users) + self._tls(tls, client_ca)
        if acl is not None:
            lines.append(f"acl_file {self._file('acl', acl)}")
        self._config = self._file("mosquitto.conf", "\n".join(lines) + "\n")

    def _file(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def _users(self, users: dict[str, str] | None) -> list[str]:
        if users is None:
            return ["allow_anonymous true"]
        passwords = self._file("passwords", "".join(f"{name}:{password}\n" for name, password in users.items()))
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
        return ["allow_anonymous false", f"password_file {passwords}"]

    def _tls(self, pair: Pair | None, client_ca: str | None) -> list[str]:
        if pair is None:
            return []
        certificate, key = pair.write(self._directory, "broker")
        lines = [f"certfile {certificate}", f"keyfile {key}"]
        if client_ca is not None:
            lines += [f"cafile {self._file('client-ca.crt', client_ca)}", "require_certificate true"]
        return lines

    def start(self) -> None:
        log = (self._directory / "broker.log").open("ab")
        self._process = subprocess.Popen(
            [self._program, "-v", "-c", str(self._config)], stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        wait_for_port(self.port, self._process, self._directory / "broker.log")

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def log(self) -> str:
        return (self._directory / "broker.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            stop(self._process)


class Observer:
    """Another client, independent of ours: it keeps all that it receives, and can publish."""

    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._subscribed = False
        self._port = port
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.username_pw_set(username, password)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = lambda _c, _u, m: self.messages.append((m.topic, bytes(m.payload), m.retain))

    def _on_subscribe(self, *_: Any) -> None:
        self._subscribed = True

    async def __aenter__(self) -> Self:
        self._client.connect_async(LOOPBACK, self._port)
        self._client.loop_start()
        await until(lambda: self._subscribed, "the observer has subscribed")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    def payloads(self, topic: str) -> list[bytes]:
        return [payload for name, payload, _ in list(self.messages) if name == topic]


class Link:
    """A TCP relay to a port that can be cut, made deaf, and closed to new connections."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.open = True
        self.deaf = asyncio.Event()  # set: what arrives is swallowed
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset every connection: nobody says goodbye."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self.open:
            writer.transport.abort()
            return
        far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        self._writers |= {writer, far_writer}
        await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if not self.deaf.is_set():
                    writer.write(data)
                    await writer.drain()
        writer.transport.abort()
        self._writers.discard(writer)


CONNACK_OK, CONNACK_OK_5 = bytes.fromhex("20020000"), bytes.fromhex("2003000000")
Script = Callable[[int, bytes], bytes]  # packet type and body → answer (b"" none, b"close" closes)


@contextlib.asynccontextmanager
async def scripted_broker(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A broker that answers each packet as the script says; gives its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                kind, body = await _packet(reader)
                answer = script(kind, body)
                if answer == b"close":
                    break
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0] >> 4
    length = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return kind, await reader.readexactly(length)


def puback(body: bytes) -> bytes:
    """The acknowledgement of a PUBLISH's body (the packet id follows the topic)."""
    (length,) = struct.unpack_from("!H", body)
    return bytes([0x40, 2]) + body[2 + length : 4 + length]


def suback(body: bytes, code: int) -> bytes:
    """The answer to a SUBSCRIBE of MQTT 3.1.1."""
    return bytes([0x90, 3]) + body[:2] + bytes([code])


def open_descriptors() -> set[str]:
    """What this process has open, as far as it is a file or in memory."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(entry))  # noqa: PTH115 - a memfd's link is no path
    return {name for name in found if not name.startswith(("socket:", "anon_inode:", "pipe:"))}
