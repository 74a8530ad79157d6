"""Role base's reading of networks: what the firewall is told, and who would be shut out."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "roles" / "base" / "filter_plugins" / "base_networks.py"
spec = importlib.util.spec_from_file_location("base_networks", PATH)
assert spec is not None
assert spec.loader is not None
networks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(networks)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["10.0.0.0/8", "192.168.1.0/24", "fd00::/64", "10.1.2.3"], "'10.1.2.3' overlaps '10.0.0.0/8'"),
        (["10.0.0.1/8"], "'10.0.0.1/8' is not a network"),
        (["10.0.0.0/40"], "not a network"),
        (["office"], "'office' is not a network"),
        (["0.0.0.0/0"], "lets in everybody"),
        (["::/0"], "lets in everybody"),
    ],
)
def test_what_cannot_be_meant_is_named(given: list[str], told: str) -> None:
    problems = networks.base_network_problems(given)
    assert len(problems) == 1
    assert told in problems[0]


def test_networks_side_by_side_are_fine() -> None:
    assert networks.base_network_problems(["10.0.0.0/24", "10.0.1.0/24", "fd00::/64", "192.0.2.7"]) == []


@pytest.mark.parametrize(
    ("address", "within"),
    [
        ("10.0.0.9", True),
        ("10.0.1.9", False),
        ("fd00::9", True),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.9", True),
    ],
)
def test_the_controllers_own_address(address: str, within: bool) -> None:
    assert networks.base_within(address, ["10.0.0.0/24", "fd00::/64"]) is within


def test_a_match_for_each_version_that_is_there() -> None:
    assert networks.base_sources(["10.0.0.0/24", "fd00::/64", "192.0.2.7"]) == [
        "ip saddr { 10.0.0.0/24, 192.0.2.7/32 }",
        "ip6 saddr { fd00::/64 }",
    ]
    assert networks.base_sources(["fd00::/64"]) == ["ip6 saddr { fd00::/64 }"]
