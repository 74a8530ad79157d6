"""The report of `verify`: it can't pass when it looked at nothing, and its forms are sound."""

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import MagicMock
from xml.etree import ElementTree

import pytest

LAB = Path(__file__).parents[1] / "lab"
sys.path.append(str(LAB))

from verification import ports, report  # noqa: E402
from verification.fleet import FleetError, chosen, load  # noqa: E402
from verification.outcome import CheckFailedError, fail, not_verified  # noqa: E402
from verification.plan import CHECKS, declared  # noqa: E402
from verification.report import FAILED, NOT_VERIFIED, PASSED, Record, Result, SiteFacts  # noqa: E402

BEGAN = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
SAFE = declared(intrusive=False)
HEADER = (
    "device_id,device_name,address,object_type,object_instance,equip,equip_ref,function,"
    "quantity,substance,location,qualifier"
)


def facts(host: str = "macau", devices: int = 2) -> SiteFacts:
    return SiteFacts(host, host, "Casa <b>& Co</b>", "10.0.60.21", expected_devices=devices, expected_points=9)


def results(host: str = "macau", outcome: str = PASSED, observed: str = "seen") -> dict[tuple[str, str], Result]:
    return {(host, check.name): Result(check.name, outcome, observed, 0.5) for check in SAFE}


def record(found: dict[tuple[str, str], Result], site: SiteFacts | None = None) -> Record:
    [only] = report.judge([site or facts()], SAFE, found, BEGAN, "run-1")
    return only


def with_result(name: str, outcome: str, observed: str) -> dict[tuple[str, str], Result]:
    return results() | {("macau", name): Result(name, outcome, observed)}


def test_a_site_passes_where_every_check_did() -> None:
    assert record(results()).passed


def test_no_site_is_a_failure() -> None:
    with pytest.raises(ValueError, match="no site"):
        report.judge([], SAFE, {}, BEGAN)


def test_no_check_is_a_failure() -> None:
    with pytest.raises(ValueError, match="no check"):
        report.judge([facts()], [], {}, BEGAN)


def test_a_site_without_devices_fails() -> None:
    assert not record(results(), facts(devices=0)).passed


@pytest.mark.parametrize("missing", [check.name for check in SAFE])
def test_a_missing_check_fails_the_site(missing: str) -> None:
    found = results()
    del found["macau", missing]
    only = record(found)
    assert not only.passed
    assert "did not run" in only.results[missing].observed


def test_results_of_another_site_do_not_count() -> None:
    first, second = report.judge([facts("macau"), facts("klcc")], SAFE, results("macau"), BEGAN)
    assert first.passed
    assert not second.passed


def test_a_failed_check_fails_the_site() -> None:
    assert not record(with_result("clock", FAILED, "wrong")).passed


def test_a_check_that_could_not_look_needs_a_reason() -> None:
    assert record(with_result("compression", NOT_VERIFIED, "this engine cannot compress")).passed
    assert not record(with_result("compression", NOT_VERIFIED, "  ")).passed


def test_a_pass_that_observed_nothing_is_none() -> None:
    assert not record(results(observed="")).passed


def test_nothing_but_skips_is_no_pass() -> None:
    assert not record(results(outcome=NOT_VERIFIED, observed="no reason to")).passed


def test_an_unknown_outcome_is_a_failure() -> None:
    assert not record(with_result("clock", "maybe", "who knows")).passed


def test_text_names_each_check_and_what_is_not_verified() -> None:
    text = report.text(record(with_result("compression", NOT_VERIFIED, "this engine cannot compress")))
    assert all(check.title in text for check in SAFE)
    assert "not verified" in text
    assert "this engine cannot compress" in text


def test_junit_is_xml_with_a_case_for_each_check() -> None:
    nasty = "expected: <a> & \x00\x1b[31m]]>\nseen: ✗"
    only = record(
        with_result("clock", FAILED, nasty)
        | with_result("updates", NOT_VERIFIED, "why")
        | with_result("clock", FAILED, nasty)
    )
    suite = ElementTree.fromstring(report.junit(only)).find("testsuite")  # noqa: S314 - our own
    assert suite is not None
    assert [case.get("name") for case in suite.iter("testcase")] == [check.name for check in SAFE]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(SAFE)), "1")
    assert "<a> &" in "".join(failure.text or "" for failure in suite.iter("failure"))


def test_html_escapes_and_loads_nothing_from_outside() -> None:
    page = report.html(record(with_result("clock", FAILED, "<script>alert(1)</script> & more")))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "Casa &lt;b&gt;" in page
    assert not [words for words in ("http:", "https:", "src=", "url(", "<link") if words in page]
    assert "Technician" in page
    assert "Owner" in page
    HTMLParser().feed(page)


def test_json_is_what_the_role_reads() -> None:
    document = json.loads(report.as_json(record(results())))
    assert document["passed"] is True
    assert document["run"] == "run-1"
    assert document["devices"] == 2
    assert document["counts"] == {"passed": len(SAFE), "failed": 0, "not verified": 0}
    assert {check["status"] for check in document["checks"]} == {"passed"}


def test_every_form_is_written(tmp_path: Path) -> None:
    report.write(record(results()), tmp_path / "verified")
    assert sorted(path.name for path in (tmp_path / "verified").iterdir()) == [
        f"macau.{s}" for s in ("html", "json", "txt", "xml")
    ]


def test_every_declared_check_is_a_test_and_the_other_way_round() -> None:
    lines = [line for file in (LAB / "checks").glob("test_*.py") for line in file.read_text().splitlines()]
    tests = [line.split("(")[0].removeprefix("def test_") for line in lines if line.startswith("def test_")]
    assert sorted(tests) == sorted(check.name for check in CHECKS)


