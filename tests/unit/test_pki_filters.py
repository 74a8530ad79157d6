"""What role pki finds out about certificates before it acts."""

import importlib.util
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pki import Authority, private_pem

_SOURCE = Path(__file__).parents[2] / "roles/pki/filter_plugins/pki.py"
_SPEC = importlib.util.spec_from_file_location("pki_filters", _SOURCE)
assert _SPEC is not None
assert _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)
FILTERS: dict[str, Any] = _MODULE.FilterModule().filters()

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
PASSPHRASE = "a passphrase for tests"


def call(name: str, *arguments: object) -> Any:
    return FILTERS[f"pki_{name}"](*arguments)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("CA one")


@pytest.fixture(scope="module")
def other() -> Authority:
    return Authority("CA two")


def test_names_become_alternative_names_in_order_and_once() -> None:
    names = ["Macau.Example.net", "192.0.2.7", "2001:DB8::1", "macau.example.net"]
    assert call("names", names) == ["DNS:macau.example.net", "IP:192.0.2.7", "IP:2001:db8::1"]


@pytest.mark.parametrize(
    "name", ["", "a b", "192.0.2.7/24", "10.0.0", "10.0.0.300", "-a.net", "a..b", "host:8883", "*.net", 7]
)
def test_what_is_no_name_is_found(name: object) -> None:
    assert call("bad_names", ["good.example.net", "192.0.2.7", "site_1", name]) == [repr(name)]


def test_jitter_is_fixed_for_a_host_and_spread_over_hosts() -> None:
    days = [call("jitter", f"site-{number}", 30) for number in range(1000)]
    assert days == [call("jitter", f"site-{number}", 30) for number in range(1000)]
    assert 0 <= min(days) < 1
    assert 29 < max(days) < 30
    a_day = [sum(1 for each in days if day <= each < day + 1) for day in range(30)]
    assert max(a_day) < 60, "a thousand hosts over thirty days are about 33 a day"


@pytest.mark.parametrize(("left", "due"), [(59, True), (61, False)])
def test_renewal_is_due_by_age(authority: Authority, left: int, due: bool) -> None:
    pem = authority.client("a", ends=left * DAY).certificate
    assert call("due", pem, "a", 60, 0) is due


def test_jitter_only_brings_renewal_forward(authority: Authority) -> None:
    jitter = call("jitter", "a", 30)
    assert 1 < jitter < 29
    early = authority.client("a", ends=(60 + jitter + 0.1) * DAY).certificate
    late = authority.client("a", ends=(60 + jitter - 0.1) * DAY).certificate
    assert (call("due", early, "a", 60, 30), call("due", late, "a", 60, 30)) == (False, True)


def test_a_revoked_or_damaged_certificate_is_due_and_a_missing_one_is_not(authority: Authority) -> None:
    pem = authority.client("a", ends=300 * DAY).certificate
    serial = x509.load_pem_x509_certificate(pem.encode()).serial_number
    assert not call("due", pem, "a", 60, 0, [{"serial_number": serial + 1}])
    assert call("due", pem, "a", 60, 0, [{"serial_number": serial}])
    assert call("due", "no certificate", "a", 60, 0)
    assert not call("due", "", "a", 60, 0)


# The CA on the controller


