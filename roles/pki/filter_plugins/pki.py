"""What the role must find out about certificates before it acts. It runs on the controller, and only reads."""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

_BEGIN = "-----BEGIN CERTIFICATE-----"
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)
_USAGES = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
# What a certificate of ours may carry. A machine writes its own request, and the CA signs what the request says: so
# anything else in it is refused.
_EXTENSIONS = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
}


def pki_read(path: str) -> str:
    """A file's text; nothing where there is no such file."""
    file = Path(path).expanduser()
    return file.read_text() if file.is_file() else ""


def pki_mode(path: str) -> str:
    """A file's permissions as four octal digits; nothing where there is no such file."""
    file = Path(path).expanduser()
    return f"{file.stat().st_mode & 0o7777:04o}" if file.exists() else ""


def pki_names(names: Iterable[str]) -> list[str]:
    """Names and addresses as the subject alternative names of a certificate, in their order, each once."""
    return list(dict.fromkeys(f"{'IP' if _address(name) else 'DNS'}:{_canonical(name)}" for name in names))


def pki_bad_names(names: Iterable[object]) -> list[str]:
    """Those that are neither an address nor a DNS name."""
    return [repr(name) for name in names if not (isinstance(name, str) and (_address(name) or _is_dns(name)))]


def pki_days_left(pem: str, now: datetime | None = None) -> float:
    """Days until a certificate ends; negative once it has ended."""
    return (_certificate(pem).not_valid_after_utc - (now or _now())) / timedelta(days=1)


def pki_jitter(host: str, days: float) -> float:
    """The days by which this host renews earlier than the latest: the same at each run, spread evenly over hosts."""
    return int(hashlib.sha256(host.encode()).hexdigest()[:8], 16) / 0x1_0000_0000 * days


def pki_due(
    pem: str,
    host: str,
    before_days: float,
    jitter_days: float,
    revoked: Iterable[dict[str, Any]] = (),
    now: datetime | None = None,
) -> bool:
    """Whether an issued certificate must be replaced: by its age, or because it is revoked. None at all is not due."""
    if not pem:
        return False
    if not pki_serial(pem):
        return True
    if _certificate(pem).serial_number in {each["serial_number"] for each in revoked}:
        return True
    return pki_days_left(pem, now) < before_days + pki_jitter(host, jitter_days)


def pki_serial(pem: str) -> str:
    """A certificate's serial number in hexadecimal digits; nothing where the text is no certificate."""
    try:
        return f"{_certificate(pem).serial_number:040X}"
    except ValueError:
        return ""


def pki_record(pem: str, host: str, kind: str, generation: str) -> str:
    """A line of the index of issued certificates."""
    certificate = _certificate(pem)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex().upper()
    ends = f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    return ",".join((host, kind, str(common), pki_serial(pem), ends, generation, fingerprint))


def pki_signer(pem: str, authorities: dict[str, str]) -> str:
    """The generation whose CA signed a certificate; nothing where it is none of these."""
    return next((name for name, authority in authorities.items() if authority and _signed(pem, authority)), "")


def pki_subject(pem: str) -> list[dict[str, str]]:
    """A certificate's subject in the form that the modules take."""
    short = {NameOID.COMMON_NAME: "CN", NameOID.ORGANIZATION_NAME: "O", NameOID.ORGANIZATIONAL_UNIT_NAME: "OU"}
    return [{short.get(each.oid, each.oid.dotted_string): str(each.value)} for each in _certificate(pem).subject]


def pki_ca_problems(
    directory: str, generation: str, passphrase: str, need_days: float, signs: bool = True
) -> list[str]:
    """Why this CA can't be used. A CA that does not exist at all is none: it will be made.

    One that only stays in the bundle (signs is false) may have its key elsewhere, and may be near its end.
    """
    where = f"{directory}/{generation}"
    key, pem = pki_read(f"{where}/ca.key"), pki_read(f"{where}/ca.pem")
    if not key:
        text = f"{where}/ca.pem exists but its key ca.key is missing: put it back from the backup, or change over"
        return [f"{text} to a new pki_ca_generation"] if pem and signs else []
    problem, public = _open_key(key, passphrase)
    if problem:
        return [f"{where}/ca.key {problem}"]
    if not pem:
        return []
    try:
        certificate = _certificate(pem)
    except ValueError:
        return [f"{where}/ca.pem is not a certificate: put it back from the backup"]
    problems = []
    if certificate.public_key() != public:
        problems.append(f"{where}/ca.pem does not belong to {where}/ca.key: put both back from the same backup")
    left = pki_days_left(pem)
    if signs and left < need_days:
        problems.append(
            f"the CA {generation} ends in {left:.0f} days, which is less than pki_renew_before_days and"
            f" pki_renew_jitter_days together ({need_days:.0f}): change over to a new pki_ca_generation"
        )
    return problems


