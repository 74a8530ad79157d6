"""The live lane with its real programs: broker A ▶ bridge (TLS) ▶ broker B ▶ Telegraf ▶ landing table ▶ history.

Brokers and Telegraf run with the files that the playbooks render from the example inventory (tests/live_parts.py).
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

import live_parts
import telegraf
from bacpipes.central import migrate
from bacpipes.central.settings import CentralSettings
from bacpipes.embedded import LOOPBACK
from live_parts import Broker, Client, Program, wait
from pki import Authority
from wan import Relay

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
SITE, OTHER = "macau", "klcc"
WORKER, TELEGRAF, DISPATCHER = "bacpipes_worker", "bacpipes_telegraf", "bacpipes_central"
EQUIPMENT = f"{SITE}/ahu_1"
STARTED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


class Lane:
    """Everything, on loopback."""

    def __init__(self, folder: Path, stack: ExitStack, database_url: str) -> None:
        self.authority = Authority()
        self.folder, self.database_url = folder, database_url
        self.passwords = {
            name: secrets.token_urlsafe(24) for name in (SITE, OTHER, WORKER, TELEGRAF, DISPATCHER, "bacpipes_verify")
        }
        configuration = ["broker/mosquitto/mosquitto.conf", "broker/mosquitto/acl"]
        files = [*configuration, "telegraf/telegraf.conf"]
        mosquitto = {"broker": {"engine": "mosquitto"}}
        live_parts.render(folder, "central", ["mqtt_broker", "telegraf"], files, mosquitto)
        files = [*configuration, "broker/mosquitto/bridge/central.conf"]
        live_parts.render(folder, SITE, ["mqtt_broker"], files, test_password=self.passwords[SITE])
        self.stolen = self.authority.client(SITE)
        self.authority.revoke(self.stolen)
        self.b = stack.enter_context(Broker(folder / "central", self.passwords, self.authority, "localhost"))
        self.a = Broker(folder / SITE, self.passwords, self.authority, "localhost")
        self.way = stack.enter_context(Relay((LOOPBACK, self.b.tls)))
        self.a.bridge(self.way.port, self.authority, SITE)
        stack.enter_context(self.a)
        password = self.passwords[TELEGRAF]
        self.telegraf = stack.enter_context(live_parts.run_telegraf(folder / "central", self.b, password, database_url))
        self.worker = stack.enter_context(Client(self.a.plain, WORKER, self.passwords[WORKER]))
        self.database = stack.enter_context(psycopg.connect(database_url, autocommit=True))
        self._sent = 0
        # What comes before Telegraf's very first subscription, nobody keeps.
        wait(lambda: self.publish(1, objectInstance=5) or self.rows(), "a first reading at central")
        self.publish(1, objectInstance=5)
        last = "SELECT count(*) FROM reading WHERE time = %s"
        wait(lambda: self.count(last, stamp(self._sent)), "the last of them")

    def publish(self, count: int, topic: str = f"{EQUIPMENT}/analoginput1/presentValue", **changes: Any) -> None:
        """Readings at the site, each with a time of its own."""
        for _ in range(count):
            self._sent += 1
            self.worker.publish(topic, self.reading(**({"timestamp": stamp(self._sent)} | changes)))

    def reading(self, **changes: Any) -> str:
        """A reading's payload, as the worker publishes it."""
        keys: dict[str, Any] = {
            "siteId": SITE, "equipmentType": "ahu", "equipmentId": "1", "deviceId": 12345, "deviceName": "AHU",
            "deviceIp": "10.0.0.5", "objectType": "analog-input", "objectInstance": 1, "pointId": 1, "pointName": "t",
            "haystackName": f"{SITE}.ahu.1.sensor.temp.air.supply.actual", "dis": "Supply", "value": 21.5,
            "units": "°C", "quality": "good",
        }  # fmt: skip
        return json.dumps(keys | changes)

    def rows(self) -> int:
        """Readings in central's history."""
        return self.count("SELECT count(*) FROM reading")

    def count(self, sql: str, *parameters: object) -> int:
        """The number that a query gives."""
        row = self.database.execute(sql, parameters).fetchone()  # type: ignore[call-overload]
        return int(row[0])

    def at_broker(self, user: str) -> Client:
        """A client of broker B, over TLS with a certificate of its own name."""
        return Client(
            self.b.tls, user, self.passwords[user], folder=self.folder, trust=self.authority, authority=self.authority
        )

    def inside(self, user: str) -> Client:
        """A client of broker B on central's own network."""
        return Client(self.b.plain, user, self.passwords[user])