def ca_directory(tmp_path: Path, *, days: float = 3650) -> tuple[Path, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW - DAY, NOW + days * DAY)
    certificate = builder.sign(key, hashes.SHA256())
    place = tmp_path / "ca-1"
    place.mkdir(parents=True)
    (place / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (place / "ca.key").write_text(private_pem(key, PASSPHRASE))
    return place, key


def problems(tmp_path: Path, passphrase: str = PASSPHRASE, *, signs: bool = True) -> str:
    return "; ".join(call("ca_problems", str(tmp_path), "ca-1", passphrase, 90, signs))


def test_a_whole_ca_and_one_that_does_not_exist_have_no_problem(tmp_path: Path) -> None:
    assert problems(tmp_path) == ""
    ca_directory(tmp_path)
    assert problems(tmp_path) == ""


def test_a_wrong_passphrase_names_the_variable_and_not_its_value(tmp_path: Path) -> None:
    ca_directory(tmp_path)
    text = problems(tmp_path, "wrong wrong wrong")
    assert "pki_ca_passphrase" in text
    assert "wrong wrong" not in text


def test_a_missing_key_is_a_problem_only_where_the_ca_signs(tmp_path: Path) -> None:
    (ca_directory(tmp_path)[0] / "ca.key").unlink()
    assert "key" in problems(tmp_path)
    assert "backup" in problems(tmp_path)
    assert problems(tmp_path, signs=False) == ""


def test_an_interrupted_birth_is_no_problem(tmp_path: Path) -> None:
    (ca_directory(tmp_path)[0] / "ca.pem").unlink()
    assert problems(tmp_path) == ""


def test_a_key_in_the_clear_is_refused(tmp_path: Path) -> None:
    place, key = ca_directory(tmp_path)
    (place / "ca.key").write_text(private_pem(key))
    assert "not encrypted" in problems(tmp_path)


def test_a_key_of_another_ca_is_refused(tmp_path: Path) -> None:
    place, _ = ca_directory(tmp_path)
    (place / "ca.key").write_text(private_pem(ec.generate_private_key(ec.SECP256R1()), PASSPHRASE))
    assert "does not belong" in problems(tmp_path)


def test_a_ca_near_its_end_does_not_sign(tmp_path: Path) -> None:
    ca_directory(tmp_path, days=80)
    assert "change over" in problems(tmp_path)
    assert problems(tmp_path, signs=False) == ""


# Which CAs a machine trusts


def test_trust_goes_over_in_steps_only(authority: Authority, other: Authority) -> None:
    old, new = authority.certificate, other.certificate
    assert call("trust_problem", "", [old], old) == "", "a fresh machine"
    assert call("trust_problem", old, [old], old) == ""
    assert call("trust_problem", old, [old, new], old) == "", "step 1"
    assert call("trust_problem", old + new, [old, new], new) == "", "step 2"
    assert call("trust_problem", old + new, [new], new) == "", "step 3"
    assert "pki_ca_trusted" in call("trust_problem", old, [new], new)
    assert "pki_ca_generation" in call("trust_problem", old, [old, new], new), "step 2 before step 1"
    assert "pki_ca_trusted" in call("trust_problem", old, [""], ""), "the controller's directory is empty"


def test_certificates_of_a_ca_that_leaves_are_found(tmp_path: Path, authority: Authority, other: Authority) -> None:
    made = {
        "a-server": authority.server("a").certificate,
        "b-server": other.server("b").certificate,
        "c-server": authority.server("c", begins=-9 * DAY, ends=-DAY).certificate,
    }
    for name, pem in made.items():
        (tmp_path / f"{name}.pem").write_text(pem)
    files = [str(path) for path in tmp_path.iterdir()]
    assert call("left_behind", files, [authority.certificate, other.certificate], []) == []
    assert call("left_behind", files, [other.certificate], []) == ["a-server.pem"]
    serial = int(call("serial", made["a-server"]), 16)
    assert call("left_behind", files, [other.certificate], [{"serial_number": serial}]) == []


def test_the_signer_of_a_certificate_is_found_by_its_signature(authority: Authority) -> None:
    same_name = Authority("CA one")
    pem = authority.client("a").certificate
    assert call("signer", pem, {"ca-2": same_name.certificate, "ca-1": authority.certificate}) == "ca-1"
    assert call("signer", pem, {"ca-2": same_name.certificate, "ca-3": ""}) == ""


# Revocation


def test_entries_name_a_serial_or_an_archived_certificate(tmp_path: Path, authority: Authority) -> None:
    pem = authority.client("a").certificate
    (tmp_path / "a.pem").write_text(pem)
    entries = [
        {"serial": "0A:ff", "date": "2026-01-31", "reason": "superseded"},
        {"certificate": "a.pem", "date": datetime(2026, 1, 31, tzinfo=UTC).date()},
    ]
    assert call("revoked_problems", entries, str(tmp_path)) == []
    first, second = call("revoked", entries, str(tmp_path))
    assert first == {"serial_number": 0x0AFF, "revocation_date": "20260131000000Z", "reason": "superseded"}
    assert second == {"serial_number": int(call("serial", pem), 16), "revocation_date": "20260131000000Z"}


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"date": "2026-01-31"}, "serial or certificate"),
        ({"serial": "0A", "certificate": "a.pem", "date": "2026-01-31"}, "not both"),
        ({"serial": "xyz", "date": "2026-01-31"}, "hexadecimal"),
        ({"certificate": "../issued/a.pem", "date": "2026-01-31"}, "not the name of a file"),
        ({"serial": "0A0B", "date": "31.1.2026"}, "date"),
        ({"serial": "0A0B"}, "date"),
    ],
)
def test_wrong_entries_are_named(tmp_path: Path, entry: dict[str, str], text: str) -> None:
    (found,) = call("revoked_problems", [{"serial": "0A0B", "date": "2026-01-31"}, entry], str(tmp_path))
    assert found.startswith("entry 2: ")
    assert text in found


