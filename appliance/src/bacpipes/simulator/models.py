"""The equipment's behaviour: one dataclass each, its fields are what the points show.

A tick is, for each piece: people's settings are loaded, ``control`` decides on the outputs, what the outputs really
are (somebody may have commanded them) is loaded back, ``react`` moves the physics on. Units as in `physics`.
Switches are 0 or 1, states count from 1.
"""

import random
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from bacpipes.simulator import physics
from bacpipes.simulator.physics import clamp, lag

AMBIENT = 27.0  # °C inside the shell, where nothing cools

OFF, STARTING, RUNNING, FAULT = 1, 2, 3, 4
OCCUPIED, STANDBY, UNOCCUPIED = 1, 2, 3
SATISFIED, HEATING, COOLING = 1, 2, 3
QUIET = 2  # of the chiller's modes


class Model(Protocol):
    """What the building calls at each tick."""

    def control(self) -> None:
        """Decide on the outputs, from settings and measurements."""

    def react(self, dt: float) -> None:
        """Move the measurements on by ``dt`` seconds, from the outputs as they really are."""


@dataclass
class Weather:
    """What surrounds the building; ``clock`` is simulated seconds since midnight of the first day."""

    random: random.Random
    clock: float = 9 * 3600.0
    temperature: float = physics.outside_temperature(9 * 3600.0)
    humidity: float = physics.outside_humidity(physics.outside_temperature(9 * 3600.0))

    def step(self, dt: float) -> None:
        """Let time pass."""
        self.clock += dt
        self.temperature = physics.outside_temperature(self.clock)
        self.humidity = physics.outside_humidity(self.temperature)

    def noise(self, spread: float) -> float:
        """What a sensor adds to the truth: normally distributed, cut at three times ``spread``."""
        return clamp(self.random.gauss(0.0, spread), -3 * spread, 3 * spread)


