"""What two sites must not share, and what leads to central, in the preflight's sentences."""

import copy
from typing import Any

import pytest

from site_inventories import Inventory, central_errors, check, drop, errors, example, put
from site_inventory.report import gathered


@pytest.fixture
def inventory() -> Inventory:
    return example()


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


def test_what_is_wrong_with_all_in_the_same_words_is_said_once() -> None:
    shared = "fleet.ssh_keys is an empty list. Write one."
    found = {f"site{n}": {"errors": [f"site{n}: {shared}"]} for n in range(8)}
    found["site3"]["errors"].append("site3: x")
    assert gathered(found, "errors") == [
        f"site0, site1, site2, site3, site4 and 3 more: {shared}",
        "site3: x",
    ]


def test_a_container_is_not_made_on_a_machine_of_the_fleet(inventory: Inventory) -> None:
    put(inventory, "site.container.host", "macau", "klcc")
    assert "klcc: site.container.host macau is itself a machine that BacPipes runs on. Name the host that" in str(
        errors(inventory, "klcc")
    )


def test_a_site_and_central_are_two(inventory: Inventory) -> None:
    put(inventory, "central.id", "macau", "central")
    assert "macau: site.id macau is also that of central. Every site has its own." in errors(inventory)
    assert "central: central.id macau is also that of macau. Every site has its own." in central_errors(inventory)


def test_a_host_is_in_one_group(inventory: Inventory) -> None:
    (told,) = errors(inventory, centrals=["central", "macau"])
    assert told.startswith("macau: hosts.yml has it in both groups, sites and centrals.")


def test_a_site_is_where_central_lets_sites_in(inventory: Inventory) -> None:
    put(inventory, "central.lan.sites", ["10.0.61.0/24"], "central")
    found = check(inventory)
    assert (
        "site.lan.address 10.0.60.21/24 is in none of the networks of central.lan.sites"
        in found["macau"]["warnings"][0]
    )
    assert not found["klcc"]["warnings"]


def test_a_site_has_not_the_address_at_which_it_would_look_for_central(inventory: Inventory) -> None:
    put(inventory, "central.address", "10.0.60.21", "central")
    assert errors(inventory) == [
        "macau: site.lan.address 10.0.60.21/24 is also the address of central. Give each its own address."
    ]


CENTRAL = [
    ("central", None, "central is empty"),
    ("central.adress", "x", "central.adress is not known; did you mean address?"),
    ("central.id", "Central", "central.id Central is no slug"),
    ("central.address", "central:8883", "central.address central:8883 is neither a name nor an IPv4 address"),
    ("central.address", "10.0.50", "central.address 10.0.50 is neither a name nor an IPv4 address"),
    ("central.address", None, "central.address is empty. Write a value, or remove the line."),
    ("central.dials_from", "central", "central.dials_from central is no IPv4 address"),
    ("central.lan.address", "10.0.50.10", "central.lan.address 10.0.50.10 is no IPv4 address with prefix length"),
    ("central.lan.sites", ["10.0.60.5/24"], "central.lan.sites[0] 10.0.60.5/24 is an address, not a network"),
    ("central.lan.sites", "10.0.60.0/24", "central.lan.sites 10.0.60.0/24 is a text, not a list"),
    ("central.broker", {"engine": "hive"}, "central.broker.engine hive is not known"),
    ("central.broker", {"memory": "1 GB"}, "central.broker.memory 1 GB is no size. Write one as 512m or 1g."),
    ("central.broker", {"users": [{"name": "a b"}]}, "central.broker.users[0].name a b is no user's name"),
    ("central.broker", {"users": [{"name": "bacpipes_x"}]}, "bacpipes_x is a name of our own services"),
    ("central.broker", {"users": [{"name": "a"}, {"name": "a"}]}, "central.broker.users[1].name a stands there twice"),
    ("central.broker", {"users": [{"nam": "a"}]}, "central.broker.users[0].nam is not known; did you mean name?"),
    ("central.database", {"memory": 100}, "central.database.memory 100 is not from 256"),
    ("central.history", {"retention_days": -1}, "central.history.retention_days -1 is not from 0"),
    ("central.container", {"backend": "lxc"}, "central.container.host is missing, and backend lxc needs it"),
    (
        "central.container",
        {"backend": "lxc", "host": "lxc1"},
        "central.container.disk is missing, and a container needs",
    ),
    ("central.container", {"backend": "lxc", "memory": 2048}, "central.container.memory 2048 MiB are too few"),
    ("central.container", {"backend": "lxc", "template": "local:x"}, "is nothing that backend lxc makes one from"),
    ("central.container", {"backend": "proxmox"}, "central.container.backend proxmox is not known"),
    ("ansible_host", "10.0.50.11", "ansible_host 10.0.50.11 is not the central.lan.address 10.0.50.10/24"),
    ("central_memroy", "1g", "central_memroy is no variable of the role central; did you mean central_memory?"),
]


@pytest.mark.parametrize(("path", "value", "words"), CENTRAL)
def test_what_is_wrong_with_central_is_named(inventory: Inventory, path: str, value: Any, words: str) -> None:
    assert central_errors(inventory) == []
    put(inventory, path, value, "central")
    found = central_errors(inventory)
    assert any(words in told for told in found), found
    assert all(told.startswith("central: ") for told in found)
    assert any(words in told for told in check(inventory, "macau")["central"]["errors"]), "a site reports to it"


@pytest.mark.parametrize("path", ["central", "central.id", "central.lan", "central.lan.address", "central.container"])
def test_what_central_lacks_is_named(inventory: Inventory, path: str) -> None:
    drop(inventory, path, "central")
    assert any(told.startswith(f"central: {path} is missing. ") for told in central_errors(inventory))


def test_centrals_secrets_are_looked_for_when_it_is_played(inventory: Inventory) -> None:
    drop(inventory, "vault_pki_ca_passphrase", "central")
    assert any("vault_pki_ca_passphrase is missing" in told for told in central_errors(inventory))
    assert "central" not in check(inventory, "macau")
