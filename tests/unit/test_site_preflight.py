"""The preflight's sentences about one site: each names host, variable, value and remedy."""

import copy
from typing import Any

import pytest

from site_inventories import Inventory, check, drop, errors, example, put


@pytest.fixture
def inventory() -> Inventory:
    return example()


def test_the_example_is_good(inventory: Inventory) -> None:
    assert check(inventory) == {
        "macau": {"errors": [], "warnings": [], "disk": 10, "roles": []},
        "klcc": {"errors": [], "warnings": [], "disk": 10, "roles": []},
    }


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleKey3 eve@example"
WRONG = [
    # what, value, the words of the one message
    ("site.id", "Macau", "site.id Macau is no slug. Use 1 to 63 of a-z"),
    ("site.id", 7, "site.id 7 is a whole number, not a text. Put it in quotes: '7'."),
    ("site.id", False, "site.id False is true or false, not a text. Put it in quotes"),
    ("site.id", None, "site.id is empty. Write a value"),
    ("site.id", "", "site.id is blank. Write a value"),
    ("site.id", ["macau"], "site.id ['macau'] is a list, not a text. Write a text."),
    ("site.id", "_macau", "site.id _macau begins or ends with - or _, and the container's name is made from it"),
    ("site.time_zone", "Macau", "site.time_zone Macau is no IANA time zone; did you mean Asia/Macau? Write one"),
    ("site.time_zone", "Asia/Makau", "did you mean Asia/Macau?"),
    ("site.container.backend", "proxmx", "site.container.backend proxmx is not known; did you mean proxmox?"),
    ("site.container.id", 99, "site.container.id 99 is not from 100 to 999999999. Correct the number."),
    ("site.container.id", "1201", "site.container.id 1201 is a text, not a whole number. Write the number without"),
    ("site.container.id", True, "site.container.id True is true or false, not a whole number."),
    ("site.container.memory", 512, "site.container.memory 512 MiB are too few for a site with mosquitto. Give at"),
    ("site.container.disk", 8, "site.container.disk 8 GiB are too few: 45 points make "),
    ("site.container.unprivileged", "yes", "site.container.unprivileged yes is a text, not true or false. Write true"),
    ("site.container.discs", 8, "site.container.discs is not known; did you mean disk? site.container knows: backend,"),
    ("site.lan.address", "10.0.60.21", "site.lan.address 10.0.60.21 is no IPv4 address with prefix length. Write one"),
    ("site.lan.address", "10.0.60.0/24", "site.lan.address 10.0.60.0/24 is the network address of 10.0.60.0/24"),
    ("site.lan.address", "10.0.60.21/33", "is no IPv4 address with prefix length"),
    ("site.lan.address", "10.0.60.21/31", "has a prefix length outside 8 to 30"),
    ("site.lan.gateway", "10.0.61.1", "site.lan.gateway 10.0.61.1 is not in 10.0.60.0/24 (site.lan.address). Give a"),
    ("site.lan.gateway", "10.0.60.21", "site.lan.gateway 10.0.60.21 is the site's own address"),
    ("site.lan.gateway", "10.0.60.255", "is the broadcast address of 10.0.60.0/24"),
    ("site.lan.gateway", "router", "site.lan.gateway router is no IPv4 address"),
    ("site.lan.nameservers", ["ns1"], "site.lan.nameservers[0] ns1 is no IPv4 address"),
    ("site.lan.nameservers", "10.0.60.1", "is a text, not a list. Write [10.0.60.1]."),
    ("site.lan.clients", ["10.0.60.5/24"], "site.lan.clients[0] 10.0.60.5/24 is an address, not a network. Write"),
    ("site.lan.clients", ["0.0.0.0/0"], "site.lan.clients[0] 0.0.0.0/0 is the whole world"),
    ("site.lan.clients", ["office"], "site.lan.clients[0] office is no network"),
    ("site.lan.bridge", "a bridge", "site.lan.bridge a bridge is no interface's name"),
    ("site.bacnet.address", "192.168.1.255/24", "site.bacnet.address 192.168.1.255/24 is the broadcast address of"),
    ("site.bacnet.address", "10.0.60.99/24", "site.bacnet.address 10.0.60.99/24 overlaps the network of"),
    ("site.bacnet.address", "192.168.1.101/24", "192.168.1.101 is site.bacnet.address, the appliance's own"),
    ("site.bacnet.interface", "eth0", "site.bacnet.interface eth0 is also site.lan.interface"),
    ("site.bacnet.port", 70000, "site.bacnet.port 70000 is not from 1 to 65535"),
    ("site.bacnet.device_id", 4194303, "site.bacnet.device_id 4194303 is not from 0 to 4194302"),
    ("site.bacnet.device_id", 12345, "12345 is site.bacnet.device_id, the appliance's own. Give site.bacnet.device_id"),
    ("site.history.retention_days", 0, "site.history.retention_days 0 is not from 1 to 3650"),
    ("site.history.compress_after_hours", 720, "hours are not less than the 30 days of site.history.retention_days"),
    ("site.broker.engine", "hivemq", "site.broker.engine hivemq is not known. Write one of: mosquitto, emqx."),
    ("site.writes.priority_floor", 17, "site.writes.priority_floor 17 is not from 1 to 16"),
    ("site.verify.write_point", "macau.ahu.1.sp.humidty.air.return.effective", "did you mean"),
    ("site.verify.write_point", "macau.ahu.1.sensor.temp.air.return.actual", "is no writable, enabled setpoint (line "),
    ("site.verify.value", 101, "site.verify.value 101 is outside 0.0 to 100.0 of macau.ahu.1.sp.humidity"),
    ("site.verify.value", "a lot", "site.verify.value a lot is a text, no number"),
    ("site.verify.value", float("nan"), "site.verify.value nan is"),
    ("site.verify", {"value": 3}, "site.verify.value 3 has no site.verify.write_point. Write both or none."),
    ("site.verify", {"write_point": "macau.ahu.1.sp.humidity.air.return.effective"}, "site.verify.value is missing"),
    ("site.points.file", "points/nowhere.csv", "site.points.file points/nowhere.csv does not exist. `bacpipes"),
    ("site.points.file", "/etc/passwd", "site.points.file /etc/passwd is not a .csv file relative to the inventory"),
    ("site.points.file", "x" * 5000 + ".csv", "does not exist"),
    ("site.points.owner", "pages", "site.points.owner pages is not known; did you mean page?"),
    ("site.name", "Macau\nTerminal", "site.name Macau Terminal has a line break or another control character. Write"),
    ("site.container.host", None, "site.container.host is missing, and backend proxmox needs it"),
    ("site.container.template", "/var/lib/root.tar", "is nothing that backend proxmox makes one from. Write a volume"),
    ("site.lan.nameservers", ["127.0.0.53"], "site.lan.nameservers[0] 127.0.0.53 is the machine itself"),
    ("site.lan.nameservers", ["10.0.60.21"], "site.lan.nameservers[0] 10.0.60.21 is the machine itself"),
    ("site.lan.clients", ["10.0.0.0/8", "10.0.60.0/24"], "[1] 10.0.60.0/24 overlaps 10.0.0.0/8 of the same list."),
    ("site.lan.clients", ["10.0.60.0/24", "10.0.0.0/8"], "[1] 10.0.0.0/8 overlaps 10.0.60.0/24 of the same list."),
    ("site.history", None, "site.history is empty. Indent its keys below it, or remove the line."),
    ("site.writes.priority_floor", 6, "site.writes.priority_floor 6 is the priority of minimum on and off times"),
    ("site.container", "lxc", "site.container lxc is a text, not a dictionary"),
    ("site.history", [], "site.history [] is a list, not a dictionary"),
    ("site.histroy", {"retention_days": 3}, "site.histroy is not known; did you mean history?"),
    ("site", "macau", "site macau is a text, not a dictionary. Indent its keys below it."),
    ("ansible_host", "10.0.60.22", "ansible_host 10.0.60.22 is not the site.lan.address 10.0.60.21/24. Write"),
    ("ansible_host", "192.168.1.35", "ansible_host 192.168.1.35 is in the controllers' network"),
    ("fleet.admin_networks", [], "fleet.admin_networks is an empty list. Without it nobody could log in"),
    ("fleet.ssh_keys", ["-----BEGIN OPENSSH PRIVATE KEY-----"], "fleet.ssh_keys[0] is no public ssh key"),
    ("fleet.proxmox", {}, "fleet.proxmox is missing, and backend proxmox needs it"),
    ("fleet.proxmox.api_hst", "pve", "fleet.proxmox.api_hst is not known; did you mean api_host?"),
    ("site", None, "site is empty. Indent its keys below it."),
    ("fleet.users", [{"name": "root", "ssh_keys": [KEY]}], "fleet.users[0].name root is no person. Root's keys are"),
    ("fleet.users", [{"name": "Eve B", "ssh_keys": [KEY]}], "fleet.users[0].name Eve B is no name of an account"),
    ("fleet.users", [{"name": "eve", "ssh_keys": [KEY]}] * 2, "fleet.users[1].name eve stands there twice"),
    ("fleet.users", [{"name": "eve", "ssh_keys": []}], "fleet.users[0].ssh_keys is missing or empty. Nobody logs"),
    ("fleet.users", [{"name": "eve", "ssh_keys": ["AAAA"]}], "fleet.users[0].ssh_keys[0] is no public ssh key"),
    ("fleet.images", {"mosquitto": "eclipse-mosquitto"}, "fleet.images.mosquitto eclipse-mosquitto is no image's name"),
    ("fleet.images", {"mosquitto": "eclipse-mosquitto:2.0.18-x"}, "mosquitto:2.0.18-x is older than 2.0.21: a bridge"),
    ("fleet.images", {"emqx": "emqx/emqx:latest"}, "fleet.images.emqx emqx/emqx:latest is no image's name with its"),
    ("fleet.images", {"emqx": f"emqx:5.8.9@sha256:{'0' * 64}", "source": "ship"}, "has a digest, which an image"),
    ("fleet.docker_host", "localhost:2375", "fleet.docker_host localhost:2375 is no address of a Docker engine. Write"),
    ("fleet.pki_folder", "pki", "fleet.pki_folder pki is no absolute path. Write the controller's folder from / on."),
    ("fleet.proxmox.api_host", "https://pve:8006", "fleet.proxmox.api_host https://pve:8006 is neither a name nor an"),
    ("fleet.proxmox.api_port", 0, "fleet.proxmox.api_port 0 is not from 1 to 65535"),
    ("fleet.proxmox.api_user", "ansible", "fleet.proxmox.api_user ansible names no realm. Write it as ansible@pve"),
    ("fleet.site", {"id": "macau"}, "fleet.site.id can't be shared. Every site has its own"),
    ("fleet.site", {"lan": {"address": "10.0.0.2/24"}}, "fleet.site.lan.address can't be shared. Every site has"),
    ("fleet.users", [{"name": "eve"}], "fleet.users[0].ssh_keys is missing or empty. Nobody logs in"),
    ("fleet.site", {"lan": {"bridg": "br0"}}, "fleet.site.lan.bridg is not known; did you mean bridge?"),
    ("mqtt_broker_engin", "emqx", "mqtt_broker_engin is no variable of the role mqtt_broker; did you mean"),
    ("site_reachabilty", True, "site_reachabilty is no variable of the role site; did you mean site_reachability?"),
    ("sites", [], "sites is not known; did you mean site?"),
    ("vault_pki_ca_pasphrase", "x", "vault_pki_ca_pasphrase is not known; did you mean vault_pki_ca_passphrase?"),
    ("vault_pki_ca_passphrase", "a" * 15, "vault_pki_ca_passphrase has fewer than 16 characters. Write a longer one"),
    ("vault_pki_ca_passphrase", "", "vault_pki_ca_passphrase is missing, and the certificate authority needs it"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named(inventory: Inventory, path: str, value: Any, words: str) -> None:
    put(inventory, path, value)
    found = errors(inventory)
    assert any(words in message for message in found), found
    assert all(message.startswith("macau: ") for message in found)
    assert not errors(inventory, "klcc")


@pytest.mark.parametrize(
    "path",
    ["site.id", "site.name", "site.points", "site.points.file", "site.container", "site.container.backend",
     "site.container.host", "site.container.id", "site.container.template", "site.lan", "site.lan.address",
     "site.lan.gateway", "site.bacnet", "site.bacnet.address", "fleet", "fleet.admin_networks", "fleet.ssh_keys",
     "fleet.proxmox", "fleet.proxmox.api_host", "vault_proxmox_token_secret"],
)  # fmt: skip
def test_what_is_missing_is_named_once(inventory: Inventory, path: str) -> None:
    drop(inventory, path)
    found = [message for message in errors(inventory) if message.startswith(f"macau: {path} is missing")]
    assert len(found) == 1
    assert len(found[0]) > len(f"macau: {path} is missing. ") + 10, "there is no remedy"


def test_an_empty_dictionary_lacks_what_is_required(inventory: Inventory) -> None:
    put(inventory, "site.lan", {})
    assert any(message.startswith("macau: site.lan.address is missing") for message in errors(inventory))


def test_one_mistake_makes_one_message(inventory: Inventory) -> None:
    for path, value in (("site.lan.address", "10.0.60.21"), ("site.bacnet.address", 5), ("site.history", "long")):
        broken = copy.deepcopy(inventory)
        put(broken, path, value)
        assert len(errors(broken)) == 1, errors(broken)


def test_a_misspelt_site_is_found(inventory: Inventory) -> None:
    inventory["macau"]["stie"] = inventory["macau"].pop("site")
    assert errors(inventory) == ["macau: site is missing. Is stie misspelt?"]


def test_all_mistakes_of_all_hosts_are_told_at_once(inventory: Inventory) -> None:
    put(inventory, "site.time_zone", "Mars")
    put(inventory, "site.broker.engine", "x")
    put(inventory, "site.writes.priority_floor", 0, host="klcc")
    found = check(inventory)
    assert len(found["macau"]["errors"]) == 2
    assert len(found["klcc"]["errors"]) == 1


def test_other_sites_are_compared_with_but_not_judged(inventory: Inventory) -> None:
    put(inventory, "site.id", "macau", host="klcc")
    put(inventory, "site.time_zone", "Mars", host="klcc")
    found = check(inventory, "macau")
    assert list(found) == ["macau"]
    assert [message.split(".")[0] for message in found["macau"]["errors"]] == ["macau: site"]


def test_a_machine_that_is_there_needs_no_container_keys(inventory: Inventory) -> None:
    put(inventory, "site.container", {"backend": "none"})
    drop(inventory, "site.lan.gateway")
    drop(inventory, "fleet.proxmox")
    assert not errors(inventory)
    put(inventory, "site.container.id", 1201)
    assert errors(inventory) == [
        "macau: site.container.id contradicts backend none, which makes no container. Remove it."
    ]


def test_lxc_has_no_numbers(inventory: Inventory) -> None:
    put(inventory, "site.container.id", 1201, host="klcc")
    put(inventory, "site.container.host", "lcx1", host="klcc")
    assert errors(inventory, "klcc") == [
        "klcc: site.container.id says nothing to backend lxc. Remove it, or write backend proxmox.",
        "klcc: site.container.host lcx1 is no host of the inventory; did you mean lxc1? Add it to"
        " hosts.yml, outside the group sites.",
    ]


def test_emqx_needs_more_memory(inventory: Inventory) -> None:
    put(inventory, "site.container.memory", 1024, host="klcc")
    assert "with emqx. Give at least 1536." in errors(inventory, "klcc")[0]


def test_the_fleet_may_give_what_sites_share(inventory: Inventory) -> None:
    drop(inventory, "site.container.template")
    put(inventory, "fleet.site", {"container": {"template": "local:x"}, "time_zone": "Asia/Macau"})
    assert not errors(inventory)


def test_warnings_are_told_and_refuse_nothing(inventory: Inventory) -> None:
    drop(inventory, "site.verify")
    put(inventory, "site.bacnet.address", "192.168.9.35/24")
    found = check(inventory)["macau"]
    assert not found["errors"]
    words = "\n".join(found["warnings"])
    assert "device 12345 at 192.168.1.101, outside the network of site.bacnet.address 192.168.9.35/24" in words
    assert "site.verify.write_point is not set: verification tries no write" in words


def test_secrets_are_looked_for_only_where_they_are_needed(inventory: Inventory) -> None:
    for host in ("macau", "klcc"):
        drop(inventory, "vault_proxmox_token_secret", host)
        drop(inventory, "vault_pki_ca_passphrase", host)
    assert len(errors(inventory)) == 2
    assert len(errors(inventory, "klcc")) == 1
    assert not errors(inventory, secrets=False)


def test_an_old_name_leads_to_the_new_one(inventory: Inventory) -> None:
    put(inventory, "bacpipes_gateway", "10.0.60.1")
    found = errors(inventory, old_names={"bacpipes_gateway": "lan.gateway in the dictionary site"})
    assert found == ["macau: bacpipes_gateway is an old name. Now it is lan.gateway in the dictionary site."]


def test_an_operators_own_variables_are_left_alone(inventory: Inventory) -> None:
    inventory["macau"] |= {"ansible_user": "root", "rack": 7, "contact_person": "Anna", "_note": "x"}
    assert not errors(inventory)


def test_what_cannot_be_evaluated_is_named(inventory: Inventory) -> None:
    class Broken(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            if key == "gateway":
                raise RuntimeError("'office_router' is undefined")
            return super().__getitem__(key)

    put(inventory, "site.lan", Broken(inventory["macau"]["site"]["lan"]))
    assert "macau: site.lan.gateway can't be read ('office_router' is undefined). Correct what it refers to." in errors(
        inventory
    )


def test_a_person_who_leaves_needs_no_key(inventory: Inventory) -> None:
    put(inventory, "fleet.users", [{"name": "eve", "state": "absent"}])
    assert errors(inventory) == []


def test_a_vault_that_cannot_be_opened_is_not_a_secret_that_is_missing(inventory: Inventory) -> None:
    class Locked:
        def __str__(self) -> str:
            raise RuntimeError("Decryption failed: correct horse")

    put(inventory, "vault_pki_ca_passphrase", Locked())
    (told,) = errors(inventory)
    assert told.startswith(
        "macau: vault_pki_ca_passphrase can't be read: the vault's password is another. Give the one"
    )


def test_an_empty_key_hides_nothing_that_the_fleet_shares(inventory: Inventory) -> None:
    put(inventory, "fleet.site", {"central": {"host": "central"}})
    put(inventory, "site.central", {"host": None})
    assert errors(inventory) == [
        "macau: site.central.host is empty, and hides what fleet.site says. Remove the line, or write a value."
    ]


def test_no_secret_is_ever_shown(inventory: Inventory) -> None:
    secret = "correct horse"
    put(inventory, "vault_pki_ca_passphrase", [secret])
    put(inventory, "vault_proxmox_token_secret", {"x": secret})
    assert secret not in str(check(inventory))


# What a YAML file can hold, with our own keys among the others so that the checks behind them are reached.


@pytest.mark.parametrize("password", ["sesame", "a" * 30, 12345678901234, None])
def test_the_first_users_password_is_one_that_the_page_takes(inventory: Inventory, password: Any) -> None:
    put(inventory, "vault_page_admin_password", password)
    (told,) = errors(inventory)
    assert told.startswith("macau: vault_page_admin_password is too short or too simple")
    assert str(password) not in told
    put(inventory, "vault_page_admin_password", "correct horse")
    assert errors(inventory) == []
