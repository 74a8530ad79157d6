"""Verification tells a site that works from one that does not, and leaves a record of either."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://onboarded"]
PROJECT = Path(__file__).resolve().parents[3]
VERIFIED = PROJECT / ".lab" / "verified"


def play() -> subprocess.CompletedProcess[str]:
    """The operator's verify.yml for the scenario's site."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    words = ["-i", "inventory/lab", "-i", ".lab/inventory", "-l", "klcc,localhost", "playbooks/verify.yml"]
    environment = os.environ | {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
    return subprocess.run(
        [program, *words], capture_output=True, text=True, check=False, cwd=PROJECT, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_every_form_of_the_record_is_there(host: Host) -> None:
    record = json.loads((VERIFIED / "klcc.json").read_text())
    assert record["passed"]
    for form in ("txt", "xml", "html"):
        assert "klcc" in (VERIFIED / f"klcc.{form}").read_text()


@pytest.mark.parametrize(
    ("service", "title"),
    [("worker", "All services run and are healthy"), ("broker", "A fresh reading of every device is on the broker")],
)
def test_a_service_that_is_gone_is_found(host: Host, service: str, title: str) -> None:
    host.check_output(f"docker stop bacpipes-{service}-1")
    try:
        done = play()
    finally:
        host.check_output(f"docker start bacpipes-{service}-1")
    assert done.returncode != 0
    assert re.search(r"FAILED: \d+ of \d+ checks", done.stdout), done.stdout[-3000:]
    record = json.loads((VERIFIED / "klcc.json").read_text())
    failed = {check["title"] for check in record["checks"] if check["status"] == "failed"}
    assert not record["passed"]
    assert any(each.startswith(title) for each in failed), failed


def test_a_site_that_works_again_passes(host: Host) -> None:
    done = play()
    assert done.returncode == 0, done.stdout[-3000:]
    assert json.loads((VERIFIED / "klcc.json").read_text())["passed"]
