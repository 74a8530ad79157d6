"""Central's PostgreSQL as the playbooks make it: TLS, its pg_hba.conf, its schema, two sites with their own roles."""

import os
from pathlib import Path
from typing import Self

import psycopg

import live_parts
from bacpipes.central import migrate
from bacpipes.central.settings import CentralSettings
from bacpipes.embedded import LOOPBACK
from engines import TrixieServer
from pki import Authority


class Central(TrixieServer):
    """Central's server: its pg_hba.conf and pg_ident.conf, its certificate, its schema, and the site macau."""

    def __enter__(self) -> Self:
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
            "crl.pem": authority.revocations(),
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
            for name, value in (("", "on"), ("_ca_file", "'ca.pem'"), ("_crl_file", "'crl.pem'"),
                                ("_cert_file", "'server.pem'"), ("_key_file", "'server.key'")):  # fmt: skip
                file.write(f"ssl{name} = {value}\n")