@dataclass
class AirHandler:
    """An air handling unit: mixes, filters, cools or heats, humidifies, and keeps a pressure in the duct."""

    weather: Weather
    chiller: "Chiller"
    boxes: list["Box"] = field(default_factory=list)

    # settings
    enable: float = 1
    economiser: float = 1
    mode: float = OCCUPIED
    supply_temp_sp: float = 14.0
    return_humidity_sp: float = 60.0
    pressure_sp: float = 250.0
    co2_sp: float = 800.0
    min_outside_sp: float = 20.0
    high_temp_limit_sp: float = 45.0

    # outputs
    supply_fan_start: float = 1
    return_fan_start: float = 1
    supply_fan_cmd: float = 70.0
    return_fan_cmd: float = 65.0
    cooling_valve: float = 40.0
    heating_valve: float = 0.0
    humidifier: float = 20.0
    outside_damper: float = 20.0
    exhaust_damper: float = 20.0
    mixing: float = 2

    # measurements
    supply_temp: float = 14.0
    return_temp: float = 23.0
    mixed_temp: float = 24.0
    outside_temp: float = 24.0
    return_humidity: float = 60.0
    supply_humidity: float = 70.0
    outside_humidity: float = 70.0
    co2: float = 650.0
    pressure: float = 250.0
    filter_drop: float = 90.0
    supply_flow: float = 2000.0
    return_flow: float = 1900.0
    outside_flow: float = 400.0
    supply_fan_speed: float = 70.0
    return_fan_speed: float = 65.0
    supply_fan_power: float = 3.0
    return_fan_power: float = 1.5
    cooling_power: float = 20.0
    water_flow: float = 1.0
    water_in: float = 7.0
    water_out: float = 12.0
    run_hours: float = 4210.0
    supply_fan_on: float = 1
    return_fan_on: float = 1
    filter_dirty: float = 0
    frost: float = 0
    smoke: float = 0
    state: float = RUNNING

    COOLING_SPAN: ClassVar[float] = 18.0  # kelvins by which a fully open cooling valve lowers the air
    HEATING_SPAN: ClassVar[float] = 15.0
    SUPPLY_FAN: ClassVar[float] = 7.5  # kW at full speed
    RETURN_FAN: ClassVar[float] = 5.0

    def control(self) -> None:
        on = 1.0 if self.enable else 0.0
        self.supply_fan_start = self.return_fan_start = on
        full = 100 * (self.pressure_sp / 500) ** 0.5  # pressure grows with the square of the speed; 500 Pa at 100 %
        self.supply_fan_cmd = on * clamp(full, 20)
        self.return_fan_cmd = on * clamp(full - 5, 20)
        self.outside_damper = on * self._outside_share()
        self.exhaust_damper = self.outside_damper
        self.mixing = 1 if not on else 3 if self.outside_damper > self.min_outside_sp else 2
        self._temperature_control(on)
        self.humidifier = on * clamp(20 + 4 * (self.return_humidity_sp - self.return_humidity))

    def _outside_share(self) -> float:
        """Fresh air: the least that is set, more for CO₂, and all of it while outside is cooler than return."""
        if self.mode == UNOCCUPIED:
            return 0.0
        if self.economiser and self.supply_temp_sp < self.outside_temp < self.return_temp - 1:
            return 100.0
        return clamp(self.min_outside_sp + (self.co2 - self.co2_sp) / 10, self.min_outside_sp)

    def _temperature_control(self, on: float) -> None:
        """Valves open exactly as far as the difference between mixed air and setpoint needs."""
        excess = self.mixed_temp - self.supply_temp_sp
        available = physics.cooling_available(self.chiller.supply_temp)
        self.cooling_valve = on * clamp(100 * excess / (self.COOLING_SPAN * max(available, 0.05)))
        self.heating_valve = on * clamp(-100 * excess / self.HEATING_SPAN)

    def react(self, dt: float) -> None:
        self._fans(dt)
        self._air(dt)
        self._coil()
        self._humidity(dt)
        self.filter_dirty = float(self.filter_drop > 250)
        self.frost = float(self.mixed_temp < 4)
        self.state = FAULT if self.smoke or self.frost else RUNNING if self.running else OFF
        self.run_hours += dt / 3600 * self.running

    @property
    def running(self) -> bool:
        """Whether the supply fan moves air."""
        return bool(self.supply_fan_start) and self.supply_fan_cmd > 0

    def _fans(self, dt: float) -> None:
        self.supply_fan_speed = lag(self.supply_fan_speed, self.supply_fan_cmd * self.running, 5, dt)
        self.return_fan_speed = lag(self.return_fan_speed, self.return_fan_cmd * bool(self.return_fan_start), 5, dt)
        self.supply_fan_power = physics.fan_power(self.supply_fan_speed, self.SUPPLY_FAN)
        self.return_fan_power = physics.fan_power(self.return_fan_speed, self.RETURN_FAN)
        self.supply_fan_on = float(self.supply_fan_speed > 5)
        self.return_fan_on = float(self.return_fan_speed > 5)
        self.pressure = 500 * (self.supply_fan_speed / 100) ** 2 + self.weather.noise(0.5) * self.running
        self.supply_flow = sum(box.flow for box in self.boxes)
        self.return_flow = self.supply_flow * 0.95
        self.outside_flow = self.supply_flow * self.outside_damper / 100
        self.filter_drop = 180 * (self.supply_fan_speed / 100) ** 2

    def _air(self, dt: float) -> None:
        share = self.outside_damper / 100
        rooms = [box.zone_temp for box in self.boxes]
        self.outside_temp = self.weather.temperature + self.weather.noise(0.03)
        self.return_temp = lag(self.return_temp, sum(rooms) / len(rooms) if rooms else AMBIENT, 120, dt)
        self.mixed_temp = lag(self.mixed_temp, physics.mix(self.return_temp, self.outside_temp, share), 20, dt)
        cooled = self.COOLING_SPAN * self.cooling_valve / 100 * physics.cooling_available(self.chiller.supply_temp)
        warmed = self.HEATING_SPAN * self.heating_valve / 100
        target = self.mixed_temp - cooled + warmed if self.running else AMBIENT
        self.supply_temp = lag(self.supply_temp, min(target, self.high_temp_limit_sp), 60 if self.running else 600, dt)
        fresh = 420 + 400 * (1 - clamp(share * 2, 0, 1)) if self.mode == OCCUPIED else 450
        self.co2 = lag(self.co2, fresh, 900, dt)

    def _coil(self) -> None:
        """What the air loses, the water gains."""
        self.cooling_power = max(0.0, self.supply_flow * physics.AIR * (self.mixed_temp - self.supply_temp))
        self.water_flow = 3.0 * self.cooling_valve / 100
        self.water_in = self.chiller.supply_temp
        gain = self.cooling_power / (self.water_flow * physics.WATER) if self.water_flow > 0.05 else 0.0
        self.water_out = self.water_in + clamp(gain, 0, 15)

    def _humidity(self, dt: float) -> None:
        """A humidifier open by 20 % makes up for what the coil dries out; more wets the air, less lets it dry."""
        rest = self.return_humidity + (self.humidifier - 20) / 4
        target = clamp(rest) if self.running else self.weather.humidity
        self.return_humidity = clamp(lag(self.return_humidity, target, 60 if self.running else 1800, dt))
        self.supply_humidity = clamp(self.return_humidity + 10 * self.running)
        self.outside_humidity = clamp(self.weather.humidity + self.weather.noise(0.2))


