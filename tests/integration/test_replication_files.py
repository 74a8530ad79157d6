"""What a site opens where central takes its log by replication, as the playbooks write it for the example's macau: its
database to central alone, over TLS 1.3 with a certificate, and a bound on what it keeps for a central that is away.
"""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import live_parts

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
SITE, CENTRAL = "macau", "10.0.50.10"
FILES = ["database/pg_hba.conf", "database/postgresql.conf", "../../etc/nftables.d/bacpipes.nft"]


def rendered(folder: Path, lanes: dict[str, Any], disk: int) -> dict[str, str]:
    """The files of macau with such ``site.central`` and a disk of so many GB; by name."""
    shutil.copytree(live_parts.ROOT / "inventory" / "example", folder / "inventory")
    entry = folder / "inventory" / "host_vars" / f"{SITE}.yml"
    content = yaml.safe_load(entry.read_text())
    content["site"]["central"] = lanes
    content["site"]["container"]["disk"] = disk
    entry.write_text(yaml.safe_dump(content))
    live_parts.render(folder, SITE, ["base", "timescaledb"], FILES, _base_firewall_fingerprint="of the test")
    return {Path(name).name: (folder / SITE / Path(name).name).read_text() for name in FILES}


@pytest.mark.parametrize(
    ("lanes", "disk", "megabytes"),
    [
        ({"complete": "replication"}, 64, 10 * 1024),
        ({"complete": "replication", "keep_gb": 3}, 64, 3 * 1024),
        ({"complete": "replication"}, 16, 4 * 1024),
    ],
    ids=["by default", "as the site says", "by a small disk"],
)
def test_central_alone_comes_in_and_what_is_kept_for_it_is_bounded(
    tmp_path: Path, lanes: dict[str, Any], disk: int, megabytes: int
) -> None:
    files = rendered(tmp_path, lanes, disk)
    hosts = [line.split() for line in files["pg_hba.conf"].splitlines() if line.startswith("hostssl")]
    assert hosts == [
        ["hostssl", "bacpipes", "bacpipes_replication", f"{CENTRAL}/32", "scram-sha-256", "clientcert=verify-ca"]
    ]
    assert settings(files["postgresql.conf"]) >= {
        ("ssl", "on"),
        ("ssl_min_protocol_version", "'TLSv1.3'"),
        ("wal_level", "logical"),
        ("max_slot_wal_keep_size", f"{megabytes}MB"),
    }
    assert [line.strip() for line in files["bacpipes.nft"].splitlines() if "dport 5432" in line] == [
        f'iifname "eth0" ip saddr {{ {CENTRAL}/32 }} tcp dport 5432 accept comment "database"'
    ]


def test_a_site_that_ships_opens_nothing(tmp_path: Path) -> None:
    files = rendered(tmp_path, {"complete": "ship"}, 64)
    assert "hostssl" not in files["pg_hba.conf"]
    assert "dport 5432" not in files["bacpipes.nft"]
    assert not {name for name, _ in settings(files["postgresql.conf"])} & {"wal_level", "max_slot_wal_keep_size"}


def settings(text: str) -> set[tuple[str, str]]:
    """Name and value of each line."""
    return set(re.findall(r"^(\w+) = (\S+)", text, flags=re.MULTILINE))
