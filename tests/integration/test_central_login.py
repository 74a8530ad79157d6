"""A site at central's PostgreSQL: by its certificate alone, as itself alone. With the files that the playbooks render.

The server is Debian trixie's, with TLS; the attempts are those of the lab's verification (`central_probe`).
"""

import asyncio
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo

import live_parts
from bacpipes.metrics import WorkerMetrics
from bacpipes.settings import Settings
from bacpipes.worker.shipper import Shipper
from central_server import Central
from engines import NoServerError
from mqtt_parts import until
from pki import Authority

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
PROBE = live_parts.ROOT / "tests" / "lab" / "verification" / "on_machine" / "central_probe.py"
BATCH = (
    "INSERT INTO reading_batch (site_id, base_time, point_id, offset_ms, value, quality, reason)"
    " VALUES ('{}', now(), '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
)


@dataclass
class Site:
    """What the site macau has: its certificate, and where central is."""

    url: str
    folder: Path
    authority: Authority
    central: Central


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, and a central for it."""
    folder, authority = tmp_path_factory.mktemp("central"), Authority()
    stolen = authority.client("macau")
    authority.revoke(stolen)
    stolen.write(folder, "stolen")
    try:
        server = Central()
    except NoServerError as reason:
        pytest.skip(str(reason))
    with server:
        server.become_central(folder, authority)
        certificate, key = authority.client("macau").write(folder, "macau")
        (folder / "ca.pem").write_text(authority.certificate)
        own = {
            "user": "site_macau",
            "host": "localhost",
            "sslmode": "verify-full",
            "sslrootcert": str(folder / "ca.pem"),
        }
        url = make_conninfo(server.url("bacpipes"), **own, sslcert=str(certificate), sslkey=str(key), password="")
        yield Site(url, folder, authority, server)


def knock(site: Site, statement: str, **others: Any) -> str:
    """What central answers, as the lab's verification asks it."""
    spec = importlib.util.spec_from_file_location("central_probe", PROBE)
    assert spec is not None
    assert spec.loader is not None
    probe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(probe)
    answer: str = probe.knock(site.url, {"statement": statement, "as": others})
    return answer


def test_a_site_brings_its_own_batch_by_its_certificate_without_a_password(site: Site) -> None:
    assert knock(site, BATCH.format("macau")) == "accepted"


def test_it_brings_nobody_else_s_and_reads_nothing(site: Site) -> None:
    assert "may not bring rows of site klcc" in knock(site, BATCH.format("klcc"))
    for statement in ("SELECT FROM reading", "SELECT FROM landing.live", "DELETE FROM write_commands"):
        assert "permission denied" in knock(site, statement)


@pytest.mark.parametrize(
    "others",
    [
        {"user": "site_klcc"},
        {"user": "central_service"},
        {"user": "postgres"},
        {"sslmode": "disable"},
        {"sslcert": "/none", "sslkey": "/none"},
    ],
    ids=lambda others: " ".join(f"{key}={value}" for key, value in others.items()),
)
def test_it_is_nobody_else(site: Site, others: dict[str, str]) -> None:
    assert knock(site, "SELECT", **others).startswith("refused: ")


def test_another_authority_s_certificate_is_none(site: Site) -> None:
    certificate, key = Authority("Another").client("macau").write(site.folder, "forged")
    assert knock(site, "SELECT", sslcert=str(certificate), sslkey=str(key)).startswith("refused: ")


def test_a_revoked_certificate_is_refused_and_the_site_is_told_why(site: Site) -> None:
    stolen = {"sslcert": str(site.folder / "stolen.crt"), "sslkey": str(site.folder / "stolen.key")}
    answer = knock(site, "SELECT", **stolen)
    assert answer.startswith("refused: ")
    assert "certificate revoked" in answer
    assert knock(site, BATCH.format("macau")) == "accepted", "its new one is taken"


async def test_a_revoked_certificate_is_told_where_an_operator_looks(site: Site, settings: Settings) -> None:
    """At the site by the worker's readiness, and so by `bacpipes doctor`; at central in the database's log."""
    stolen = make_conninfo(site.url, sslcert=str(site.folder / "stolen.crt"), sslkey=str(site.folder / "stolen.key"))
    linked = Settings(**settings.model_dump() | {"site_id": "macau", "central_database_url": stolen})
    said, shipper, stop = len(site.central.log()), Shipper(linked, WorkerMetrics()), asyncio.Event()
    shipping = asyncio.create_task(shipper.run(stop))
    try:
        await until(lambda: "certificate revoked" in (shipper.reason or ""), "the worker says so")
    finally:
        stop.set()
        await shipping
    assert "Client certificate verification failed at depth 0: certificate revoked" in site.central.log()[said:]
    assert 'subject "/CN=macau' in site.central.log()[said:]
