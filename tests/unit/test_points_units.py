"""Units: every sign stands beside a name that the BACnet stack really gives."""

import pytest
from bacpypes3.basetypes import EngineeringUnits

from bacpipes.points.units import _SIGNS, unit_text
from bacpipes.simulator import units

NAMES = {str(EngineeringUnits(number)) for number in EngineeringUnits._enum_map.values()}


def test_no_name_is_misspelt() -> None:
    assert set(_SIGNS) - NAMES == set()


@pytest.mark.parametrize("unit", [unit for unit in vars(units).values() if isinstance(unit, units.Unit)])
def test_the_simulated_building_says_the_same(unit: units.Unit) -> None:
    assert unit_text(str(EngineeringUnits(unit.bacnet))) == unit.text


def test_an_unknown_unit_keeps_its_name() -> None:
    assert unit_text("watts-per-meter-per-degree-kelvin") == "watts-per-meter-per-degree-kelvin"
    assert unit_text(str(EngineeringUnits(4711))) == "4711"
