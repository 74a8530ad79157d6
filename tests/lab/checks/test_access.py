"""Who may come in, and who may not. Each refusal stands beside a success: a dead service refuses everybody."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from verification.observed import READER, Observed
from verification.outcome import fail, not_verified, wait_for

Observe = Callable[[str], None]

EXPORT_COLUMNS = "time,haystack_name,dis,value,units,quality,device_name,device_ip,object_type,object_instance"
ROUTES = (
    ("GET", "/api/points"), ("GET", "/api/devices"), ("GET", "/api/dashboard/summary"),
    ("GET", "/api/timeseries/export"), ("POST", "/api/bacnet/write"),
)  # fmt: skip
WRONG = "verification-wrong-secret"


def test_broker_refuses_strangers(observed: Observed, observe: Observe) -> None:
    site = observed.site
    right = _mqtt_password(observed)
    place = {"address": "127.0.0.1", "port": site.broker_port}
    answers = _knock(
        observed,
        {
            "the right password": place | {"user": site.broker_user, "password": right},
            "no user": place,
            "a wrong password": place | {"user": site.broker_user, "password": WRONG},
            "an unknown user": place | {"user": "nobody", "password": right},
        },
    )
    _judge(answers, {"the right password"}, f"the broker on 127.0.0.1:{site.broker_port}")
    observe(_told(answers))


def test_broker_certificates(observed: Observed, observe: Observe) -> None:
    site = observed.site
    if not site.broker_tls_addresses:
        not_verified("the broker's TLS listener is not published at this site")
    right, name = _mqtt_password(observed), (site.certificate_names or site.broker_tls_addresses)[0]
    ours = {"certificate": f"{site.directory}/tls/client.pem", "key": f"{site.directory}/tls/client.key"}
    for address in site.broker_tls_addresses:
        place: dict[str, Any] = {"address": address, "port": site.broker_tls_port}
        tls = {"ca": f"{site.directory}/tls/ca.pem", "name": name}
        user = {"user": site.broker_user, "password": right}
        attempts = {
            "our certificate and password": place | user | {"tls": tls | ours},
            "our certificate, no user": place | {"tls": tls | ours},
            "our certificate, a wrong password": place | user | {"password": WRONG, "tls": tls | ours},
            "no TLS": place | user,
        }
        if site.broker_client_certificate:
            attempts["no certificate"] = place | user | {"tls": tls}
            attempts["a certificate of another CA"] = (
                place | user | {"tls": tls | {"certificate_text": _foreign_certificate()}}
            )
        answers = _knock(observed, attempts)
        _judge(answers, {"our certificate and password"}, f"the broker on {address}:{site.broker_tls_port}")
        observe(f"{address}:{site.broker_tls_port}: {_told(answers)}")
    if not site.broker_client_certificate:
        observe("client certificates are not asked for at this site")


def test_database_refuses_strangers(observed: Observed, observe: Observe) -> None:
    with observed.connect() as connection:
        connection.execute("SELECT 1 FROM sensor_readings LIMIT 1")
        connection.execute("SET default_transaction_read_only = off")  # what it may is to be seen, not a default
        connection.commit()
        _expect_refusal(lambda: connection.execute("DELETE FROM reading WHERE false"), "a reader that deletes")
    observe("the reader reads and may not delete")
    _expect_refusal(lambda: observed.connect(password=WRONG), "a wrong password")
    _expect_refusal(lambda: observed.connect(user="postgres", password=WRONG), "the superuser over the network")
    observe("a wrong password and the superuser are refused")
    place = {"port": observed.site.database_port}
    for address, opens in observed.database_from_outside.items():
        if not opens.result(timeout=600):
            observe(f"{address}:{observed.site.database_port} does not answer the controller")
            continue
        if address not in observed.site.database_addresses:
            remedy = "publish the database on 127.0.0.1 only, or declare the address"
            fail(
                "the database on the loopback address only", f"{address}:{observed.site.database_port} answers", remedy
            )
        _expect_refusal(lambda: observed.connect(host=address, sslmode="disable", **place), f"{address} without TLS")  # noqa: B023
        observe(f"{address}: refused without TLS")


def test_http_needs_token(observed: Observed, observe: Observe) -> None:
    for method, path in ROUTES:
        for token in (None, WRONG):
            body = {} if method == "POST" else None
            answer = observed.http(method, path, token, body)
            if answer.status != 401:
                which = "without a token" if token is None else "with a wrong token"
                remedy = "stop publishing the exporter (docs/api.md) and look at its version"
                fail(f"401 for {method} {path} {which}", f"{answer.status}", remedy)
    observe(f"401 for all {len(ROUTES)} routes, without a token and with a wrong one")


def test_http_answers(observed: Observed, observe: Observe) -> None:
    token = observed.token

    def ready() -> Any:
        answer = observed.http("GET", "/readyz", token)
        return answer if answer.status == 200 else None

    if wait_for(ready, 5 if observed.services_down else 60, every=1.0) is None:
        last = observed.http("GET", "/readyz", token)
        fail(
            "/readyz: 200",
            f"{last.status}: {last.body.decode(errors='replace')[:500]}",
            "the answer names each reason and its remedy",
        )
    points = observed.http("GET", "/api/points", token)
    polled = [point for point in points.json if point["enabled"]] if points.status == 200 else []
    if len(polled) != len(observed.points):
        fail(
            f"{len(observed.points)} points at /api/points",
            f"HTTP {points.status}, {len(polled)} points",
            "import the points file",
        )
    start = (observed.began - timedelta(hours=1)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    export = observed.http("GET", f"/api/timeseries/export?start={start}&format=csv", token)
    lines = export.body.decode(errors="replace").splitlines()
    if export.status != 200 or not lines or lines[0].lstrip("\ufeff") != EXPORT_COLUMNS or len(lines) < 2:
        seen = f"HTTP {export.status}, {max(0, len(lines) - 1)} rows, header {lines[:1]}"
        fail(
            "an export with the specified columns and at least one row", seen, "docs/api.md; is there a reading at all?"
        )
    observe(f"ready; {len(polled)} points; export of the last hour: {len(lines) - 1} rows")


def _mqtt_password(observed: Observed) -> str:
    return observed.machine.secret(f"{observed.site.secrets}/mqtt_{observed.site.broker_user}.password")


def _knock(observed: Observed, attempts: dict[str, dict[str, Any]]) -> dict[str, str]:
    answers = observed.machine.python("mqtt_probe", list(attempts.values()))
    return dict(zip(attempts, answers, strict=True))


def _judge(answers: dict[str, str], welcome: set[str], where: str) -> None:
    remedy = "compare the broker's configuration with docs/broker.md, and `docker compose logs broker`"
    for what, answer in answers.items():
        if what in welcome and answer != "accepted":
            fail(f"{where} accepts {what}", answer, remedy)
        if what not in welcome and not answer.startswith("refused"):
            fail(f"{where} refuses {what}", answer, remedy)


def _told(answers: dict[str, str]) -> str:
    return ", ".join(f"{what}: {re.sub(r':.*', '', answer)}" for what, answer in answers.items())


def _foreign_certificate() -> str:
    """Certificate and key of a client whose CA nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return (private + certificate.public_bytes(serialization.Encoding.PEM)).decode()


def _expect_refusal(attempt: Callable[[], Any], what: str) -> None:
    try:
        attempt()
    except psycopg.errors.InsufficientPrivilege:
        return
    except psycopg.OperationalError as error:
        words = str(error)
        if any(part in words for part in ("authentication failed", "pg_hba.conf", "rejects connection")):
            return
        fail(
            f"the database refuses {what}", words.splitlines()[-1], "is the database up? `docker compose logs database`"
        )
    fail(f"the database refuses {what}", f"{READER} got in or through", "compare pg_hba.conf with docs/database.md")
