"""BACnet's engineering units as people write them (ASHRAE 135, BACnetEngineeringUnits)."""

# The standard's name → the usual sign. Others keep the standard's name, readable as it is.
_SIGNS = {
    "no-units": "", "power-factor": "",
    "percent": "%", "percent-relative-humidity": "%", "per-mille": "‰",
    "parts-per-million": "ppm", "parts-per-billion": "ppb",
    # temperature
    "degrees-celsius": "°C", "degrees-fahrenheit": "°F", "degrees-kelvin": "K", "delta-degrees-kelvin": "K",
    "delta-degrees-fahrenheit": "°F", "degrees-angular": "°", "degree-days-celsius": "°C·d",
    # pressure
    "pascals": "Pa", "hectopascals": "hPa", "kilopascals": "kPa", "bars": "bar", "millibars": "mbar",
    "pounds-force-per-square-inch": "psi", "inches-of-water": "inH₂O", "inches-of-mercury": "inHg",
    "centimeters-of-water": "cmH₂O", "millimeters-of-water": "mmH₂O", "millimeters-of-mercury": "mmHg",
    # electricity
    "volts": "V", "millivolts": "mV", "kilovolts": "kV", "amperes": "A", "milliamperes": "mA", "ohms": "Ω",
    "kilohms": "kΩ", "megohms": "MΩ", "hertz": "Hz", "kilohertz": "kHz", "megahertz": "MHz", "watts": "W",
    "milliwatts": "mW", "kilowatts": "kW", "megawatts": "MW", "volt-amperes": "VA", "kilovolt-amperes": "kVA",
    "volt-amperes-reactive": "var", "kilovolt-amperes-reactive": "kvar", "megavolt-amperes": "MVA",
    "megavolt-amperes-reactive": "Mvar", "degrees-phase": "°",
    # energy and power
    "watt-hours": "Wh", "kilowatt-hours": "kWh", "megawatt-hours": "MWh", "watt-hours-reactive": "varh",
    "kilowatt-hours-reactive": "kvarh", "megawatt-hours-reactive": "Mvarh", "volt-ampere-hours": "VAh",
    "kilovolt-ampere-hours": "kVAh", "joules": "J", "kilojoules": "kJ", "megajoules": "MJ", "btus": "BTU",
    "kilo-btus": "kBTU", "therms": "thm", "btus-per-hour": "BTU/h", "kilo-btus-per-hour": "kBTU/h",
    "tons-refrigeration": "TR", "ton-hours": "TRh", "horsepower": "hp", "watts-per-square-meter": "W/m²",
    "kilowatt-hours-per-square-meter": "kWh/m²", "kilojoules-per-kilogram": "kJ/kg",
    "kilojoules-per-kilogram-dry-air": "kJ/kg", "joules-per-kilogram-dry-air": "J/kg",
    # flow, volume, mass
    "liters": "L", "milliliters": "mL", "cubic-meters": "m³", "cubic-feet": "ft³", "us-gallons": "gal",
    "liters-per-second": "L/s", "liters-per-minute": "L/min", "liters-per-hour": "L/h",
    "milliliters-per-second": "mL/s", "cubic-meters-per-second": "m³/s", "cubic-meters-per-minute": "m³/min",
    "cubic-meters-per-hour": "m³/h", "cubic-meters-per-day": "m³/d", "cubic-feet-per-minute": "cfm",
    "cubic-feet-per-second": "ft³/s", "cubic-feet-per-hour": "ft³/h", "us-gallons-per-minute": "gpm",
    "us-gallons-per-hour": "gph", "grams": "g", "milligrams": "mg", "kilograms": "kg", "tons": "t",
    "kilograms-per-second": "kg/s", "kilograms-per-minute": "kg/min", "kilograms-per-hour": "kg/h",
    "tons-per-hour": "t/h", "grams-per-second": "g/s", "kilograms-per-cubic-meter": "kg/m³",
    "grams-per-cubic-meter": "g/m³", "milligrams-per-cubic-meter": "mg/m³",
    "micrograms-per-cubic-meter": "µg/m³", "milligrams-per-liter": "mg/L",
    "grams-of-water-per-kilogram-dry-air": "g/kg", "grams-per-kilogram": "g/kg",
    # length, area, speed, time
    "millimeters": "mm", "centimeters": "cm", "meters": "m", "kilometers": "km", "inches": "in", "feet": "ft",
    "micrometers": "µm", "square-meters": "m²", "square-feet": "ft²", "meters-per-second": "m/s",
    "meters-per-minute": "m/min", "meters-per-hour": "m/h", "kilometers-per-hour": "km/h",
    "feet-per-minute": "ft/min", "feet-per-second": "ft/s", "miles-per-hour": "mph",
    "revolutions-per-minute": "rpm", "cycles-per-minute": "1/min", "cycles-per-hour": "1/h", "per-second": "1/s",
    "per-minute": "1/min", "per-hour": "1/h", "percent-per-second": "%/s", "milliseconds": "ms", "seconds": "s",
    "minutes": "min", "hours": "h", "days": "d", "weeks": "wk", "months": "mo", "years": "a",
    "degrees-celsius-per-hour": "°C/h", "degrees-celsius-per-minute": "°C/min",
    # light, sound, water
    "luxes": "lx", "lumens": "lm", "foot-candles": "fc", "candelas": "cd", "decibels": "dB", "decibelsA": "dB(A)",
    "siemens": "S", "millisiemens": "mS", "micro-siemens": "µS", "pH": "pH",
    "nephelometric-turbidity-unit": "NTU",
}  # fmt: skip


def unit_text(name: str) -> str:
    """How a unit is shown: its usual sign, or the standard's name (``watts-per-meter-per-degree-kelvin``)."""
    return _SIGNS.get(name, name)