@dataclass
class Box:
    """A variable air volume box and the room behind it."""

    weather: Weather
    air_handler: AirHandler

    # settings
    zone_temp_sp: float = 22.0
    offset_sp: float = 0.0
    min_flow_sp: float = 60.0
    max_flow_sp: float = 600.0
    co2_sp: float = 900.0
    night_temp_sp: float = 26.0
    mode: float = OCCUPIED
    occupied_override: float = 0

    # outputs
    damper_cmd: float = 40.0
    reheat_valve: float = 0.0
    reheat_enable: float = 0
    drive: float = 1

    # measurements
    zone_temp: float = 23.0
    discharge_temp: float = 15.0
    flow: float = 240.0
    flow_sp: float = 240.0
    damper: float = 40.0
    co2: float = 600.0
    humidity: float = 55.0
    pressure: float = 250.0
    reheat_power: float = 0.0
    cooling_demand: float = 40.0
    heating_demand: float = 0.0
    occupied: float = 1
    window: float = 0
    flow_fault: float = 0
    state: float = COOLING

    LOSS: ClassVar[float] = 0.35  # kW/K between the room and what it drifts to
    CAPACITY: ClassVar[float] = 350.0  # kJ/K: air and light furniture of a room of some 60 m²
    REHEAT_SPAN: ClassVar[float] = 20.0  # kelvins at a fully open valve

    @property
    def setpoint(self) -> float:
        """°C that the room is controlled to: by mode, shifted by the occupant's offset."""
        if self.mode == UNOCCUPIED and not self.occupied_override:
            return self.night_temp_sp + self.offset_sp
        return self.zone_temp_sp + self.offset_sp + (1.0 if self.mode == STANDBY else 0.0)

    @property
    def free_temp(self) -> float:
        """°C that the room drifts to without any air: the shell, the sun, and people."""
        return AMBIENT + 0.25 * (self.weather.temperature - 27.0) + 1.5 * self.occupied

    def control(self) -> None:
        duct = self.air_handler.supply_temp
        needed = physics.flow_to_hold(self.free_temp, self.LOSS, duct, self.setpoint)
        wanted = needed + 150 * (self.zone_temp - self.setpoint) + max(0.0, self.co2 - self.co2_sp)
        self.flow_sp = clamp(wanted, self.min_flow_sp, max(self.min_flow_sp, self.max_flow_sp))
        design = max(self.max_flow_sp, 1.0)
        pressure = max(self.air_handler.pressure, 1.0)
        self.damper_cmd = clamp(100 * self.flow_sp / (design * (pressure / 250) ** 0.5))
        warm = physics.supply_to_hold(self.free_temp, self.LOSS, self.flow_sp, self.setpoint)
        cold = self.zone_temp < self.setpoint - 0.1 and self.air_handler.running
        self.reheat_valve = clamp(100 * (warm - duct) / self.REHEAT_SPAN) if cold else 0.0
        self.reheat_enable = float(self.reheat_valve > 0)
        self.drive = 2 if self.damper_cmd > self.damper + 1 else 3 if self.damper_cmd < self.damper - 1 else 1

    def react(self, dt: float) -> None:
        self.occupied = float(self.mode == OCCUPIED or bool(self.occupied_override))
        self.damper = lag(self.damper, self.damper_cmd, 10, dt)
        self.pressure = max(0.0, self.air_handler.pressure * 0.9)
        self.flow = physics.duct_flow(self.damper, self.air_handler.pressure, self.max_flow_sp)
        heat = self.REHEAT_SPAN * self.reheat_valve / 100 * bool(self.reheat_enable)
        self.discharge_temp = lag(self.discharge_temp, self.air_handler.supply_temp + heat, 15, dt)
        self.reheat_power = heat * self.flow * physics.AIR
        self._room(dt)
        self._demand()

    def _room(self, dt: float) -> None:
        target, conductance = physics.room_target(self.free_temp, self.LOSS, self.discharge_temp, self.flow)
        self.zone_temp = lag(self.zone_temp, target, self.CAPACITY / conductance, dt)
        stale = 420 + 500 * self.occupied - clamp(self.flow, 0, 400)
        self.co2 = lag(self.co2, max(stale, 420), 600, dt)
        self.humidity = lag(self.humidity, clamp(self.air_handler.return_humidity - 3), 300, dt)

    def _demand(self) -> None:
        room = max(self.max_flow_sp - self.min_flow_sp, 1.0)
        self.cooling_demand = clamp(100 * (self.flow_sp - self.min_flow_sp) / room)
        self.heating_demand = self.reheat_valve
        self.state = HEATING if self.reheat_valve > 1 else COOLING if self.cooling_demand > 1 else SATISFIED
        self.flow_fault = float(self.air_handler.running and self.flow < 0.5 * self.min_flow_sp)


