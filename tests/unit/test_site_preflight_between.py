"""What two sites must not share, and what leads to central, in the preflight's sentences."""

import copy
from typing import Any

import pytest

from site_inventories import Inventory, check, errors, example, put


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
