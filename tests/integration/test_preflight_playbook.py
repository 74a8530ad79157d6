"""The preflight as an operator meets it: ansible-playbook on copies of the example inventory with mistakes in them.

Each sentence has its test in tests/unit/test_site_preflight.py; here they must arrive, and nothing else may run.
"""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleet_parts import ANSIBLE, PREFLIGHT, ROOT, SILENT, Fleet
from pki import Authority

pytestmark = pytest.mark.skipif(not ANSIBLE.exists(), reason=f"{ANSIBLE} is missing: `make controller` installs it")


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


@pytest.mark.parametrize("mode", [[], ["--check", "--diff"]], ids=["run", "check"])
def test_the_example_passes_and_the_next_play_runs(fleet: Fleet, mode: list[str]) -> None:
    status, output = fleet.play(*mode)
    assert status == 0, output
    assert "Leave a mark" in output
    assert sorted(mark.name for mark in fleet.marks.iterdir()) == ([] if mode else ["klcc", "macau"])


# After the preflight, tasks that each ask the site's entry for something.
ASKING = """
- name: Check every site before anything changes
  ansible.builtin.import_playbook: {preflight}
- name: Ask
  hosts: sites
  gather_facts: false
  tasks:
    - name: Ask for the name
      ansible.builtin.debug: {{msg: "{{{{ site_settings.name }}}} {{{{ item }}}}"}}
      loop: {times}
"""


def test_what_the_entry_comes_to_is_worked_out_once_and_is_not_shown(fleet: Fleet) -> None:
    """However many tasks follow: a template of the inventory is not evaluated by each of them."""
    evaluated = fleet.marks / "evaluated"
    name = f"{{{{ lookup('ansible.builtin.pipe', 'echo >> {evaluated}; echo Casa') }}}}"
    fleet.site("macau", name=name, time_zone="Asia/Macau")
    counts = []
    for times in (1, 20):
        evaluated.write_text("")
        fleet.playbook.write_text(ASKING.format(preflight=PREFLIGHT, times=list(range(times))))
        status, output = fleet.play("-l", "macau", "-vv")
        assert status == 0, output
        assert f"Casa {times - 1}" in output
        assert "Asia/Macau" not in output, "the facts are hidden: an inventory may hold a secret among them"
        counts.append(len(evaluated.read_text().splitlines()))
    assert counts[0] == counts[1] > 0


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


def test_onboarding_needs_the_machine_that_is_there(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)
    fleet.edit("host_vars/macau.yml", lambda content: content["site"].update(container={"backend": "none"}))
    fleet.edit("host_vars/macau.yml", lambda content: content.update(SILENT))
    assert "macau: ansible_host of macau does not answer by ssh (" in fleet.refused("-l", "macau")


# How commission.yml begins, before what onboard.yml begins with.
CENTRAL_FIRST = """
- name: Check central before anything changes
  ansible.builtin.import_playbook: {folder}/parts/central_preflight.yml
"""


def commissioning(fleet: Fleet) -> None:
    fleet.playbook.write_text(CENTRAL_FIRST.format(folder=PREFLIGHT.parent) + fleet.playbook.read_text())


def test_commissioning_begins_with_both_preflights() -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / "commission.yml").read_text())
    first = [play["ansible.builtin.import_playbook"] for play in plays[:2]]
    assert first == ["parts/central_preflight.yml", "preflight.yml"]


def test_commissioning_needs_no_central_that_it_makes_itself(fleet: Fleet, proxmox: int) -> None:
    ask(fleet, proxmox)
    commissioning(fleet)
    fleet.edit("host_vars/central.yml", lambda content: content.update(SILENT))
    status, output = fleet.play()
    assert "does not answer by ssh" not in output
    assert status == 0, output
    assert (
        "macau: the central server central, at which it registers, does not answer by ssh ("
        in fleet.play("-l", "macau")[1]
    )


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        (
            "host_vars/central.yml",
            lambda content: content.update(telegraf_broker="nowhere"),  # no site is refused for it
            "central: telegraf_broker=nowhere must be tcp:// or ssl://",
        ),
        ("host_vars/macau.yml", lambda content: content["site"].update(nam="x"), "macau: site.nam is not known"),
    ],
)
def test_commissioning_refuses_what_is_wrong_anywhere(
    fleet: Fleet, file: str, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    commissioning(fleet)
    fleet.edit(file, change)
    assert words in fleet.refused()
