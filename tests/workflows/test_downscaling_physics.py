"""The sun and the sky of workflows/downscaling against closed forms and against astronomy (sunlight.py).

Two habits of SAGA 8.5 set the bounds. Before noon its sun is that of the day before (the Julian day is rounded to its
noon), so a month lags by half a day: at 45 degrees the light of a flat day changes by up to 1.2 % a day (October),
hence 1 %. And it samples the sun every `hour_step`: a surface that the sun meets at once, not grazing, is off by up to
half a step.
"""

from __future__ import annotations

import math
from datetime import date
from functools import partial
from pathlib import Path

import pytest

from .downscaling import NEEDS_SAGA, numbers_of_many, numbers_of_r
from .sunlight import Place, Visible, days_of, extraterrestrial, skylight, sun_at, sunshine

pytestmark = NEEDS_SAGA

YEAR = 2018
Case = tuple[float, int, float]  # latitude, month, height of the ground (m)
Numbers = dict[Case, list[float]]

OUTSIDE: list[Case] = [(0, 3, 0), (23.4, 6, 0), (45, 1, 0), (45, 10, 0), (-37, 12, 0), (60, 6, 0), (-60, 6, 0)]
CLEAR: list[Case] = [(45, 1, 0), (45, 6, 3000), (0, 3, 1000), (-37, 12, 0), (-45, 6, 1500), (40.36, 7, 2500)]


def month_code(relief: str, case: Case, transmittance: float, step: float = 0.5) -> str:
    """R code that computes a month on a relief and leaves its light in the matrices direct and diffuse."""
    latitude, month, _ = case
    return (
        f'{relief}; write_grid(grid(z, d = 100), "dem.sgrd");'
        f'sun_of_month("dem.sgrd", NULL, "direct.sgrd", "diffuse.sgrd", {YEAR}, {month},'
        f' list(latitude = {latitude}, hour_step = {step}, transmittance = {transmittance}), "log");'
        'direct <- read_grid("direct.sgrd")$z; diffuse <- read_grid("diffuse.sgrd")$z;'
    )