def stamp(number: int) -> str:
    """The time of the ``number``-th reading."""
    return (STARTED + timedelta(seconds=number)).strftime("%Y-%m-%dT%H:%M:%S.000Z")


@pytest.fixture(scope="module")
def lane(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lane]:
    """The whole lane; central knows both sites, and one point of the first."""
    try:
        telegraf.telegraf()
    except telegraf.NoTelegrafError as error:
        pytest.skip(f"THE LIVE LANE IS NOT TESTED: {error}")
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE live_lane")
    url = postgres.url("live_lane")
    migrate.migrate(CentralSettings(database_url=url, state_dir=Path("unused")))  # type: ignore[arg-type]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER ROLE central_telegraf LOGIN")
        connection.execute("INSERT INTO site (id) VALUES ('macau'), ('klcc')")
        connection.execute("INSERT INTO device (site_id, device_id) VALUES ('macau', 12345)")
        connection.execute(
            "INSERT INTO point (site_id, id, site, device_id, object_type, object_instance)"
            " SELECT id, n, number, 12345, 'analog-input', n FROM site, generate_series(1, 5) AS n WHERE id = 'macau'"
        )
    with ExitStack() as stack:
        yield Lane(tmp_path_factory.mktemp("lane"), stack, url)


def test_a_reading_arrives_as_a_row(lane: Lane) -> None:
    before = lane.rows()
    lane.publish(3)
    wait(lambda: lane.rows() == before + 3, "the readings are rows")
    row = lane.database.execute("SELECT value, quality FROM sensor_readings ORDER BY time DESC LIMIT 1").fetchone()
    assert row == (21.5, "good")
    assert lane.count("SELECT count(*) FROM landing.live") == 0


def test_the_longer_topic_arrives_too(lane: Lane) -> None:
    before = lane.rows()
    lane.publish(1, f"{EQUIPMENT}/12345/analoginput2/presentValue", objectInstance=2)
    wait(lambda: lane.rows() == before + 1, "the reading is a row")


def test_what_is_sent_twice_is_stored_once(lane: Lane) -> None:
    before = lane.rows()
    for _ in range(3):
        lane.worker.publish(
            f"{EQUIPMENT}/analoginput3/presentValue", lane.reading(timestamp=stamp(1), objectInstance=3)
        )
    lane.publish(1)
    wait(lambda: lane.rows() >= before + 2, "both readings are rows")
    assert lane.rows() == before + 2


