"""Role docker's choice of address pools: none that hides a network of the building."""

import importlib.util
import ipaddress
import json
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROLES = Path(__file__).resolve().parents[2] / "roles"
CANDIDATES = ["172.31.240.0/21", "172.28.224.0/21", "192.168.216.0/21"]


def plugin(role: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROLES / role / "filter_plugins" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pools = plugin("docker", "docker_pools")


def test_the_first_ones_where_nothing_is_taken() -> None:
    assert pools.docker_pools(CANDIDATES) == CANDIDATES[:2]


@pytest.mark.parametrize(
    "taken",
    [
        "172.31.241.0/24",  # within the candidate
        "172.16.0.0/12",  # around it, and around the next one
        "172.31.247.255/32",  # its last address
    ],
)
def test_a_live_route_and_a_reserved_network_are_avoided(taken: str) -> None:
    for where in ({"live": [taken]}, {"reserved": [taken]}):
        picked = pools.docker_pools(CANDIDATES, count=1, **where)
        assert not ipaddress.IPv4Network(picked[0]).overlaps(ipaddress.IPv4Network(taken))


def test_a_neighbouring_network_is_no_collision() -> None:
    assert pools.docker_pools(CANDIDATES, live=["172.31.248.0/24"], count=1) == CANDIDATES[:1]


@pytest.mark.parametrize(
    "never", ["100.64.0.0/16", "100.127.255.0/24", "127.9.0.0/16", "169.254.8.0/21", "239.0.0.0/21"]
)
def test_what_is_never_a_containers(never: str) -> None:
    assert pools.docker_pools([never, *CANDIDATES], count=1) == CANDIDATES[:1]


def test_the_default_bridge_keeps_its_network() -> None:
    assert pools.docker_pools(CANDIDATES, bridge="172.31.242.1/24", count=1) == CANDIDATES[1:2]


def test_an_earlier_choice_stands_while_it_may() -> None:
    assert pools.docker_pools(CANDIDATES, chosen=CANDIDATES[1:]) == CANDIDATES[1:]
    assert pools.docker_pools(CANDIDATES, chosen=CANDIDATES[1:], live=["192.168.220.0/24"]) == [
        CANDIDATES[1],
        CANDIDATES[0],
    ]
    # What is no candidate any more was taken back by the operator.
    assert pools.docker_pools(CANDIDATES, chosen=["10.0.0.0/16", CANDIDATES[2]]) == [CANDIDATES[2], CANDIDATES[0]]


def test_two_candidates_that_overlap_each_other_are_not_both_taken() -> None:
    picked = pools.docker_pools(["172.31.240.0/21", "172.31.240.0/22", "172.28.224.0/21"])
    assert picked == ["172.31.240.0/21", "172.28.224.0/21"]


def test_none_left_says_which_and_why_and_what_to_do() -> None:
    with pytest.raises(pools.AnsibleFilterError) as refusal:
        pools.docker_pools(CANDIDATES, live=["172.16.0.0/12"], reserved=["192.168.0.0/16"])
    for part in (
        "0 of 2",
        "172.31.240.0/21 overlaps 172.16.0.0/12 (a live route)",
        "192.168.0.0/16 (docker_reserved_networks)",
        "Add networks",
    ):
        assert part in str(refusal.value)


@pytest.mark.parametrize("wrong", ["172.31.240.1/21", "172.31.240.0/33", "building", "fd00::/64"])
def test_what_is_no_network_is_named(wrong: str) -> None:
    with pytest.raises(pools.AnsibleFilterError, match=wrong):
        pools.docker_pools([wrong])


def test_live_networks_leave_out_defaults_and_dockers_own() -> None:
    routes = [
        {"dst": "default", "gateway": "10.1.0.1", "dev": "eth0"},
        {"dst": "0.0.0.0/1", "dev": "tun0"},
        {"dst": "128.0.0.0/1", "dev": "tun0"},
        {"dst": "10.1.0.0/24", "dev": "eth0"},
        {"type": "local", "dst": "10.1.0.9", "dev": "eth0", "table": "local"},
        {"type": "broadcast", "dst": "10.1.0.255", "dev": "eth0", "table": "local"},
        {"dst": "172.31.250.0/24", "dev": "docker0"},
        {"dst": "172.31.240.0/26", "dev": "br-0123456789ab"},
        {"dst": "10.20.0.0/16", "dev": "br-lan"},  # a bridge of the operator's
        {"type": "blackhole", "dst": "192.168.216.0/24"},
        {"dst": "10.20.0.0/16", "dev": "br-lan", "table": "52"},
    ]
    assert pools.docker_live_networks(routes) == ["10.1.0.0/24", "10.1.0.9/32", "10.20.0.0/16", "192.168.216.0/24"]


def test_the_earlier_choice_is_read_from_what_is_there() -> None:
    text = json.dumps({"default-address-pools": [{"base": CANDIDATES[1], "size": 26}]})
    assert pools.docker_chosen(text) == CANDIDATES[1:2]
    for unreadable in ("", "{", "[]", "{}", '{"default-address-pools": [{}]}', '{"default-address-pools": 5}'):
        assert pools.docker_chosen(unreadable) == []


NETWORKS = st.builds(
    lambda address, prefix: str(ipaddress.IPv4Network((address, prefix), strict=False)),
    st.integers(0, 2**32 - 1),
    st.integers(2, 32),
)


@given(
    st.lists(NETWORKS, max_size=6), st.lists(NETWORKS, max_size=6), st.lists(NETWORKS, max_size=6), st.integers(1, 3)
)
def test_whatever_is_given_the_choice_overlaps_nothing_and_stands_on_the_next_run(
    candidates: list[str], live: list[str], reserved: list[str], count: int
) -> None:
    try:
        picked = pools.docker_pools(candidates, live=live, reserved=reserved, count=count)
    except pools.AnsibleFilterError:
        return
    assert len(picked) == count
    for index, pool in enumerate(picked):
        own = ipaddress.IPv4Network(pool)
        for other in [*live, *reserved, *pools.ALWAYS_TAKEN, *picked[:index]]:
            assert not own.overlaps(ipaddress.IPv4Network(other))
    assert pools.docker_pools(candidates, live=live, reserved=reserved, count=count, chosen=picked) == picked
