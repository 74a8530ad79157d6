"""What a run is for, and the inventory's files: names that lead nowhere are told."""

from pathlib import Path
from typing import Any

import pytest

from site_inventories import EXAMPLE, Inventory, check, example, put
from site_inventory.selection import check_selection

GROUPS = {"all": ["macau", "klcc", "central", "lxc1"], "sites": ["macau", "klcc"], "centrals": ["central"]}


@pytest.mark.parametrize(
    ("limit", "hosts"),
    [("", GROUPS["all"]), ("macau", ["macau"]), ("sites:!klcc", ["macau"]), ("m*", ["macau"]),
      ("~m.*,klcc", GROUPS["sites"]),
     ("@/tmp/again.retry", ["macau"]), ("sites[0]", ["macau"]), ("macau,localhost", ["macau", "localhost"])],
)  # fmt: skip
def test_a_run_with_something_to_do_is_let_go(limit: str, hosts: list[str]) -> None:
    assert check_selection(GROUPS, hosts, "sites", limit, ["all"], ["site_reachability"]) == []


@pytest.mark.parametrize(
    ("groups", "limit", "tags", "words"),
    [
        (GROUPS, "macau,klc", [], "-l klc is no host or group of the inventory; did you mean klcc? Correct the name."),
        (GROUPS, "sites:!klc", [], "-l klc is no host or group of the inventory; did you mean klcc? Correct the name."),
        (
            GROUPS,
            "central",
            [],
            "-l central leaves no host of the group sites, which has: macau, klcc. Name one of these.",
        ),
        (
            GROUPS | {"sites": []},
            "",
            [],
            "The inventory has no host in the group sites. Is -i the right one, and hosts.yml",
        ),
        ({"all": []}, "", [], "The inventory has no host in the group sites."),
        (GROUPS, "", ["dokcer"], "--tags dokcer is no tag of any playbook; did you mean docker? Correct the name."),
    ],
)
def test_a_run_that_would_do_nothing_is_refused(groups: Any, limit: str, tags: list[str], words: str) -> None:
    hosts = ["central"] if limit == "central" else ["macau"]
    (told,) = check_selection(groups, hosts, "sites", limit, tags)
    assert told.startswith(words)


def test_what_molecule_always_leaves_out_is_no_mistake() -> None:
    assert check_selection(GROUPS, ["macau"], "sites", None, skipped=["molecule-notest", "notest"]) == []


def test_tags_that_are_skipped_are_known_too() -> None:
    (told,) = check_selection(GROUPS, ["macau"], "sites", "", ["all"], ["verfiy"])
    assert told == "--skip-tags verfiy is no tag of any playbook; did you mean verify? Correct the name."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An inventory's folder; its points are the example's."""
    (tmp_path / "points").symlink_to(EXAMPLE / "points")
    for group in ("all", "sites"):
        (tmp_path / "group_vars" / group).mkdir(parents=True)
    (tmp_path / "host_vars").mkdir()
    return tmp_path


def told(folder: Path) -> Any:
    inventory: Inventory = example()
    put(inventory, "inventory_dir", str(folder))
    return check(inventory, "macau").get("inventory", {"errors": [], "warnings": []})


@pytest.mark.parametrize("file", ["group_vars/all/more.yml", "group_vars/sites.yml", "group_vars/sites/more.yaml"])
def test_what_the_playbooks_would_set_over_is_refused(folder: Path, file: str) -> None:
    (folder / file).write_text("# for all\nrack: 7\nappliance_retention_days: 60\nlist:\n  appliance_image: x\n")
    (error,) = told(folder)["errors"]
    assert error.startswith(f"inventory: {file} appliance_retention_days is set by the playbooks for all machines")


def test_what_is_for_one_host_takes_effect_and_is_told(folder: Path) -> None:
    (folder / "host_vars" / "macau.yml").write_text("appliance_retention_days: 60\n")
    (folder / "host_vars" / "makau.yml").write_text("site: {}\n")
    found = told(folder)
    assert not found["errors"]
    assert [warning.split(". ")[0] for warning in found["warnings"]] == [
        "inventory: host_vars/macau.yml appliance_retention_days takes the place of what the playbooks make from `site`"
        " and `fleet`",
        "inventory: host_vars/makau.yml is of no host of the inventory; did you mean macau?"
        " Rename it, or add the host to hosts.yml.",
    ]


def test_what_is_encrypted_or_no_text_does_no_harm(folder: Path) -> None:
    (folder / "group_vars" / "all" / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    (folder / "group_vars" / "all" / "picture.yml").write_bytes(b"\xff\xfe\x00appliance_image: x")
    assert told(folder) == {"errors": [], "warnings": []}
