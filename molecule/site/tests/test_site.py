"""A site that the operator's playbooks have brought up, as its record and its machine show it."""

import json
import time
from pathlib import Path

from testinfra.host import Host

testinfra_hosts = ["ansible://onboarded"]
RECORD = Path(__file__).resolve().parents[3] / ".lab" / "verified" / "klcc.json"
PSQL = "docker exec bacpipes-database-1 psql -U postgres -d bacpipes -Atc"


def test_its_record_says_that_it_works(host: Host) -> None:
    record = json.loads(RECORD.read_text())
    assert record["passed"]
    assert record["counts"]["passed"] >= 20
    assert time.time() - RECORD.stat().st_mtime < 3600


def test_readings_of_every_point_arrive(host: Host) -> None:
    points = int(host.check_output(f'{PSQL} "SELECT count(*) FROM point WHERE enabled"'))
    read = int(host.check_output(f'{PSQL} "SELECT count(DISTINCT haystack_name) FROM sensor_readings"'))
    assert read == points > 300
