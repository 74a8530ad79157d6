"""Query parameters of the export: what is understood, and what is refused with which words."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bacpipes.exporter.parameters import export_request, moment, take
from bacpipes.exporter.problem import Problem

MACAU = ZoneInfo("Asia/Macau")  # UTC+8, without summer time
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2025, 12, 8, 12, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_parameters_the_last_24_hours_as_csv() -> None:
    wanted = export_request([], MACAU, NOW)
    assert (wanted.start, wanted.end) == (NOW - timedelta(hours=24), NOW)
    assert (wanted.format, wanted.haystack_name) == ("csv", None)


def test_an_end_alone_means_the_24_hours_before_it() -> None:
    wanted = export_request([("end", "2025-12-01T00:00:00Z")], MACAU, NOW)
    assert wanted.start == utc("2025-11-30T00:00:00")


def test_an_empty_parameter_counts_as_absent() -> None:
    pairs = [("start", ""), ("end", ""), ("haystackName", ""), ("format", "")]
    assert export_request(pairs, MACAU, NOW) == export_request([], MACAU, NOW)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("2025-12-01T00:00:00Z", "2025-12-01T00:00:00"),
        ("2025-12-01T00:00:00.123Z", "2025-12-01T00:00:00.123000"),
        ("2025-12-01T08:00:00+08:00", "2025-12-01T00:00:00"),
        ("2025-12-01T08:00:00+0800", "2025-12-01T00:00:00"),
        ("2025-12-01T08:00:00 08:00", "2025-12-01T00:00:00"),  # a + that was not escaped
        ("2025-12-01 08:00 08:00", "2025-12-01T00:00:00"),
        ("2025-11-30T19:00-05:00", "2025-12-01T00:00:00"),
        ("2025-12-01T08:00", "2025-12-01T00:00:00"),  # the site's zone
        ("2025-12-01 08:00:00", "2025-12-01T00:00:00"),
        ("2025-12-01", "2025-11-30T16:00:00"),
    ],
)
def test_start_is_understood(text: str, first: str) -> None:
    assert moment("start", text, MACAU, last=False) == utc(first)


def test_a_bare_date_as_end_is_that_whole_day_in_the_sites_zone() -> None:
    assert moment("end", "2025-12-01", MACAU, last=True) == utc("2025-12-01T15:59:59.999999")


def test_a_day_on_which_the_clocks_change_has_its_own_length() -> None:
    begin = moment("start", "2025-10-26", BERLIN, last=False)
    end = moment("end", "2025-10-26", BERLIN, last=True)
    assert end - begin == timedelta(hours=25) - timedelta(microseconds=1)


def test_a_local_time_that_occurs_twice_spans_both() -> None:
    begin = moment("start", "2025-10-26T02:30", BERLIN, last=False)
    end = moment("end", "2025-10-26T02:30", BERLIN, last=True)
    assert end - begin == timedelta(hours=1)


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "2025-13-01", "2025-02-30", "2025-12-01T25:00", "2025-12-01T08:00:00+99:00", "1765152000000"),
        *(
            "2025-12-01T08:00+08:75",
            "2025-12-01T",
            "12/01/2025",
            "٢٠٢٥-12-01",
            "0001-01-01T00:00+08:00",
            "2025-12-01\x00",
        ),
    ],
)
def test_what_is_no_time_is_refused_with_the_name_and_what_is_expected(text: str) -> None:
    with pytest.raises(Problem) as caught:
        moment("start", text, MACAU, last=False)
    assert caught.value.status == 400
    assert caught.value.body["parameter"] == "start"
    assert "2025-12-31T14:30:00Z" in caught.value.body["expected"]


def test_the_last_day_of_the_calendar_is_refused_as_an_end() -> None:
    with pytest.raises(Problem):
        moment("end", "9999-12-31", MACAU, last=True)


@pytest.mark.parametrize(
    ("pairs", "parameter"),
    [
        ([("begin", "2025-12-01")], "begin"),
        ([("start", "2025-12-01"), ("start", "2025-12-02")], "start"),
        ([("start", "2025-12-02"), ("end", "2025-12-01")], "start"),
        ([("start", "2026-12-02")], "start"),
        ([("format", "xlsx")], "format"),
        ([("format", "CSV")], "format"),
        ([("haystackName", "a\x00b")], "haystackName"),
    ],
)
def test_a_bad_parameter_is_named(pairs: list[tuple[str, str]], parameter: str) -> None:
    with pytest.raises(Problem) as caught:
        export_request(pairs, MACAU, NOW)
    assert (caught.value.status, caught.value.body["parameter"]) == (400, parameter)
    assert caught.value.body["error"]
    assert caught.value.body["expected"]


def test_start_and_end_may_be_the_same_instant() -> None:
    wanted = export_request([("start", "2025-12-01T00:00Z"), ("end", "2025-12-01T00:00Z")], MACAU, NOW)
    assert wanted.start == wanted.end


def test_a_route_without_parameters_takes_none() -> None:
    with pytest.raises(Problem) as caught:
        take([("limit", "10")], ())
    assert caught.value.body["expected"] == "no parameters"
