"""The exporter's own certificate: shown, judged, and taken over anew when its files change."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from bacpipes import users
from bacpipes.cli.health import health
from bacpipes.database import connect
from bacpipes.exporter.certificate import ServerCertificate
from bacpipes.settings import Settings
from bacpipes.tokens import Role
from exporter_parts import Exporter, wait_for
from pki import DAY, Authority, Pair

PASSWORD = "correct horse battery"
ADDRESS = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - the exporter of a test


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Fleet CA")


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> tuple[Path, Path]:
    return authority.server(ADDRESS).write(tmp_path, "page")


@pytest.fixture
def exporter(settings: Settings, files: tuple[Path, Path]) -> Iterator[Exporter]:
    with Exporter(settings, **variables(*files)) as found:
        yield found


def variables(certificate: Path, key: Path) -> dict[str, str]:
    return {"HTTP_CERTIFICATE": str(certificate), "HTTP_KEY": str(key)}


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate)


def shown(port: int) -> int:
    """Serial number of the certificate that a new connection sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection((ADDRESS, port), 10) as plain, context.wrap_socket(plain) as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number


def serial(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate.encode()).serial_number


def start(settings: Settings, **more: str) -> subprocess.CompletedProcess[str]:
    """`bacpipes exporter`, that should refuse to start."""
    values = {"SITE_ID": "duxton", "DATABASE_URL": settings.database_url.get_secret_value(), "HTTP_PORT": "0"} | more
    environment = os.environ | {f"BACPIPES_{name}": value for name, value in values.items()}
    command = [sys.executable, "-m", "bacpipes", "exporter"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


async def test_a_login_over_tls_has_a_secure_cookie_and_plain_http_gets_nothing(
    settings: Settings, exporter: Exporter, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await connect(settings, "test") as connection:
        await users.add(connection, "vera", Role.VIEWER, PASSWORD, "test")
    async with httpx.AsyncClient(base_url=exporter.url, verify=trusting(authority), timeout=60) as http:
        form = {"name": "vera", "password": PASSWORD}
        answer = await http.post("/login", data=form, headers={"Origin": exporter.url})
        assert answer.status_code == 303
        assert "; Secure" in answer.headers["set-cookie"]
        assert (await http.get("/api/points")).status_code == 200
    async with httpx.AsyncClient() as stranger:
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            await stranger.get(exporter.url)
        with pytest.raises(httpx.TransportError):
            await stranger.get(exporter.url.replace("https", "http") + "/healthz")
    monkeypatch.setenv("BACPIPES_HTTP_PORT", str(exporter.port))
    monkeypatch.setenv("BACPIPES_HTTP_CERTIFICATE", "given")
    assert health.callback is not None
    assert health.callback("exporter", alive=True) == 0


def test_a_rotated_certificate_is_taken_over_and_a_bad_one_is_not(
    exporter: Exporter, authority: Authority, files: tuple[Path, Path], tmp_path: Path, settings: Settings
) -> None:
    before = shown(exporter.port)
    new = authority.server(ADDRESS)
    files[0].write_text(new.certificate)  # the key still is the old one: in the middle of a rotation
    wait_for(lambda: any("does not belong" in str(one.get("reason")) for one in exporter.records()))
    assert shown(exporter.port) == before
    reasons = httpx.get(f"{exporter.url}/readyz", verify=trusting(authority)).json()["reasons"]
    assert any(one["component"] == "certificate" and "not in use" in one["reason"] for one in reasons)
    files[1].write_text(new.key)
    wait_for(lambda: shown(exporter.port) == serial(new))
    reasons = httpx.get(f"{exporter.url}/readyz", verify=trusting(authority)).json()["reasons"]
    assert not any(one["component"] == "certificate" for one in reasons)


def test_an_expired_certificate_is_served_and_said(settings: Settings, authority: Authority, tmp_path: Path) -> None:
    pair = authority.server(ADDRESS, begins=-3 * DAY, ends=-DAY)
    with Exporter(settings, **variables(*pair.write(tmp_path, "old"))) as exporter:
        assert shown(exporter.port) == serial(pair)
        reasons = httpx.get(f"{exporter.url}/readyz", verify=False).json()["reasons"]  # noqa: S501 - it has expired
    (found,) = (one for one in reasons if one["component"] == "certificate")
    assert "expired on" in found["reason"]
    assert "rotate_certs" in found["remedy"]


@pytest.mark.parametrize(("ends", "said"), [(13 * DAY, True), (15 * DAY, False), (-timedelta(hours=1), False)])
def test_one_that_ends_soon_is_said_before(authority: Authority, tmp_path: Path, ends: timedelta, said: bool) -> None:
    pair = authority.server(ADDRESS, begins=-3 * DAY, ends=ends + timedelta(minutes=1))
    found = ServerCertificate(*pair.write(tmp_path, "soon")).ends_soon()
    assert (found is not None) == said


def test_what_can_not_be_served_is_refused_with_its_reason(
    settings: Settings, authority: Authority, tmp_path: Path
) -> None:
    certificate, key = authority.server(ADDRESS).write(tmp_path, "one")
    _, other = authority.server(ADDRESS).write(tmp_path, "other")
    for more, words in (
        (variables(certificate, other), "The key does not belong to the page's certificate"),
        (variables(certificate, tmp_path / "none"), f"The file {tmp_path / 'none'} can't be read"),
        (variables(key, key), "holds a private key"),
        ({"HTTP_KEY": str(key)}, "BACPIPES_HTTP_KEY is set, BACPIPES_HTTP_CERTIFICATE is not"),
        ({"HTTP_HOST": EVERYWHERE}, "passwords would cross the network unencrypted"),
    ):
        ended = start(settings, **more)
        assert ended.returncode == 2, ended.stderr
        assert words in ended.stderr
        assert "PRIVATE" not in ended.stderr


def test_plain_http_beyond_loopback_only_where_it_is_said(settings: Settings) -> None:
    with Exporter(settings, HTTP_HOST=EVERYWHERE, HTTP_PLAIN="true") as exporter:
        assert httpx.get(f"{exporter.url}/healthz").status_code == 200
