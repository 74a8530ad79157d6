"""The preflight's sentences: each names host, variable, value and remedy, and no entry makes it raise."""

import copy
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "inventory" / "example"
PLUGIN = ROOT / "roles" / "site" / "filter_plugins" / "site_preflight.py"


def load_plugin() -> ModuleType:
    """The filter plugin as Ansible loads it: by its path."""
    spec = importlib.util.spec_from_file_location("site_preflight", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["site_preflight"] = module
    spec.loader.exec_module(module)
    return module


plugin = load_plugin()
Inventory = dict[str, dict[str, Any]]


def example() -> Inventory:
    """The example inventory's variables, as Ansible would hand them over."""
    fleet = yaml.safe_load((EXAMPLE / "group_vars" / "all" / "fleet.yml").read_text())
    shared = fleet | {"inventory_dir": str(EXAMPLE), "vault_pki_ca_passphrase": "x" * 20}
    shared["vault_proxmox_token_secret"] = "token"
    hosts = {
        file.stem: copy.deepcopy(shared) | yaml.safe_load(file.read_text())
        for file in (EXAMPLE / "host_vars").glob("*.yml")
    }
    return hosts | {"lxc1": {"ansible_host": "10.0.61.2"}}


NO_SITES = ("lxc1", "central")


@pytest.fixture
def inventory() -> Inventory:
    return example()


def check(inventory: Inventory, *targets: str, **options: Any) -> dict[str, Any]:
    sites = [host for host in inventory if host not in NO_SITES]
    return plugin.check_sites(inventory, sites, list(targets) or sites, **({"centrals": ["central"]} | options))


def errors(inventory: Inventory, host: str = "macau", **options: Any) -> list[str]:
    found: list[str] = check(inventory, **options)[host]["errors"]
    return found


def put(inventory: Inventory, path: str, value: Any, host: str = "macau") -> None:
    """Write a value at ``site.a.b``."""
    *folders, last = path.split(".")
    place = inventory[host]
    for folder in folders:
        place = place.setdefault(folder, {})
    place[last] = value


def drop(inventory: Inventory, path: str, host: str = "macau") -> None:
    *folders, last = path.split(".")
    place = inventory[host]
    for folder in folders:
        place = place[folder]
    del place[last]


def test_the_example_is_good(inventory: Inventory) -> None:
    assert check(inventory) == {
        "macau": {"errors": [], "warnings": [], "disk": 10},
        "klcc": {"errors": [], "warnings": [], "disk": 10},
    }


WRONG = [
    # what, value, the words of the one message
    ("site.id", "Macau", "site.id Macau is no slug. Use 1 to 63 of a-z"),
    ("site.id", 7, "site.id 7 is a whole number, not a text. Put it in quotes: '7'."),
    ("site.id", False, "site.id False is true or false, not a text. Put it in quotes"),
    ("site.id", None, "site.id is empty. Write a value"),
    ("site.id", "", "site.id  is blank. Write a value"),
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
    ("fleet.users", [{"name": "eve"}], "fleet.users[0].ssh_keys is missing"),
    ("fleet.site", {"lan": {"bridg": "br0"}}, "fleet.site.lan.bridg is not known; did you mean bridge?"),
    ("mqtt_broker_engin", "emqx", "mqtt_broker_engin is no variable of the role mqtt_broker; did you mean"),
    ("site_reachabilty", True, "site_reachabilty is no variable of the role site; did you mean site_reachability?"),
    ("sites", [], "sites is not known; did you mean site?"),
    ("vault_pki_ca_pasphrase", "x", "vault_pki_ca_pasphrase is not known; did you mean vault_pki_ca_passphrase?"),
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


@pytest.mark.parametrize(
    ("path", "value"),
    [("id", "macau"), ("points.file", "points/macau.csv"), ("lan.address", "10.0.60.21/24")],
)
def test_two_sites_must_not_share(inventory: Inventory, path: str, value: str) -> None:
    put(inventory, f"site.{path}", value, host="klcc")
    if path == "lan.address":
        put(inventory, "site.lan.gateway", "10.0.60.1", host="klcc")
        put(inventory, "ansible_host", "10.0.60.21", host="klcc")
    words = f"macau: site.{path} {value} is also that of klcc."
    assert any(message.startswith(words) for message in errors(inventory))
    assert any(
        f"klcc: site.{path} {value} is also that of macau." in m for m in check(inventory, "klcc")["klcc"]["errors"]
    )


def test_two_ids_must_not_make_one_container_name(inventory: Inventory) -> None:
    container = {"backend": "lxc", "host": "lxc1", "template": "/x.tar.zst", "memory": 2048, "disk": 24}
    put(inventory, "site.container", container)
    for host, name in (("macau", "tower_2"), ("klcc", "tower-2")):
        put(inventory, "site.id", name, host)
        put(inventory, "site.verify", {}, host)
        put(inventory, "site.points.owner", "page", host)
    assert errors(inventory) == ["macau: site.id tower_2 is also that of klcc. Their containers would have one name."]


def test_a_container_number_is_used_once(inventory: Inventory) -> None:
    inventory["klcc"]["site"]["container"] = copy.deepcopy(inventory["macau"]["site"]["container"]) | {"disk": 32}
    inventory["klcc"]["site"]["container"]["memory"] = 3072
    assert errors(inventory) == ["macau: site.container.id 1201 is also that of klcc. Give a number that is free."]


def test_two_sites_on_one_bridge_have_two_addresses_and_device_numbers(inventory: Inventory) -> None:
    container = {"backend": "lxc", "host": "lxc1", "template": "/x.tar.zst", "memory": 2048, "disk": 24}
    put(inventory, "site.container", container)
    put(inventory, "site.bacnet.bridge", "br-bacnet")
    assert [message.split(". ")[0] for message in errors(inventory)] == [
        "macau: site.bacnet.address 192.168.1.35/24 is also that of klcc",
        "macau: site.bacnet.device_id 4194000 is also that of klcc",
    ]


def test_two_buildings_may_use_the_same_numbers_when_they_are_reached_otherwise(inventory: Inventory) -> None:
    for host, reached in (("macau", "100.64.0.1"), ("klcc", "100.64.0.2")):
        put(inventory, "site.lan.address", "10.0.60.21/24", host=host)
        put(inventory, "site.lan.gateway", "10.0.60.1", host=host)
        put(inventory, "ansible_host", reached, host=host)
    assert not errors(inventory)


def test_two_hosts_are_not_one_machine(inventory: Inventory) -> None:
    inventory["lxc1"]["ansible_host"] = "10.0.60.21"
    assert errors(inventory) == ["macau: ansible_host 10.0.60.21 is also that of lxc1. Two hosts can't be one machine."]


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
        "klcc: site.container.host lcx1 is no host of the inventory; did you mean lxc1? Add it to"
        " hosts.yml, outside the group sites.",
        "klcc: site.container.id says nothing to backend lxc. Remove it, or write backend proxmox.",
    ]


def test_emqx_needs_more_memory(inventory: Inventory) -> None:
    put(inventory, "site.container.memory", 1024, host="klcc")
    assert "with emqx. Give at least 1536." in errors(inventory, "klcc")[0]


def test_the_fleet_may_give_what_sites_share(inventory: Inventory) -> None:
    drop(inventory, "site.container.template")
    put(inventory, "fleet.site", {"container": {"template": "local:x"}, "time_zone": "Asia/Macau"})
    assert not errors(inventory)


def write_points(folder: Path, rows: int, interval: int) -> None:
    lines = [f"1,10.9.0.1,analog-input,{number},ahu,{number},{interval}" for number in range(rows)]
    header = "device_id,address,object_type,object_instance,equip,equip_ref,interval"
    (folder / "macau.csv").write_text("\n".join([header, *lines]))


def own_points(inventory: Inventory, tmp_path: Path) -> None:
    put(inventory, "inventory_dir", str(tmp_path))
    put(inventory, "site.points.file", "macau.csv")
    put(inventory, "site.verify", {})


@pytest.mark.parametrize(("disk", "good"), [(20, False), (21, True)])
def test_the_disk_holds_the_retention_uncompressed(inventory: Inventory, tmp_path: Path, disk: int, good: bool) -> None:
    own_points(inventory, tmp_path)
    write_points(tmp_path, rows=500, interval=15)
    put(inventory, "site.container.disk", disk)
    # 500 points × 5,760 readings a day × 30 days × 153 bytes = 12.3 GiB, and 8 for everything else
    words = "500 points make 86.4 million rows in 30 days (site.history.retention_days), 12.3 GiB at 153 bytes"
    found = errors(inventory)
    assert not found if good else words in found[0]
    assert good or "Give at least 21, or keep fewer days." in found[0]


def test_points_that_are_not_polled_take_no_disk(inventory: Inventory, tmp_path: Path) -> None:
    own_points(inventory, tmp_path)
    write_points(tmp_path, rows=500, interval=1)
    text = (tmp_path / "macau.csv").read_text().replace(",interval", ",interval,enabled").replace(",1\n", ",1,no\n")
    (tmp_path / "macau.csv").write_text(text + ",no")
    assert not errors(inventory)


def test_errors_of_the_points_file_are_told_by_line(inventory: Inventory, tmp_path: Path) -> None:
    own_points(inventory, tmp_path)
    head = "device_id,address,object_type,object_instance,site"
    (tmp_path / "macau.csv").write_text(f"{head}\n1,10.9.0.1,analog-inputt,1,\n1,10.9.0.1,analog-input,2,klcc\n")
    first, second = errors(inventory)
    assert first.startswith("macau: site.points.file macau.csv:2 object_type: 'analog-inputt' is not an object type")
    assert second.startswith("macau: site.points.file macau.csv:3 site: 'klcc', but this appliance is site 'macau'")
    (tmp_path / "macau.csv").write_text(head + "\n" + "\n".join("1,x,analog-input,1," for _ in range(30)))
    found = errors(inventory)
    assert len(found) == plugin.POINT_PROBLEMS + 1
    assert "more errors. `bacpipes points check --full --site macau macau.csv` shows all." in found[-1]


def test_a_file_that_is_no_points_file_is_refused(inventory: Inventory, tmp_path: Path) -> None:
    own_points(inventory, tmp_path)
    (tmp_path / "macau.csv").write_bytes(b"\xff\xfe\x00")
    assert "can't be used: macau.csv: is UTF-16" in errors(inventory)[0]


def test_points_of_the_page_need_no_file(inventory: Inventory, tmp_path: Path) -> None:
    own_points(inventory, tmp_path)
    put(inventory, "site.points.owner", "page")
    assert not errors(inventory)
    (tmp_path / "macau.csv").write_text("nonsense")
    found = check(inventory)["macau"]
    assert not found["errors"]
    assert "site.points.file macau.csv can't be used" in found["warnings"][0]


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


def test_no_secret_is_ever_shown(inventory: Inventory) -> None:
    secret = "correct horse"
    put(inventory, "vault_pki_ca_passphrase", [secret])
    put(inventory, "vault_proxmox_token_secret", {"x": secret})
    assert secret not in str(check(inventory))


# What a YAML file can hold, with our own keys among the others so that the checks behind them are reached.
KEYS = sorted(
    {"site", "fleet"} | {key for spec in plugin._spec("site")["main"].values() for key in spec.get("options", {})}
)
scalars: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=5),
    st.sampled_from(["10.0.60.21/24", "0.0.0.0/0", "10.0.60.3/30", "proxmox", "none", "macau", "points/klcc.csv"]),
)  # fmt: skip
keys = st.one_of(st.sampled_from(KEYS), st.text(max_size=8), st.integers(), st.none(), st.booleans())
yamls = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=15
)


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = (
        [found for key, item in value.items() for found in leaves(item, (*path, key))]
        if isinstance(value, dict)
        else []
    )
    return [path, *inner]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.one_of(st.sampled_from(["site", "fleet", "ansible_host"]), st.text(max_size=12)), yamls))
