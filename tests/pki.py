"""A small certificate authority for the tests."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, as PEM texts."""

    certificate: str
    key: str

    def write(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Put both into files (the key for the owner only); returns their paths."""
        certificate, key = directory / f"{stem}.crt", directory / f"{stem}.key"
        certificate.write_text(self.certificate)
        key.touch(mode=0o600)
        key.write_text(self.key)
        return certificate, key


class Authority:
    """A CA that signs certificates for brokers and clients."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _name(name)
        builder = _builder(self._subject, self._subject, self._key.public_key(), -DAY, 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.certificate = _pem(builder.sign(self._key, hashes.SHA256()))
        self._revoked: list[x509.RevokedCertificate] = []

    def server(self, *names: str, begins: timedelta = -DAY, ends: timedelta = 30 * DAY) -> Pair:
        """A broker's certificate, made out to these host names and addresses."""
        return self._issue(f"broker {names[0]}", ExtendedKeyUsageOID.SERVER_AUTH, names, begins, ends)

    def client(self, name: str = "appliance", *, begins: timedelta = -DAY, ends: timedelta = 30 * DAY) -> Pair:
        """A client's certificate."""
        return self._issue(name, ExtendedKeyUsageOID.CLIENT_AUTH, (), begins, ends)

    def revoke(self, pair: Pair) -> None:
        """From now on it stands in `revocations`."""
        serial = x509.load_pem_x509_certificate(pair.certificate.encode()).serial_number
        builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(datetime.now(UTC) - DAY)
        self._revoked.append(builder.build())

    def revocations(self) -> str:
        """The signed list of what was revoked, as PEM text."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._subject)
        builder = builder.last_update(datetime.now(UTC) - DAY).next_update(datetime.now(UTC) + 30 * DAY)
        for one in self._revoked:
            builder = builder.add_revoked_certificate(one)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def _issue(
        self, name: str, usage: x509.ObjectIdentifier, names: tuple[str, ...], begins: timedelta, ends: timedelta
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._subject, key.public_key(), begins, ends)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if names:
            alternative = x509.SubjectAlternativeName([_general(each) for each in names])
            builder = builder.add_extension(alternative, critical=False)
        return Pair(_pem(builder.sign(self._key, hashes.SHA256())), private_pem(key))


def private_pem(key: ec.EllipticCurvePrivateKey, passphrase: str | None = None) -> str:
    """A private key's PEM text, encrypted where there is a passphrase."""
    protection: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        protection = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: timedelta, ends: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
