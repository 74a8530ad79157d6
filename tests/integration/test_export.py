"""The export's content: columns, ranges, escaping, formulas; through the application, on a real database."""

import csv
import io
import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from bacpipes.settings import Settings
from bacpipes.tokens import Role
from conftest import make_settings
from exporter_parts import (
    COLUMNS,
    DAY,
    SETPOINT,
    TEMPERATURE,
    add_building,
    add_reading,
    execute,
    in_process,
    make_token,
)

EXPORT = "/api/timeseries/export"
NASTY = 'a "quoted", back\\slash,\nnew line\ttab \x01\x02 ünï °C 温度 \U0001f321 </script>'


@pytest.fixture
def site(settings: Settings, database_url: str) -> Settings:
    add_building(database_url)
    return settings


async def get(settings: Settings, **parameters: str) -> httpx.Response:
    headers = await make_token(settings.database_url.get_secret_value(), "reader", Role.VIEWER)
    async with in_process(settings) as (_, http):
        return await http.get(EXPORT, params=parameters, headers=headers)


def rows_of(response: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(response.text, newline="")))


async def test_a_row_has_the_specified_columns_in_their_order(site: Settings, database_url: str) -> None:
    add_reading(database_url, 1, DAY + timedelta(milliseconds=7), 21.5)
    response = await get(site, start="2025-12-07T00:00:00Z", end="2025-12-08T23:59:59Z")
    assert response.text == (
        f"{COLUMNS}\n2025-12-07T00:00:00.007Z,{TEMPERATURE},SupplyAirTemp,21.5,°C,good,"
        "AHU-1 controller,192.168.1.37,analog-input,101\n"
    )
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert re.fullmatch(r'attachment; filename="export_\d{13}\.csv"', response.headers["content-disposition"])
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


async def test_the_values_are_those_of_the_view(site: Settings, database_url: str) -> None:
    for minute, (point, value, quality) in enumerate([(1, 0.1 + 0.2, 0), (2, None, 2), (3, 1.0, 1), (1, -4e-300, 0)]):
        add_reading(database_url, point, DAY + timedelta(minutes=minute), value, quality)
    response = await get(site, start="2025-12-07T00:00Z", end="2025-12-08T00:00Z", format="json")
    expected = execute(
        database_url,
        "SELECT to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), haystack_name, dis, value,"
        " units, quality, device_name, device_ip, object_type, object_instance FROM sensor_readings ORDER BY time DESC",
    )
    assert [tuple(row.values()) for row in response.json()] == expected
    assert [list(row) for row in response.json()] == [COLUMNS.split(",")] * 4


async def test_newest_first_and_the_last_24_hours_by_default(site: Settings, database_url: str) -> None:
    now = datetime.now(UTC)
    for hours in (1, 30, 2, 23):
        add_reading(database_url, 1, now - timedelta(hours=hours), hours)
    assert [row["value"] for row in rows_of(await get(site))] == ["1", "2", "23"]


async def test_start_and_end_are_inclusive(site: Settings, database_url: str) -> None:
    for second in range(-1, 4):
        add_reading(database_url, 1, DAY + timedelta(seconds=second), second)
    response = await get(site, start="2025-12-07T00:00:00Z", end="2025-12-07T00:00:02Z")
    assert [row["value"] for row in rows_of(response)] == ["2", "1", "0"]


async def test_a_bare_date_is_a_day_of_the_sites_zone(site: Settings, database_url: str) -> None:
    begin = datetime(2025, 12, 6, 16, tzinfo=UTC)  # midnight in Macau
    for number, at in enumerate(
        [begin - timedelta(milliseconds=1), begin, begin + timedelta(hours=24, milliseconds=-1)]
    ):
        add_reading(database_url, 1, at, number)
    add_reading(database_url, 1, begin + timedelta(hours=24), 3)
    response = await get(site, start="2025-12-07", end="2025-12-07")
    assert [row["value"] for row in rows_of(response)] == ["2", "1"]


async def test_one_points_history(site: Settings, database_url: str) -> None:
    for point in (1, 2, 3):
        add_reading(database_url, point, DAY, point)
    response = await get(site, start="2025-12-07", haystackName=SETPOINT)
    assert [row["object_instance"] for row in rows_of(response)] == ["120"]


@pytest.mark.parametrize("format_", ["csv", "json"])
async def test_nothing_found_is_an_empty_file_not_an_error(site: Settings, database_url: str, format_: str) -> None:
    add_reading(database_url, 1, DAY, 1)
    response = await get(site, start="2025-12-07", haystackName="duxton.no.such.point.at.all.here.x", format=format_)
    assert response.status_code == 200
    assert response.text == {"csv": f"{COLUMNS}\n", "json": "[]\n"}[format_]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "-", '=HYPERLINK("http://x","y")'])
