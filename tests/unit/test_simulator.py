"""The simulated building without a network: physics, models, the plan, the CSV, and how faults are spelt."""

import csv
import io
import math
import random
import re
from collections import Counter

import pytest

from bacpipes.errors import InputError
from bacpipes.haystack import FIELDS, short_topic, split_haystack_name
from bacpipes.objects import OBJECT_TYPES
from bacpipes.simulator import kinds, models, physics, table
from bacpipes.simulator.models import AirHandler, Box, Chiller, Model, Weather
from bacpipes.simulator.plan import SitePlan, plan_site

HEADER = (
    "device_id,device_name,address,object_type,object_instance,name,dis,units,site,equip,equip_ref,function,quantity,"
    "substance,location,qualifier,interval,enabled,writable,min,max,states"
)


def run(plan: SitePlan, seconds: float, step: float = 5.0, **held: float) -> None:
    """Let the models run without BACnet; ``held`` keeps fields of the first air handler at a value."""
    unit = unit_of(plan)
    for _ in range(int(seconds / step)):
        plan.weather.step(step)
        for model in plan.models():
            model.control()
            for field, value in held.items():
                setattr(unit, field, value)
            model.react(step)


def part(plan: SitePlan, device: int, kind: type[Model]) -> Model:
    return next(p.model for d in plan.devices if d.device_id == device for p in d.parts if isinstance(p.model, kind))


def unit_of(plan: SitePlan) -> AirHandler:
    unit = part(plan, 12345, AirHandler)
    assert isinstance(unit, AirHandler)
    return unit


def box_of(plan: SitePlan) -> Box:
    box = part(plan, 30001, Box)
    assert isinstance(box, Box)
    return box


def chiller_of(plan: SitePlan) -> Chiller:
    chiller = part(plan, 67890, Chiller)
    assert isinstance(chiller, Chiller)
    return chiller


@pytest.fixture
def plan() -> SitePlan:
    return plan_site()


# --- physics ---


def test_a_lag_is_63_percent_done_after_its_time_constant_and_never_overshoots() -> None:
    assert physics.lag(20, 30, 60, 60) == pytest.approx(26.32, abs=0.01)
    assert physics.lag(20, 30, 60, 1e9) == 30
    assert physics.lag(20, 30, 60, 0) == 20


def test_outside_is_coldest_at_three_and_warmest_at_fifteen() -> None:
    assert physics.outside_temperature(3 * 3600) == pytest.approx(21)
    assert physics.outside_temperature(15 * 3600) == pytest.approx(33)
    assert physics.outside_humidity(21) > physics.outside_humidity(33)


def test_half_the_fan_speed_takes_an_eighth_of_the_power() -> None:
    assert physics.fan_power(50, 8) == pytest.approx(1)


def test_the_flow_that_holds_a_room_holds_it() -> None:
    flow = physics.flow_to_hold(28, 0.35, 14, 22)
    target, _ = physics.room_target(28, 0.35, 14, flow)
    assert target == pytest.approx(22)
    assert physics.flow_to_hold(28, 0.35, 22, 22) == 0  # air as warm as the room can't cool it


def test_a_chiller_is_less_efficient_when_it_is_hot() -> None:
    assert physics.chiller_cop(50, 28) > physics.chiller_cop(50, 38)


# --- models ---


def test_the_building_starts_in_balance(plan: SitePlan) -> None:
    assert unit_of(plan).supply_temp == pytest.approx(14, abs=0.3)
    assert unit_of(plan).return_humidity == pytest.approx(60, abs=0.5)
    assert box_of(plan).zone_temp == pytest.approx(22, abs=0.2)
    assert chiller_of(plan).supply_temp == pytest.approx(7, abs=0.3)


@pytest.mark.parametrize("setpoint", [12.0, 18.0])
def test_supply_air_follows_its_setpoint(plan: SitePlan, setpoint: float) -> None:
    unit_of(plan).supply_temp_sp = setpoint
    run(plan, 1800)
    assert unit_of(plan).supply_temp == pytest.approx(setpoint, abs=0.3)


@pytest.mark.parametrize("setpoint", [20.5, 24.0])
def test_a_room_follows_its_setpoint(plan: SitePlan, setpoint: float) -> None:
    box_of(plan).zone_temp_sp = setpoint
    run(plan, 2 * 3600)
    assert box_of(plan).zone_temp == pytest.approx(setpoint, abs=0.3)


