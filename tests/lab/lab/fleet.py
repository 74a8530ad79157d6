"""The lab's fleet: its keys and secrets, the operator's playbooks, and the table at the end."""

import json
import os
import secrets
import shutil
import sys
import time
from datetime import datetime
from pathlib import Path

from lab import engine, network, root
from lab.plan import KEY, LAN, LAN_BRIDGE, MACHINES, MOLECULE_BRIDGE, PROJECT, SITES, STATE
from lab.shell import LabError, follow, run

INVENTORY = PROJECT / "inventory" / "lab"
BORN = STATE / "inventory"  # the part of the inventory that this lab made for itself; mode 0700
VERIFIED = STATE / "verified"
PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
PSQL = "docker exec -i bacpipes-database-1 psql -U postgres -d bacpipes -Atc"
SCENARIOS = (  # in order: each role finds what those before it have left
    "pki", "base", "docker", "image", "timescaledb", "mqtt_broker", "appliance", "stack",
    "lxc_container", "central", "site", "verify",
)  # fmt: skip
SECONDS = STATE / "seconds.json"


def prepare() -> None:
    """An ssh key, and the secrets that an operator would keep in a vault; made once, never printed."""
    KEY.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not KEY.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bacpipes-lab", "-f", KEY)
    (BORN / "group_vars" / "all").mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(BORN / "hosts.yml", "all: {}\n")
    vault = BORN / "group_vars" / "all" / "vault.yml"
    if not vault.exists():
        names = ("vault_pki_ca_passphrase", "vault_page_admin_password")
        _write(vault, "".join(f"{name}: {secrets.token_urlsafe(32)}\n" for name in names))
    facts = {
        "lab_root": str(root.FLEET_ROOT),
        "lab_key": str(KEY),
        "lab_public_key": KEY.with_suffix(".pub").read_text().strip(),
        "lab_nameservers": network.nameservers(),
        "lab_state": str(STATE),
        "lab_docker_host": engine.HOST,
        "lab_telegraf": engine.has_telegraf(),
    }
    _write(BORN / "group_vars" / "all" / "lab.yml", json.dumps(facts, indent=2) + "\n")


def play(playbook: str, *arguments: str) -> None:
    """An operator's playbook on the lab's inventory, its output on the screen."""
    follow(command(playbook, *arguments), environment(), PROJECT)


def command(playbook: str, *arguments: str) -> list[str]:
    """The words of that call."""
    return [str(PLAYBOOK), "-i", str(INVENTORY), "-i", str(BORN), f"playbooks/{playbook}.yml", *arguments]


def environment() -> dict[str, str]:
    """What Ansible needs from the environment: this virtual environment's programs first, and plain locale."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    path = f"{Path(sys.executable).parent}:{kept.get('PATH', '')}:/usr/sbin:/sbin"
    return kept | {"PATH": path, "LC_ALL": "C.UTF-8", "ANSIBLE_FORCE_COLOR": "1" if sys.stdout.isatty() else "0"}


def molecule_environment(long: bool) -> dict[str, str]:
    """Where Molecule's machines stand: on the lab's ground, beside its own machines."""
    return environment() | {
        "BACPIPES_TEST_LAB_BRIDGE": LAN_BRIDGE,
        "BACPIPES_TEST_LAB_NETWORK": LAN,
        "BACPIPES_TEST_LAB_BACNET_BRIDGE": MOLECULE_BRIDGE,
        "BACPIPES_TEST_LAB_ROOT": str(root.MACHINE_ROOT),
        "BACPIPES_TEST_LAB_KEY": str(KEY),
        "BACPIPES_TEST_LAB_NAMESERVERS": ",".join(network.nameservers()),
        "BACPIPES_TEST_MOLECULE": "all" if long else "quick",
        "DOCKER_HOST": engine.HOST,
    }


def commission() -> None:
    """Central and every site in one run; how long each took, from the first task to the last sign of life."""
    began = time.time()
    print("\n── ansible-playbook playbooks/commission.yml", flush=True)
    play("commission")
    ended = {record.stem: record.stat().st_mtime for record in VERIFIED.glob("*.json") if record.stem in SITES}
    ended["central"] = _started("central", "bacpipes-central-1")
    _note_seconds({machine: at - began for machine, at in ended.items() if at > began})


def _started(machine: str, container: str) -> float:
    """When a container was started, in seconds since 1970."""
    told = ssh(machine, f"docker inspect --format '{{{{.State.StartedAt}}}}' {container}")
    return datetime.fromisoformat(told[:19] + "+00:00").timestamp()


def report(seconds: float) -> None:
    """The table: site, address, readings in, checks passed, seconds taken."""
    taken = json.loads(SECONDS.read_text())
    rows = [("site", "address", "readings in", "checks passed", "seconds")]
    for site in SITES:
        checks = _checks(site)
        rows.append((site, MACHINES[site], _readings(site), checks, f"{taken.get(site, 0):.0f}"))
    rows.append(("central", MACHINES["central"], _readings("central"), "–", f"{taken.get('central', 0):.0f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nThe lab is up after {seconds:.0f} s. Records: {VERIFIED.relative_to(PROJECT)}/. `make lab-down` ends it.")


def forget() -> None:
    """Remove this lab's keys, secrets and records."""
    for folder in (STATE, INVENTORY / "offboarded"):
        shutil.rmtree(folder, ignore_errors=True)


def _readings(site: str) -> str:
    counted = ssh(site, f"{PSQL} 'SELECT count(*) FROM reading'")  # noqa: S608 (a constant)
    return f"{int(counted):,}".replace(",", " ")


def _checks(site: str) -> str:
    """``passed of all``, from the record that verification wrote."""
    record = VERIFIED / f"{site}.json"
    if not record.exists():
        raise LabError(f"verify.yml left no record of {site}.")
    checks = json.loads(record.read_text())["checks"]
    return f"{sum(check['status'] == 'passed' for check in checks)} of {len(checks)}"


def ssh(machine: str, command: str, check: bool = True) -> str:
    """Run a command on one of the lab's machines as root; what it printed, nothing where it may fail and did."""
    settings = ("BatchMode=yes", "ConnectTimeout=10", f"UserKnownHostsFile={STATE}/known_hosts")
    options = [word for setting in settings for word in ("-o", setting)]
    done = run("ssh", *options, "-i", KEY, f"root@{MACHINES[machine]}", command, check=check)
    return done.stdout.strip() if done.returncode == 0 else ""


def _note_seconds(taken: dict[str, float]) -> None:
    known = json.loads(SECONDS.read_text()) if SECONDS.exists() else {}
    _write(SECONDS, json.dumps(known | {name: round(seconds, 1) for name, seconds in taken.items()}) + "\n")


def _write(file: Path, text: str) -> None:
    """Replace a file; nobody else can read it at any moment."""
    partial = file.with_name(f".{file.name}.new")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(file)
