"""The database of an earlier BacPipes: what is taken over, what is left out and why; it is never written to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result

from bacpipes.cli.points import points as command
from bacpipes.errors import InputError, UnavailableError
from bacpipes.points.importer import load_stored
from bacpipes.points.legacy import Legacy, read_legacy
from bacpipes.secret_box import secret_box
from bacpipes.settings import Settings

SITE = "duxton"
NAME = "duxton.ahu.1.sp.temp.air.supply.effective"

# As an earlier version made them: the columns that its queries on "Point" and "Device" name, and its MqttConfig.
SCHEMA = """
CREATE TABLE "Device" (id serial PRIMARY KEY, "deviceId" integer UNIQUE, "deviceName" text, "ipAddress" text,
    port integer DEFAULT 47808);
CREATE TABLE "Point" (id serial PRIMARY KEY, "deviceId" integer REFERENCES "Device", "objectType" text,
    "objectInstance" integer, "pointName" text, dis text, units text, "siteId" text, "equipmentType" text,
    "equipmentId" text, "haystackPointName" text, "isWritable" boolean DEFAULT false, "minPresValue" double precision,
    "maxPresValue" double precision, "mqttPublish" boolean DEFAULT true, "pollInterval" integer DEFAULT 60,
    enabled boolean DEFAULT true);
CREATE TABLE "MqttConfig" (id text PRIMARY KEY, broker text, port integer, "clientId" text, enabled boolean,
    username text, password text, "tlsEnabled" boolean DEFAULT false, "tlsPort" integer DEFAULT 8883,
    "caCertificate" text, "clientCertificate" text, "clientKey" text,
    "writeCommandTopic" text DEFAULT 'bacnet/write/command', "writeResultTopic" text DEFAULT 'bacnet/write/result',
    "enableBatchPublishing" boolean DEFAULT false);