def test_a_lower_room_setpoint_draws_more_air_and_more_cold(plan: SitePlan) -> None:
    flow, cold = box_of(plan).flow, chiller_of(plan).cooling_power
    box_of(plan).zone_temp_sp = 19
    run(plan, 3600)
    assert box_of(plan).flow > flow * 1.3
    assert chiller_of(plan).cooling_power > cold


@pytest.mark.parametrize("setpoint", [45.0, 75.0])
def test_humidity_follows_its_setpoint(plan: SitePlan, setpoint: float) -> None:
    unit_of(plan).return_humidity_sp = setpoint
    run(plan, 3600)
    assert unit_of(plan).return_humidity == pytest.approx(setpoint, abs=1)


def test_an_air_handler_that_is_off_lets_everything_drift(plan: SitePlan) -> None:
    unit_of(plan).enable = 0
    run(plan, 3 * 3600)
    assert unit_of(plan).supply_temp == pytest.approx(models.AMBIENT, abs=0.5)
    assert unit_of(plan).supply_flow == pytest.approx(0, abs=1)
    assert box_of(plan).zone_temp > 26
    assert unit_of(plan).state == models.OFF


def test_a_valve_held_by_hand_moves_the_temperature(plan: SitePlan) -> None:
    run(plan, 1800, cooling_valve=0.0)
    assert unit_of(plan).supply_temp == pytest.approx(unit_of(plan).mixed_temp, abs=1)
    assert unit_of(plan).supply_temp > 18


def test_without_the_chiller_the_coils_cannot_cool(plan: SitePlan) -> None:
    chiller_of(plan).enable = 0
    run(plan, 2 * 3600)
    assert chiller_of(plan).supply_temp > 18
    assert unit_of(plan).supply_temp > 20


def test_energy_only_grows_and_is_the_integral_of_power(plan: SitePlan) -> None:
    meter = part(plan, 40001, models.Meter)
    assert isinstance(meter, models.Meter)
    before, power = meter.energy, []
    for _ in range(360):
        last = meter.energy
        run(plan, 10, 10)
        assert meter.energy >= last
        power.append(meter.power)
    assert meter.energy - before == pytest.approx(sum(power) / len(power), rel=1e-6)  # kW over one hour are kWh


def test_the_main_meter_counts_what_the_others_count(plan: SitePlan) -> None:
    run(plan, 600)
    meters = [p.model for d in plan.devices if d.device_id == 40001 for p in d.parts]
    main, *below = [m for m in meters if isinstance(m, models.Meter)]
    assert main.power == pytest.approx(2 + sum(m.power for m in below), rel=0.05)


def test_the_same_seed_gives_the_same_building() -> None:
    def trace(seed: int) -> list[float]:
        plan = plan_site(seed=seed)
        run(plan, 600)
        return [unit_of(plan).pressure, unit_of(plan).outside_temp, chiller_of(plan).supply_temp]

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_a_huge_step_is_stable(plan: SitePlan) -> None:
    run(plan, 10 * 3600, 3600)
    for device in plan.devices:
        for piece in device.parts:
            for point in piece.points:
                assert math.isfinite(float(getattr(piece.model, point.field))), point.name
    assert 10 < box_of(plan).zone_temp < 35


def test_sensor_noise_is_bounded() -> None:
    weather = Weather(random.Random(1))  # noqa: S311
    assert max(abs(weather.noise(0.5)) for _ in range(2000)) <= 1.5


# --- the plan and the CSV ---


def rows_of(plan: SitePlan) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.points_csv(plan))))


def test_default_size_and_the_numbers_that_the_scenarios_use(plan: SitePlan) -> None:
    rows = rows_of(plan)
    assert len(plan.devices) == 10
    assert 250 <= len(rows) <= 400
    by_object = {(r["device_id"], r["object_type"], r["object_instance"]): r for r in rows}
    supply = by_object["12345", "analog-input", "101"]
    assert (supply["name"], supply["units"], haystack(supply)) == (
        "SupplyAirTemp",
        "°C",
        "duxton.ahu.1.sensor.temp.air.supply.actual",
    )
    humidity = by_object["12345", "analog-value", "120"]
    assert haystack(humidity) == "duxton.ahu.1.sp.humidity.air.return.effective"
    assert (humidity["min"], humidity["max"], humidity["writable"], humidity["units"]) == ("0", "100", "true", "%")
    power = by_object["67890", "analog-input", "501"]
    assert (haystack(power), power["units"]) == ("duxton.chiller.2.sensor.power.elec.total.actual", "kW")


