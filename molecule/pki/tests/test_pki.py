"""What role pki leaves on a machine, and on the controller."""

import hashlib
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TLS = "/opt/bacpipes/tls"
PORT = 9443

# A server that shows server.pem and asks for a client certificate which its bundle and its revocation list accept.
SERVER = f"""
import socket, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("{TLS}/server.pem", "{TLS}/server.key")
context.load_verify_locations("{TLS}/ca.pem")
context.load_verify_locations("{TLS}/crl.pem")
context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
context.verify_mode = ssl.CERT_OPTIONAL
listening = socket.create_server(("0.0.0.0", {PORT}))
while True:
    connection, _ = listening.accept()
    connection.settimeout(5)
    try:
        with context.wrap_socket(connection, server_side=True) as tls:
            peer = tls.getpeercert() or {{"subject": [[["commonName", "nobody"]]]}}
            tls.sendall(dict(part[0] for part in peer["subject"])["commonName"].encode())
    except OSError:
        pass
"""

CLIENT = f"""
import socket, ssl
context = ssl.create_default_context(cafile="{TLS}/ca.pem")
context.load_cert_chain("{TLS}/client.pem", "{TLS}/client.key")
with socket.create_connection(("127.0.0.1", {PORT}), 5) as plain:
    with context.wrap_socket(plain, server_hostname="NAME") as tls:
        print(tls.recv(99).decode())
"""


@pytest.fixture(scope="module")
def controller() -> Path:
    """The directory in which the scenario keeps its CA."""
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "pki"
    assert (directory / "ca-1/ca.pem").is_file()
    return directory


@contextmanager
def serving(host) -> Iterator[tuple[str, str]]:
    """A TLS server on the machine: its inventory name and its address."""
    variables = host.ansible.get_variables()
    name = variables["inventory_hostname"]
    address = variables.get("ansible_host", name)
    host.run("systemctl stop pki-test.service; systemctl reset-failed pki-test.service")
    assert host.run("systemd-run --unit=pki-test /usr/bin/python3 -c %s", SERVER).rc == 0
    try:
        for _ in range(50):
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((address, PORT)) == 0:
                    break
            time.sleep(0.1)
        else:
            pytest.fail(f"nothing answers at {address}:{PORT}; is there a firewall before it already (role base)?")
        yield name, address
    finally:
        host.run("systemctl stop pki-test.service")


def test_tls_from_the_controller_by_address(host, controller: Path) -> None:
    with serving(host) as (_, address):
        context = ssl.create_default_context(cafile=controller / "ca-1/ca.pem")
        with (
            socket.create_connection((address, PORT), 5) as plain,
            context.wrap_socket(plain, server_hostname=address) as tls,
        ):
            assert tls.recv(99) == b"nobody"
        with (
            socket.create_connection((address, PORT), 5) as plain,
            pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
        ):
            context.wrap_socket(plain, server_hostname="other.example.net")
        strangers = ssl.create_default_context()
        with (
            socket.create_connection((address, PORT), 5) as plain,
            pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate in certificate chain"),
        ):
            strangers.wrap_socket(plain, server_hostname=address)


def test_the_client_certificate_names_the_site(host) -> None:
    with serving(host) as (name, _):
        assert host.check_output("/usr/bin/python3 -c %s", CLIENT.replace("NAME", name)) == name


def test_keys_are_for_root_alone(host) -> None:
    for kind in ("server", "client"):
        key = host.file(f"{TLS}/{kind}.key")
        assert (key.user, key.group, key.mode) == ("root", "root", 0o600)
        assert host.run("setpriv --reuid 65534 --clear-groups cat %s", key.path).rc != 0
        assert host.run("setpriv --reuid 65534 --clear-groups cat %s", f"{TLS}/{kind}.pem").rc == 0


def test_the_machines_keys_never_reached_the_controller(host, controller: Path) -> None:
    held = {path.relative_to(controller): path for path in controller.rglob("*") if path.is_file()}
    private = {str(name) for name, path in held.items() if "PRIVATE KEY" in path.read_text()}
    assert private == {"ca-1/ca.key"}
    lines = {
        line for kind in ("server", "client") for line in host.file(f"{TLS}/{kind}.key").content_string.split("\n")
    }
    lines = {line for line in lines if line and not line.startswith("-----")}
    assert lines
    assert not any(line in path.read_text() for path in held.values() for line in lines)


def test_the_cas_key_is_encrypted_and_for_its_owner_alone(controller: Path) -> None:
    key = controller / "ca-1/ca.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    opened = subprocess.run(["openssl", "pkey", "-in", key, "-passin", "pass:", "-noout"], capture_output=True)
    assert opened.returncode != 0


def test_the_record_has_what_the_machine_shows(host, controller: Path) -> None:
    rows = [line.split(",") for line in (controller / "index.csv").read_text().splitlines()]
    columns = rows[0]
    for kind in ("server", "client"):
        pem = host.file(f"{TLS}/{kind}.pem").content_string
        fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest().upper()
        (row,) = (dict(zip(columns, row, strict=True)) for row in rows[1:] if row[-1] == fingerprint)
        assert (row["kind"], row["common_name"], row["ca"]) == (kind, host.check_output("hostname"), "ca-1")
        assert (controller / f"archive/{row['host']}-{kind}-{row['serial']}.pem").read_text().strip() == pem.strip()