@dataclass
class Chiller:
    """A chiller with its pumps and cooling tower; its load is what the coils take.

    ``nominal`` is its kW of cold. In quiet mode (2) the tower's fan stays below 60 %.
    """

    weather: Weather
    nominal: float = 120.0
    air_handlers: list[AirHandler] = field(default_factory=list)

    # settings
    enable: float = 1
    mode: float = 1
    supply_temp_sp: float = 7.0
    condenser_sp: float = 28.0
    limit_sp: float = 100.0
    pressure_sp: float = 150.0

    # outputs
    capacity_cmd: float = 50.0
    chilled_pump_cmd: float = 70.0
    condenser_pump_cmd: float = 80.0
    tower_fan_cmd: float = 50.0
    bypass_valve: float = 0.0
    chilled_pump_start: float = 1
    condenser_pump_start: float = 1
    tower_fan_start: float = 1
    tower_stage: float = 2

    # measurements
    supply_temp: float = 7.0
    return_temp: float = 12.0
    chilled_flow: float = 4.0
    chilled_pressure: float = 150.0
    condenser_in: float = 28.0
    condenser_out: float = 32.0
    condenser_flow: float = 6.0
    load: float = 50.0
    cooling_power: float = 60.0
    power: float = 12.0
    cop: float = 5.0
    compressor_current: float = 20.0
    evaporator_pressure: float = 350.0
    condenser_pressure: float = 900.0
    oil_pressure: float = 250.0
    oil_temp: float = 45.0
    chilled_pump_power: float = 2.0
    condenser_pump_power: float = 2.0
    tower_fan_power: float = 1.0
    energy: float = 184500.0
    run_hours: float = 9120.0
    starts: float = 412.0
    running: float = 1
    chilled_flow_switch: float = 1
    condenser_flow_switch: float = 1
    alarm: float = 0
    oil_alarm: float = 0
    state: float = RUNNING

    PUMP: ClassVar[float] = 4.0  # kW at full speed, each pump
    TOWER: ClassVar[float] = 3.0

    def control(self) -> None:
        on = 1.0 if self.enable else 0.0
        self.chilled_pump_start = self.condenser_pump_start = self.tower_fan_start = on
        self.chilled_pump_cmd = on * clamp(100 * (self.pressure_sp / 300) ** 0.5, 30)
        self.condenser_pump_cmd = on * 80.0
        loudest = 60.0 if self.mode == QUIET else 100.0
        self.tower_fan_cmd = on * clamp(50 + 20 * (self.condenser_in - self.condenser_sp), 10, loudest)
        self.tower_stage = 1 if not on else 2 if self.tower_fan_cmd < 60 else 3
        self.bypass_valve = on * clamp(100 * (1.0 - self._demand() / 20.0))
        warm = self.supply_temp - self.supply_temp_sp
        self.capacity_cmd = on * clamp(100 * self._demand() / self.nominal + 20 * warm, 0, self.limit_sp)

    def _demand(self) -> float:
        """kW that the coils take from the water, and 3 kW that the pipes gain."""
        return sum(unit.cooling_power for unit in self.air_handlers) + 3.0

    def react(self, dt: float) -> None:
        pumped = bool(self.chilled_pump_start) and self.chilled_pump_cmd > 0
        turning = bool(self.condenser_pump_start) and self.condenser_pump_cmd > 0
        before = self.running
        self.running = float(bool(self.enable) and pumped and turning and self.capacity_cmd > 0)
        self.starts += max(0.0, self.running - before)
        self._chilled_water(pumped, dt)
        self._condenser_water(turning, dt)
        self._power(dt)
        self.state = RUNNING if self.running else OFF
        self.alarm = float(bool(self.enable) and not (pumped and turning))

    def _chilled_water(self, pumped: bool, dt: float) -> None:
        demand = self._demand()
        # Full capacity could hold the setpoint at the nominal load; what is missing lets the water warm up.
        missing = max(0.0, demand - self.nominal * self.capacity_cmd / 100)
        target = self.supply_temp_sp + missing / 5 if self.running else AMBIENT - 3
        self.supply_temp = lag(self.supply_temp, target, 90 if self.running else 900, dt) + self.weather.noise(0.005)
        self.chilled_flow = lag(self.chilled_flow, 6.0 * self.chilled_pump_cmd / 100 * pumped, 8, dt)
        self.chilled_pressure = 300 * (self.chilled_pump_cmd / 100) ** 2 * pumped
        gain = demand / (max(self.chilled_flow, 0.5) * physics.WATER)
        self.return_temp = lag(self.return_temp, self.supply_temp + min(gain, 12), 60, dt)
        self.chilled_flow_switch = float(self.chilled_flow > 0.5)
        self.cooling_power = demand if self.running else 0.0
        self.load = clamp(100 * self.cooling_power / self.nominal)

    def _condenser_water(self, turning: bool, dt: float) -> None:
        fan = self.tower_fan_cmd / 100 * bool(self.tower_fan_start)
        target = self.weather.temperature + 6.0 - 10.0 * fan + self.load / 20
        self.condenser_in = lag(self.condenser_in, target, 240, dt)
        self.condenser_flow = lag(self.condenser_flow, 8.0 * self.condenser_pump_cmd / 100 * turning, 8, dt)
        heat = (self.cooling_power + self.power) / (max(self.condenser_flow, 0.5) * physics.WATER)
        self.condenser_out = self.condenser_in + min(heat, 12)
        self.condenser_flow_switch = float(self.condenser_flow > 0.5)

    def _power(self, dt: float) -> None:
        self.cop = physics.chiller_cop(self.load, self.condenser_in)
        self.power = lag(self.power, self.cooling_power / self.cop + 0.5 * self.running, 15, dt)
        self.compressor_current = physics.current(self.power)
        self.evaporator_pressure = 250 + 14 * self.supply_temp
        self.condenser_pressure = 300 + 20 * self.condenser_out
        self.oil_pressure = 250.0 * self.running
        self.oil_temp = lag(self.oil_temp, 45.0 if self.running else AMBIENT, 600, dt)
        self.chilled_pump_power = physics.fan_power(self.chilled_pump_cmd * bool(self.chilled_pump_start), self.PUMP)
        self.condenser_pump_power = physics.fan_power(
            self.condenser_pump_cmd * bool(self.condenser_pump_start), self.PUMP
        )
        self.tower_fan_power = physics.fan_power(self.tower_fan_cmd * bool(self.tower_fan_start), self.TOWER)
        self.energy += self.power * dt / 3600
        self.run_hours += self.running * dt / 3600

    @property
    def plant_power(self) -> float:
        """kW of the compressor, the pumps and the tower together."""
        return self.power + self.chilled_pump_power + self.condenser_pump_power + self.tower_fan_power