def test_junk_costs_nothing_else(lane: Lane) -> None:
    """Telegraf writes a batch whole or not at all: junk amid readings must not take them along."""
    old = {"timestamp": stamp(0)}
    junk: dict[str, list[bytes | str]] = {
        "not-json": [b"\x00\xff\xfe\x80", "no JSON", "[1, 2]", "null"],
        "no-identity": ['{"value": 1}', lane.reading(deviceId="x" * 100_000, **old)],
        "text-value": [lane.reading(value="warm", **old)],
        "null-value": [lane.reading(value=None, **old)],
        "no-time": [lane.reading(timestamp="yesterday")],
        "too-old": [lane.reading(timestamp="1926-01-01T00:00:00.000Z")],
        "future": [lane.reading(timestamp="2999-01-01T00:00:00.000Z")],
        "foreign-prefix": [lane.reading(siteId=OTHER, **old)],
        "unknown-point": [lane.reading(objectInstance=77, **old)],
    }
    counted = "SELECT rule, sum(count)::int FROM quarantine GROUP BY rule"
    rows, before = lane.rows(), dict(lane.database.execute(counted).fetchall())
    payloads = [payload for messages in junk.values() for payload in messages]
    for payload in payloads:
        lane.publish(1)
        lane.worker.publish(f"{EQUIPMENT}/analoginput1/presentValue", payload)
    wait(lambda: lane.rows() == rows + len(payloads), "every reading between the junk is a row")
    expected = {rule: before.get(rule, 0) + len(messages) for rule, messages in junk.items()}
    wait(lambda: expected.items() <= dict(lane.database.execute(counted).fetchall()).items(), "all junk is counted")


def test_a_reading_whose_point_comes_later_is_kept(lane: Lane) -> None:
    before = lane.rows()
    lane.publish(1, objectInstance=78)
    parked = "SELECT count(*) FROM parked WHERE object_instance = 78"
    wait(lambda: lane.count(parked) == 1, "it waits")
    assert lane.rows() == before
    lane.database.execute(
        "INSERT INTO point (site_id, id, site, device_id, object_type, object_instance)"
        " SELECT id, 78, number, 12345, 'analog-input', 78 FROM site WHERE id = 'macau'"
    )
    lane.database.execute("SELECT release_quarantine('macau')")
    assert (lane.count(parked), lane.rows()) == (0, before + 1)


def test_a_failed_read_arrives_as_one(lane: Lane) -> None:
    before = lane.rows()
    lane.publish(1, value=None, quality="bad", reason="timeout")
    wait(lambda: lane.rows() == before + 1, "the failed read is a row")
    assert lane.count("SELECT count(*) FROM sensor_readings WHERE value IS NULL AND quality = 'bad'") == 1


def test_a_broker_that_was_away_gets_everything_once(lane: Lane) -> None:
    """Telegraf is back before the bridge: Mosquitto keeps no shared subscription over its own restart."""
    before = lane.rows()
    lane.publish(5)
    wait(lambda: lane.rows() == before + 5, "the readings before")
    lane.b.save()
    lane.way.cut()
    lane.b.kill()
    lane.publish(300)
    lane.b.start()
    with lane.at_broker(SITE) as direct:
        sign, topic = lane.reading(timestamp=stamp(0), objectInstance=4), f"{EQUIPMENT}/analoginput4/presentValue"
        wait(lambda: direct.publish(topic, sign) and lane.rows() == before + 6, "Telegraf has subscribed anew", 60)
    lane.way.mend()
    wait(lambda: lane.rows() == before + 306, "what waited at the site is in the history", within=60)


def test_telegraf_that_was_killed_loses_nothing(lane: Lane) -> None:
    before = lane.rows()
    lane.publish(100)
    lane.telegraf.kill()
    lane.publish(300)
    lane.telegraf.start()
    lane.publish(100)
    wait(lambda: lane.rows() == before + 500, "all readings are in the history", within=60)


def test_commands_and_results_cross_the_bridge(lane: Lane) -> None:
    with lane.inside(DISPATCHER) as dispatcher, Client(lane.a.plain, WORKER, lane.passwords[WORKER]) as site:
        site.subscribe("bacnet/write/command")
        dispatcher.subscribe("bacnet/write/result/+")
        dispatcher.publish(f"bacnet/write/command/{SITE}", "mine")
        dispatcher.publish(f"bacnet/write/command/{OTHER}", "not mine")
        wait(lambda: site.heard, "the command")
        site.publish("bacnet/write/result", "done")
        wait(lambda: dispatcher.heard, "the result")
        assert site.heard == [("bacnet/write/command", b"mine")]
        assert dispatcher.heard == [(f"bacnet/write/result/{SITE}", b"done")]


