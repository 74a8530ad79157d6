"""The preflight looks into the points file, and computes what disk its retention takes."""

from pathlib import Path

import pytest

from site_inventories import Inventory, check, errors, example, put
from site_inventory.points import POINT_PROBLEMS


@pytest.fixture
def inventory() -> Inventory:
    return example()


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
    assert len(found) == POINT_PROBLEMS + 1
    assert "more errors. `bacpipes points check --full --site macau macau.csv` shows all." in found[-1]


def test_a_line_break_in_a_value_breaks_no_sentence(inventory: Inventory) -> None:
    put(inventory, "site.id", "macau\n")
    found = errors(inventory)
    assert len(found) > POINT_PROBLEMS, "each point's site is another one"
    assert not any("\n" in message for message in found)


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
