"""Both engines' bridge, as the playbooks write it for the example's sites: the same topics, and what each engine needs.

EMQX can't be had here: its file is read as EMQX reads it (a subset of HOCON), and held to what 5.8.9 is known to need;
to its schema in test_emqx_config.py.
Mosquitto's runs in test_live_lane.py.
"""

import re
from pathlib import Path
from typing import Any

import pytest

import live_parts
from emqx_parts import read_hocon

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
SITE = "klcc"
PASSWORD = "a password of central's"
FILES = ["broker/emqx/emqx.conf", "broker/emqx/acl.conf", "broker/mosquitto/bridge/central.conf"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of rendered files."""
    folder = tmp_path_factory.mktemp("bridge")
    live_parts.render(folder, SITE, ["mqtt_broker"], FILES, test_password=PASSWORD)
    live_parts.render(folder, "central", ["mqtt_broker"], ["broker/emqx/acl.conf"])
    return folder


@pytest.fixture(scope="module")
def emqx(files: Path) -> dict[str, Any]:
    """emqx.conf as nested dictionaries."""
    return read_hocon((files / SITE / "emqx.conf").read_text())


def test_the_connector_is_a_session_with_its_credentials_beside_the_client_id(emqx: dict[str, Any]) -> None:
    connector = emqx["connectors"]["mqtt"]["central"]
    assert connector["server"] == "central.example.com:8883"
    assert (connector["proto_ver"], connector["clean_start"]) == ("v4", "false")  # v5: the source goes deaf
    (entry,) = connector["static_clientids"]
    assert entry == {
        "node": emqx["node"]["name"],
        "ids": [{"clientid": SITE, "username": SITE, "password": PASSWORD}],
    }
    assert not {"username", "password"} & set(connector)  # looked at by no 5.8.9
    tls = connector["ssl"]
    assert (tls["enable"], tls["verify"]) == ("true", "verify_peer")
    assert tls["server_name_indication"] == "central.example.com"
    assert {"cacertfile", "certfile", "keyfile"} <= set(tls)


def test_nothing_waits_45_seconds_and_is_gone(emqx: dict[str, Any]) -> None:
    for action in emqx["actions"]["mqtt"].values():
        assert action["resource_opts"]["request_ttl"] == "infinity"
        assert action["resource_opts"]["worker_pool_size"] == "1"  # in order, and max_buffer_bytes counts once
        assert int(action["resource_opts"]["max_buffer_bytes"]) >= 64 * 2**20
        assert action["parameters"]["payload"] == "${payload}"  # else the whole event is sent
        assert action["parameters"]["qos"] == "1"


def test_every_name_that_is_used_exists(emqx: dict[str, Any]) -> None:
    """EMQX's own check does not find an action without a connector."""
    actions, sources = emqx["actions"]["mqtt"], emqx["sources"]["mqtt"]
    for part in [*actions.values(), *sources.values()]:
        assert part["connector"] in emqx["connectors"]["mqtt"]
    used = set()
    for rule in emqx["rule_engine"]["rules"].values():
        used |= {f"mqtt:{name}" for name in sources if f'"$bridges/mqtt:{name}"' in rule["sql"]}
        used |= {action for action in rule["actions"] if isinstance(action, str)}
    assert used == {f"mqtt:{name}" for name in [*actions, *sources]}


def test_both_engines_carry_the_same(files: Path, emqx: dict[str, Any]) -> None:
    expected = {
        ("out", f"{SITE}/#", f"{SITE}/#"),
        ("out", "bacnet/write/result", f"bacnet/write/result/{SITE}"),
        ("in", "bacnet/write/command", f"bacnet/write/command/{SITE}"),
    }
    assert topics_of_mosquitto((files / SITE / "central.conf").read_text()) == expected
    assert topics_of_emqx(emqx) == expected


def topics_of_mosquitto(text: str) -> set[tuple[str, str, str]]:
    """Direction, local and remote topic of each line."""
    found = set()
    for line in re.findall(r"^topic (.*)$", text, flags=re.MULTILINE):
        pattern, direction, qos, *prefixes = line.split()
        assert qos == "1"
        found.add((direction, *(prefixes if pattern == '""' else (pattern, pattern))))
    return found


def topics_of_emqx(emqx: dict[str, Any]) -> set[tuple[str, str, str]]:
    """The same, from rules, actions and sources."""
    found = set()
    for rule in emqx["rule_engine"]["rules"].values():
        (action,) = rule["actions"]
        topic = re.findall(r'FROM "(.*)"', rule["sql"])[0]
        if isinstance(action, str):
            remote = emqx["actions"]["mqtt"][action.removeprefix("mqtt:")]["parameters"]["topic"]
            found.add(("out", topic, topic if remote == "${topic}" else remote))
        else:
            source = emqx["sources"]["mqtt"][topic.removeprefix("$bridges/mqtt:")]
            assert (action["function"], action["args"]["payload"]) == ("republish", "${payload}")
            found.add(("in", action["args"]["topic"], source["parameters"]["topic"]))
    return found


def test_central_s_emqx_lets_each_site_into_its_own_place_alone(files: Path) -> None:
    rules = (files / "central" / "acl.conf").read_text().splitlines()
    assert [rule for rule in rules if rule.startswith("{allow, all,")] == [
        '{allow, all, publish, ["${username}/#"]}.',
        '{allow, all, publish, ["bacnet/write/result/${username}"]}.',
        '{allow, all, subscribe, ["bacnet/write/command/${username}"]}.',
    ]
    assert not [rule for rule in rules if f'"{SITE}"' in rule]
    assert rules[-1] == "{deny, all}."
