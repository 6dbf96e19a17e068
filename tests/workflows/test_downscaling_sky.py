"""The sky view factor of workflows/downscaling against reliefs whose sky is known in closed form.

The view factor of a surface element to the sky is 1 / (2 pi) of the integral over all directions of
cos(slope) cos^2(horizon) + sin(slope) cos(direction - aspect) (pi/2 - horizon - sin(horizon) cos(horizon)),
Dozier & Frew (1990), IEEE Trans. Geosci. Remote Sens. 28, 963-969. SAGA looks along rays in steps of a cell and takes
the nearest cell's height, so a wall stands up to half a cell nearer or farther than it does: that is the bound below.
"""

from __future__ import annotations

import math

import pytest

from .downscaling import NEEDS_SAGA, numbers_of_many

pytestmark = NEEDS_SAGA

CELL = 10.0
WALL = 100.0
WALLS = (4, 8, 10, 20)  # cells from a single wall
TRENCH = 20  # cells between the first of one wall and the floor's last, + 1
FLOOR = (2, 4, 6, 8, 11, 14, 18)  # cells from the left wall of a trench
BOWLS = (30, 60)
PLANES = (30, 45)

Numbers = dict[str, list[float]]


def sky_code(relief: str, radius: float, cells: str) -> str:
    """R code that prints the sky view factor of some cells of a relief."""
    return (
        f'{relief}; write_grid(grid(z, d = {CELL}), "dem.sgrd");'
        f'sky_view("dem.sgrd", "visible.sgrd", "svf.sgrd", {radius}, 32, "log");'
        f's <- read_grid("svf.sgrd")$z; cat({cells}, "");'
    )


def bowl_code(half_opening: int) -> str:
    """A spherical bowl with a rim of 40 cells in a plain; prints all cells inside 32 cells of its middle."""
    radius = 400 / math.sin(math.radians(half_opening))
    relief = (
        "i <- row(matrix(0, 101, 101)) - 51; j <- col(i) - 51; r <- 10 * sqrt(i^2 + j^2);"
        f"z <- {radius} - sqrt({radius}^2 - pmin(r, 400)^2)"
    )
    return sky_code(relief, 2000, "s[r < 320]")


def diffuse_code() -> str:
    """Prints, for the bottom of a pit, its diffuse light over that of a plain at its height, and its view factor."""
    month = (
        '{ sun_of_month("dem.sgrd", "svf.sgrd", "direct.sgrd", "diffuse.sgrd", 2018, 4,'
        ' list(latitude = 45, hour_step = 2, transmittance = 70), "log"); read_grid("diffuse.sgrd")$z[11, 11] }'
    )
    pit = sky_code("z <- matrix(1100, 21, 21); z[8:14, 8:14] <- 1000", 1500, "-1") + f"pit <- {month};"
    plain = sky_code("view <- s[11, 11]; z[] <- 1000", 1500, "-1") + f"plain <- {month};"
    return f"{pit} {plain} cat(pit / plain, view)"


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    columns = ", ".join(str(31 - cells) for cells in WALLS)
    floor = ", ".join(str(10 + cells) for cells in FLOOR)
    planes = (
        sky_code(f"z <- {CELL} * tan({tilt} * pi / 180) * row(matrix(0, 61, 61))", 1500, "s[31, 31]") for tilt in PLANES
    )
    codes = {
        # 401 rows of 10 m: endless, seen from 200 m.
        "wall": sky_code(f"z <- matrix(0, 401, 41); z[, 31:41] <- {WALL}", 3000, f"s[201, c({columns})]"),
        "trench": sky_code(f"z <- matrix({WALL}, 401, 41); z[, 11:31] <- 0", 3000, f"s[201, c({floor})]"),
        "bowls": "".join(bowl_code(half_opening) for half_opening in BOWLS),
        "planes": "".join(planes),
        "plain": sky_code("z <- matrix(2000, 41, 41)", 1500, "s[21, 21]"),
        "diffuse": diffuse_code(),
    }
    return numbers_of_many(codes, tmp_path_factory.mktemp("sky"))


def open_above(distance: float) -> float:
    """Share of the sky's half on the side of an endless wall at a distance (m): the cosine of its height's angle."""
    return math.cos(math.atan2(WALL, distance))


def test_a_plain_sees_the_whole_sky(sky: Numbers) -> None:
    assert sky["plain"] == [1.0]


def test_the_sky_of_a_plane_is_half_of_one_plus_the_cosine_of_its_slope(sky: Numbers) -> None:
    """1.5 %: the cell that is nearest to a ray is up to half a cell uphill of it."""
    for tilt, found in zip(PLANES, sky["planes"], strict=True):
        assert found == pytest.approx((1 + math.cos(math.radians(tilt))) / 2, rel=0.015), f"{tilt} degrees"


def test_diffuse_light_is_that_of_the_share_of_the_sky_that_is_seen(sky: Numbers) -> None:
    """An isotropic sky: light at the bottom of a pit over that of a plain is the sky view factor, to float32."""
    *_, ratio, view = sky["diffuse"]
    assert view < 0.5
    assert ratio == pytest.approx(view, rel=1e-5)


def test_the_sky_at_a_wall_is_that_of_its_distance_within_half_a_cell(sky: Numbers) -> None:
    for cells, found in zip(WALLS, sky["wall"], strict=True):
        nearer, farther = ((1 + open_above(CELL * (cells + half))) / 2 for half in (-0.5, 0.5))
        assert nearer <= found <= farther, f"{cells} cells from the wall"


def test_the_sky_on_the_floor_of_a_valley_with_steep_walls_is_known_within_half_a_cell(sky: Numbers) -> None:
    """(cos a + cos b) / 2 with the angles a, b of the two endless walls: a valley whose sampling has a bound."""
    for cells, found in zip(FLOOR, sky["trench"], strict=True):
        other = TRENCH + 2 - cells
        nearer, farther = (
            (open_above(CELL * (cells + half)) + open_above(CELL * (other + half))) / 2 for half in (-0.5, 0.5)
        )
        assert nearer <= found <= farther, f"{cells} cells from the left wall"


def test_every_place_in_a_spherical_bowl_sees_the_same_known_sky(sky: Numbers) -> None:
    """(1 + cos g) / 2, g half the angle under which the bowl opens, on every slope of it up to 0.8 of its rim.

    In a sphere every element sees any part of it in proportion to that part's area, so to the rim's cap it is the same
    from everywhere: slope, aspect and horizon must all be right. Bound: half a cell of the 40 to the rim.
    """
    count = len(sky["bowls"]) // len(BOWLS)
    for place, half_opening in enumerate(BOWLS):
        found = sky["bowls"][place * count : (place + 1) * count]
        exact = (1 + math.cos(math.radians(half_opening))) / 2
        assert len(found) > 3000
        assert max(abs(value - exact) for value in found) < 0.006, f"{half_opening} degrees"
        assert sum(found) / count == pytest.approx(exact, abs=0.003)