# -- the fleet file


def fleet_file(folder: Path, *entries: dict[str, object]) -> Path:
    path = folder / "fleet.json"
    path.write_text(json.dumps({"sites": entries}))
    return path


def entry(**more: object) -> dict[str, object]:
    return {
        "host": "macau", "site": "macau", "connection": {"address": "10.0.60.21"}, "points_file": "",
        "http_address": "10.0.60.21",
    } | more  # fmt: skip


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"sites": []}', '{"sites": {}}'])
def test_a_fleet_file_without_sites_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(content)
    with pytest.raises(FleetError):
        load(path)


def test_a_site_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="more than once"):
        load(fleet_file(tmp_path, entry(), entry(host="klcc")))


def test_sites_are_chosen_by_their_host(tmp_path: Path) -> None:
    sites = load(fleet_file(tmp_path, entry(), entry(host="klcc", site="klcc")))
    assert [site.host for site in chosen(sites, ["klcc"])] == ["klcc"]
    assert chosen(sites, []) == sites
    with pytest.raises(FleetError, match="no host kuala"):
        chosen(sites, ["klcc", "kuala"])


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="unknown keys retention"):
        load(fleet_file(tmp_path, entry(retention=3)))


def test_points_and_their_topics_come_from_the_points_file(tmp_path: Path) -> None:
    points = tmp_path / "macau.csv"
    points.write_text(
        f"{HEADER}\n12345,AHU,10.1.1.1,analog-input,101,ahu,1,sensor,temp,air,supply,actual\n"
        "12346,AHU 2,10.1.1.2,analog-value,7,ahu,2,,,,,\n12347,idle,10.1.1.3,analog-value,7,,,,,,,\n"
    )
    [site] = load(fleet_file(tmp_path, entry(points_file=str(points))))
    assert sorted(site.devices) == [12345, 12346]
    first = site.devices[12345][0]
    assert first.haystack_name == "macau.ahu.1.sensor.temp.air.supply.actual"
    assert first.topics == (
        "macau/ahu_1/analoginput101/presentValue",
        "macau/ahu_1/12345/analoginput101/presentValue",
    )
    assert site.devices[12346][0].haystack_name is None


# -- the scripts that run on a machine


def test_the_probe_tells_a_dead_broker_from_one_that_refuses() -> None:
    from verification.on_machine import mqtt_probe

    assert mqtt_probe.main([{"address": "127.0.0.1", "port": 1}])[0].startswith("unreachable")


def test_scripts_for_the_machine_need_the_standard_library_only() -> None:
    for script in (LAB / "verification" / "on_machine").glob("*.py"):
        done = subprocess.run([sys.executable, "-I", "-S", "-m", "py_compile", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "verification" not in [
            line.split()[1] for line in script.read_text().splitlines() if line.startswith(("import ", "from "))
        ]


def test_a_port_that_answers_is_told_from_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert ports.opens("127.0.0.1", port)
    assert not ports.opens("127.0.0.1", port)


def test_every_open_port_of_many_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """More ports than fit into one turn, and more than may wait at once."""
    monkeypatch.setattr(ports, "BURST", 50)
    monkeypatch.setattr(ports, "AT_ONCE", 100)
    with ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(5)]
        numbers = sorted(each.getsockname()[1] for each in listening)
        wanted = range(max(1, numbers[0] - 300), min(65535, numbers[-1] + 300))
        assert set(numbers) <= set(ports.open_ports("127.0.0.1", wanted))
        closed = [each for each in range(1, 400) if not ports.opens("127.0.0.1", each)]
        assert ports.open_ports("127.0.0.1", closed) == []


def test_what_never_answers_is_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full drops what comes, as a firewall does."""
    monkeypatch.setattr(ports, "SECONDS", 0.2)
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(server.getsockname())
        assert ports.open_ports("127.0.0.1", [server.getsockname()[1]]) == []


def test_a_bacnet_device_is_told_from_silence_and_from_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device, ThreadPoolExecutor(1) as threads:
        device.bind(("127.0.0.1", 0))
        port = device.getsockname()[1]
        answer = threads.submit(ports.bacnet_answer, "127.0.0.1", port)
        question, sender = device.recvfrom(1500)
        device.sendto(b"here I am", sender)
        assert question == ports.READ_DEVICE_NAME
        assert answer.result() == b"here I am"
        monkeypatch.setattr(ports, "SILENCE", 0.2)
        assert ports.bacnet_answer("127.0.0.1", port) is None
    with pytest.raises(ConnectionRefusedError):
        ports.bacnet_answer("127.0.0.1", port)


def test_a_setpoint_that_is_tried_is_released_before_the_connection_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("testinfra", "testinfra.host"):  # it is the controller's, and nothing of it is asked for here
        monkeypatch.setitem(sys.modules, name, MagicMock())
    from verification.observed import Observed

    told: list[str] = []
    go = threading.Event()

    def trial() -> str:
        go.wait()
        told.append("released")
        return ""

    (site,) = load(fleet_file(tmp_path, entry()))
    with ThreadPoolExecutor(1) as threads:
        observed = Observed(site, tmp_path, threads)
        monkeypatch.setattr(observed.machine, "close", lambda: told.append("closed"))
        observed.trial = observed.begin(trial)
        later = threading.Timer(0.2, go.set)
        later.start()
        observed.close()
    assert told == ["released", "closed"]


def test_a_check_that_goes_on_in_the_background_ends_as_any_other() -> None:
    """Failed and not verified come out where its result is asked for."""
    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(CheckFailedError, match="seen: nothing"):
            threads.submit(fail, "something", "nothing", "look").result()
        with pytest.raises(pytest.skip.Exception, match="no point"):
            threads.submit(not_verified, "no point").result()