def pki_trust_problem(installed: str, bundle: Sequence[str], signing: str) -> str:
    """Why a machine that trusts what is installed must not be given this bundle and certificates of this CA."""
    try:
        held = _prints([installed])
    except ValueError:
        held = set()
    if not held:
        return ""
    if not held & _prints(bundle):
        return "holds none of the CAs in pki_ca_trusted"
    if not signing or not _prints([signing]) <= held:
        return "does not hold the CA of pki_ca_generation yet"
    return ""


def pki_left_behind(
    issued: Iterable[str], trusted: Sequence[str], revoked: Iterable[dict[str, Any]], now: datetime | None = None
) -> list[str]:
    """The files of certificates in use that would be refused, because no trusted CA signed them."""
    if not all(trusted):
        return []
    serials = {each["serial_number"] for each in revoked}
    left = []
    for path in sorted(issued):
        pem = pki_read(path)
        if not pki_serial(pem) or _certificate(pem).serial_number in serials or pki_days_left(pem, now) <= 0:
            continue
        if not any(_signed(pem, authority) for authority in trusted):
            left.append(Path(path).name)
    return left


def pki_revoked(entries: Iterable[dict[str, Any]], archive: str) -> list[dict[str, Any]]:
    """The entries of a revocation list in the form that the module takes."""
    revoked = []
    for entry in entries:
        made: dict[str, Any] = {"serial_number": _serial(entry, archive)}
        made["revocation_date"] = f"{_date(entry):%Y%m%d%H%M%SZ}"
        if entry.get("reason"):
            made["reason"] = entry["reason"]
        revoked.append(made)
    return revoked


def pki_revoked_problems(entries: Iterable[dict[str, Any]], archive: str) -> list[str]:
    """What is wrong with the entries of a revocation list."""
    problems = []
    for number, entry in enumerate(entries, 1):
        for read in (lambda each: _serial(each, archive), _date):
            try:
                read(entry)
            except ValueError as error:
                problems.append(f"entry {number}: {error}")
    return problems


def pki_crl_due(
    crl: str, authority: str, wanted: Sequence[dict[str, Any]], before_days: float, now: datetime | None = None
) -> bool:
    """Whether a CA's revocation list must be signed anew: other entries, or soon out of date."""
    if not crl:
        return True
    loaded = x509.load_pem_x509_crl(crl.encode())
    if not loaded.is_signature_valid(_certificate(authority).public_key()):  # type: ignore[arg-type]
        return True
    ends = loaded.next_update_utc
    if ends is None or ends - (now or _now()) < timedelta(days=before_days):
        return True
    return {_listed(each) for each in loaded} != {_asked(each) for each in wanted}


def pki_request_problems(pem: str, common_name: str, names: Iterable[str], usage: str) -> list[str]:
    """What a machine's request asks for beyond what the inventory declares."""
    request = x509.load_pem_x509_csr(pem.encode())
    problems = []
    if not request.is_signature_valid:
        problems.append("its signature is wrong")
    if request.subject != x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]):
        problems.append(f"it is made out to {request.subject.rfc4514_string()} and not to CN={common_name}")
    extensions = request.extensions
    for each in extensions:
        if each.oid not in _EXTENSIONS:
            problems.append(f"it asks for the extension {each.oid.dotted_string}")
    asked = _alternatives(extensions)
    if asked != set(names):
        problems.append(f"it asks for the names {', '.join(sorted(asked)) or 'none'}")
    if _constraint(extensions) is not False:
        problems.append("it does not say that it is no CA")
    if _extended(extensions) != [_USAGES[usage]]:
        problems.append(f"its extended key usage is not {usage} alone")
    if _key_usage(extensions) != {"digital_signature"}:
        problems.append("its key usage is not digitalSignature alone")
    return problems


