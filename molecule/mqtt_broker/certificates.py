"""Make a throw-away CA's files for the scenario: certificates.py FOLDER ADDRESS; prints "changed" when it did.

`revoked` is on the revocation list from the start. `certificates.py FOLDER ADDRESS revoke NAME` adds another to it,
`certificates.py FOLDER ADDRESS renew` makes another certificate for the broker.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from pki import Authority, Pair, private_pem

CLIENTS = ("client", "revoked", "later")


def main() -> None:
    folder, address = Path(sys.argv[1]), sys.argv[2]
    stamp = folder / "made_for"
    if sys.argv[3:4] == ["revoke"]:
        revoke(folder, *sys.argv[4:])
        return
    if sys.argv[3:4] == ["renew"]:
        put(folder, "server", authority_in(folder).server(address, "broker"))
        return
    if (
        stamp.exists()
        and stamp.read_text() == address
        and stamp.stat().st_mtime > datetime.now(UTC).timestamp() - 86400
    ):
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = Authority("Molecule CA")
    (folder / "ca.pem").write_text(authority.certificate)
    (folder / "ca.key").write_text(private_pem(authority._key))
    (folder / "other.pem").write_text(Authority("Somebody else's CA").certificate)
    put(folder, "stranger", Authority("Molecule CA").client("stranger"))
    put(folder, "server", authority.server(address, "broker"))
    for name in CLIENTS:
        put(folder, name, authority.client(name))
    (folder / "revoked.txt").write_text("revoked\n")
    revoke(folder)
    stamp.write_text(address)
    print("changed")


def authority_in(folder: Path) -> Authority:
    """The CA that was made before."""
    authority = Authority("Molecule CA")
    authority.certificate = (folder / "ca.pem").read_text()
    authority._key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    return authority


def put(folder: Path, name: str, pair: Pair) -> None:
    (folder / f"{name}.pem").write_text(pair.certificate)
    (folder / f"{name}.key").write_text(pair.key)


def revoke(folder: Path, *names: str) -> None:
    """A new revocation list, with these certificates beside those that are on it."""
    listed = folder / "revoked.txt"
    everyone = sorted({*listed.read_text().split(), *names})
    listed.write_text("\n".join(everyone) + "\n")
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
    builder = builder.last_update(now - timedelta(days=1)).next_update(now + timedelta(days=30))
    for name in everyone:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    (folder / "crl.pem").write_text(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode())


if __name__ == "__main__":
    main()
