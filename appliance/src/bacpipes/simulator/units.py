"""Engineering units: the text that people see, and BACnet's name for it (ASHRAE 135, BACnetEngineeringUnits)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """``text`` stands in tables and CSV files, ``bacnet`` is the enumeration's name in bacpypes3."""

    text: str
    bacnet: str


AMPERE = Unit("A", "amperes")
CELSIUS = Unit("°C", "degreesCelsius")
CUBIC_METRE = Unit("m³", "cubicMeters")
HERTZ = Unit("Hz", "hertz")
HOUR = Unit("h", "hours")
HUMIDITY = Unit("%", "percentRelativeHumidity")
KELVIN = Unit("K", "deltaDegreesKelvin")
KILOPASCAL = Unit("kPa", "kilopascals")
KILOVAR = Unit("kvar", "kilovoltAmperesReactive")
KILOWATT = Unit("kW", "kilowatts")
KILOWATT_HOUR = Unit("kWh", "kilowattHours")
LITRE_PER_SECOND = Unit("L/s", "litersPerSecond")
NONE = Unit("", "noUnits")
PASCAL = Unit("Pa", "pascals")
PERCENT = Unit("%", "percent")
POWER_FACTOR = Unit("", "powerFactor")
PPM = Unit("ppm", "partsPerMillion")
VOLT = Unit("V", "volts")