INSERT INTO "Device" ("deviceId", "deviceName", "ipAddress") VALUES (1001, 'AHU-1', '10.0.0.5');
"""
POINT: dict[str, object] = {
    "deviceId": 1, "objectType": "analog-value", "objectInstance": 1, "pointName": "SAT SP", "dis": "Setpoint",
    "units": "°C", "siteId": "Duxton", "equipmentType": "AHU", "equipmentId": "1", "haystackPointName": NAME,
    "isWritable": True, "minPresValue": 10, "maxPresValue": 30.5, "pollInterval": 30,
}  # fmt: skip
Earlier = psycopg.Connection[Any]


@pytest.fixture
def earlier(empty_database_url: str) -> Iterator[Earlier]:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(SCHEMA)
        yield connection


def add(earlier: Earlier, table: str = "Point", **changes: object) -> None:
    values = (POINT if table == "Point" else {}) | changes
    columns, marks = ", ".join(f'"{name}"' for name in values), ", ".join(["%s"] * len(values))
    earlier.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({marks})', list(values.values()))  # noqa: S608


def read(url: str, *sites: str) -> Legacy:
    return read_legacy(url, SITE, sites)


def remarks(legacy: Legacy) -> list[str]:
    return [problem.message for problem in legacy.points.problems.kept]


def test_a_point_is_taken_over(earlier: Earlier, empty_database_url: str) -> None:
    add(earlier)
    legacy = read(empty_database_url)
    assert remarks(legacy) == []
    [row] = legacy.points.rows
    assert row.haystack_name(SITE) == NAME
    assert row.key == (1001, "analog-value", 1)
    assert (row.device_name, row.address, row.name, row.dis, row.units) == (
        "AHU-1", "10.0.0.5", "SAT SP", "Setpoint", "°C",
    )  # fmt: skip
    assert (row.interval, row.enabled, row.writable, row.minimum, row.maximum) == (30, True, True, 10.0, 30.5)


def test_camel_case_types_and_ports(earlier: Earlier, empty_database_url: str) -> None:
    earlier.execute('UPDATE "Device" SET port = 47809')
    add(earlier, objectType="multiStateValue", haystackPointName=None, isWritable=False)
    [row] = read(empty_database_url).points.rows
    assert (row.object_type, row.address) == ("multi-state-value", "10.0.0.5:47809")
    assert (row.equipment, row.haystack_name(SITE)) == (("ahu", "1"), None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectType": "trendLog"}, "not imported: object_type: 'trendLog' is not an object type"),
        ({"objectInstance": 4194303}, "not imported: object_instance"),
        ({"deviceId": None}, "not imported: its deviceId None is no Device"),
    ],
)
def test_an_unusable_row_is_left_out_with_its_reason(
    earlier: Earlier, empty_database_url: str, changes: dict[str, object], words: str
) -> None:
    add(earlier, **changes)
    add(earlier, objectInstance=2, haystackPointName=None)
    legacy = read(empty_database_url)
    assert [row.object_instance for row in legacy.points.rows] == [2]
    assert legacy.skipped == 1
    [text] = remarks(legacy)
    assert words in text
    assert legacy.points.where(legacy.points.problems.kept[0].line) == "earlier BacPipes Point 1"


@pytest.mark.parametrize(
    ("changes", "expected", "words"),
    [
        ({"equipmentId": None, "haystackPointName": None}, {"enabled": False, "equipment": None}, "imported disabled"),
        ({"equipmentId": "1/2", "haystackPointName": None}, {"enabled": False}, "'/' is not allowed"),
        ({"haystackPointName": "a.b"}, {"equipment": ("ahu", "1"), "enabled": True}, "haystack name is left out"),
        ({"equipmentId": "9"}, {"equipment": ("ahu", "1")}, "equipment ahu_9, but ahu_1 in its haystack name"),
        ({"minPresValue": 50}, {"writable": False, "minimum": None, "maximum": None}, "no range"),
        ({"maxPresValue": float("nan")}, {"writable": False, "maximum": None}, "no range"),
        ({"objectType": "analog-input"}, {"writable": False}, "measured"),
        ({"pollInterval": 0}, {"interval": 60}, "pollInterval 0"),
    ],
)
def test_what_does_not_fit_is_mended_and_told(
    earlier: Earlier, empty_database_url: str, changes: dict[str, object], expected: dict[str, object], words: str
) -> None:
    add(earlier, **changes)
    legacy = read(empty_database_url)
    [row] = legacy.points.rows
    assert {name: getattr(row, name) for name in expected} == expected
    assert any(words in text for text in remarks(legacy)), remarks(legacy)


@pytest.mark.parametrize("column", ["mqttPublish", "enabled"])
def test_what_was_not_published_is_imported_disabled(earlier: Earlier, empty_database_url: str, column: str) -> None:
    add(earlier, **{column: False})
    assert [row.enabled for row in read(empty_database_url).points.rows] == [False]


def test_doubles(earlier: Earlier, empty_database_url: str) -> None:
    add(earlier)
    add(earlier)
    add(earlier, objectInstance=2)
    add(earlier, "Device", deviceId=1002, ipAddress="10.0.0.5")
    add(earlier, deviceId=2, haystackPointName=None)
    legacy = read(empty_database_url)
    assert [row.haystack_name(SITE) for row in legacy.points.rows] == [NAME, None]
    assert ["the same device and object" in remarks(legacy)[0], "is also Point 1" in remarks(legacy)[1]] == [True] * 2
    assert "address 10.0.0.5 of device 1001" in remarks(legacy)[2]


def test_another_site_is_refused_or_mapped(earlier: Earlier, empty_database_url: str) -> None:
    add(earlier, siteId="Old Tower", haystackPointName=NAME.replace("duxton", "old_tower"))
    with pytest.raises(InputError, match=r"'Old Tower' \(1 points\).*--site-of 'Old Tower'"):
        read(empty_database_url)
    legacy = read(empty_database_url, "Old Tower")
    assert [row.haystack_name(SITE) for row in legacy.points.rows] == [NAME]
    assert remarks(legacy) == []


def test_an_older_version_with_fewer_columns_in_lower_case(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE device (id integer, deviceid integer, ipaddress text);"
            "CREATE TABLE point (id integer, deviceid integer, objecttype text, objectinstance integer,"
            " equipmenttype text, equipmentid text);"
            "INSERT INTO device VALUES (1, 7, '10.0.0.7');"
            "INSERT INTO point VALUES (1, 1, 'binaryInput', 3, 'Pump', '4')"
        )
    legacy = read(empty_database_url)
    [row] = legacy.points.rows
    assert (row.key, row.equipment) == ((7, "binary-input", 3), ("pump", "4"))
    assert legacy.points.columns.isdisjoint({"interval", "units", "min", "writable"})
    assert legacy.mqtt is None


def test_another_database_is_named(empty_database_url: str, database_url: str) -> None:
    with pytest.raises(InputError, match="no table Device and no table Point"):
        read(empty_database_url)
    with pytest.raises(InputError, match="has no column deviceId"):
        read(database_url)
    with pytest.raises(UnavailableError, match="can't be reached"):
        read("postgresql://nobody@127.0.0.1:1/x")
    with pytest.raises(InputError, match="not a connection string") as caught:
        read("postgresql:/secret-password")
    assert "secret-password" not in str(caught.value)


# The command


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BACPIPES_SITE_ID", SITE)
    monkeypatch.setenv("BACPIPES_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("BACPIPES_STATE_DIR", str(settings.state_dir))
    return settings


def invoke(url: str, *arguments: str) -> Result:
    return CliRunner().invoke(command, ["import", "--from-bacpipes", url, *arguments])


def contents(connection: Earlier) -> list[Any]:
    return [connection.execute(f'TABLE "{table}"').fetchall() for table in ("Device", "Point", "MqttConfig")]


def test_import_is_idempotent_and_leaves_the_earlier_database(
    earlier: Earlier, empty_database_url: str, environment: Settings
) -> None:
    add(earlier)
    add(earlier, objectInstance=2, objectType="trend-log")
    before = contents(earlier)
    first = invoke(empty_database_url)
    assert first.exit_code == 0, first.output
    assert "1 new" in first.stdout
    assert "1 point not imported" in first.stderr
    assert "nothing to change" in invoke(empty_database_url).stdout
    assert contents(earlier) == before
    with psycopg.connect(environment.database_url.get_secret_value()) as connection:
        [point] = load_stored(connection, SITE).points.values()
        assert point.topic == "duxton/ahu_1/analogvalue1/presentValue"


def test_broker_settings_come_only_when_asked_for_and_encrypted(
    earlier: Earlier, empty_database_url: str, environment: Settings, tmp_path: Path
) -> None:
    add(earlier)
    add(earlier, "MqttConfig", id="a", broker="old.example", port=1883, clientId="x", enabled=False)
    add(
        earlier, "MqttConfig", id="b", broker="mqtt.example", port=1884, clientId="w", enabled=True, username="u",
        password="open sesame", writeCommandTopic="x/command",
    )  # fmt: skip
    assert "broker" not in invoke(empty_database_url).stdout
    assert "would become mqtt.example:1884" in invoke(empty_database_url, "--with-mqtt", "--dry-run").stdout
    with psycopg.connect(environment.database_url.get_secret_value(), autocommit=True) as connection:
        columns = "broker, port, client_id, enabled, username, tls_enabled, write_command_topic, password"
        assert connection.execute("SELECT broker FROM mqtt_config").fetchone() == ("localhost",)
        result = invoke(empty_database_url, "--with-mqtt")
        assert result.exit_code == 0, result.output
        row = connection.execute(f"SELECT {columns} FROM mqtt_config").fetchone()  # noqa: S608
        assert row is not None
        assert row[:-1] == ("mqtt.example", 1884, "w", True, "u", False, "x/command")
        assert secret_box(environment).open(row[-1]) == "open sesame"
        assert "sesame" not in result.output
        assert "nothing to change" in invoke(empty_database_url, "--with-mqtt").stdout.splitlines()[-1]
        assert connection.execute("SELECT password FROM mqtt_config").fetchone() == (row[-1],)


def test_bad_broker_settings_refuse_all(earlier: Earlier, empty_database_url: str, environment: Settings) -> None:
    add(earlier)
    add(earlier, "MqttConfig", id="a", broker="mqtt://x", port=1883, clientId="x", enabled=True)
    assert isinstance(invoke(empty_database_url, "--with-mqtt").exception, InputError)
    with psycopg.connect(environment.database_url.get_secret_value()) as connection:
        assert connection.execute("SELECT count(*) FROM point").fetchone() == (0,)
