"""The physics, as pure functions: simple enough to explain, stable for any time step.

Temperatures are °C, humidities % RH, flows L/s, powers kW, pressures Pa (water circuits kPa), times s, positions and
speeds %. Fluid properties are the usual textbook values at 20 °C.
"""

import math

DAY = 86400.0
AIR = 1.2 * 1.006 / 1000  # kW that one L/s of air carries for each kelvin: density 1.2 kg/m³ × 1.006 kJ/(kg·K)
WATER = 4.186  # kW that one L/s of water carries for each kelvin: 1 kg/L × 4.186 kJ/(kg·K)


def clamp(value: float, low: float = 0.0, high: float = 100.0) -> float:
    """The nearest number within the bounds."""
    return max(low, min(high, value))


def lag(value: float, target: float, tau: float, dt: float) -> float:
    """First-order lag: after ``tau`` seconds 63 % of the way to the target is done, after three times that 95 %."""
    return target + (value - target) * math.exp(-dt / tau)


def outside_temperature(clock: float) -> float:
    """A slow sine over the day: 21 °C at 3 in the morning, 33 °C at 3 in the afternoon."""
    return 27.0 - 6.0 * math.cos(2 * math.pi * (clock / DAY - 3 / 24))


def outside_humidity(temperature: float) -> float:
    """Warmer air is relatively drier: 85 % at 21 °C, 55 % at 33 °C."""
    return clamp(85.0 - 2.5 * (temperature - 21.0))


def fan_power(speed: float, nominal: float) -> float:
    """Fan affinity law: power grows with the cube of the speed."""
    return float(nominal * (clamp(speed) / 100) ** 3)


def duct_flow(position: float, pressure: float, design_flow: float, design_pressure: float = 250.0) -> float:
    """Flow through a damper: proportional to its opening and to the square root of the pressure before it."""
    return design_flow * clamp(position) / 100 * math.sqrt(max(pressure, 0.0) / design_pressure)


def mix(first: float, second: float, share: float) -> float:
    """Two streams of air mixed; ``share`` (0 to 1) is how much of the second."""
    return first + (second - first) * share


def room_target(free: float, loss: float, supply: float, flow: float) -> tuple[float, float]:
    """Where a room's temperature goes, and the conductance (kW/K) that takes it there.

    ``free`` is what the room drifts to without air, ``loss`` (kW/K) how strongly; the supply air pulls the other way.
    """
    carried = flow * AIR
    return (loss * free + carried * supply) / (loss + carried), loss + carried


def flow_to_hold(free: float, loss: float, supply: float, setpoint: float) -> float:
    """Airflow at which the room rests exactly at its setpoint; 0 where it needs none."""
    if supply >= setpoint - 0.5:
        return 0.0
    return max(0.0, loss * (free - setpoint) / ((setpoint - supply) * AIR))


def supply_to_hold(free: float, loss: float, flow: float, setpoint: float) -> float:
    """Supply temperature at which the room rests exactly at its setpoint, with the flow given."""
    return setpoint - loss * (free - setpoint) / max(flow * AIR, 1e-6)


def chiller_cop(load: float, condenser: float) -> float:
    """Kilowatts of cold for one of electricity: 5.5 at 28 °C and half load, less when it is hot or barely loaded."""
    return clamp(5.5 - 0.1 * (condenser - 28.0) - 2.0 * abs(load / 100 - 0.5), 2.0, 7.0)


def cooling_available(chilled_water: float) -> float:
    """Share of a coil's cooling that is left: all of it up to 8 °C water, none from 18 °C on."""
    return clamp((18.0 - chilled_water) / 10.0, 0.0, 1.0)


def current(power: float, power_factor: float = 0.9, voltage: float = 400.0) -> float:
    """Amperes in each phase of a three-phase load."""
    return power * 1000 / (math.sqrt(3) * voltage * power_factor)


def reactive(power: float, power_factor: float = 0.9) -> float:
    """Reactive power in kvar."""
    return power * math.tan(math.acos(power_factor))
