"""The physics of workflows/downscaling against closed forms, and its refusal to leave wrong results."""

from __future__ import annotations

import math
import os
import shutil
import struct
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "downscaling"
SCRIPTS = WORKFLOW / "workflow" / "scripts"
NODATA = -99999.0
MISSING = [tool for tool in ("Rscript", "saga_cmd") if shutil.which(tool) is None]

pytestmark = [
    pytest.mark.saga,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt: saga r-base-core)"),
]


def run_r(code: str, cwd: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run R code that sees all of the workflow's shared functions."""
    source = f'for (f in list.files("{SCRIPTS}/lib", "[.]R$", full.names = TRUE)) source(f)'
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = ["Rscript", "--vanilla", "-e", source, "-e", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def numbers_of_r(code: str, cwd: Path) -> list[float]:
    """The numbers that R code prints with cat()."""
    done = run_r(code, cwd)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def radiation(
    cwd: Path, out: str, tile: str = "r1c1", tiles: int = 1, path: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the workflow's long job on cwd/dem.sgrd, as the rule does, with a halo over the whole zone."""
    (cwd / out).mkdir()
    settings = {
        "dem": "dem.sdat", "tile": tile, "tiles": tiles, "year": 2018, "month": "01",
        "latitude": 40.4, "halo": 8000, "directions": 8, "hour_step": 2, "transmittance": 70,
        "direct": f"{out}/direct.sdat", "diffuse": f"{out}/diffuse.sdat", "log": f"{out}/log.txt",
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in settings.items()]
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = ["Rscript", "--vanilla", str(SCRIPTS / "radiation.R"), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def raster(path: Path) -> list[float]:
    """The float32 values of a .sdat, south to north, west to east."""
    data = path.read_bytes()
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def block(values: list[float], columns: int, rows: range, cols: range) -> list[float]:
    """The cells of a rectangle of a raster."""
    return [values[row * columns + col] for row in rows for col in cols]


@pytest.fixture
def ridge(tmp_path: Path) -> Path:
    """A folder with a small ridge, 24 x 20 cells of 250 m, NoData in a corner of 4 x 3 cells."""
    numbers_of_r(
        "z <- 2500 + 600 * outer(sin(1:24 / 4), cos(1:20 / 3)); z[1:4, 1:3] <- NA;"
        'write_grid(grid(z, d = 250), "dem.sdat")',
        tmp_path,
    )
    return tmp_path


# The sun


def extraterrestrial(year: int, month: int, latitude: float, tilt: float = 0.0) -> float:
    """kWh/m2 of a month outside the atmosphere on a plane tilted to the equator (latitude > 0: to the south).

    Daily integral of the cosine of the angle of incidence (Duffie & Beckman); the declination is that of
    0 h UT, which SAGA uses, from the Astronomical Almanac's low-precision formula.
    """
    phi, beta = math.radians(latitude), math.radians(tilt)
    day, total = date(year, month, 1), 0.0
    while day.month == month:
        since_2000 = (day - date(2000, 1, 1)).days - 0.5
        anomaly = math.radians(357.528 + 0.9856003 * since_2000)
        longitude = math.radians(
            280.46 + 0.9856474 * since_2000 + 1.915 * math.sin(anomaly) + 0.02 * math.sin(2 * anomaly)
        )
        delta = math.asin(math.sin(math.radians(23.439)) * math.sin(longitude))
        eccentricity = 1 + 0.03344 * math.cos(2 * math.pi * day.timetuple().tm_yday / 365.25 - 0.048869)
        sunset = math.acos(-math.tan(phi) * math.tan(delta))
        hours = min(sunset, math.acos(-math.tan(phi - beta) * math.tan(delta)))
        incidence = math.cos(phi - beta) * math.cos(delta) * math.sin(hours) + hours * math.sin(phi - beta) * math.sin(
            delta
        )
        total += 24 / math.pi * 1.367 * eccentricity * incidence
        day += timedelta(days=1)
    return total


def plane_code(latitude: float, month: int, slope_x: float, slope_y: float) -> str:
    """R code that prints direct and diffuse of a month in the middle of a plane, without an atmosphere."""
    return (
        "z <- matrix(0, 9, 9);"
        f"z <- 2000 + 100 * ({slope_x} * (col(z) - 5) + {slope_y} * (row(z) - 5));"
        'write_grid(grid(z, d = 100), "dem.sgrd");'
        f'sun_of_month("dem.sgrd", NULL, "direct.sgrd", "diffuse.sgrd", 2018, {month},'
        f' list(latitude = {latitude}, hour_step = 0.5, transmittance = 100), "log");'
        'cat(read_grid("direct.sgrd")$z[5, 5], read_grid("diffuse.sgrd")$z[5, 5], "")'
    )


@pytest.mark.parametrize(("latitude", "month"), [(45.0, 1), (45.0, 6), (0.0, 3), (-37.0, 12)])
def test_flat_ground_without_atmosphere_gets_the_extraterrestrial_radiation_within_one_percent(
    latitude: float, month: int, tmp_path: Path
) -> None:
    direct, diffuse = numbers_of_r(plane_code(latitude, month, 0, 0), tmp_path)
    assert direct == pytest.approx(extraterrestrial(2018, month, latitude), rel=0.01)
    assert diffuse == 0


def test_slopes_in_january_follow_the_closed_form_and_east_equals_west(tmp_path: Path) -> None:
    steep = math.tan(math.radians(30))
    aspects = {"south": (0, steep), "north": (0, -steep), "east": (-steep, 0), "west": (steep, 0)}
    code = ";".join(plane_code(45, 1, *slope) for slope in aspects.values())
    direct = dict(zip(aspects, numbers_of_r(code, tmp_path)[::2], strict=True))
    assert direct["south"] == pytest.approx(extraterrestrial(2018, 1, 45, tilt=30), rel=0.01)
    assert direct["south"] > extraterrestrial(2018, 1, 45) > direct["north"]
    assert direct["north"] < 0.02 * direct["south"]
    # The equation of time keeps them from being equal.
    assert direct["east"] == pytest.approx(direct["west"], rel=0.05)


def test_the_sky_over_a_plane_is_half_of_one_plus_the_cosine_of_its_slope(tmp_path: Path) -> None:
    code = (
        'write_grid(grid(2000 + 100 * tan(pi / 6) * row(matrix(0, 41, 41)), d = 100), "dem.sgrd");'
        'sky_view("dem.sgrd", "visible.sgrd", "svf.sgrd", 1500, 16, "log");'
        'cat(read_grid("svf.sgrd")$z[21, 21])'
    )
    assert numbers_of_r(code, tmp_path)[0] == pytest.approx((1 + math.cos(math.pi / 6)) / 2, rel=0.01)


# Temperature


def test_temperature_follows_the_lapse_rate_and_sun_warms_while_shade_cools(tmp_path: Path) -> None:
    same, higher, sunny, shady = numbers_of_r(
        "cat(downscaled_temperature(5, 2000, c(2000, 2500, 2000, 2000), 0.006, c(1, 1, 1.25, 0.8), 2, 0.5))",
        tmp_path,
    )
    assert same == pytest.approx(5)
    assert higher == pytest.approx(5 - 0.006 * 500)
    assert sunny == pytest.approx(5 + 2 * (1.25 - 0.8) * 0.5)
    assert shady == pytest.approx(5 - 2 * (1.25 - 0.8) * 0.5)


def test_clouds_replace_direct_light_by_diffuse_light_in_the_quotient(tmp_path: Path) -> None:
    clear, overcast = numbers_of_r("cat(sun_quotient(30, 18, 80, 20, c(0, 1)))", tmp_path)
    assert clear == pytest.approx(48 / 100)
    assert overcast == pytest.approx(18 / 20)


def test_a_kilometre_grid_is_refined_to_the_same_values_in_a_tile_as_in_the_zone(tmp_path: Path) -> None:
    code = (
        "coarse <- grid(outer(1:6, 1:5, function(i, j) sin(i) * j), 500, 500, 1000);"
        "zone <- grid(matrix(0, 60, 50), 50, 50, 100); tile <- crop_grid(zone, 31:60, 26:50);"
        "cat(max(abs(refine(coarse, zone)[31:60, 26:50] - refine(coarse, tile))))"
    )
    assert numbers_of_r(code, tmp_path) == [0]


def test_the_wedges_without_relief_are_cut_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "z <- matrix(1, 40, 30); z[1, 1:10] <- NA; z[1:40, 30] <- NA; z[20, 15] <- NA;"
        "g <- crop_nodata(grid(z, 0, 0, 10)); cat(dim(g$z), g$x, g$y, sum(is.na(g$z)))"
    )
    assert numbers_of_r(code, tmp_path) == [39, 29, 0, 10, 1]


# The long job


def test_nodata_of_the_relief_is_nodata_in_the_radiation_and_nowhere_else(ridge: Path) -> None:
    done = radiation(ridge, "out")
    assert done.returncode == 0, done.stderr
    for name in ("direct", "diffuse"):
        values = raster(ridge / "out" / f"{name}.sdat")
        assert set(block(values, 20, range(4), range(3))) == {NODATA}
        assert values.count(NODATA) == 12
        assert all(value > 0 for value in values if value != NODATA)
    assert not (ridge / "out" / ".scratch").exists()


def test_a_tile_with_a_halo_over_the_zone_equals_the_whole_bit_for_bit(ridge: Path) -> None:
    for out, tile, tiles in (("whole", "r1c1", 1), ("southwest", "r1c1", 2), ("northeast", "r2c2", 2)):
        done = radiation(ridge, out, tile, tiles)
        assert done.returncode == 0, done.stderr
    for name in ("direct.sdat", "diffuse.sdat"):
        whole = raster(ridge / "whole" / name)
        assert raster(ridge / "southwest" / name) == block(whole, 20, range(12), range(10))
        assert raster(ridge / "northeast" / name) == block(whole, 20, range(12, 24), range(10, 20))


# Refusals


def saga_that(folder: Path, before: str = "", after: str = "") -> str:
    """A PATH on which saga_cmd is the real one with shell code before and after it."""
    wrapper = folder / "bin" / "saga_cmd"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/bash\n{before}\n"{shutil.which("saga_cmd")}" "$@"\nstatus=$?\n{after}\nexit $status\n')
    wrapper.chmod(0o755)
    return f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"


def assert_no_result(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["log.txt"]


def test_a_month_whose_dates_saga_ignored_is_refused(ridge: Path) -> None:
    # The trap of 8.5.0: without a time of day it computes today and exits with 0.
    path = saga_that(ridge, before='set -- "${@/ 00:00/}"')
    done = radiation(ridge, "out", path=path)
    assert done.returncode != 0
    assert "wrong dates" in done.stderr
    assert_no_result(ridge / "out")


def test_a_truncated_output_of_saga_is_refused(ridge: Path) -> None:
    path = saga_that(ridge, after="[[ $* == *GRD_DIRECT* ]] && truncate -s 100 out/.scratch/direct.sdat")
    done = radiation(ridge, "out", path=path)
    assert done.returncode != 0
    assert "direct.sdat has 100 bytes" in done.stderr
    assert_no_result(ridge / "out")


def test_saga_that_cannot_write_its_output_stops_r_although_it_exits_with_0(ridge: Path) -> None:
    done = run_r('sky_view("dem.sgrd", "visible.sgrd", "no/such/folder/svf.sgrd", 1000, 8, "log")', ridge)
    assert done.returncode != 0
    assert "exited with status 0 but" in done.stderr


def test_a_truncated_relief_is_refused(ridge: Path) -> None:
    # SAGA itself reads it without a word.
    with (ridge / "dem.sdat").open("r+b") as data:
        data.truncate(400)
    done = radiation(ridge, "out")
    assert done.returncode != 0
    assert "400 bytes" in done.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("months=[1,13]", "config: months[1]: 13 is greater than the maximum of 12"),
        ("tiles=0", "config: tiles: 0 is less than the minimum of 1"),
        ("cell=-5", "config: cell: -5 is less than or equal to the minimum of 0"),
        ("dem=nowhere.tif", "config: dem: no file nowhere.tif"),
        ("cel=5", "config: Additional properties are not allowed ('cel' was unexpected)"),
    ],
)
def test_a_bad_configuration_gives_one_clear_error(setting: str, message: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", "-s", str(WORKFLOW / "workflow" / "Snakefile")]
    done = subprocess.run([*command, "--config", setting], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert message in said
    assert said.count("Error") == 1
    assert "Traceback" not in said