def test_the_csv_has_the_contract_s_header(plan: SitePlan) -> None:
    assert table.points_csv(plan).splitlines()[0] == HEADER


def test_every_row_of_the_csv_is_good(plan: SitePlan) -> None:
    names = Counter(haystack(row) for row in rows_of(plan))
    assert set(names.values()) == {1}
    for row in rows_of(plan):
        assert split_haystack_name(haystack(row))
        assert all(re.fullmatch(r"[a-z0-9_-]+", row[field]) for field in FIELDS), row
        assert row["function"] in {"sp", "sensor", "cmd", "status"}
        assert row["interval"] in {"10", "15", "60"}
        assert re.fullmatch(r"127\.0\.1\.\d+:47808", row["address"])
        assert (row["enabled"], row["object_type"] in OBJECT_TYPES) == ("true", True)
        assert (row["writable"] == "true") == (row["function"] == "sp")
        if row["object_type"].startswith("multi-state"):
            assert int(row["states"]) >= 2
        else:
            assert row["states"] == ""
        if row["object_type"].startswith("analog") and row["writable"] == "true":
            assert float(row["min"]) < float(row["max"])


def test_all_nine_types_are_there(plan: SitePlan) -> None:
    assert {row["object_type"] for row in rows_of(plan)} == set(OBJECT_TYPES)


def test_object_numbers_and_names_are_unique_on_each_device(plan: SitePlan) -> None:
    for device in plan.devices:
        assert len({point.object for point in device.points}) == len(device.points)
        assert len({point.name for point in device.points}) == len(device.points)


def test_only_the_two_drives_share_topics(plan: SitePlan) -> None:
    topics: dict[str, list[int]] = {}
    for row in rows_of(plan):
        topic = short_topic(
            row["site"], row["equip"], row["equip_ref"], row["object_type"], int(row["object_instance"])
        )
        topics.setdefault(topic, []).append(int(row["device_id"]))
    clashes = [devices for devices in topics.values() if len(devices) > 1]
    assert clashes == [[22011, 22012]] * 15


def test_more_boxes_more_points_and_addresses_without_0_and_255() -> None:
    plan = plan_site(boxes=300, base="127.0.1.250")
    assert len({device.address for device in plan.devices}) == len(plan.devices) == 306
    assert not any(re.search(r"\.(0|255):", device.address) for device in plan.devices)
    assert len(rows_of(plan)) > 8000


@pytest.mark.parametrize(
    "wrong",
    [
        {"site": "bacnet"},
        {"site": "Duxton"},
        {"base": "127.0.1"},
        {"base": "255.255.255.255"},
        {"port": 0},
        {"boxes": 0},
        {"boxes": 5000},
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        plan_site(**wrong)  # type: ignore[arg-type]


# --- how faults are spelt ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("silent:12345", ("silent", "12345", ())),
        ("late 12345 2.5", ("late", "12345", ("2.5",))),
        ("hold:12345:analog-value:120:8:55", ("hold", "12345:analog-value:120", ("8", "55"))),
        ("nan 12345:ai:101", ("nan", "12345:ai:101", ())),
        ("nan duxton.ahu.1.sensor.temp.air.supply.actual", ("nan", "duxton.ahu.1.sensor.temp.air.supply.actual", ())),
    ],
)
def test_a_fault_is_parsed(text: str, expected: tuple[str, str, tuple[str, ...]]) -> None:
    assert kinds.parse(text) == expected


@pytest.mark.parametrize("text", ["", "silent", "explode 12345", "nan 12345", "hold 12345:analog-value"])
def test_a_misspelt_fault_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(InputError, match=r"kind|Unknown fault|device:type:instance"):
        kinds.parse(text)


def haystack(row: dict[str, str]) -> str:
    return ".".join(row[field] for field in FIELDS)