def test_no_yaml_makes_it_raise(variables: dict[str, Any]) -> None:
    check({"macau": variables | {"inventory_dir": str(EXAMPLE)}, "klcc": example()["klcc"]}, "macau")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_value_in_a_good_entry_makes_it_raise(data: st.DataObject) -> None:
    inventory = example()
    places = [("site", *path) for path in leaves(inventory["macau"]["site"])]
    places += [("fleet", *path) for path in leaves(inventory["macau"]["fleet"])] + [("ansible_host",)]
    path = data.draw(st.sampled_from(places))
    put(inventory, ".".join(path), data.draw(yamls))
    for message in check(inventory, "macau")["macau"]["errors"]:
        assert message.startswith("macau: ")
        assert "\n" not in message


@pytest.mark.parametrize("make", [list, dict])
def test_a_yaml_that_holds_itself_does_not_hang(inventory: Inventory, make: Callable[[], Any]) -> None:
    loop: Any = make()
    loop.append(loop) if isinstance(loop, list) else loop.update(lan=loop)
    put(inventory, "site.lan", loop)
    assert errors(inventory)


WITHOUT_CENTRAL = [
    ("site.central.live", True, "site.central.live True leads nowhere: the inventory's group centrals is empty. Add"),
    ("site.central.complete", "ship", "site.central.complete ship leads nowhere"),
    ("site.central.host", "central", "site.central.host central is not in the inventory's group centrals. Add it"),
]


