"""A points file: what is read, what is refused and where, and that what is written reads back."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bacpipes.errors import InputError
from bacpipes.haystack import BadNameError, normalise
from bacpipes.objects import MAX_INSTANCE, OBJECT_TYPES, Kind
from bacpipes.points import csv_file as points_csv
from bacpipes.points.csv_file import PointFile, read_points, write_points
from bacpipes.points.rows import (
    COLUMNS,
    NO_TAGS,
    TAGS,
    CellError,
    PointRow,
    canonical_address,
    clean_text,
    object_type_name,
    protect_text,
)

SITE = "duxton"
GOOD = {
    "device_id": "1001", "device_name": "AHU-1", "address": "10.0.0.5", "object_type": "analog-value",
    "object_instance": "1", "name": "SAT SP", "dis": "Supply air setpoint", "units": "°C", "site": "", "equip": "ahu",
    "equip_ref": "1", "function": "sp", "quantity": "temp", "substance": "air", "location": "supply",
    "qualifier": "effective", "interval": "30", "enabled": "", "writable": "yes", "min": "10", "max": "30.5",
    "states": "",
}  # fmt: skip


def lines(*rows: dict[str, str], delimiter: str = ",", columns: tuple[str, ...] = COLUMNS) -> str:
    """A file with `GOOD` rows, each with its changes."""
    cells = [[(GOOD | row).get(column, "") for column in columns] for row in rows]
    return "".join(delimiter.join(line) + "\n" for line in [list(columns), *cells])


def read(text: str | bytes) -> PointFile:
    return read_points(io.BytesIO(text.encode() if isinstance(text, str) else text), "p.csv", SITE)


def errors(file: PointFile) -> list[tuple[int, str]]:
    return [(problem.line, problem.column) for problem in file.problems.kept if not problem.warning]


def messages(file: PointFile) -> str:
    return "\n".join(problem.message for problem in file.problems.kept)


def test_reads_a_row() -> None:
    file = read(lines({}))
    assert file.problems.kept == []
    assert file.rows == [
        PointRow(
            2, 1001, "AHU-1", "10.0.0.5", "analog-value", 1, "SAT SP", "Supply air setpoint", "°C",
            ("ahu", "1", "sp", "temp", "air", "supply", "effective"), 30, None, True, 10.0, 30.5, None,
        )
    ]  # fmt: skip
    assert file.rows[0].haystack_name(SITE) == "duxton.ahu.1.sp.temp.air.supply.effective"


@pytest.mark.parametrize(
    ("change", "column", "words"),
    [
        ({"device_id": ""}, "device_id", "blank"),
        ({"device_id": str(MAX_INSTANCE + 1)}, "device_id", "4194302"),
        ({"device_id": "-1"}, "device_id", "whole number"),
        ({"device_id": "1001.0"}, "device_id", "whole number"),
        ({"device_id": "١"}, "device_id", "whole number"),
        ({"object_instance": "4194303"}, "object_instance", "4194302"),
        ({"object_type": "analog-valve"}, "object_type", "did you mean analog-value?"),
        ({"object_type": "schedule"}, "object_type", "known are analog-input"),
        ({"object_type": ""}, "object_type", "blank"),
        ({"address": ""}, "address", "blank"),
        ({"address": "ahu1.example"}, "address", "ip, ip:port or network:mac"),
        ({"address": "10.0.0.5/24"}, "address", "ip, ip:port or network:mac"),
        ({"address": "10.0.0.256"}, "address", "not an IPv4 address"),
        ({"address": "10.0.0.5:65536"}, "address", "port"),
        ({"address": "10.0.0.5:"}, "address", "port"),
        ({"address": "255.255.255.255"}, "address", "one device"),
        ({"address": "65535:1"}, "address", "65534"),
        ({"address": "5:256"}, "address", "network:mac"),
        ({"address": "*"}, "address", "network:mac"),
        ({"site": "other"}, "site", "'duxton'"),
        ({"equip_ref": ""}, "equip_ref", "is blank, but equip, function"),
        ({"quantity": "", "substance": ""}, "quantity", "is blank (so are substance), but"),
        ({"equip": "ahu+"}, "equip", "'+' is not allowed"),
        ({"equip_ref": "#"}, "equip_ref", "'#' is not allowed"),
        ({"location": "1/2"}, "location", "'/' is not allowed"),
        ({"qualifier": "a.b"}, "qualifier", "'.' is not allowed"),
        ({"interval": "0"}, "interval", "1 to 86400"),
        ({"interval": "86401"}, "interval", "1 to 86400"),
        ({"interval": "1.5"}, "interval", "whole number"),
        ({"enabled": "on"}, "enabled", "true, false, yes, no, 1, 0"),
        ({"writable": "x"}, "writable", "true, false, yes, no, 1, 0"),
        ({"min": "nan"}, "min", "finite"),
        ({"max": "inf"}, "max", "finite"),
        ({"max": "1e999"}, "max", "finite"),
        ({"max": "0x10"}, "max", "finite"),
        ({"min": "31"}, "min", "31 is above max 30.5"),
        ({"states": "3"}, "states", "only multi-state"),
        ({"min_on": "60"}, "min_on", "only binary objects"),
        ({"writes_per_minute": "-1"}, "writes_per_minute", "whole number from 0"),
        ({"object_type": "multi-state-value", "states": "0"}, "states", "whole number from 1"),
        ({"object_type": "analog-input"}, "writable", "measured"),
        ({"name": "a\x07b"}, "name", "control character"),
        ({"dis": "x" * 501}, "dis", "501 characters"),
    ],
)
def test_refuses_a_bad_cell(change: dict[str, str], column: str, words: str) -> None:
    file = read(lines({"object_instance": "7", "qualifier": "other"}, change))
    assert errors(file) == [(3, column)]
    assert words in messages(file)


def test_all_errors_of_all_rows_are_told() -> None:
    other = {"qualifier": "other"}
    file = read(
        lines({"device_id": "x", "interval": "0", "min": "y"}, other, {"object_type": "z", "site": "w", "equip": "b"})
    )
    assert sorted(errors(file)) == [(2, "device_id"), (2, "interval"), (2, "min"), (4, "object_type"), (4, "site")]


def test_what_can_not_be_read_is_not_compared() -> None:
    file = read(lines({"equip": "a+"}, {"equip": "a+", "object_instance": "2"}))
    assert errors(file) == [(2, "equip"), (3, "equip")]
    file = read(lines({"address": "x"}, {"address": "y", "object_instance": "2", "qualifier": "b"}))
    assert errors(file) == [(2, "address"), (3, "address")]


def test_enabled_needs_equipment() -> None:
    untagged = dict.fromkeys(TAGS, "") | {"writable": "no"}
    file = read(lines(untagged | {"enabled": "true"}))
    assert errors(file) == [(2, "enabled")]
    assert "fill in equip and equip_ref" in messages(file)
    assert read(lines(untagged)).problems.errors == 0


def test_equipment_alone_gives_no_haystack_name() -> None:
    rest = dict.fromkeys(TAGS[2:], "")
    row = read(lines(rest | {"writable": "no"})).rows[0]
    assert row.equipment == ("ahu", "1")
    assert row.haystack_name(SITE) is None


def test_a_point_stands_once() -> None:
    file = read(lines({}, {"qualifier": "other"}))
    assert errors(file) == [(3, "object_instance")]
    assert "p.csv:2" in messages(file)


def test_a_haystack_name_stands_once_also_after_normalising() -> None:
    file = read(lines({}, {"object_instance": "2", "equip": " AHU "}))
    assert errors(file) == [(3, "qualifier")]
    assert "duxton.ahu.1.sp.temp.air.supply.effective as in p.csv:2" in messages(file)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"address": "10.0.0.6"}, "address"),
        ({"device_id": "1002", "device_name": "B"}, "address"),
        ({"device_id": "1002", "device_name": "B", "address": "10.0.0.5:47808"}, "address"),
        ({"device_name": "AHU-2"}, "device_name"),
    ],
)
def test_a_device_has_one_address_and_one_name(change: dict[str, str], column: str) -> None:
    file = read(lines({}, {"object_instance": "2", "qualifier": "b"} | change))
    assert errors(file) == [(3, column)]


def test_a_device_name_in_one_row_is_enough() -> None:
    file = read(lines({"device_name": ""}, {"object_instance": "2", "qualifier": "b"}))
    assert file.problems.errors == 0
    assert {row.device_name for row in file.rows} == {"AHU-1"}


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"min": "", "max": ""}, "writable"),
        ({"min": ""}, "min"),
        ({"max": ""}, "max"),
        ({"function": "sensor"}, "writable"),
        ({"object_type": "multi-state-value", "min": "", "max": ""}, "states"),
    ],
)
def test_warns_of_what_will_be_refused_at_a_write(change: dict[str, str], column: str) -> None:
    file = read(lines(change))
    assert [(p.column, p.warning) for p in file.problems.kept] == [(column, True)]
    assert file.problems.errors == 0


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("device_id,address,object_type\n", "object_instance is missing"),
        ("device_id,address,object_type,object_instance,intervall\n", "'intervall' (did you mean interval?)"),
        ("device_id,address,object_type,object_instance,units,units\n", "units stands there 2 times"),
        ("\n", "blank line"),
    ],
)
def test_refuses_a_header_by_name(header: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(header + "1,10.0.0.1,analog-input,1\n")
    assert words in str(caught.value)


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(InputError, match="is empty"):
        read("")


def test_columns_in_any_order_with_byte_order_mark_and_crlf() -> None:
    text = lines({}, columns=tuple(reversed(COLUMNS))).replace("\n", "\r\n")
    assert read(b"\xef\xbb\xbf" + text.encode()).rows == read(lines({})).rows


@pytest.mark.parametrize("first", ["", "sep=;\r\n"])
def test_semicolons_with_decimal_commas(first: str) -> None:
    file = read(first + lines({"max": "30,5"}, delimiter=";"))
    assert file.rows[0].maximum == 30.5
    assert file.rows[0].line == (3 if first else 2)


def test_decimal_comma_is_refused_between_commas() -> None:
    assert "decimal point" in messages(read(lines({"max": '"30,5"'})))


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (lines({}).encode("utf-16"), "UTF-16"),
        (lines({}, {"object_instance": "2", "qualifier": "b"}).encode("latin-1"), "p.csv:2: octet 0xb0 is not UTF-8"),
        (lines({}).encode() + b"\0", "p.csv:3"),
        (b"x" * (points_csv.MAX_LINE + 1), "p.csv:1: is not a line of text"),
    ],
)
def test_refuses_another_encoding_with_the_line(octets: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(octets)
    assert words in str(caught.value)


def test_an_open_quote_is_named_by_the_line_where_it_opens() -> None:
    text = lines({}, {"object_instance": "2", "qualifier": "b", "dis": '"open'}, {"object_instance": "3"})
    with pytest.raises(InputError, match=r"p\.csv:3: is not CSV"):
        read(text)


def test_a_header_with_another_line_end_is_no_csv() -> None:
    with pytest.raises(InputError, match=r"p\.csv:1: is not CSV"):
        read(lines({}).replace("\n", "\r"))


def test_a_missing_cell_is_told_with_its_line() -> None:
    text = lines({}) + "1001,AHU-1,10.0.0.5\n"
    file = read(text)
    assert errors(file) == [(3, "")]
    assert f"3 cells, but the header has {len(COLUMNS)}" in messages(file)


def test_blank_rows_are_passed_over_and_lines_still_count() -> None:
    text = lines({}) + "\n" + "," * 21 + "\n" + lines({"device_id": "x", "qualifier": "b"}).split("\n", 1)[1]
    assert errors(read(text)) == [(5, "device_id")]


def test_a_header_alone_is_refused() -> None:
    with pytest.raises(InputError, match="no points"):
        read(lines())


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_csv, "MAX_ROWS", 2)
    rows = [{"object_instance": str(n), "qualifier": str(n)} for n in range(3)]
    with pytest.raises(InputError, match=r"p\.csv:4: more than 2"):
        read(lines(*rows))


def test_problems_are_counted_beyond_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points_csv, "MAX_PROBLEMS", 3)
    file = read(lines(*({"device_id": "x", "qualifier": f"q{n}"} for n in range(5))))
    assert (file.problems.errors, len(file.problems.kept)) == (5, 3)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("analogValue", "analog-value"),
        ("multiStateInput", "multi-state-input"),
        ("Multi State Input", "multi-state-input"),
        ("BINARY_OUTPUT", "binary-output"),
        ("trendLog", None),
    ],
)
def test_object_types_in_other_spellings(text: str, name: str | None) -> None:
    assert object_type_name(text) == name


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.5:47808", "10.0.0.5"),
        ("10.0.0.5:47809", "10.0.0.5:47809"),
        ("2001:12", "2001:12"),
        ("2001:0x0C0D", "2001:0x0c0d"),
        ("10:192.168.0.1", "10:192.168.0.1"),
    ],
)
def test_addresses(text: str, canonical: str) -> None:
    assert canonical_address(text) == canonical
    assert canonical_address(canonical) == canonical


printable = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=30)


@given(printable | st.sampled_from(["=1+1", "+1", "-1", "@x", "'x", "''", "'", " =1", "x ", "'=1", "\u00a0y"]))
def test_a_text_is_no_formula_and_reads_back(text: str) -> None:
    cell = protect_text(text)
    assert not cell.strip().startswith(("=", "+", "-", "@"))
    assert clean_text(cell) == text


@given(st.text(max_size=40))
def test_a_tag_is_refused_or_normalised_once_and_for_all(text: str) -> None:
    try:
        tag = normalise("location", text)
    except BadNameError:
        return
    assert normalise("location", tag) == tag
    assert not set(tag) & set(" +#/.\t\n")


def _tag(text: str) -> bool:
    try:
        return normalise("location", text) == text
    except BadNameError:
        return False


tags = st.one_of(
    st.just(NO_TAGS),
    st.tuples(*[st.text(min_size=1, max_size=12).filter(_tag)] * 2).map(lambda two: (*two, *[None] * 5)),
    st.tuples(*[st.text(min_size=1, max_size=12).filter(_tag)] * 7),
)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-1000, 1000).map(float)


@st.composite
def point_rows(draw: st.DrawFn) -> PointRow:
    """Any row that keeps the rules."""
    object_type = draw(st.sampled_from(list(OBJECT_TYPES.values())))
    low, high = sorted([draw(numbers), draw(numbers)])
    given_tags: tuple[str | None, ...] = draw(tags)
    device = draw(st.integers(0, 200))
    return PointRow(
        line=0,
        device_id=device,
        device_name=f"'=Device {device} ",
        address=f"10.0.0.{device}:{50000 + device}",
        object_type=object_type.name,
        object_instance=draw(st.integers(0, MAX_INSTANCE)),
        name=draw(printable),
        dis=draw(printable),
        units=draw(printable),
        tags=given_tags,
        interval=draw(st.integers(1, 86400)),
        enabled=draw(st.booleans()) and bool(given_tags[0]),
        writable=draw(st.booleans()) and object_type.writable,
        minimum=draw(st.none() | st.just(low)),
        maximum=draw(st.none() | st.just(high)),
        states=draw(st.none() | st.integers(1, 99)) if object_type.kind is Kind.MULTISTATE else None,
    )


rows_of_a_site = st.lists(
    point_rows(), min_size=1, max_size=8, unique_by=(lambda r: r.key, lambda r: r.haystack_name(SITE) or r.key)
)


@given(rows_of_a_site)
def test_what_is_written_reads_back(rows: list[PointRow]) -> None:
    stream = io.StringIO(newline="")
    assert write_points(stream, rows, SITE) == len(rows)
    file = read(stream.getvalue())
    assert [p for p in file.problems.kept if not p.warning] == []
    again = [PointRow(0, *(getattr(row, f) for f in PointRow.__slots__[1:])) for row in file.rows]
    assert again == rows


@given(st.binary(max_size=200))
def test_garbage_is_refused_not_crashed_on(octets: bytes) -> None:
    try:
        file = read_points(io.BytesIO(lines().encode() + octets), "p.csv", SITE)
    except InputError:
        return
    assert file.problems.errors


def test_a_control_character_is_refused() -> None:
    with pytest.raises(CellError):
        clean_text("a\nb")


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        ({"publish": "often"}, "publish", "'often' is not one of every, change"),
        ({"publish": "change", "deadband": "-0.1"}, "deadband", "'-0.1' is below 0"),
        ({"publish": "change", "deadband": "nan"}, "deadband", "'nan' is not a finite number"),
        ({"publish": "change", "heartbeat": "0"}, "heartbeat", "'0' is not a whole number from 1 to 86400"),
        ({"object_type": "binary-value", "publish": "change", "deadband": "1"}, "deadband", "only analog objects"),
    ],
)
def test_a_publish_policy_that_is_none_is_refused(cells: dict[str, str], column: str, message: str) -> None:
    file = read(lines(cells))
    assert errors(file) == [(2, column)]
    assert message in messages(file)


def test_a_policy_without_effect_is_said() -> None:
    file = read(lines({"publish": "EVERY", "deadband": "0.5"}))
    assert not file.problems.errors
    assert "has no effect: publish is 'every'" in messages(file)