def test_a_site_that_was_away_hears_its_command_afterwards(lane: Lane) -> None:
    """The session at broker B keeps it; whether it is too old by then, the worker decides."""
    session = "worker-that-stays"
    live_parts.leave_session(lane.a.plain, WORKER, lane.passwords[WORKER], session, "bacnet/write/command")
    lane.a.stop()
    with lane.inside(DISPATCHER) as dispatcher:
        dispatcher.publish(f"bacnet/write/command/{SITE}", "kept")
    lane.a.start()
    with Client(lane.a.plain, WORKER, lane.passwords[WORKER], session=session) as site:
        wait(lambda: site.heard, "the command")
        assert site.heard == [("bacnet/write/command", b"kept")]


class TestHostile:
    """Somebody has site macau's certificate and password."""

    @pytest.mark.parametrize(
        "topic",
        [
            f"{OTHER}/ahu_1/analoginput1/presentValue",
            f"{OTHER}/appliance/status",
            f"bacnet/write/result/{OTHER}",
            f"bacnet/write/command/{OTHER}",
            f"bacnet/write/command/{SITE}",
            "bacnet/write/command",
            "bacnet/write/result",
        ],
    )
    def test_publishes_nothing_but_its_own(self, lane: Lane, topic: str) -> None:
        with lane.at_broker(SITE) as hostile:
            assert hostile.publish(topic, "forged") == "Not authorized"
            assert hostile.publish(f"{SITE}/anything", "mine") in ("Success", "No matching subscribers")

    def test_hears_nothing_but_its_own_commands(self, lane: Lane) -> None:
        with lane.at_broker(SITE) as hostile, lane.inside(DISPATCHER) as dispatcher, lane.at_broker(OTHER) as other:
            for topic in ("#", "bacnet/#", "bacnet/write/command/+", f"bacnet/write/command/{OTHER}", f"{OTHER}/#"):
                hostile.subscribe(topic)
            hostile.subscribe("$share/bacpipes/+/+/+/presentValue")
            hostile.subscribe(f"bacnet/write/command/{SITE}")
            other.publish(f"{OTHER}/ahu_1/analoginput1/presentValue", "theirs")
            other.publish(f"bacnet/write/result/{OTHER}", "theirs")
            dispatcher.publish(f"bacnet/write/command/{OTHER}", "theirs")
            dispatcher.publish(f"bacnet/write/command/{SITE}", "mine")
            wait(lambda: hostile.heard, "its own command")
            assert set(hostile.heard) == {(f"bacnet/write/command/{SITE}", b"mine")}

    def test_does_not_come_in_without_either(self, lane: Lane) -> None:
        certificate = {"folder": lane.folder, "trust": lane.authority, "authority": lane.authority}
        with Client(lane.b.tls, SITE, "wrong password", **certificate) as wrong:
            wait(lambda: wrong.reason, "an answer")
            assert wrong.reason == "Not authorized"
        stranger = Client(lane.b.tls, SITE, lane.passwords[SITE], **certificate | {"authority": Authority("Another")})
        revoked = Client(lane.b.tls, SITE, lane.passwords[SITE], **certificate, pair=lane.stolen)
        without = Client(lane.b.tls, SITE, lane.passwords[SITE], **certificate | {"authority": None})
        with stranger, without, revoked:
            wait(lambda: stranger.lost and without.lost and revoked.lost, "the broker hangs up")
            assert not stranger.reason + without.reason + revoked.reason
        with lane.at_broker(SITE) as fine:
            wait(lambda: fine.reason == "Success", "a certificate that was not revoked")


def test_the_programs_say_no_secret(lane: Lane) -> None:
    """Neither in their logs nor in what a process list shows."""
    programs: tuple[Program, ...] = (lane.a, lane.b, lane.telegraf)
    said = " ".join(program.log() + " ".join(program.command) for program in programs)
    assert not [name for name, password in lane.passwords.items() if password in said]