@pytest.mark.parametrize(("path", "value", "words"), WITHOUT_CENTRAL)
def test_a_lane_needs_a_central(inventory: Inventory, path: str, value: Any, words: str) -> None:
    put(inventory, path, value)
    (told,) = errors(inventory, centrals=[])
    assert words in told


def test_without_a_central_there_are_no_lanes_and_no_complaint(inventory: Inventory) -> None:
    put(inventory, "site.central.complete", "none")
    put(inventory, "site.central.live", False)
    assert errors(inventory, centrals=[]) == []


def test_a_site_has_a_name_that_central_takes(inventory: Inventory) -> None:
    for name in ("m" * 59, "bacpipes_telegraf", "central"):
        put(inventory, "site.id", name)
        assert any("it is a user's name there" in told for told in errors(inventory))
        assert not any("user's name" in told for told in errors(inventory, centrals=[]))


def test_emqx_needs_a_name_of_central(inventory: Inventory) -> None:
    del inventory["central"]["central"]["address"]
    assert any("site.broker.engine emqx can't check" in told for told in errors(inventory, "klcc"))
    put(inventory, "site.central.live", False, "klcc")
    assert errors(inventory, "klcc") == []


def test_replication_keeps_some_log_and_only_it_has_an_address(inventory: Inventory) -> None:
    put(inventory, "site.central.complete", "replication")
    put(inventory, "site.central.address", "macau.vpn.example")
    assert errors(inventory) == []
    put(inventory, "site.central.keep_gb", 0)
    assert any("site.central.keep_gb 0 is too little. Keep 1 GB or more" in told for told in errors(inventory))
    put(inventory, "site.central.keep_gb", 5)
    put(inventory, "site.central.complete", "ship")
    (told,) = errors(inventory)
    assert "site.central.address macau.vpn.example says how central dials the site" in told


@pytest.mark.parametrize("password", ["sesame", "a" * 30, 12345678901234, None])
def test_the_first_users_password_is_one_that_the_page_takes(inventory: Inventory, password: Any) -> None:
    put(inventory, "vault_page_admin_password", password)
    (told,) = errors(inventory)
    assert told.startswith("macau: vault_page_admin_password is too short or too simple")
    assert str(password) not in told
    put(inventory, "vault_page_admin_password", "correct horse")
    assert errors(inventory) == []