def _now() -> datetime:
    return datetime.now(UTC)


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _address(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return ""


def _canonical(name: str) -> str:
    return _address(name) or name.lower()


def _is_dns(name: str) -> bool:
    labels = name.split(".")
    # A last label of digits alone is a mistyped address, and no top-level domain.
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def _open_key(key: str, passphrase: str) -> tuple[str, object]:
    if "ENCRYPTED" not in key:
        return "is not encrypted: encrypt it with pki_ca_passphrase (openssl pkey -aes256)", None
    try:
        loaded = load_pem_private_key(key.encode(), str(passphrase).encode())
    except ValueError:
        return "can't be opened: pki_ca_passphrase is not the passphrase it was made with, or the file is damaged", None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        return "is not a key on an elliptic curve", None
    return "", loaded.public_key()


def _signed(pem: str, authority: str) -> bool:
    try:
        _certificate(pem).verify_directly_issued_by(_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _prints(texts: Iterable[str]) -> set[bytes]:
    parts = (_BEGIN + part for text in texts for part in text.split(_BEGIN)[1:])
    return {_certificate(part).fingerprint(hashes.SHA256()) for part in parts}


def _serial(entry: dict[str, Any], archive: str) -> int:
    serial, name = str(entry.get("serial") or ""), str(entry.get("certificate") or "")
    if bool(serial) == bool(name):
        raise ValueError("needs serial or certificate, and not both")
    if serial:
        digits = serial.replace(":", "")
        if not re.fullmatch(r"[0-9A-Fa-f]{2,40}", digits):
            raise ValueError(f"serial {serial} is not a hexadecimal number: copy it from index.csv, in quotes")
        return int(digits, 16)
    if "/" in name or not pki_read(f"{archive}/{name}"):
        raise ValueError(f"certificate {name} is not the name of a file in {archive}")
    return _certificate(pki_read(f"{archive}/{name}")).serial_number


def _date(entry: dict[str, Any]) -> datetime:
    text = str(entry.get("date") or "")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"date {text or '(none)'} is not of the form 2026-01-31") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)


def _listed(revoked: x509.RevokedCertificate) -> tuple[int, str, str]:
    try:
        reason = revoked.extensions.get_extension_for_class(x509.CRLReason).value.reason.name
    except x509.ExtensionNotFound:
        reason = ""
    return revoked.serial_number, reason, f"{revoked.revocation_date_utc:%Y%m%d%H%M%SZ}"


def _asked(entry: dict[str, Any]) -> tuple[int, str, str]:
    return entry["serial_number"], entry.get("reason", ""), entry["revocation_date"]


def _alternatives(extensions: x509.Extensions) -> set[str]:
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    made = set()
    for name in names:
        kind = type(name).__name__.replace("DNSName", "DNS").replace("IPAddress", "IP")
        made.add(f"{kind}:{name.value}")
    return made


def _constraint(extensions: x509.Extensions) -> bool | None:
    try:
        return extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return None


def _extended(extensions: x509.Extensions) -> list[x509.ObjectIdentifier]:
    try:
        return list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return []


def _key_usage(extensions: x509.Extensions) -> set[str]:
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return set()
    # encipher_only and decipher_only mean something, and can be read, only beside key_agreement.
    plain = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    names = (*plain, "key_agreement", "key_cert_sign", "crl_sign")
    return {name for name in names if getattr(usage, name)}


class FilterModule:
    """The filters, by the names that templates use."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """All of them."""
        own = (pki_read, pki_mode, pki_names, pki_bad_names, pki_days_left, pki_jitter, pki_due, pki_serial, pki_record)
        more = (pki_signer, pki_subject, pki_ca_problems, pki_trust_problem, pki_left_behind, pki_revoked)
        rest = (pki_revoked_problems, pki_crl_due, pki_request_problems)
        return {each.__name__: each for each in (*own, *more, *rest)}
