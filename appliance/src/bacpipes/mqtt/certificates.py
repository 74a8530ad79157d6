"""PEM texts: what is in them, what is wrong with them, and the TLS context that they make."""

import contextlib
import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bacpipes.errors import InputError

MARK = "-----BEGIN"  # what every PEM text has


@dataclass(frozen=True)
class CertificateInfo:
    """What a person wants to know of a certificate."""

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...] = ()

    @property
    def days_left(self) -> int:
        """Whole days until it expires; negative when it has."""
        return (self.not_after - datetime.now(UTC)).days

    def __str__(self) -> str:
        names = f", for {', '.join(self.names)}" if self.names else ""
        return f"{self.subject}{names}, issued by {self.issuer}, valid until {self.not_after:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True)
class Identity:
    """The PEM texts of one side: the CA it trusts, and its own certificate with key. All optional."""

    ca_certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None


def parse(pem: str, what: str) -> list[x509.Certificate]:
    """The certificates of a PEM text, or an `InputError` that names ``what`` they are for."""
    if MARK not in pem:
        raise InputError(f"{what} is not a PEM text.", "It begins with -----BEGIN CERTIFICATE-----.")
    if "PRIVATE KEY" in pem:
        raise InputError(f"{what} holds a private key.", "Give the certificate alone; the key has its own setting.")
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{what} can't be read as a PEM certificate: {_first_line(error)}.") from None


def parse_valid(pem: str, what: str) -> list[x509.Certificate]:
    """As `parse`, and all of them valid now."""
    found = parse(pem, what)
    for certificate in found:
        _check_dates(certificate, what)
    return found


def parse_key(pem: str, what: str) -> PrivateKeyTypes:
    """The private key of a PEM text, or an `InputError`. The message never shows any of it."""
    if MARK not in pem:
        raise InputError(f"{what} is not a PEM text.", "It begins with -----BEGIN PRIVATE KEY-----.")
    try:
        return load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise InputError(
            f"{what} is protected by a passphrase.", "Give it without one; it is encrypted in the database."
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise InputError(f"{what} can't be read as a PEM private key.") from None


def describe(certificate: x509.Certificate) -> CertificateInfo:
    """Subject, issuer, dates and the names that it is made out to."""
    return CertificateInfo(
        subject=_name(certificate.subject),
        issuer=_name(certificate.issuer),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        names=_alternative_names(certificate),
    )


def describe_der(der: bytes) -> CertificateInfo:
    """As `describe`, for what ``SSLSocket.getpeercert(binary_form=True)`` gives."""
    return describe(x509.load_der_x509_certificate(der))


def check(identity: Identity) -> list[str]:
    """Refuse (`InputError`, saying which and why) what can't work; return what could not be verified, as remarks."""
    authorities = parse(identity.ca_certificate, "The CA certificate") if identity.ca_certificate else []
    for certificate in authorities:
        _check_dates(certificate, "The CA certificate")
    remarks = _check_client(identity, authorities)
    tls_context(identity)  # OpenSSL has its own rules, for example on short keys
    return remarks


def tls_context(identity: Identity) -> ssl.SSLContext:
    """A client's context: TLS 1.2 or newer, the broker's certificate and name always verified.

    Without a CA of our own the system's are trusted. No file is left behind.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity.ca_certificate is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        try:
            context.load_verify_locations(cadata=identity.ca_certificate)
        except (ssl.SSLError, ValueError):
            raise InputError("The CA certificate can't be read as a PEM certificate.") from None
    if identity.client_certificate and identity.client_key:
        load_pair(context, identity.client_certificate, identity.client_key, "client certificate")
    return context


def check_pair(certificate: str, key: str, what: str) -> CertificateInfo:
    """What a certificate says, once its key was found to belong to it; else an `InputError`. Its dates are not judged.

    ``what`` it is, without an article: ``client certificate``.
    """
    chain = parse(certificate, f"The {what}")
    if _public_bytes(parse_key(key, f"The {what}'s key").public_key()) != _public_bytes(chain[0].public_key()):
        raise InputError(f"The key does not belong to the {what}.")
    return describe(chain[0])


def load_pair(context: ssl.SSLContext, certificate: str, key: str, what: str) -> None:
    """Let a context show this certificate from its next connection on."""
    # OpenSSL's Python binding takes files only: one in memory, ours alone, gone when its descriptor is closed.
    descriptor = os.memfd_create("bacpipes-pair", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(f"{certificate.rstrip()}\n{key.rstrip()}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_passphrase)
    except ssl.SSLError as error:
        reason = (error.reason or "unknown").lower().replace("_", " ")
        raise InputError(f"The {what} and key can't be used: {reason}.") from None
    finally:
        os.close(descriptor)


def _no_passphrase() -> str:
    raise InputError("The key is protected by a passphrase.", "Give it without one.")


def _check_client(identity: Identity, authorities: Sequence[x509.Certificate]) -> list[str]:
    if identity.client_certificate is None and identity.client_key is None:
        return []
    if identity.client_certificate is None:
        raise InputError("There is a client key, but no client certificate.", "Both belong together.")
    if identity.client_key is None:
        raise InputError("There is a client certificate, but no client key.", "Both belong together.")
    chain = parse(identity.client_certificate, "The client certificate")
    key = parse_key(identity.client_key, "The client key")
    if _public_bytes(key.public_key()) != _public_bytes(chain[0].public_key()):
        raise InputError("The client key does not belong to the client certificate.")
    for certificate in chain:
        _check_dates(certificate, "The client certificate")
    _check_usage(chain[0])
    return _check_chain(chain, authorities)


def _check_dates(certificate: x509.Certificate, what: str) -> None:
    info = describe(certificate)
    now = datetime.now(UTC)
    if info.not_after < now:
        raise InputError(f"{what} ({info.subject}) expired on {info.not_after:%Y-%m-%d %H:%M} UTC.")
    if info.not_before > now:
        raise InputError(
            f"{what} ({info.subject}) is valid only from {info.not_before:%Y-%m-%d %H:%M} UTC.", "Is our clock right?"
        )


def _check_usage(certificate: x509.Certificate) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(usage):
        raise InputError(
            f"The client certificate ({_name(certificate.subject)}) is not made for clients.",
            "Its extended key usage lacks clientAuth; is it a broker's certificate?",
        )


def _check_chain(chain: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate]) -> list[str]:
    """Verify each signature whose issuer is at hand. Another CA than the broker's may have issued the client's, so an
    issuer that is not at hand is a remark; one that is at hand and did not sign is an error."""
    known = [*chain[1:], *authorities]
    for certificate in chain:
        issuers = [candidate for candidate in known if candidate.subject == certificate.issuer]
        if not issuers:
            issuer, subject = _name(certificate.issuer), _name(certificate.subject)
            return [f"the signature on {subject} was not verified: its issuer {issuer} is not in the CA certificate"]
        if not any(_signed(certificate, issuer) for issuer in issuers):
            raise InputError(
                f"The client certificate ({_name(certificate.subject)}) was not signed by the CA certificate that "
                f"has its issuer's name ({_name(certificate.issuer)})."
            )
        if any(issuer in authorities for issuer in issuers):
            break
    return []


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _public_bytes(key: object) -> bytes:
    data: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return data


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    with contextlib.suppress(x509.ExtensionNotFound, ValueError):
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return tuple(_texts(extension.value))
    return ()


def _texts(names: Iterable[x509.GeneralName]) -> Iterable[str]:
    return (str(name.value) for name in names if isinstance(name, (x509.DNSName, x509.IPAddress)))


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string() or "(no name)"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