@dataclass
class Drive:
    """A frequency converter on one fan of an air handler; it only watches what the air handler does."""

    weather: Weather
    air_handler: AirHandler
    fan: str  # "supply" or "return"

    # settings and outputs
    max_speed_sp: float = 100.0
    speed_ref: float = 70.0
    start: float = 1

    # measurements
    speed: float = 70.0
    frequency: float = 35.0
    power: float = 2.0
    amperes: float = 4.0
    torque: float = 49.0
    bus_voltage: float = 540.0
    heatsink: float = 40.0
    energy: float = 20400.0
    run_hours: float = 8800.0
    running: float = 1
    fault: float = 0
    state: float = RUNNING

    def control(self) -> None:
        self.start = float(getattr(self.air_handler, f"{self.fan}_fan_start"))
        self.speed_ref = min(getattr(self.air_handler, f"{self.fan}_fan_cmd"), self.max_speed_sp)

    def react(self, dt: float) -> None:
        self.speed = getattr(self.air_handler, f"{self.fan}_fan_speed")
        self.power = getattr(self.air_handler, f"{self.fan}_fan_power")
        self.frequency = self.speed / 2
        self.amperes = physics.current(self.power)
        self.torque = 100 * (self.speed / 100) ** 2
        self.bus_voltage = 540.0 + self.weather.noise(0.8)
        self.heatsink = lag(self.heatsink, AMBIENT + 4 * self.power, 300, dt)
        self.energy += self.power * dt / 3600
        self.run_hours += float(self.speed > 5) * dt / 3600
        self.running = float(self.speed > 5)
        self.state = RUNNING if self.running else OFF


