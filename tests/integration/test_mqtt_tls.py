"""The connection to a real broker over TLS: what is accepted, and what a refusal says."""

import asyncio
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from bacpipes.embedded import free_port
from bacpipes.mqtt import certificates
from bacpipes.mqtt import dial as mqtt_dial
from mqtt_client_parts import config_for, reason_of, running, tls_config
from mqtt_parts import Mosquitto, open_descriptors, until
from pki import DAY, Authority


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_tls(tmp_path: Path, authority: Authority, protocol: str) -> None:
    with Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as broker:
        async with running(tls_config(broker.port, authority, protocol=protocol)) as client:
            await until(lambda: client.connected, "connected")
            assert client.encrypted
            assert await client.publish_all([(f"duxton/t/{n}", b"x" * 2000) for n in range(200)]) == []


def limit_tls_to(version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    make = certificates.tls_context

    def limited(identity: certificates.Identity) -> ssl.SSLContext:
        context = make(identity)
        context.maximum_version = version
        return context

    monkeypatch.setattr(certificates, "tls_context", limited)


async def test_a_broker_with_old_tls_only_is_refused(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Mosquitto(tmp_path, tls=authority.server("127.0.0.1"), more=("tls_version tlsv1.3",)) as broker:
        limit_tls_to(ssl.TLSVersion.TLSv1_2, monkeypatch)
        assert "TLS" in await reason_of(tls_config(broker.port, authority))
    context = certificates.tls_context(certificates.Identity())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname


async def test_unknown_ca(tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path, tls=Authority("Other CA").server("127.0.0.1")) as broker:
        reason = await reason_of(tls_config(broker.port, authority))
        assert "certificate of the broker is not signed by the configured CA" in reason


async def test_without_a_ca_the_systems_are_asked(tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as broker:
        reason = await reason_of(tls_config(broker.port, authority, ca_certificate=None))
        assert "not signed by a CA that this system trusts" in reason


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_wrong_host_name(tmp_path: Path, authority: Authority, host: str) -> None:
    with Mosquitto(tmp_path, tls=authority.server("broker.example")) as broker:
        assert "host name mismatch" in await reason_of(tls_config(broker.port, authority, broker=host))


async def test_expired_certificate_of_the_broker(tmp_path: Path, authority: Authority) -> None:
    expired = authority.server("127.0.0.1", begins=-2 * DAY, ends=-timedelta(hours=1))
    with Mosquitto(tmp_path, tls=expired) as broker:
        assert "the broker's certificate has expired" in await reason_of(tls_config(broker.port, authority))


async def test_certificate_of_the_broker_from_the_future(tmp_path: Path, authority: Authority) -> None:
    early = authority.server("127.0.0.1", begins=DAY, ends=2 * DAY)
    with Mosquitto(tmp_path, tls=early) as broker:
        assert "not valid yet" in await reason_of(tls_config(broker.port, authority))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificate(
    tmp_path: Path, authority: Authority, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_tls_to(version, monkeypatch)
    ours, strange = authority.client(), Authority("Stranger").client()
    with Mosquitto(
        tmp_path,
        tls=authority.server("127.0.0.1"),
        client_ca=authority.certificate,
    ) as broker:
        pair = {"client_certificate": ours.certificate, "client_key": ours.key}
        async with running(tls_config(broker.port, authority, **pair)) as client:
            await until(lambda: client.connected, "connected")
            assert client.authenticated
            assert not [name for name in open_descriptors() if "bacpipes-client" in name]
        reason = await reason_of(tls_config(broker.port, authority))
        assert "the broker requires a client certificate" in reason or "does it require a client cert" in reason
        pair = {"client_certificate": strange.certificate, "client_key": strange.key}
        assert "does not trust the CA of our client certificate" in await reason_of(
            tls_config(broker.port, authority, **pair)
        )


async def test_tls_against_a_plain_port_and_the_reverse(tmp_path: Path, authority: Authority) -> None:
    with Mosquitto(tmp_path) as plain, Mosquitto(tmp_path, tls=authority.server("127.0.0.1")) as secure:
        assert "TLS" in await reason_of(tls_config(plain.port, authority))
        async with running(config_for(secure.port)) as client:
            await until(lambda: client.remedy and "Does this port expect TLS?" in client.remedy, "the remedy")


async def test_a_server_that_stays_silent_in_the_handshake(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_dial, "CONNECT_WITHIN", 0.2)
    server = await asyncio.start_server(lambda _r, _w: asyncio.sleep(30), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert "no answer to the TLS handshake" in await reason_of(tls_config(port, authority))


async def test_a_certificate_that_can_not_be_used_is_a_reason_and_no_crash(authority: Authority) -> None:
    pair = {"client_certificate": authority.client().certificate, "client_key": authority.client().key}
    reason = await reason_of(tls_config(free_port(), authority, **pair))
    assert "client certificate and key can't be used" in reason
