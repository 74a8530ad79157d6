"""The preflight as an operator meets it: ansible-playbook on copies of the example inventory with mistakes in them.

Each sentence has its test in tests/unit/test_site_preflight.py; here they must arrive, and nothing else may run.
"""

import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki import Authority
from site_inventory.arguments import ROLES

ROOT = Path(__file__).parents[2]
ANSIBLE = ROOT / ".venv-controller" / "bin" / "ansible-playbook"
PREFLIGHT = ROOT / "playbooks" / "preflight.yml"

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")

# What comes after the preflight in these tests: it would leave a mark.
AFTERWARDS = """
- name: Check every site before anything changes
  ansible.builtin.import_playbook: {preflight}
- name: Change something
  hosts: sites
  gather_facts: false
  tasks:
    - name: Leave a mark
      ansible.builtin.file: {{path: "{mark}/{{{{ inventory_hostname }}}}", state: touch, mode: "0600"}}
      delegate_to: localhost
"""


class Fleet:
    """A copy of the example inventory, and the playbook that begins with the preflight."""

    def __init__(self, folder: Path) -> None:
        self.inventory = folder / "fleet"
        self.marks = folder / "marks"
        self.marks.mkdir()
        shutil.copytree(ROOT / "inventory" / "example", self.inventory)
        self.playbook = folder / "play.yml"
        self.playbook.write_text(AFTERWARDS.format(preflight=PREFLIGHT, mark=self.marks))
        secrets = {"vault_pki_ca_passphrase": "only for these tests", "vault_proxmox_token_secret": "t0ken-secret"}
        (self.inventory / "group_vars" / "all" / "vault.yml").write_text(yaml.safe_dump(secrets))
        self.extra: dict[str, Any] = {"site_reachability": False}

    def edit(self, file: str, change: Callable[[dict[str, Any]], object]) -> None:
        """Change one of the inventory's files."""
        path = self.inventory / file
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content))

    def site(self, host: str, **parts: Any) -> None:
        """Replace parts of a host's entry; a dictionary is merged into what is there."""

        def change(content: dict[str, Any]) -> None:
            for key, value in parts.items():
                there = content["site"].get(key)
                content["site"][key] = there | value if isinstance(there, dict) and isinstance(value, dict) else value

        self.edit(f"host_vars/{host}.yml", change)

    def play(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and the output with every run of white space as one space."""
        command = [ANSIBLE, "-i", self.inventory, "-e", json.dumps(self.extra), *arguments, self.playbook]
        environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def refused(self, *arguments: str) -> str:
        """The output of a run that must fail before anything is changed."""
        status, output = self.play(*arguments)
        assert status == 2, output
        assert "Leave a mark" not in output
        assert not list(self.marks.iterdir())
        return output


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.mark.parametrize("mode", [[], ["--check", "--diff"]], ids=["run", "check"])
def test_the_example_passes_and_the_next_play_runs(fleet: Fleet, mode: list[str]) -> None:
    status, output = fleet.play(*mode)
    assert status == 0, output
    assert "Leave a mark" in output
    assert sorted(mark.name for mark in fleet.marks.iterdir()) == ([] if mode else ["klcc", "macau"])


@pytest.mark.parametrize("playbook", ["onboard", "offboard"])
def test_what_changes_sites_begins_with_the_preflight(playbook: str) -> None:
    first = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text())[0]
    assert first["ansible.builtin.import_playbook"] == "preflight.yml"


MISTAKES: dict[str, tuple[Callable[[Fleet], object], str]] = {
    "gateway": (
        lambda fleet: fleet.site("macau", lan={"gateway": "10.0.61.1"}),
        "macau: site.lan.gateway 10.0.61.1 is not in 10.0.60.0/24 (site.lan.address). Give a gateway of that network.",
    ),
    "misspelt variable": (
        lambda fleet: fleet.edit("host_vars/macau.yml", lambda content: content.update(mqtt_broker_engin="emqx")),
        "macau: mqtt_broker_engin is no variable of the role mqtt_broker; did you mean mqtt_broker_engine? Correct or",
    ),
    "type of a role's variable": (
        lambda fleet: fleet.edit("host_vars/klcc.yml", lambda content: content.update(timescaledb_cpus="two")),
        "klcc: timescaledb_cpus two is a text, not a number. Write a number.",
    ),
    "value of a role's variable": (
        lambda fleet: fleet.edit("host_vars/klcc.yml", lambda content: content.update(mqtt_broker_memory="big")),
        "mqtt_broker_memory=big a number with k, m or g",
    ),
    "one id twice": (
        lambda fleet: fleet.site("klcc", id="macau"),
        "macau: site.id macau is also that of klcc. Every site has its own.",
    ),
    "points": (
        lambda fleet: (fleet.inventory / "points" / "macau.csv").write_text("device_id,address,object_typ\n1,2,3\n"),
        "unknown column 'object_typ' (did you mean object_type?)",
    ),
    "template": (
        lambda fleet: fleet.site("macau", lan={"gateway": "{{ office_router }}"}),
        "macau: site.lan.gateway can't be read ('office_router' is undefined",
    ),
    "central": (
        lambda fleet: fleet.edit("host_vars/central.yml", lambda content: content["central"].update(adress="x")),
        "central: central.adress is not known; did you mean address? central knows: id, address, container, lan,",
    ),
    "group variable": (
        lambda fleet: fleet.edit(
            "group_vars/all/fleet.yml", lambda content: content.update(appliance_retention_days=60)
        ),
        "inventory: group_vars/all/fleet.yml appliance_retention_days is set by the playbooks",
    ),
    "secret": (
        lambda fleet: (fleet.inventory / "group_vars" / "all" / "vault.yml").unlink(),
        "macau: vault_proxmox_token_secret is missing, and backend proxmox needs it. `ansible-vault edit",
    ),
}


@pytest.mark.parametrize(("mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_refused_before_anything_changes(
    fleet: Fleet, mistake: Callable[[Fleet], object], words: str
) -> None:
    mistake(fleet)
    fleet.extra.pop("site_reachability")
    output = fleet.refused("--skip-tags", "site_reachability")
    assert words in output
    assert "changed=1" not in output


# One variable of each role, with a value that is good.
GOOD = {
    "lxc_container_patience": 90, "base_journal_max_use": "300M", "docker_log_max_files": 4, "pki_days": 300,
    "image_compression": 3, "timescaledb_max_connections": 70, "mqtt_broker_cpus": 2, "appliance_worker_cpus": 1,
    "stack_wait_seconds": 200, "verify_patience": 200, "central_wait_seconds": 130, "telegraf_batch": 500,
}  # fmt: skip


@pytest.mark.parametrize("arguments", [[], ["--tags", "docker"]], ids=["run", "tags"])
def test_every_role_looks_at_its_variables_and_lets_good_ones_go(fleet: Fleet, arguments: list[str]) -> None:
    """A machine that is there already has not been asked for its memory yet: nothing may depend on that."""
    there = {"backend": "none", "memory": 4096}
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container=there))
    for host in ("macau", "klcc"):
        fleet.edit(f"host_vars/{host}.yml", lambda content: content.update(GOOD))
    status, output = fleet.play("-v", *arguments)
    assert status == 0, output
    assert set(re.findall(r"TASK \[(\w+) : ", output)) - {"site"} == set(ROLES["site"])


def test_centrals_roles_look_at_their_variables_too(fleet: Fleet) -> None:
    fleet.edit("host_vars/central.yml", lambda content: content.update(GOOD | {"telegraf_memory": "big"}))
    fleet.playbook = ROOT / "playbooks" / "central.yml"
    output = fleet.refused()
    assert "central: telegraf_broker=tcp://broker:1883 must be" in output
    assert "telegraf_memory=big a number with k, m or g" in output
    assert set(re.findall(r"TASK \[(\w+) : ", output)) - {"site"} == set(ROLES["central"]) - {"lxc_container", "stack"}


def test_what_the_command_line_sets_is_looked_at(fleet: Fleet) -> None:
    words = "macau, klcc, central: base_ssh_port ssh is a text, not a whole number. Write a whole number."
    assert words in fleet.refused("-e", "base_ssh_port=ssh")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-l", "macau,klc"], "-l klc is no host or group of the inventory; did you mean klcc? Correct the name."),
        (["-l", "central"], "-l central leaves no host of the group sites, which has: macau, klcc. Name one of these."),
        (["--tags", "dokcer"], "--tags dokcer is no tag of any playbook; did you mean docker? Correct the name."),
    ],
)
def test_a_run_that_would_do_less_than_was_meant_is_refused(fleet: Fleet, arguments: list[str], words: str) -> None:
    assert words in fleet.refused(*arguments)


@pytest.mark.parametrize("playbook", ["onboard", "offboard", "verify", "rotate_certs", "central"])
def test_every_playbook_looks_at_the_names_that_it_is_given(fleet: Fleet, playbook: str) -> None:
    fleet.playbook = ROOT / "playbooks" / f"{playbook}.yml"
    words = "-l centrl is no host or group of the inventory; did you mean central? Correct the name."
    assert words in fleet.refused("-l", "macau,centrl")


def test_an_inventory_without_sites_is_refused(fleet: Fleet) -> None:
    fleet.edit("hosts.yml", lambda content: content["all"]["children"].pop("sites"))
    assert "The inventory has no host in the group sites. Is -i the right one" in fleet.refused()


def test_another_passphrase_than_the_authoritys_is_refused(fleet: Fleet) -> None:
    fleet.extra.pop("site_reachability")
    folder = fleet.inventory / "pki" / "ca-1"
    folder.mkdir(parents=True)
    lock = serialization.BestAvailableEncryption(b"the one it was made with")
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (folder / "ca.key").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, pkcs8, lock))
    output = fleet.refused("--skip-tags", "site_reachability")
    assert "ca-1/ca.key can't be opened: pki_ca_passphrase is not the passphrase it was made with" in output
    assert "only for these tests" not in output


def test_central_begins_with_a_check_of_its_own(fleet: Fleet) -> None:
    def change(content: dict[str, Any]) -> None:
        content["central"] |= {"container": {"backend": "lxc", "host": "lxc9"}}

    fleet.edit("host_vars/central.yml", change)
    fleet.playbook = ROOT / "playbooks" / "central.yml"
    output = fleet.refused()
    assert "central: central.container.host lxc9 is no host of the inventory; did you mean lxc1?" in output
    assert "central: central.container.template is missing: the container is made from it." in output
    assert "Build the appliance image" not in output
    assert "-l macau leaves no host of the group centrals, which has: central." in fleet.refused("-l", "macau")


def test_the_mistakes_of_all_hosts_are_told_in_one_run(fleet: Fleet) -> None:
    fleet.site("macau", time_zone="Macau", broker={"engine": "emq"})
    fleet.site("klcc", writes={"priority_floor": 17})
    output = fleet.refused()
    assert "macau: site.time_zone Macau is no IANA time zone; did you mean Asia/Macau?" in output
    assert "macau: site.broker.engine emq is not known; did you mean emqx?" in output
    assert "klcc: site.writes.priority_floor 17 is not from 1 to 16." in output


def test_a_good_site_waits_for_a_bad_one_of_the_same_run(fleet: Fleet) -> None:
    fleet.site("klcc", time_zone="Mars")
    fleet.refused()


def test_a_limit_still_compares_with_the_other_sites(fleet: Fleet) -> None:
    fleet.site("klcc", id="macau", time_zone="Mars")
    output = fleet.refused("-l", "macau")
    assert "macau: site.id macau is also that of klcc." in output
    assert "Mars" not in output  # what is wrong with a site that is not worked on does not stop this one


def test_the_preflight_runs_whatever_tags_are_asked_for(fleet: Fleet) -> None:
    fleet.site("macau", time_zone="Mars")
    assert "site.time_zone Mars" in fleet.refused("--tags", "docker")


# --- what has to answer ----------------------------------------------------------------------------------------------


SILENT = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_connection": "ssh"}  # nobody listens on port 1


class Imitation(BaseHTTPRequestHandler):
    """The one page of the Proxmox API that the preflight asks."""

    def do_GET(self) -> None:
        good = self.headers["Authorization"] == "PVEAPIToken=ansible@pve!bacpipes=t0ken-secret"
        body = json.dumps({"data": [{"node": "pve1"}, {"node": "pve2"}] if good else None}).encode()
        self.send_response(200 if good and self.path == "/api2/json/nodes" else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def proxmox(tmp_path: Path) -> Iterator[int]:
    """The port of an imitation of the Proxmox API."""
    certificate, key = Authority().server("127.0.0.1").write(tmp_path, "pve")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Imitation) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def ask(fleet: Fleet, port: int, **container: Any) -> None:
    """Look at what answers, too: macau by the API on this port, klcc on a host that is this machine."""
    fleet.extra = {"site_reachability_timeout": 2}
    api = {"api_host": "127.0.0.1", "api_port": port, "validate_certs": False}
    fleet.edit("group_vars/all/fleet.yml", lambda content: content["fleet"]["proxmox"].update(api))
    fleet.site("macau", container=container)
    local = {"ansible_host": "127.0.0.1", "ansible_connection": "local"}
    groups = {"container_hosts": {"hosts": {"lxc1": local}}}
    fleet.edit("hosts.yml", lambda content: content["all"]["children"].update(groups))
    fleet.edit("host_vars/central.yml", lambda content: content.update(ansible_connection="local"))


def test_what_answers_passes(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)
    status, output = fleet.play()
    assert status == 0, output
    assert "t0ken" not in output


def test_a_node_that_is_not_there_is_refused(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox, host="pve3")
    words = "macau: site.container.host pve3 is no node of that Proxmox; it has: pve1, pve2. Write one of these."
    assert words in fleet.refused()


def test_a_token_that_is_refused_is_named_and_not_shown(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)
    (fleet.inventory / "group_vars" / "all" / "vault.yml").write_text(
        "vault_pki_ca_passphrase: only for these tests\nvault_proxmox_token_secret: wr0ng\n"
    )
    output = fleet.refused()
    assert (
        "macau: fleet.proxmox.api_host 127.0.0.1 refuses the token (status 401). Check fleet.proxmox.api_user" in output
    )
    assert "wr0ng" not in output


def test_all_that_does_not_answer_is_told_in_one_run(fleet: Fleet) -> None:
    ask(fleet, 1)  # nobody listens on port 1
    silent = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    groups = {"container_hosts": {"hosts": {"lxc1": silent}}}
    fleet.edit("hosts.yml", lambda content: content["all"]["children"].update(groups))
    output = fleet.refused()
    assert "macau: fleet.proxmox.api_host 127.0.0.1 does not answer (" in output
    assert "klcc: site.container.host lxc1 does not answer by ssh (" in output
    assert "`ansible -m ansible.builtin.ping lxc1` tries it alone." in output


def test_a_central_server_that_does_not_answer_is_told(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)
    fleet.edit("host_vars/central.yml", lambda content: content.update(SILENT))
    output = fleet.refused("-l", "macau")
    assert "macau: the central server central, at which it registers, does not answer by ssh (" in output
    assert "Make it first (playbooks/central.yml), or check its ansible_host" in output


def test_the_disk_of_a_machine_that_is_there_is_looked_at(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)

    def change(content: dict[str, Any]) -> None:
        content["site"]["container"] = {"backend": "none"}
        content["site"]["history"] = {"retention_days": 3650}
        content["site"]["points"]["file"] = "points/many.csv"
        content["site"].pop("verify")
        content |= {"ansible_connection": "local"}

    rows = "".join(f"1,192.168.1.9,analog-input,{n},ahu,{n},1\n" for n in range(2000))
    header = "device_id,address,object_type,object_instance,equip,equip_ref,interval\n"
    (fleet.inventory / "points" / "many.csv").write_text(header + rows)
    fleet.edit("host_vars/macau.yml", change)
    output = fleet.refused("-l", "macau")
    assert "macau: site.history.retention_days 3650 needs 89881 GiB of disk, and the machine has " in output


def alone(fleet: Fleet) -> None:
    """A fleet without a central server."""
    fleet.edit("hosts.yml", lambda content: content["all"]["children"].pop("centrals"))
    (fleet.inventory / "host_vars" / "central.yml").unlink()


# A machine of these tests' own, which is asked and not changed (--check).
HERE = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


@pytest.mark.parametrize("tags", ["register", "lxc_container"])
def test_a_machine_that_stands_by_itself_registers_nowhere_and_gets_no_container(fleet: Fleet, tags: str) -> None:
    alone(fleet)
    fleet.edit("host_vars/macau.yml", lambda content: content.update(HERE))
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container={"backend": "none"}))
    fleet.playbook = ROOT / "playbooks" / "onboard.yml"
    status, output = fleet.play("-l", "macau", "--tags", tags, "--check")
    assert status == 0, output
    assert "PLAY [Register at central]" in output
    assert "changed=0" in output


# Every variable that the playbooks give the roles, evaluated; two stand on a role's own defaults.
EVALUATED = """
- name: Evaluate what the roles are given
  hosts: sites
  gather_facts: false
  vars: {{appliance_dir: /opt/bacpipes}}
  tasks:
    - name: Evaluate
      ansible.builtin.assert:
        that: lookup('ansible.builtin.vars', item) is defined
      loop: {names}
"""


@pytest.mark.parametrize("central", [True, False], ids=["with central", "alone"])
def test_what_the_roles_are_given_can_be_evaluated_at_every_kind_of_site(fleet: Fleet, central: bool) -> None:
    if not central:
        alone(fleet)
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container={"backend": "none"}))
    wiring = (ROOT / "playbooks" / "group_vars" / "sites" / "wiring.yml").read_text()
    names = list(yaml.safe_load(wiring))
    shutil.copytree(ROOT / "playbooks" / "group_vars", fleet.playbook.parent / "group_vars")
    fleet.playbook.write_text(EVALUATED.format(names=json.dumps(names)))
    status, output = fleet.play()
    assert status == 0, output


def test_central_on_a_machine_that_is_there_gets_no_container(fleet: Fleet) -> None:
    fleet.edit("host_vars/central.yml", lambda content: content.update(HERE))
    fleet.playbook = ROOT / "playbooks" / "central.yml"
    status, output = fleet.play("--tags", "lxc_container", "--check")
    assert status == 0, output
    assert "changed=0" in output


def test_what_a_container_host_lacks_for_one_site_stops_all_before_a_container_is_made(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Another folder than LXC's own, and --check: whatever this finds, nothing is touched."""
    alone(fleet)
    template = tmp_path / "root.tar.zst"
    template.touch()
    for host, path in (("macau", tmp_path / "nowhere.tar.zst"), ("klcc", template)):
        container = {"backend": "lxc", "host": "lxc1", "template": str(path)}
        fleet.edit(f"host_vars/{host}.yml", lambda content: content["site"].update(container=container))  # noqa: B023
    fleet.edit("hosts.yml", lambda content: content["all"]["children"]["container_hosts"]["hosts"]["lxc1"].update(HERE))
    fleet.playbook = ROOT / "playbooks" / "onboard.yml"
    fleet.extra |= {"lxc_container_path": str(tmp_path / "lxc")}
    status, output = fleet.play("--tags", "lxc_container", "--check")
    assert status == 2, output
    assert f'macau: lxc_container_template "{tmp_path}/nowhere.tar.zst" is no file on lxc1. Put the root' in output
    assert "TASK [lxc_container : Refuse a template that is not there]" in output
    assert "TASK [lxc_container : Refuse a bridge that is not there]" not in output  # where klcc would have gone on


def test_a_site_whose_machine_is_gone_is_taken_away_after_a_second_word(fleet: Fleet) -> None:
    """A machine that was there already, and is no more: no container is removed, and nothing is left to be exported."""

    def change(content: dict[str, Any]) -> None:
        content["site"]["container"] = {"backend": "none"}
        content |= SILENT

    fleet.edit("host_vars/macau.yml", change)
    alone(fleet)
    certificate = fleet.inventory / "pki" / "issued" / "macau-server.pem"
    certificate.parent.mkdir(parents=True)
    certificate.write_text("what it had")
    fleet.playbook = ROOT / "playbooks" / "offboard.yml"
    fleet.extra = {"site_reachability_timeout": 2, "offboard_confirm": "macau"}
    output = fleet.refused("-l", "macau")
    assert "macau: the machine doesn't answer (" in output
    assert "nothing was removed. Repair the machine, or give -e offboard_without_export=true and lose" in output
    assert "An earlier run has kept an export" not in output
    assert certificate.exists()
    kept = fleet.inventory / "offboarded" / "macau" / "audit.csv.gz"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert f"An earlier run has kept an export in {kept.parent}. Repair" in fleet.refused("-l", "macau")
    fleet.extra["offboard_without_export"] = True
    status, output = fleet.play("-l", "macau")
    assert status == 0, output
    assert "macau: its machine did not answer, so that the stack, its data and its keys are still on it." in output
    assert not certificate.exists()


def test_onboarding_needs_the_machine_that_is_there(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container={"backend": "none"}))
    fleet.edit("host_vars/macau.yml", lambda content: content.update(SILENT))
    assert "macau: ansible_host of macau does not answer by ssh (" in fleet.refused("-l", "macau")