class Load(Protocol):
    """Anything that a meter can hang on: kW now."""

    def __call__(self) -> float:
        """Kilowatts."""


@dataclass
class Meter:
    """An electricity meter: shows what its load takes, and counts it. Energy never goes back."""

    weather: Weather
    load: Load
    energy: float

    power: float = 0.0
    power_factor: float = 0.9
    voltage: float = 230.0
    frequency: float = 50.0
    amperes: float = 0.0
    kilovar: float = 0.0
    peak: float = 0.0

    def control(self) -> None:
        """A meter controls nothing."""

    def react(self, dt: float) -> None:
        self.power = max(0.0, self.load())
        self.peak = max(self.peak, self.power)
        self.energy += self.power * dt / 3600
        self.voltage = 230.0 + self.weather.noise(0.4)
        self.frequency = 50.0 + self.weather.noise(0.01)
        self.amperes = physics.current(self.power, self.power_factor)
        self.kilovar = physics.reactive(self.power, self.power_factor)


@dataclass
class WaterMeter:
    """Cold water: what the cooling tower evaporates, and some for people. Volume never goes back."""

    weather: Weather
    chiller: Chiller
    volume: float = 7310.0
    flow: float = 0.2
    leak: float = 0

    def control(self) -> None:
        """A meter controls nothing."""

    def react(self, dt: float) -> None:
        self.flow = 0.05 + 0.0004 * (self.chiller.cooling_power + self.chiller.power)  # 2.4 MJ evaporate one litre
        self.volume += self.flow * dt / 1000
