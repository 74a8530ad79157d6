"""``bacpipes simulate`` as a program of its own: it starts, is controlled, and ends at once."""

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peer.bacnet_client import CLIENT_PORT, PORT, Client, answer

BASE, ADDRESS = "127.0.20.61", f"127.0.20.61:{PORT}"
WHERE = ("--base", BASE, "--port", str(PORT))
PROGRAM = (sys.executable, "-c", "from bacpipes.cli import main; main()", "simulate")


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    command = [*PROGRAM, *WHERE, "--vavs", "1", "--tick", "0.1", "--fault", "no-rpm:12346"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            for line in process.stdout:
                if line.startswith("Ready"):
                    break
            yield process
        finally:
            process.kill()


async def test_control_from_another_process(running: subprocess.Popen[str]) -> None:
    del running
    state = simulate("status", *WHERE)
    assert "7 devices, 238 points" in state.stdout
    assert "Active: no-rpm 12346" in state.stdout
    done = simulate(*WHERE, "fault", "hold", "12345:analog-value:120", "8", "55")
    assert (done.returncode, done.stdout) == (0, "Active: hold 12345:analog-value:120 8 55\n")
    negative = simulate(*WHERE, "fault", "hold", "30001:analog-value:22", "8", "-1.5")
    assert negative.returncode == 0, negative.stderr
    async with Client() as client:
        assert await client.read(ADDRESS, "analog-value,120") == 55
        assert await client.read(f"127.0.20.66:{PORT}", "analog-value,22") == -1.5
        assert await answer(client.read_many(f"127.0.20.62:{PORT}", "analog-value,120", ["present-value"])) != "ok"
        await client.write(ADDRESS, "analog-value,120", 44.0, 10)
        assert await answer(client.write(ADDRESS, "analog-value,120", 101.0, 10)) == "value-out-of-range"
    lines = simulate("writes", *WHERE).stdout.splitlines()
    assert lines == [
        f"12345:analog-value:120 present-value = 44.0, priority 10, from 127.0.20.250:{CLIENT_PORT}: ok",
        f"12345:analog-value:120 present-value = 101.0, priority 10, from 127.0.20.250:{CLIENT_PORT}: valueOutOfRange",
    ]
    assert "Cleared: hold 12345:analog-value:120" in simulate("clear", *WHERE, "hold", "12345").stdout
    assert "Cleared: hold 30001" in simulate("clear", *WHERE, "hold").stdout
    assert "Cleared: no-rpm 12346" in simulate("clear", *WHERE).stdout
    assert "No faults." in simulate("status", *WHERE).stdout


def test_bad_input_has_a_clear_answer(running: subprocess.Popen[str]) -> None:
    del running
    wrong = simulate("fault", *WHERE, "silent", "99")
    assert (wrong.returncode, "No device '99'; there are 12345" in wrong.stderr) == (3, True)
    wrong = simulate("fault", *WHERE, "explode", "12345")
    assert (wrong.returncode, "Kinds: silent" in wrong.stderr) == (3, True)
    wrong = simulate("clear", *WHERE, "everything")
    assert (wrong.returncode, "everything" in wrong.stderr) == (3, True)
    second = simulate(*WHERE)
    assert (second.returncode, "Address already in use" in second.stderr) == (4, True)


def test_the_control_line_survives_nonsense(running: subprocess.Popen[str]) -> None:
    del running
    with socket.create_connection((BASE, PORT), 5) as connection:
        lines = connection.makefile("rwb")
        for nonsense in (b"hello", b"[]", b'{"command": "explode"}', b'{"command": "fault", "words": 5}', b"\xff"):
            lines.write(nonsense + b"\n")
            lines.flush()
            assert json.loads(lines.readline())["ok"] is False
        lines.write(b'{"command": "status"}\n')
        lines.flush()
        assert json.loads(lines.readline())["result"]["faults"] == ["no-rpm 12346"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(running: subprocess.Popen[str], number: signal.Signals) -> None:
    with socket.create_connection((BASE, PORT), 5):  # somebody is still connected
        begin = time.monotonic()
        running.send_signal(number)
        assert running.wait(10) == 0
        assert time.monotonic() - begin < 5


def test_nothing_running_is_said() -> None:
    result = simulate("status", "--base", "127.0.20.99")
    assert (result.returncode, "No simulated building answers" in result.stderr) == (4, True)


def test_the_points_file(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    done = simulate("--site", "tower", "--base", BASE, "--port", "47999", "--vavs", "6", "--points", str(path))
    assert (done.returncode, done.stdout) == (0, f"373 points written to {path}.\n")
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert len(rows) == 373
    assert {row["site"] for row in rows} == {"tower"}
    assert rows[0]["address"] == f"{BASE}:47999"
    printed = simulate("--site", "tower", "--base", BASE, "--port", "47999", "--vavs", "6", "points")
    assert printed.stdout == path.read_text(encoding="utf-8")
    wrong = simulate("--points", str(tmp_path / "no" / "where.csv"))
    assert (wrong.returncode, "No such file" in wrong.stderr) == (3, True)


def test_a_misspelt_fault_at_start_is_refused_before_anything_begins() -> None:
    wrong = simulate(*WHERE, "--fault", "explode:12345")
    assert (wrong.returncode, wrong.stdout) == (3, "")


def test_help_reads_well() -> None:
    text = simulate("--help").stdout
    for word in ("--base", "--vavs", "--speed", "small-apdu DEVICE [480]", "POINT is device:type:instance"):
        assert word in text
