"""No entry makes the preflight raise, whatever YAML can hold."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from site_inventories import EXAMPLE, Inventory, central_errors, check, errors, example, put
from site_inventory.specs import role_spec


@pytest.fixture
def inventory() -> Inventory:
    return example()


KEYS = sorted(
    {"site", "fleet"} | {key for spec in role_spec("site")["main"].values() for key in spec.get("options", {})}
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


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_value_in_centrals_entry_makes_it_raise(data: st.DataObject) -> None:
    inventory = example()
    path = data.draw(st.sampled_from([("central", *path) for path in leaves(inventory["central"]["central"])]))
    put(inventory, ".".join(path), data.draw(yamls), "central")
    assert all(message.startswith("central: ") and "\n" not in message for message in central_errors(inventory))
    check(inventory, "macau")


@pytest.mark.parametrize("make", [list, dict])
def test_a_yaml_that_holds_itself_does_not_hang(inventory: Inventory, make: Callable[[], Any]) -> None:
    loop: Any = make()
    loop.append(loop) if isinstance(loop, list) else loop.update(lan=loop)
    put(inventory, "site.lan", loop)
    assert errors(inventory)
