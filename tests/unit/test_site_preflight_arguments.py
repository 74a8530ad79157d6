"""Role variables that an inventory sets by itself: the preflight knows their types, and whose values to look at."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from site_inventories import Inventory, central_errors, check, errors, example, put
from site_inventory.arguments import ROLES

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"


@pytest.fixture
def inventory() -> Inventory:
    return example()


WRONG = [
    # variable, value, the words of the one message
    (
        "timescaledb_retention_days",
        "30 dayz",
        "timescaledb_retention_days 30 dayz is a text, not a whole number. Write a whole number.",
    ),
    (
        "timescaledb_retention_days",
        "30",
        "timescaledb_retention_days 30 is a text, not a whole number. Write the number without quotes;"
        " on the command line as -e '{\"timescaledb_retention_days\": 30}'.",
    ),
    ("timescaledb_retention_days", True, "timescaledb_retention_days True is true or false, not a whole number."),
    ("timescaledb_retention_days", 1.5, "timescaledb_retention_days 1.5 is a number, not a whole number."),
    ("timescaledb_retention_days", None, "timescaledb_retention_days is empty. Write a value, or leave the line out"),
    ("timescaledb_cpus", "two", "timescaledb_cpus two is a text, not a number. Write a number."),
    ("mqtt_broker_engine", "emq", "mqtt_broker_engine emq is not known; did you mean emqx? Write one of: mos"),
    ("mqtt_broker_memory", ["1g"], "mqtt_broker_memory ['1g'] is a list, not a text. Write a text."),
    ("base_ssh_permit_root_login", False, "base_ssh_permit_root_login False is true or false, not a text. Put it in"),
    ("base_updates_enabled", "maybe", "base_updates_enabled maybe is a text, not true or false. Write true or false."),
    ("base_clock_servers", "ntp.example.com", "base_clock_servers ntp.example.com is a text, not a list. Write a list"),
    ("docker_pool_candidates", ["10.1.0.0/16", None], "docker_pool_candidates[1] is empty."),
    ("docker_settings", "debug", "docker_settings debug is a text, not a dictionary. Write a dictionary."),
    (
        "mqtt_broker_users",
        [{"name": "a", "acl": [{"topic": "x/#", "access": "rw"}]}],
        "mqtt_broker_users[0].acl[0].access rw is not known",
    ),
    (
        "mqtt_broker_users",
        [{"name": "a", "acl": [{"topik": "x/#", "access": "read", "topic": "y"}]}],
        "mqtt_broker_users[0].acl[0].topik is not known; did you mean topic? mqtt_broker_users[0].acl[0] knows: topic",
    ),
    ("mqtt_broker_users", [{"acl": []}], "mqtt_broker_users[0].name is missing. Name, of letters"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), WRONG)
def test_what_a_role_does_not_take_is_named(inventory: Inventory, name: str, value: Any, words: str) -> None:
    put(inventory, name, value)
    (told,) = errors(inventory)
    assert told.startswith(f"macau: {words}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timescaledb_retention_days", 60),
        ("timescaledb_cpus", 2),
        ("timescaledb_cpus", 1.5),
        ("verify_intrusive", "true"),  # as -e verify_intrusive=true gives it
        ("base_hostname", ""),
        ("base_automatic_reboot_time", 330),  # YAML makes a number of 03:30 in some spellings; Ansible a text of it
        ("docker_settings", {"debug": True}),
        ("verify_write_value", None),
        ("mqtt_broker_users", [{"name": "a", "acl": [{"topic": "x/#", "access": "read"}]}]),
    ],
)
def test_what_a_role_takes_is_let_go(inventory: Inventory, name: str, value: Any) -> None:
    put(inventory, name, value)
    assert errors(inventory) == []


def test_the_mistakes_of_all_hosts_and_roles_are_told_at_once(inventory: Inventory) -> None:
    put(inventory, "timescaledb_retention_days", "30 dayz")
    put(inventory, "mqtt_broker_engine", "emq")
    put(inventory, "docker_log_max_files", [], host="klcc")
    found = check(inventory)
    assert [told.split()[1] for told in found["macau"]["errors"]] == [
        "mqtt_broker_engine",
        "timescaledb_retention_days",
    ]
    assert [told.split()[1] for told in found["klcc"]["errors"]] == ["docker_log_max_files"]


def test_roles_with_variables_of_their_own_are_looked_at_and_no_others(inventory: Inventory) -> None:
    put(inventory, "mqtt_broker_memory", "big")  # a text: whether it is a size, the role says
    put(inventory, "image_compression", 3)
    put(inventory, "telegraf_batch", 100)  # no site plays that role
    put(inventory, "lxc_container_known_hosts", "/srv/known_hosts")  # its role has no more to say of it
    found = check(inventory)
    assert found["macau"] == {"errors": [], "warnings": [], "disk": 10, "roles": ["image", "mqtt_broker"]}
    assert found["klcc"]["roles"] == []


def test_a_machine_that_is_there_already_has_no_container(inventory: Inventory) -> None:
    put(inventory, "lxc_container_patience", 90)
    assert check(inventory)["macau"]["roles"] == ["lxc_container"]
    inventory["macau"]["site"]["container"] = {"backend": "none"}
    assert check(inventory)["macau"]["roles"] == []


def test_what_the_playbooks_give_is_no_variable_of_the_inventory(inventory: Inventory) -> None:
    wiring = yaml.safe_load((PLAYBOOKS / "group_vars" / "sites" / "wiring.yml").read_text())
    inventory["macau"] |= {name: value for name, value in wiring.items() if name.startswith("timescaledb_")}
    assert check(inventory)["macau"] == {"errors": [], "warnings": [], "disk": 10, "roles": []}
    put(inventory, "timescaledb_memory", "much")
    (told,) = errors(inventory)
    assert told.startswith("macau: timescaledb_memory much is a text, not a whole number.")


def test_centrals_variables_are_looked_at_when_it_is_played(inventory: Inventory) -> None:
    put(inventory, "telegraf_batch", "many", host="central")
    (told,) = central_errors(inventory)
    assert told.startswith("central: telegraf_batch many is a text, not a whole number.")


def test_a_password_is_never_shown(inventory: Inventory) -> None:
    put(inventory, "mqtt_broker_users", [{"name": "a", "password": [918273645]}])
    put(inventory, "central.broker", {"users": [{"name": "b", "password": 918273645}]}, host="central")
    told = str(check(inventory))
    assert "mqtt_broker_users[0].password is a list, not a text." in told
    assert "central.broker.users[0].password is a whole number, not a text." in told
    assert "918273645" not in told


class Undefined(dict[str, Any]):
    """A host's variables, of which one refers to what is not there."""

    def __init__(self, variables: dict[str, Any], name: str, missing: str) -> None:
        super().__init__(variables)
        self._name, self._missing = name, missing

    def __getitem__(self, key: str) -> Any:
        if key == self._name:
            raise ValueError(f"'{self._missing}' is undefined")
        return super().__getitem__(key)