def crl(tmp_path: Path, entries: list[dict[str, Any]], days: float = 398) -> tuple[str, str]:
    place, key = ca_directory(tmp_path)
    builder = x509.CertificateRevocationListBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]), NOW - DAY, NOW + days * DAY
    )
    for entry in entries:
        one = x509.RevokedCertificateBuilder(entry["serial_number"], datetime(2026, 1, 31, tzinfo=UTC))
        if "reason" in entry:
            one = one.add_extension(x509.CRLReason(x509.ReasonFlags[entry["reason"]]), critical=False)
        builder = builder.add_revoked_certificate(one.build())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), (place / "ca.pem").read_text()


def test_a_list_is_signed_anew_when_entries_or_age_say_so(tmp_path: Path, authority: Authority) -> None:
    wanted = [
        {"serial_number": 7, "revocation_date": "20260131000000Z", "reason": "superseded"},
        {"serial_number": 8, "revocation_date": "20260131000000Z"},
    ]
    text, ca = crl(tmp_path, wanted)
    assert not call("crl_due", text, ca, wanted, 120)
    assert call("crl_due", "", ca, wanted, 120)
    assert call("crl_due", text, ca, wanted[:1], 120)
    assert call("crl_due", text, ca, [*wanted, {"serial_number": 9, "revocation_date": "20260131000000Z"}], 120)
    assert call("crl_due", text, ca, [wanted[0] | {"reason": "key_compromise"}, wanted[1]], 120)
    assert call("crl_due", text, authority.certificate, wanted, 120), "signed by another CA"
    old, ca = crl(tmp_path / "old", wanted, days=119)
    assert call("crl_due", old, ca, wanted, 120)


# What a machine asks for


def request(*extra: tuple[x509.ExtensionType, bool], name: str = "macau", **changed: x509.ExtensionType) -> str:
    usage = {"content_commitment": False, "key_encipherment": False, "data_encipherment": False, "key_agreement": False}
    usage |= {"key_cert_sign": False, "crl_sign": False, "encipher_only": False, "decipher_only": False}
    parts: dict[str, x509.ExtensionType] = {
        "constraints": x509.BasicConstraints(ca=False, path_length=None),
        "names": x509.SubjectAlternativeName([x509.DNSName("macau.example.net")]),
        "usage": x509.KeyUsage(digital_signature=True, **usage),
        "extended": x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    } | changed
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    for extension, critical in [*((each, False) for each in parts.values()), *extra]:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def asked(pem: str) -> str:
    return "; ".join(call("request_problems", pem, "macau", ["DNS:macau.example.net"], "serverAuth"))


def test_the_declared_request_is_signed() -> None:
    assert asked(request()) == ""


@pytest.mark.parametrize(
    ("pem", "text"),
    [
        (request(name="klcc"), "made out to CN=klcc"),
        (
            request(names=x509.SubjectAlternativeName([x509.DNSName("macau.example.net"), x509.DNSName("b.net")])),
            "DNS:b.net",
        ),
        (request(names=x509.SubjectAlternativeName([x509.RFC822Name("macau.example.net")])), "names"),
        (request(constraints=x509.BasicConstraints(ca=True, path_length=0)), "no CA"),
        (request(extended=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])), "serverAuth"),
        (request((x509.OCSPNoCheck(), False)), "extension"),
    ],
)
def test_a_request_for_more_is_refused(pem: str, text: str) -> None:
    assert text in asked(pem)


def test_an_open_key_file_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "ca.key"
    assert call("mode", str(file)) == ""
    file.touch()
    os.chmod(file, 0o644)  # noqa: PTH101 - the mode, whatever the umask
    assert call("mode", str(file)) == "0644"
