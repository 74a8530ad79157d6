"""Points in a real database: the difference, its application, topics, and what is left alone."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bacpipes.cli.points import points as command
from bacpipes.database import connect
from bacpipes.errors import InputError, SchemaError, SettingsError, UnavailableError
from bacpipes.points import Point, find_point, load_points
from bacpipes.points.csv_file import cells, read_points, write_points
from bacpipes.points.importer import Plan, connection_to, import_points, load_stored
from bacpipes.points.rows import COLUMNS, LATER, PUBLISH, TAGS
from bacpipes.settings import Settings

SITE = "duxton"
GOOD = {
    "device_id": "1001", "device_name": "AHU-1", "address": "10.0.0.5", "object_type": "analog-value",
    "object_instance": "1", "name": "SAT SP", "dis": "Supply air setpoint", "units": "°C", "site": "", "equip": "ahu",
    "equip_ref": "1", "function": "sp", "quantity": "temp", "substance": "air", "location": "supply",
    "qualifier": "effective", "interval": "30", "enabled": "", "writable": "yes", "min": "10", "max": "30.5",
    "states": "",
}  # fmt: skip
SECOND = {
    "object_type": "analog-input",
    "object_instance": "2",
    "function": "sensor",
    "writable": "",
    "min": "",
    "max": "",
}
THIRD = {"device_id": "1002", "device_name": "AHU-2", "address": "10.0.0.6", "qualifier": "twin"}  # same object as GOOD
SHORT = "duxton/ahu_1/analogvalue1/presentValue"
LONG = "duxton/ahu_1/1002/analogvalue1/presentValue"


def lines(*rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> str:
    cells = [[(GOOD | row).get(column, "") for column in columns] for row in rows]
    return "".join(",".join(line) + "\n" for line in [list(columns), *cells])


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        yield connection


def run(connection: psycopg.Connection[Any], text: str, **how: bool) -> Plan:
    file = read_points(io.BytesIO(text.encode()), "p.csv", SITE)
    assert file.problems.errors == 0, file.problems
    return import_points(connection, file, SITE, actor="tester", **how)


def topics(connection: psycopg.Connection[Any]) -> dict[tuple[int, str, int], str | None]:
    return {key: point.topic for key, point in load_stored(connection, SITE).points.items()}


def fields(plan: Plan) -> list[tuple[str, str, str]]:
    return [field for change in plan.changed for field in change.fields]


def test_import_is_idempotent(connection: psycopg.Connection[Any]) -> None:
    plan = run(connection, lines({}, SECOND))
    assert (len(plan.added), len(plan.devices), plan.applied) == (2, 1, True)
    stored = connection.execute(
        "SELECT haystack_name, topic, interval_seconds, enabled, writable, minimum, maximum, units, site FROM point"
        " WHERE object_type = 'analog-value'"
    ).fetchone()
    name = "duxton.ahu.1.sp.temp.air.supply.effective"
    assert stored == (name, SHORT, 30, True, True, 10.0, 30.5, "°C", SITE)
    before = connection.execute("SELECT xmin::text, id FROM point ORDER BY id").fetchall()
    again = run(connection, lines({}, SECOND))
    assert again.is_empty
    assert connection.execute("SELECT xmin::text, id FROM point ORDER BY id").fetchall() == before


def test_an_import_that_changes_something_is_audited_once(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    run(connection, lines({}))
    rows = connection.execute("SELECT actor, action, subject, detail->>'added' FROM audit").fetchall()
    assert rows == [("tester", "points.import", "p.csv", "1")]


def test_a_change_shows_old_and_new_and_only_that(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}, SECOND))
    plan = run(connection, lines({"max": "35", "dis": "Setpoint"}, SECOND))
    assert sorted(fields(plan)) == [("dis", "Supply air setpoint", "Setpoint"), ("max", "30.5", "35")]
    assert connection.execute("SELECT maximum, dis FROM point WHERE writable").fetchone() == (35.0, "Setpoint")


def test_dry_run_changes_nothing(connection: psycopg.Connection[Any]) -> None:
    plan = run(connection, lines({}), dry_run=True)
    assert (len(plan.added), plan.applied) == (1, False)
    assert connection.execute("SELECT (SELECT count(*) FROM point) + (SELECT count(*) FROM device)").fetchone() == (0,)


def test_what_is_not_in_the_file_is_left_alone_and_listed(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}, SECOND))
    plan = run(connection, lines({}))
    assert [point.row.key for point in plan.missing] == [(1001, "analog-input", 2)]
    assert plan.is_empty
    assert connection.execute("SELECT count(*) FROM point WHERE enabled").fetchone() == (2,)


def test_prune_disables_and_the_point_comes_back(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}, SECOND))
    assert len(run(connection, lines({}), prune=True).pruned) == 1
    assert connection.execute("SELECT object_type FROM point WHERE NOT enabled").fetchall() == [("analog-input",)]
    assert run(connection, lines({}), prune=True).is_empty
    assert fields(run(connection, lines({}, SECOND))) == [("enabled", "false", "true")]


def test_the_later_point_gets_the_longer_topic_and_is_told(connection: psycopg.Connection[Any]) -> None:
    plan = run(connection, lines({}, THIRD))
    assert topics(connection) == {(1001, "analog-value", 1): SHORT, (1002, "analog-value", 1): LONG}
    assert [note.line for note in plan.notes] == [3]
    assert SHORT in plan.notes[0].message
    assert "device 1001 analog-value:1" in plan.notes[0].message


def test_a_topic_stays_whatever_the_order_and_after_the_other_has_left(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}, THIRD))
    assert run(connection, lines(THIRD, {})).is_empty
    run(connection, lines({"equip": "fcu"}, THIRD))
    assert topics(connection)[1002, "analog-value", 1] == LONG
    assert run(connection, lines(THIRD)).is_empty
    assert fields(run(connection, lines(THIRD | {"quantity": "flow"}))) == [("quantity", "temp", "flow")]


def test_a_new_equipment_chooses_a_new_topic_and_says_so(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    new = "duxton/ahu_7/analogvalue1/presentValue"
    assert fields(run(connection, lines({"equip_ref": "7"}))) == [("equip_ref", "1", "7"), ("topic", SHORT, new)]
    assert topics(connection) == {(1001, "analog-value", 1): new}


def test_another_field_leaves_the_topic(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    assert fields(run(connection, lines({"quantity": "pressure"}))) == [("quantity", "temp", "pressure")]


def test_two_points_may_change_names_with_each_other(connection: psycopg.Connection[Any]) -> None:
    other = {"object_instance": "2", "qualifier": "b"}
    run(connection, lines({}, other))
    plan = run(connection, lines({"qualifier": "b"}, other | {"qualifier": "effective"}))
    assert len(plan.changed) == 2
    names = connection.execute("SELECT object_instance, qualifier FROM point ORDER BY 1").fetchall()
    assert names == [(1, "b"), (2, "effective")]


def test_two_points_may_change_equipment_with_each_other(connection: psycopg.Connection[Any]) -> None:
    other = THIRD | {"equip_ref": "2"}
    run(connection, lines({}, other))
    run(connection, lines({"equip_ref": "2"}, other | {"equip_ref": "1"}))
    found = topics(connection)
    assert found[1001, "analog-value", 1] == "duxton/ahu_2/1001/analogvalue1/presentValue"
    assert found[1002, "analog-value", 1] == LONG


def test_another_object_is_a_new_point(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    plan = run(connection, lines({"object_instance": "9", "qualifier": "b"}))
    assert (len(plan.added), len(plan.missing)) == (1, 1)
    assert connection.execute("SELECT count(*) FROM point").fetchone() == (2,)


def test_a_name_of_a_point_that_is_not_in_the_file_is_refused(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    plan = run(connection, lines({"object_instance": "9"}))
    assert plan.problems.errors == 1
    assert "device 1001 analog-value:1" in plan.problems.kept[0].message
    assert not plan.applied
    assert connection.execute("SELECT count(*) FROM point").fetchone() == (1,)


def test_the_name_of_a_point_that_is_no_longer_polled_may_go_to_another_object(
    connection: psycopg.Connection[Any],
) -> None:
    run(connection, lines({}))
    pruned = run(connection, lines({"object_instance": "9"}), prune=True)
    assert pruned.applied, pruned.problems
    both = lines({"object_instance": "9", "enabled": "no"}, {"object_instance": "10"})
    assert run(connection, both).applied
    swapped = lines({"object_instance": "9"}, {"object_instance": "10", "enabled": "no"})
    assert run(connection, swapped).applied
    names = connection.execute("SELECT object_instance, enabled FROM point WHERE haystack_name IS NOT NULL ORDER BY 1")
    assert names.fetchall() == [(1, False), (9, True), (10, False)]


def test_an_address_of_a_polled_device_that_is_not_in_the_file_is_refused(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    replaced = lines({"device_id": "2001", "qualifier": "b"})
    plan = run(connection, replaced)
    assert [(p.line, p.column) for p in plan.problems.kept] == [(2, "address")]
    assert run(connection, replaced, prune=True).applied


def test_a_device_moves_and_what_was_learnt_of_it_is_forgotten(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    connection.execute("UPDATE device SET read_multiple = false, max_apdu = 480, batch_points = 8")
    learnt = "read_multiple, max_apdu, batch_points FROM device"
    assert run(connection, lines({"device_name": "Renamed"})).applied
    assert connection.execute(f"SELECT name, {learnt}".encode()).fetchone() == ("Renamed", False, 480, 8)
    plan = run(connection, lines({"device_name": "Renamed", "address": "10.0.0.9:47809"}))
    assert [after.address for _, after in plan.devices] == ["10.0.0.9:47809"]
    assert connection.execute(f"SELECT address, {learnt}".encode()).fetchone() == ("10.0.0.9:47809", True, None, None)


def test_a_point_that_is_looked_up_is_the_one_that_is_polled(
    connection: psycopg.Connection[Any], settings: Settings
) -> None:
    """Two queries of the same columns, each by its position."""
    plan = run(connection, lines({"publish": "change", "deadband": "0.5", "cov": "true", "poll_priority": "high"}))
    assert plan.applied, plan.problems.errors
    connection.execute("UPDATE device SET batch_points = 8, learnt_of = 'somebody', concurrency = 2")

    async def main() -> tuple[Point | None, list[Point]]:
        async with await connect(settings, "test") as own:
            return await find_point(own, SITE, 1001, "analog-value", 1), await load_points(own)

    looked_up, polled = asyncio.run(main())
    assert [looked_up] == polled
    assert polled[0].device.batch == 8


def test_columns_that_a_file_does_not_have_stay(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    few = ("device_id", "address", "object_type", "object_instance", "interval")
    plan = run(connection, lines({"interval": "15"}, columns=few))
    assert fields(plan) == [("interval", "30", "15")]
    row = connection.execute("SELECT name, haystack_name IS NOT NULL, writable, maximum, enabled FROM point").fetchone()
    assert row == ("SAT SP", True, True, 30.5, True)
    assert connection.execute("SELECT name FROM device").fetchone() == ("AHU-1",)


def test_what_only_the_database_shows_to_be_wrong_is_refused(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines({}))
    few = ("device_id", "address", "object_type", "object_instance", "min")
    plan = run(connection, lines({"min": "31"}, columns=few))
    assert [(p.line, p.column, p.warning) for p in plan.problems.kept] == [(2, "min", False)]
    assert not plan.applied


def test_an_untagged_point_waits_disabled_until_it_has_its_equipment(connection: psycopg.Connection[Any]) -> None:
    run(connection, lines(dict.fromkeys(TAGS, "") | {"writable": ""}))
    assert connection.execute("SELECT enabled, topic FROM point").fetchone() == (False, None)
    plan = run(connection, lines({}))
    assert ("enabled", "false", "true") in fields(plan)
    assert ("topic", "", SHORT) in fields(plan)


def test_an_import_waits_for_another_and_readers_do_not(
    connection: psycopg.Connection[Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(connection, lines({}))
    monkeypatch.setattr("bacpipes.points.importer.LOCK_TIMEOUT", "200ms")
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE device, point IN SHARE ROW EXCLUSIVE MODE")
        with connection_to(database_url, "test") as third:
            assert len(load_stored(third, SITE).points) == 1
        with pytest.raises(UnavailableError, match="lock timeout"), connection_to(database_url, "test") as third:
            run(third, lines({"max": "40"}))
    assert connection.execute("SELECT maximum FROM point").fetchone() == (30.5,)


def test_a_database_without_schema_is_named(empty_database_url: str) -> None:
    with pytest.raises(SchemaError, match="bacpipes migrate"), connection_to(empty_database_url, "test"):
        pass


texts = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(texts, texts, texts, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5)
)
def test_export_then_import_changes_nothing(database_url: str, rows: list[tuple[str, str, str, float]]) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        run(connection, lines({}))
        connection.execute("DELETE FROM point")
        for number, (name, dis, units, limit) in enumerate(rows):
            connection.execute(
                "INSERT INTO point (device, object_type, object_instance, name, dis, units, site, minimum, enabled)"
                " SELECT id, 'analog-value', %s, %s, %s, %s, 'duxton', %s, false FROM device",
                [number, name, dis, units, limit],
            )
        stream = io.StringIO(newline="")
        write_points(stream, (p.row for p in load_stored(connection, SITE).points.values()), SITE)
        plan = run(connection, stream.getvalue())
        assert (fields(plan), plan.is_empty) == ([], True)


# The commands


@pytest.fixture
def environment(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BACPIPES_SITE_ID", SITE)
    monkeypatch.setenv("BACPIPES_DATABASE_URL", database_url)
    monkeypatch.setenv("BACPIPES_STATE_DIR", str(tmp_path / "state"))
    return tmp_path


def invoke(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(command, list(arguments), input=stdin)


def test_commands_round_trip(environment: Path) -> None:
    file, out = environment / "p.csv", environment / "out.csv"
    file.write_text(lines({}, SECOND, THIRD))
    first = invoke("import", str(file))
    assert first.exit_code == 0
    assert "+ device 1001 'AHU-1' at 10.0.0.5" in first.stdout
    assert f"+ device 1001 analog-value:1 'SAT SP' → {SHORT}" in first.stdout
    assert "3 new, 0 changed, 0 unchanged" in first.stdout
    assert invoke("export", str(out)).exit_code == 0
    assert "nothing to change: 0 new, 0 changed, 3 unchanged" in invoke("import", str(out)).stdout
    assert invoke("export").stdout == out.read_text()
    assert "nothing to change" in invoke("import", "-", stdin=out.read_text()).stdout


def test_a_bad_file_is_refused_whole(environment: Path, database_url: str) -> None:
    file = environment / "p.csv"
    file.write_text(lines({}, {"object_instance": "2", "qualifier": "b", "min": "99"}, {"object_type": "x"}))
    result = invoke("import", str(file))
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_code == 3
    assert f"{file}:3: error in min: 99 is above max 30.5" in result.stderr
    assert f"{file}:4: error in object_type" in result.stderr
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM point").fetchone() == (0,)


def test_errors_are_printed_up_to_a_limit_and_counted(environment: Path) -> None:
    file = environment / "p.csv"
    file.write_text(lines(*({"interval": "0", "object_instance": str(n), "qualifier": str(n)} for n in range(60))))
    result = invoke("import", str(file))
    assert result.stderr.count("error in interval") == 50
    assert "and 10 more errors" in result.stderr
    assert "60 errors" in str(result.exception)
    assert invoke("import", "--full", str(file)).stderr.count("error in interval") == 60


def test_check_needs_no_database(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = environment / "p.csv"
    file.write_text(lines({}))
    monkeypatch.delenv("BACPIPES_DATABASE_URL")
    monkeypatch.delenv("BACPIPES_SITE_ID")
    assert isinstance(invoke("check", str(file)).exception, SettingsError)
    result = invoke("check", "--site", SITE, str(file))
    assert result.exit_code == 0
    assert "good, 1 point on 1 device, 0 warnings" in result.stdout
    assert invoke("check", "--site", SITE, "--against-database", str(file)).exit_code == 2


def test_check_shows_the_difference_where_it_can(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = environment / "p.csv"
    file.write_text(lines({}))
    assert "1 new, 0 changed" in invoke("check", str(file)).stdout
    assert "1 new, 0 changed" in invoke("check", str(file)).stdout
    monkeypatch.setenv("BACPIPES_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    away = invoke("check", str(file))
    assert away.exit_code == 0
    assert "not compared" in away.stderr
    assert isinstance(invoke("check", "--against-database", str(file)).exception, UnavailableError)


def test_a_points_publish_policy_goes_in_and_out(connection: psycopg.Connection[Any]) -> None:
    wanted = {"publish": "change", "deadband": "0.25", "heartbeat": "600"}
    assert run(connection, lines(wanted)).applied
    stored = "SELECT publish, deadband, heartbeat_seconds FROM point"
    assert connection.execute(stored).fetchone() == ("change", 0.25, 600)
    (point,) = load_stored(connection, "duxton").points.values()
    assert dict(zip(COLUMNS, cells(point.row, "duxton"), strict=True)).items() >= wanted.items()
    older = tuple(column for column in COLUMNS if column not in PUBLISH)
    assert run(connection, lines({"dis": "renamed"}, columns=older)).applied
    assert connection.execute(stored).fetchone() == ("change", 0.25, 600)
    (changed,) = run(connection, lines(wanted | {"deadband": "0.5", "dis": "renamed"})).changed
    assert changed.fields == (("deadband", "0.25", "0.5"),)
    assert run(connection, lines({})).applied
    assert connection.execute(stored).fetchone() == (None, None, None), "a blank cell is a value"


def test_import_wants_one_source(environment: Path) -> None:
    assert invoke("import").exit_code == 2
    assert invoke("import", "p.csv", "--from-bacpipes", "x").exit_code == 2
    assert invoke("import", "p.csv", "--with-mqtt").exit_code == 2
    missing = invoke("import", str(environment / "absent.csv"))
    assert "can't be read: No such file" in str(missing.exception)


def test_a_points_own_pace_goes_in_and_out(connection: psycopg.Connection[Any]) -> None:
    """Columns that came later: a file without them leaves them as they are."""
    switch = {"object_type": "binary-value", "min": "", "max": "", "units": ""}
    paced = switch | {"writes_per_minute": "6", "min_on": "300", "min_off": "0"}
    assert run(connection, lines(paced)).applied
    stored = "SELECT writes_per_minute, min_on_seconds, min_off_seconds FROM point"
    assert connection.execute(stored).fetchone() == (6, 300, 0)
    older = tuple(column for column in COLUMNS if column not in LATER)
    assert run(connection, lines(switch | {"dis": "renamed"}, columns=older)).applied
    assert connection.execute(stored).fetchone() == (6, 300, 0)
    assert run(connection, lines(switch)).applied
    assert connection.execute(stored).fetchone() == (None, None, None), "a blank cell is a value"
