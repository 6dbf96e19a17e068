"""Sunshine from astronomy alone: what the tests of workflows/downscaling hold SAGA's results against.

Nothing here is taken from SAGA. Position of the sun: the Astronomical Almanac's low-precision formulas (0.01 degrees).
Closed form of a day outside the atmosphere: Duffie & Beckman, Solar Engineering of Thermal Processes, 1.6-1.10.
Relative optical air mass: Kasten & Young (1989), Applied Optics 28, 4735-4738. Pressure: the standard
atmosphere of ISO 2533. Diffuse light of a clear sky: Liu & Jordan (1960), Solar Energy 4, 1-19.
Angles in degrees, energies in kWh/m2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

SOLAR_CONSTANT = 1.367  # kW/m2

Visible = Callable[[float, float], bool]
"""Whether the sun at a height (degrees) and an azimuth (degrees, from north over east) is above the relief."""


@dataclass(frozen=True)
class Sun:
    """Direction of the sun, degrees; the azimuth from north over east."""

    height: float
    azimuth: float


def days_of(year: int, month: int) -> Iterator[date]:
    day = date(year, month, 1)
    while day.month == month:
        yield day
        day += timedelta(days=1)


def eccentricity(day: date) -> float:
    """(mean distance / distance of the sun) squared."""
    return 1 + 0.03344 * math.cos(2 * math.pi * day.timetuple().tm_yday / 365.25 - 0.048869)


def equatorial(day: date, hour: float) -> tuple[float, float]:
    """Declination and Greenwich hour angle of the sun (radians) at an hour UT."""
    since_2000 = (day - date(2000, 1, 1)).days - 0.5 + hour / 24
    anomaly = math.radians(357.528 + 0.9856003 * since_2000)
    longitude = math.radians(280.46 + 0.9856474 * since_2000 + 1.915 * math.sin(anomaly) + 0.02 * math.sin(2 * anomaly))
    obliquity = math.radians(23.439)
    right_ascension = math.atan2(math.cos(obliquity) * math.sin(longitude), math.cos(longitude))
    sidereal = math.radians(280.46062 + 360.98564737 * since_2000)
    return math.asin(math.sin(obliquity) * math.sin(longitude)), sidereal - right_ascension


def sun_at(day: date, hour: float, latitude: float) -> Sun:
    """The sun over the meridian of Greenwich at an hour UT, without refraction."""
    delta, angle = equatorial(day, hour)
    phi = math.radians(latitude)
    height = math.asin(math.sin(phi) * math.sin(delta) + math.cos(phi) * math.cos(delta) * math.cos(angle))
    azimuth = math.atan2(
        -math.sin(angle) * math.cos(delta),
        math.cos(phi) * math.sin(delta) - math.sin(phi) * math.cos(delta) * math.cos(angle),
    )
    return Sun(math.degrees(height), math.degrees(azimuth) % 360)


def extraterrestrial(year: int, month: int, latitude: float) -> float:
    """A month on flat ground outside the atmosphere, closed form of every day with its declination at noon."""
    phi, total = math.radians(latitude), 0.0
    for day in days_of(year, month):
        delta, _ = equatorial(day, 12)
        sunset = math.acos(max(-1.0, min(1.0, -math.tan(phi) * math.tan(delta))))
        cosines = math.cos(phi) * math.cos(delta) * math.sin(sunset) + sunset * math.sin(phi) * math.sin(delta)
        total += 24 / math.pi * SOLAR_CONSTANT * eccentricity(day) * cosines
    return total


def air_mass(height: float, metres: float) -> float:
    """Air on the way of a ray from a height (degrees) to a place, over that above the sea in the zenith."""
    relative = 1 / (math.sin(math.radians(height)) + 0.50572 * (height + 6.07995) ** -1.6364)
    return float(relative * (1 - 2.25577e-5 * metres) ** 5.25588)


@dataclass(frozen=True)
class Place:
    """Where and how a surface lies: its tilt and aspect (degrees, from north over east), the air above it."""

    latitude: float
    tilt: float = 0.0
    aspect: float = 180.0
    metres: float = 0.0
    transmittance: float = 1.0


def sunshine(year: int, month: int, place: Place, visible: Visible | None = None, minutes: int = 4) -> float:
    """Direct light of a month on a surface under a clear sky, by the rule of midpoints."""
    tilt = math.radians(place.tilt)
    total = 0.0
    for day in days_of(year, month):
        for step in range(24 * 60 // minutes):
            sun = sun_at(day, (step + 0.5) * minutes / 60, place.latitude)
            if sun.height <= 0 or (visible is not None and not visible(sun.height, sun.azimuth)):
                continue
            height, azimuth = math.radians(sun.height), math.radians(sun.azimuth - place.aspect)
            incidence = math.cos(tilt) * math.sin(height) + math.sin(tilt) * math.cos(height) * math.cos(azimuth)
            through = place.transmittance ** air_mass(sun.height, place.metres)
            total += eccentricity(day) * through * max(0.0, incidence)
    return total * SOLAR_CONSTANT * minutes / 60


def skylight(year: int, month: int, place: Place, sine: Callable[[float], float] = math.sin, minutes: int = 4) -> float:
    """Diffuse light of a month on flat open ground under a clear sky.

    `sine` is taken of the sun's height (radians): SAGA takes the height itself.
    """
    total = 0.0
    for day in days_of(year, month):
        for step in range(24 * 60 // minutes):
            sun = sun_at(day, (step + 0.5) * minutes / 60, place.latitude)
            if sun.height > 0:
                through = place.transmittance ** air_mass(sun.height, place.metres)
                total += eccentricity(day) * (0.271 - 0.294 * through) * sine(math.radians(sun.height))
    return total * SOLAR_CONSTANT * minutes / 60