def flat_code(case: Case, transmittance: float) -> str:
    """R code that prints direct and diffuse light of a month on flat ground."""
    return month_code(f"z <- matrix({case[2]}, 5, 5)", case, transmittance) + "cat(direct[3, 3], diffuse[3, 3])"


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    cases = [*OUTSIDE, (75, 1, 0)]
    return numbers_of_many({case: flat_code(case, 100) for case in cases}, tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def clear(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    return numbers_of_many({case: flat_code(case, 70) for case in CLEAR}, tmp_path_factory.mktemp("clear"))


# Flat ground


@pytest.mark.parametrize("case", OUTSIDE)
def test_flat_ground_outside_the_atmosphere_gets_the_closed_form_within_one_percent(
    case: Case, outside: Numbers
) -> None:
    latitude, month, _ = case
    direct, diffuse = outside[case]
    assert direct == pytest.approx(extraterrestrial(YEAR, month, latitude), rel=0.01)
    assert diffuse == 0


def test_the_polar_night_is_dark(outside: Numbers) -> None:
    assert extraterrestrial(YEAR, 1, 75) == 0
    assert outside[75, 1, 0] == [0, 0]


@pytest.mark.parametrize("case", CLEAR)
def test_direct_light_under_a_clear_sky_is_that_left_by_the_air_mass_within_one_percent(
    case: Case, clear: Numbers
) -> None:
    """Light S0 E0 sin(h) 0.7^m with m of Kasten & Young and the standard atmosphere; SAGA has List's table of m."""
    latitude, month, metres = case
    expected = sunshine(YEAR, month, Place(latitude, metres=metres, transmittance=0.7))
    assert clear[case][0] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("case", CLEAR)
def test_diffuse_light_is_liu_and_jordans_with_the_height_of_the_sun_for_its_sine(case: Case, clear: Numbers) -> None:
    """The arc in place of the sine: 1 to 2 % too bright in winter, up to a fifth under a high sun."""
    latitude, month, metres = case
    place = Place(latitude, metres=metres, transmittance=0.7)
    diffuse = clear[case][1]
    assert diffuse == pytest.approx(skylight(YEAR, month, place, sine=lambda height: height), rel=0.02)
    assert 1 <= diffuse / skylight(YEAR, month, place) <= 1.2


# Slopes

ASPECTS = {"north": 0, "east": 90, "south": 180, "west": 270}
SLOPES: list[Case] = [(45, 1, 0), (-45, 7, 0), (45, 6, 0), (-45, 12, 0)]


@pytest.fixture(scope="module")
def slopes(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, dict[str, float]]:
    """Light of the four faces of a pyramid of 30 degrees: it is convex, so no face shades another that sees the sun."""
    pyramid = "i <- row(matrix(0, 21, 21)) - 11; j <- col(i) - 11; z <- 2000 - 100 * tan(pi / 6) * pmax(abs(i), abs(j))"
    faces = "cat(direct[17, 11], direct[11, 17], direct[5, 11], direct[11, 5])"
    codes = {case: month_code(pyramid, case, 100, step=0.1) + faces for case in SLOPES}
    found = numbers_of_many(codes, tmp_path_factory.mktemp("slopes"))
    return {case: dict(zip(ASPECTS, numbers, strict=True)) for case, numbers in found.items()}


@pytest.mark.parametrize("case", SLOPES)
@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_slope_of_any_aspect_gets_what_astronomy_says_within_two_percent(
    aspect: str, case: Case, slopes: dict[Case, dict[str, float]]
) -> None:
    """2 %: half a day's lag of the mornings, which an east slope in January has most of its light from."""
    latitude, month, _ = case
    expected = sunshine(YEAR, month, Place(latitude, tilt=30, aspect=ASPECTS[aspect]))
    assert slopes[case][aspect] == pytest.approx(expected, rel=0.02, abs=1e-6)


@pytest.mark.parametrize("case", SLOPES)
def test_east_and_west_slopes_get_the_same_within_one_percent(case: Case, slopes: dict[Case, dict[str, float]]) -> None:
    """The afternoon mirrors the morning but for the change of declination: 0.2 % of a month by astronomy."""
    assert slopes[case]["east"] == pytest.approx(slopes[case]["west"], rel=0.01)


@pytest.mark.parametrize(("north", "south"), [((45, 1, 0), (-45, 7, 0)), ((45, 6, 0), (-45, 12, 0))])
def test_the_other_hemisphere_mirrors_north_and_south_half_a_year_later(
    north: Case, south: Case, slopes: dict[Case, dict[str, float]]
) -> None:
    """Mirrored but for the sun's distance and the two declinations: both are in the ratio that astronomy gives."""
    for aspect, mirrored in (("south", "north"), ("north", "south")):
        here, there = (
            sunshine(YEAR, case[1], Place(case[0], tilt=30, aspect=ASPECTS[face]))
            for case, face in ((north, aspect), (south, mirrored))
        )
        if here == 0:
            assert slopes[north][aspect] == slopes[south][mirrored] == there == 0
        else:
            assert slopes[north][aspect] / slopes[south][mirrored] == pytest.approx(here / there, rel=0.005)


# Shadows

WALL = 400.0  # m


def above_wall(distance: float, side: float, height: float, azimuth: float) -> bool:
    """Whether a sun is above an endless wall at a distance (m) towards an azimuth."""
    towards = math.cos(math.radians(azimuth - side))
    return towards <= 0 or math.tan(math.radians(height)) * distance >= WALL * towards


def test_a_wall_shades_the_ground_behind_it_as_far_and_as_long_as_geometry_says(tmp_path: Path) -> None:
    """A month behind an endless wall to the south: its light over that of open ground, at distances of 2 to 30 cells.

    Bound: what geometry gives one cell nearer and one farther (a wall of cells begins between two centres), and 1 % of
    open ground (half a day's lag). Nearer than the shadow of the highest noon of the month it is dark all month.
    """
    case: Case = (45, 1, 0)
    relief = f"z <- matrix(0, 44, 91); z[1:3, ] <- {WALL}"
    light = numbers_of_r(month_code(relief, case, 100, step=0.25) + "cat(direct[, 46])", tmp_path)
    open_ground = extraterrestrial(YEAR, 1, 45)
    for cells in (2, 4, 6, 7, 8, 9, 10, 12, 15, 20, 30):
        nearer, farther = (
            sunshine(YEAR, 1, Place(45), partial(above_wall, 100.0 * (cells + one), 180), minutes=6) / open_ground
            for one in (-1, 1)
        )
        assert nearer - 0.01 <= light[2 + cells] / open_ground <= farther + 0.01, f"{cells} cells from the wall"
    highest = max(sun_at(day, 12 + minute / 60, 45).height for day in days_of(YEAR, 1) for minute in range(0, 20, 2))
    shadow = WALL / math.tan(math.radians(highest))
    dark = sum(value < 0.001 * open_ground for value in light[3:])
    assert 100 * dark == pytest.approx(shadow, abs=100)


def first_light(day: date, latitude: float, visible: Visible) -> float:
    """The hour at which the sun is up and above the relief for the first time of a day."""
    suns = ((minute / 60, sun_at(day, minute / 60, latitude)) for minute in range(24 * 60))
    return next(hour for hour, sun in suns if sun.height > 0 and visible(sun.height, sun.azimuth))


def last_light(day: date, latitude: float, visible: Visible) -> float:
    """The hour at which the sun is up and above the relief for the last time of a day."""
    suns = ((minute / 60, sun_at(day, minute / 60, latitude)) for minute in range(24 * 60 - 1, -1, -1))
    return next(hour for hour, sun in suns if sun.height > 0 and visible(sun.height, sun.azimuth))


@pytest.mark.parametrize(("day", "latitude"), [(date(2018, 3, 21), 45.0), (date(2018, 1, 15), -37.0)])
def test_the_sun_rises_later_west_of_a_wall_and_sets_earlier_east_of_it(
    day: date, latitude: float, tmp_path: Path
) -> None:
    """Sunrise and sunset of a day around an endless wall from south to north.

    Bound: the hours that geometry gives one cell nearer and one farther, a step (0.05 h), and 0.05 h for the sun of
    the day before. From 4 cells on: nearer, SAGA's shadow of a single ray a cell has gaps.
    """
    code = (
        f'z <- matrix(0, 121, 93); z[, 46:48] <- {WALL}; write_grid(grid(z, d = 100), "dem.sgrd");'
        'out <- c(DIRECT = "d.sgrd", DIFFUS = "f.sgrd", SUNRISE = "up.sgrd", SUNSET = "down.sgrd");'
        'options <- c(list(GRD_DEM = "dem.sgrd"), setNames(as.list(out), paste0("GRD_", names(out))), list('
        f'SHADOW = 0, LOCATION = 0, LATITUDE = {latitude}, PERIOD = 1, DAY = "{day} 00:00", HOUR_RANGE_MIN = 0,'
        "HOUR_RANGE_MAX = 24, HOUR_STEP = 0.05, METHOD = 2, LUMPED = 70));"
        'saga("ta_lighting", 2, options, out, "log");'
        'cat(read_grid("up.sgrd")$z[61, 2:92], read_grid("down.sgrd")$z[61, 2:92])'
    )
    numbers = numbers_of_r(code, tmp_path)
    rise, fall = dict(enumerate(numbers[:91], 2)), dict(enumerate(numbers[91:], 2))
    bound = 0.05 + 0.05
    for cells in (4, 8, 12, 20, 30, 40):
        nearer, farther = (100.0 * (cells + one) for one in (-1, 1))
        up = [first_light(day, latitude, partial(above_wall, far, 90)) for far in (farther, nearer)]
        assert up[0] - bound <= rise[46 - cells] <= up[1] + bound, f"{cells} cells west of the wall"
        down = [last_light(day, latitude, partial(above_wall, far, 270)) for far in (nearer, farther)]
        assert down[0] - bound <= fall[48 + cells] <= down[1] + bound, f"{cells} cells east of the wall"
        assert rise[48 + cells] == pytest.approx(first_light(day, latitude, lambda *_: True), abs=bound)
        assert fall[46 - cells] == pytest.approx(last_light(day, latitude, lambda *_: True), abs=bound)