async def test_a_name_cannot_become_a_formula(site: Settings, database_url: str, text: str) -> None:
    execute(database_url, "UPDATE point SET dis = %s, units = %s", [text, text])
    execute(database_url, "UPDATE device SET name = %s, address = %s || ':47808'", [text, text.replace(":", "")])
    add_reading(database_url, 1, DAY, -5.25)
    (row,) = rows_of(await get(site, start="2025-12-07"))
    assert [row["dis"], row["units"], row["device_name"]] == [f"'{text}"] * 3
    assert row["device_ip"].startswith("'")
    assert row["value"] == "-5.25"  # a number stays a number


async def test_json_is_not_guarded_against_formulas(site: Settings, database_url: str) -> None:
    execute(database_url, "UPDATE point SET dis = '=1+1'")
    add_reading(database_url, 1, DAY, 1)
    assert (await get(site, start="2025-12-07", format="json")).json()[0]["dis"] == "=1+1"


@pytest.mark.parametrize("format_", ["csv", "json"])
async def test_any_text_comes_through_unharmed(site: Settings, database_url: str, format_: str) -> None:
    execute(database_url, "UPDATE point SET dis = %s, units = '\\N'", [NASTY])
    execute(database_url, "UPDATE device SET name = %s", [NASTY])
    for second in range(3):
        add_reading(database_url, 1, DAY + timedelta(seconds=second), second)
    response = await get(site, start="2025-12-07", format=format_)
    rows: list[dict[str, Any]] = response.json() if format_ == "json" else list(rows_of(response))
    assert [(row["dis"], row["units"], row["device_name"]) for row in rows] == [(NASTY, "\\N", NASTY)] * 3
    assert [float(row["value"]) for row in rows] == [2, 1, 0]


async def test_values_keep_their_full_precision(site: Settings, database_url: str) -> None:
    values = [0.1 + 0.2, 1e300, -1.7976931348623157e308, 5e-324, 123456789.123456789, 1e15, 0.0]
    for second, value in enumerate(values):
        add_reading(database_url, 1, DAY + timedelta(seconds=second), value)
    for format_ in ("csv", "json"):
        execute(database_url, "DELETE FROM api_token")
        response = await get(site, start="2025-12-07", format=format_)
        rows: list[dict[str, Any]] = response.json() if format_ == "json" else list(rows_of(response))
        assert [float(row["value"]) for row in reversed(rows)] == values


async def test_a_failed_read_is_an_empty_cell_and_null(site: Settings, database_url: str) -> None:
    add_reading(database_url, 1, DAY, None, 2)
    (row,) = rows_of(await get(site, start="2025-12-07"))
    assert (row["value"], row["quality"]) == ("", "bad")
    execute(database_url, "DELETE FROM api_token")
    assert (await get(site, start="2025-12-07", format="json")).json()[0]["value"] is None


async def test_json_stays_json_where_a_value_is_no_number(site: Settings, database_url: str) -> None:
    for second, value in enumerate([math.nan, math.inf, -math.inf]):
        add_reading(database_url, 1, DAY + timedelta(seconds=second), value)
    response = await get(site, start="2025-12-07", format="json")

    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = json.loads(response.text, parse_constant=refuse)
    assert [row["value"] for row in rows] == [None] * 3


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("begin=2025-12-01", "begin"),
        ("start=2025-12-01&start=2025-12-02", "start"),
        ("start=soon", "start"),
        ("end=2025-12-01T99:00", "end"),
        ("format=xlsx", "format"),
        ("start=2025-12-02&end=2025-12-01", "start"),
        ("haystackName=%00", "haystackName"),
    ],
)
async def test_a_bad_parameter_is_a_400_with_its_name(site: Settings, query: str, parameter: str) -> None:
    headers = await make_token(site.database_url.get_secret_value(), "reader", Role.VIEWER)
    async with in_process(site) as (_, http):
        response = await http.get(f"{EXPORT}?{query}", headers=headers)
    assert response.status_code == 400
    assert response.json().keys() == {"error", "parameter", "expected"}
    assert response.json()["parameter"] == parameter


async def test_a_plus_that_was_not_escaped_is_understood(site: Settings, database_url: str) -> None:
    add_reading(database_url, 1, DAY, 1)
    headers = await make_token(database_url, "reader", Role.VIEWER)
    async with in_process(site) as (_, http):
        query = "start=2025-12-07T08:00:00+08:00&end=2025-12-07T08:00:00+08:00"
        response = await http.get(f"{EXPORT}?{query}", headers=headers)
    assert len(rows_of(response)) == 1


async def test_without_a_database_the_export_says_so(settings: Settings) -> None:
    away = make_settings("postgresql://nobody@127.0.0.1:1/none", settings.state_dir)
    async with in_process(away) as (_, http):
        response = await http.get(EXPORT, headers={"Authorization": "Bearer bpt_" + "x" * 43})
    assert response.status_code == 503
    assert "database" in response.json()["error"]
