"""The benchmarks' own memory: a figure that has become worse shows, in either direction of better."""

from pathlib import Path

import pytest

from bench import costs


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(costs, "FILE", tmp_path / "costs.csv")
    return tmp_path / "costs.csv"


@pytest.mark.parametrize(
    ("name", "before", "now", "worse"),
    [
        ("worker_sustained_cpu_ms_per_1000", 16.0, 20.0, False),
        ("worker_sustained_cpu_ms_per_1000", 16.0, 21.0, True),
        ("export_beside_loop", 12.0, 10.0, False),
        ("export_beside_loop", 12.0, 9.0, True),
        ("export_beside_loop", 12.0, 90.0, False),
    ],
)
def test_a_regression_shows(
    name: str, before: float, now: float, worse: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (9 * before, before, before, before):  # one of them was on a busy machine
        costs.note(name, value)
    capsys.readouterr()
    costs.note(name, now)
    told = capsys.readouterr().out
    assert (f"WORSE than {before:.4g}" in told) is worse
    costs.show()
    assert ("WORSE" in capsys.readouterr().out) is worse


def test_each_run_is_one_line_more(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in (1.0, 2.0):
        costs.note("export_beside_loop", value)
    head, *rows = file.read_text().splitlines()
    assert (head, len(rows)) == ("time,commit,machine,name,value,load", 2)
    assert all(float(row.split(",")[-1]) >= 0 for row in rows)


def test_another_machine_s_times_are_not_compared_but_its_ratios_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(costs, "_machine", lambda: "a faster one × 64")
        costs.note("worker_usual_cpu_ms_per_1000", 1.0)
        costs.note("rpm_cpu_beside_bacpypes3", 0.001)
    costs.note("worker_usual_cpu_ms_per_1000", 100.0)
    assert "WORSE" not in capsys.readouterr().out
    costs.note("rpm_cpu_beside_bacpypes3", 0.01)
    assert "WORSE" in capsys.readouterr().out


def test_the_file_that_is_kept_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "FILE", Path(costs.__file__).with_name("costs.csv"))
    rows = costs._rows()
    assert {"rpm_rate_beside_bacpypes3", "worker_sustained_cpu_ms_per_1000"} <= {row["name"] for row in rows}
    assert all(float(row["value"]) > 0 and set(row) == set(costs.COLUMNS) for row in rows)
