"""What the site has, central has; and the site is nobody else there."""

from collections.abc import Callable
from typing import Any

from verification.observed import Observed
from verification.outcome import fail, not_verified, wait_for

Observe = Callable[[str], None]
OTHER = "somebody_else"
SETTLE = 90  # seconds for what is on its way
COMPARED = """
    SELECT count(*) AS n, md5(string_agg(concat_ws(' ', (extract(epoch FROM time) * 1000)::bigint, device_id,
        object_type, object_instance, value, quality),
        ',' ORDER BY time, device_id, object_type, object_instance)) AS sum
    FROM sensor_readings WHERE site_id = {site} AND time >= {since}::timestamptz AND time < {until}::timestamptz
"""


def test_central_live(observed: Observed, observe: Observe) -> None:
    if not observed.site.central_live:
        not_verified("this site has no live lane")
    newest = _newest(observed, "live")
    observe(f"the newest is of {newest:%H:%M:%S} UTC")


def test_central_complete(observed: Observed, observe: Observe) -> None:
    if not observed.site.central_complete:
        not_verified("this site has no complete lane")
    until = _newest(observed, "complete")
    span = {"site": observed.site.site, "since": str(observed.began), "until": str(until)}
    here: dict[str, Any] = {}
    there: dict[str, Any] = {}

    def equal() -> bool:
        nonlocal here, there
        (here,), (there,) = observed.admin(COMPARED, **span), observed.central(COMPARED, **span)
        return bool(here["n"] and here == there)

    if not wait_for(equal, SETTLE, every=2.0):
        seen = f"{here.get('n')} rows here, {there.get('n')} there, or other values"
        fail(f"the same rows on both sides since {observed.began}", seen, "`bacpipes reconcile` on the machine")
    observe(f"{here['n']} readings of {observed.began:%H:%M:%S} to {until:%H:%M:%S} UTC: the same on both sides")


def test_central_hostile(observed: Observed, observe: Observe) -> None:
    site = observed.site
    told = []
    if site.central_live:
        answers = _publish(observed, [f"{site.site}/verify", f"{OTHER}/verify", f"bacnet/write/result/{OTHER}",
                                      f"bacnet/write/command/{site.site}", "bacnet/write/command"])  # fmt: skip
        _judge(answers, f"{site.site}/verify", "central's broker", "mqtt_broker_patterns of central")
        told.append(f"broker: {len(answers) - 1} topics refused")
    if site.central_complete:
        own = "INSERT INTO reading_batch (site_id, base_time, point_id, offset_ms, value, quality, reason) VALUES (%s)"
        batch = own % "'{}', now(), '{{}}', '{{}}', '{{}}', '{{}}', '{{}}'"
        attempts = {
            "its own batch": {"statement": batch.format(site.site)},
            "a batch of another site": {"statement": batch.format(OTHER)},
            "the readings": {"statement": "SELECT FROM reading"},
            "another site's role": {"statement": "SELECT", "as": {"user": f"site_{OTHER}"}},
            "the service's role": {"statement": "SELECT", "as": {"user": "central_service"}},
            "without its certificate": {"statement": "SELECT", "as": {"sslcert": "/none", "sslkey": "/none"}},
            "without TLS": {"statement": "SELECT", "as": {"sslmode": "disable"}},
        }
        answers = observed.in_worker("central_probe", attempts)
        _judge(answers, "its own batch", "central's database", "pg_hba.conf and the grants at central")
        told.append(f"database: {len(answers) - 1} attempts refused")
    if not told:
        not_verified("this site has no lane to central")
    observe("; ".join(told))


def _newest(observed: Observed, lane: str) -> Any:
    """The time of the newest reading that came by this lane; one that was made since the verification began."""
    query = (
        "SELECT l.last_time FROM lane l JOIN site s ON s.number = l.site "
        "WHERE s.id = {site} AND l.name = {lane} AND l.last_time > {since}::timestamptz"
    )

    def look() -> list[dict[str, Any]]:
        return observed.central(query, site=observed.site.site, lane=lane, since=str(observed.began))

    found = wait_for(look, observed.patience_left + (0 if observed.services_down else SETTLE), every=1.0)
    if not found:
        logs = "broker" if lane == "live" else "worker"
        remedy = f"`docker compose logs {logs}` at the site, `docker compose logs` at central; docs/live-lane.md"
        fail(f"a fresh reading at central by the {lane} lane", "none", remedy)
    return observed.moment(found[0]["last_time"])


def _publish(observed: Observed, topics: list[str]) -> dict[str, str]:
    """What central's broker says to the site's own user about each topic."""
    site = observed.site
    tls = {"ca": f"{site.directory}/tls/ca.pem", "name": site.central_address,
           "certificate": f"{site.directory}/tls/client.pem", "key": f"{site.directory}/tls/client.key"}  # fmt: skip
    user = {"user": site.site, "password": observed.machine.secret(f"{site.secrets}/mqtt_bridge.password")}
    place = {"address": site.central_address, "port": 8883, "tls": tls} | user
    answers = observed.machine.python("mqtt_probe", [place | {"publish": topic} for topic in topics])
    return dict(zip(topics, answers, strict=True))


def _judge(answers: dict[str, str], own: str, where: str, remedy: str) -> None:
    for what, answer in answers.items():
        if what == own and answer != "accepted":
            fail(f"{where} accepts {what}", answer, f"compare {remedy}")
        if what != own and not answer.startswith("refused"):
            fail(f"{where} refuses {what}", answer, f"compare {remedy}")
