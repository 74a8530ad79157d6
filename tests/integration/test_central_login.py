"""A site at central's PostgreSQL: by its certificate alone, as itself alone. With the files that the playbooks render.

The server is Debian trixie's, with TLS; the attempts are those of the lab's verification (`central_probe`).
"""

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import live_parts
from bacpipes.central import migrate
from bacpipes.central.settings import CentralSettings
from bacpipes.embedded import LOOPBACK
from engines import NoServerError, TrixieServer
from pki import Authority

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
PROBE = live_parts.ROOT / "tests" / "lab" / "verification" / "on_machine" / "central_probe.py"
BATCH = (
    "INSERT INTO reading_batch (site_id, base_time, point_id, offset_ms, value, quality, reason)"
    " VALUES ('{}', now(), '{{}}', '{{}}', '{{}}', '{{}}', '{{}}')"
)


class Central(TrixieServer):
    """Central's server: its pg_hba.conf and pg_ident.conf, its certificate, its schema, and the site macau."""

    def __enter__(self) -> "Central":
        super().__enter__()
        return self

    def become_central(self, folder: Path, authority: Authority) -> None:
        """From a bare server to central's."""
        live_parts.render(
            folder, "central", ["timescaledb"], ["database/pg_hba.conf", "database/pg_ident.conf"],
            {"lan": {"interface": "eth0", "address": "10.0.50.10/24", "sites": ["127.0.0.0/8"]}},
        )  # fmt: skip
        with psycopg.connect(self.url(), autocommit=True) as connection:
            for role in ("central_site", "central_service LOGIN"):
                connection.execute(f"CREATE ROLE {role}".encode())
            connection.execute("CREATE DATABASE bacpipes TEMPLATE template0")
        settings = CentralSettings(database_url=self.url("bacpipes"), state_dir=folder)  # type: ignore[arg-type]
        migrate.migrate(settings)
        with psycopg.connect(self.url("bacpipes"), autocommit=True) as connection:
            connection.execute("INSERT INTO site (id) VALUES ('macau'), ('klcc')")
            for site in ("macau", "klcc"):
                connection.execute(f"CREATE ROLE site_{site} LOGIN IN ROLE central_site".encode())
        self.stop()
        self._secure(folder / "central", authority)
        self.start(preload=True)

    def _secure(self, rendered: Path, authority: Authority) -> None:
        data = self._data / "data"
        pair = authority.server("localhost", LOOPBACK)
        # The superuser of the tests comes over TCP, which central's own does not.
        ours = f"host all postgres {LOOPBACK}/32 scram-sha-256\n"
        texts = {
            "ca.pem": authority.certificate,
            "server.pem": pair.certificate,
            "server.key": pair.key,
            "pg_hba.conf": ours + (rendered / "pg_hba.conf").read_text(),
            "pg_ident.conf": (rendered / "pg_ident.conf").read_text(),
        }
        owner = data.stat()
        for name, text in texts.items():
            (data / name).write_text(text)
            (data / name).chmod(0o600)
            os.chown(data / name, owner.st_uid, owner.st_gid)
        with (data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\nssl_ca_file = 'ca.pem'\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n")


@dataclass
class Site:
    """What the site macau has: its certificate, and where central is."""

    url: str
    folder: Path
    authority: Authority


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site, and a central for it."""
    folder, authority = tmp_path_factory.mktemp("central"), Authority()
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
        yield Site(url, folder, authority)


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