@pytest.mark.parametrize("missing", ["ansible_facts", "timescaledb_dir", "_timescaledb_uid"])
def test_what_a_role_or_the_machine_brings_can_not_be_looked_at_yet(inventory: Inventory, missing: str) -> None:
    put(inventory, "timescaledb_cpus", 1)
    inventory["macau"] = Undefined(inventory["macau"], "timescaledb_cpus", missing)
    assert errors(inventory) == []


def test_what_nothing_brings_is_a_mistake(inventory: Inventory) -> None:
    put(inventory, "timescaledb_cpus", 1)
    inventory["macau"] = Undefined(inventory["macau"], "timescaledb_cpus", "database_memory")
    assert errors(inventory) == [
        "macau: timescaledb_cpus can't be read ('database_memory' is undefined). Correct what it refers to."
    ]


@pytest.mark.parametrize(("kind", "playbook"), [("site", "onboard"), ("central", "central")])
def test_the_roles_that_are_looked_at_are_those_that_are_played(kind: str, playbook: str) -> None:
    def played(file: Path) -> list[str]:
        """The roles of its plays, and of the playbooks that it imports."""
        found: list[str] = []
        for play in yaml.safe_load(file.read_text()):
            if imported := play.get("ansible.builtin.import_playbook"):
                found += played(file.parent / imported)
            found += [each["role"] for each in play.get("roles", [])]
            tasks = [
                task["ansible.builtin.import_role"]
                for task in play.get("tasks", [])
                if len(task) > 1 and "ansible.builtin.import_role" in task
            ]
            found += [task["name"] for task in tasks if "tasks_from" not in task]
        return found

    assert sorted(ROLES[kind]) == sorted({*played(PLAYBOOKS / f"{playbook}.yml")} - {"site"})


@pytest.mark.parametrize("role", sorted({role for roles in ROLES.values() for role in roles}))
def test_each_has_a_look_at_its_variables_that_asks_no_machine(role: str) -> None:
    """Only assertions: nothing is asked, nothing is registered, no fact of the machine is needed."""
    text = (PLAYBOOKS.parent / "roles" / role / "tasks" / "variables.yml").read_text()
    tasks = yaml.safe_load(text)
    assert tasks
    for task in tasks:
        assert "ansible.builtin.assert" in task, task["name"]
        assert not {"register", "delegate_to"} & set(task), task["name"]
    assert "ansible_facts" not in text
    main = (PLAYBOOKS.parent / "roles" / role / "tasks" / "preflight.yml").read_text()
    assert "ansible.builtin.import_tasks: variables.yml" in main, "the role alone looks at them, too"
