"""workflows/downscaling on the real relief: known lapse rates come back, kilometre means are kept, tiles fit.

The relief is the example's (Rocky Mountain National Park) at 200 m; the stations are real in place and height only:
their temperatures are made, T = 12 C - lapse rate x height, exact in January and with noise in July.
"""

from __future__ import annotations

import csv
import math
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from .downscaling import NEEDS_SAGA, SCRIPTS, WORKFLOW, block, header, numbers_of_r, raster

pytestmark = NEEDS_SAGA

SEA_LEVEL, LAPSE = 12.0, 0.0065  # C, K/m
NOISE = 0.8  # K, standard deviation
CELL, PER_KM = 200, 5
SUN, LEAF = 1.0, 0.00125  # the configuration's C (K) and LAI / LAImax


@dataclass(frozen=True)
class Run:
    """A finished run of the workflow."""

    folder: Path
    heights: list[float]

    def grid(self, name: str) -> list[float]:
        return raster(self.folder / "results" / f"{name}.sdat")

    def size(self, name: str) -> tuple[int, int]:
        """Rows and columns."""
        lines = header(self.folder / "results" / f"{name}.sgrd")
        return int(lines["CELLCOUNT_Y"]), int(lines["CELLCOUNT_X"])

    def lapse(self, month: str) -> dict[str, float]:
        with (self.folder / f"results/climate/{month}/lapse.tsv").open() as file:
            row = next(csv.DictReader(file, delimiter="\t"))
        return {key: float(value) for key, value in row.items()}


def made_stations(path: Path) -> list[float]:
    """Write the example's stations with temperatures of a known lapse rate; returns their heights."""
    with (WORKFLOW / "resources" / "stations.tsv").open() as file:
        stations = list(csv.DictReader(file, delimiter="\t"))
    noise = random.Random(20180101)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(stations[0]), delimiter="\t")
        writer.writeheader()
        for station in stations:
            exact = SEA_LEVEL - LAPSE * float(station["elevation"])
            made = {f"t{month:02d}": f"{exact:.6f}" for month in range(1, 13)}
            made["t07"] = f"{exact + noise.gauss(0, NOISE):.6f}"
            writer.writerow({**station, **made})
    return [float(station["elevation"]) for station in stations]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """January to the end, of July the climate at 1 km; the sun every 4 hours, which these tests do not depend on."""
    folder = tmp_path_factory.mktemp("relief")
    heights = made_stations(folder / "made.tsv")
    command = [sys.executable, "-m", "snakemake", "-s", str(WORKFLOW / "workflow" / "Snakefile"), "--cores", "2"]
    settings = {
        "stations": "made.tsv", "cell": CELL, "months": "[1,7]", "tiles": 1, "hour_step": 4, "sky_directions": 4,
        "sun_coefficient": SUN, "leaf_area_ratio": LEAF,
    }  # fmt: skip
    mosaics = [f"results/mosaics/01/{name}.sdat" for name in ("temperature", "quotient", "direct", "diffuse", "sun")]
    words = [*mosaics, "results/climate/07/lapse.tsv", "--config", *(f"{key}={v}" for key, v in settings.items())]
    done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(folder, heights)


def without_sun(run: Run) -> list[float]:
    """The downscaled temperature less the term of the sun, C (q - 1/q) (1 - LAI/LAImax)."""
    pairs = zip(run.grid("mosaics/01/temperature"), run.grid("mosaics/01/quotient"), strict=True)
    return [t - SUN * (q - 1 / q) * (1 - LEAF) for t, q in pairs]


def test_stations_on_a_line_give_their_lapse_rate_and_every_cell_its_temperature(run: Run) -> None:
    """T = 12 C - 6.5 K/km z is a fixed point of the whole chain: regression, kilometre field, splines, cells.

    Bound 2e-4 K: three grids are rounded to float32 (1e-6 K and, of heights, 1e-4 m), and q - 1/q of a rounded q.
    """
    assert run.lapse("01")["lapse_K_per_m"] == pytest.approx(LAPSE, rel=1e-6)
    assert run.lapse("01")["sea_level_C"] == pytest.approx(SEA_LEVEL, abs=1e-4)
    cells = zip(without_sun(run), run.grid("relief/dem"), strict=True)
    assert max(abs(t - (SEA_LEVEL - LAPSE * z)) for t, z in cells) < 2e-4


def test_a_lapse_rate_under_noise_is_recovered_within_three_standard_errors(run: Run) -> None:
    """Standard error of a slope by least squares: sd of the noise / sqrt(sum of squared heights about their mean)."""
    mean = sum(run.heights) / len(run.heights)
    error = NOISE / math.sqrt(sum((height - mean) ** 2 for height in run.heights))
    found = run.lapse("07")
    assert found["lapse_K_per_m"] != LAPSE
    assert abs(found["lapse_K_per_m"] - LAPSE) < 3 * error < 0.25 * LAPSE
    assert found["residual_sd_K"] == pytest.approx(NOISE, rel=3 / math.sqrt(2 * (len(run.heights) - 2)))


def test_the_mean_over_a_kilometre_of_the_downscaled_temperature_is_the_kilometre_temperature(run: Run) -> None:
    """July's field, with its noise, on the cells and back; no sun: q = 1. Over more than a thousand square kilometres.

    Bound 0.005 K: splines pass through the kilometre values, not through their means. That costs f'' (1 km)^2 / 24
    where f is the field without its lapse: about 1 K, smooth over 5 km. Heights cancel.
    """
    code = (
        'dem <- read_grid("results/relief/dem.sdat"); z <- read_grid("results/relief/dem_1km.sdat");'
        't <- read_grid("results/climate/07/temperature.sdat");'
        f"lapse <- {run.lapse('07')['lapse_K_per_m']};"
        "fine <- downscaled_temperature(refine(t, dem), refine(z, dem), dem$z, lapse, 1, 1, 0);"
        f'write_grid(grid(fine, dem$x, dem$y, dem$d), "fine"); b <- block_means_of("fine", {PER_KM});'
        "line <- t$z + lapse * z$z;"
        "cat(length(t$z), max(line) - min(line), max(abs(b$z - t$z)))"
    )
    count, spread, largest = numbers_of_r(code, run.folder)
    assert count > 1000
    assert spread > 0.3
    assert largest < 0.005


def test_the_energy_of_the_cells_is_that_of_their_kilometre_means(run: Run) -> None:
    """The workflow's own means, written and read again, of the light below clouds and of its two parts.

    The zone is no whole number of kilometres: what is left over in the north and east is in no mean. Bound 1e-6: the
    means are rounded to float32 (6e-8 each).
    """
    code = (
        'for (name in c("sun", "direct", "diffuse")) { path <- sprintf("results/mosaics/01/%s.sdat", name);'
        f'write_grid(block_means_of(path, {PER_KM}), "means"); cat(sum(read_grid("means")$z) * {PER_KM}^2, "") }}'
    )
    rows, columns = run.size("relief/dem")
    assert rows % PER_KM and columns % PER_KM
    kept = range(rows - rows % PER_KM), range(columns - columns % PER_KM)
    means = numbers_of_r(f"options(digits = 15); {code}", run.folder)
    cells = [math.fsum(block(run.grid(f"mosaics/01/{name}"), columns, *kept)) for name in ("sun", "direct", "diffuse")]
    assert means == pytest.approx(cells, rel=1e-6)
    sun, direct, diffuse = cells
    assert direct > diffuse > 0
    # Kasten & Czeplak's share of the clear sky's light below January's clouds of 0.50.
    assert sun / (direct + diffuse) == pytest.approx(1 - 0.75 * 0.5**3.4, rel=1e-6)


def test_the_grids_say_their_units(run: Run) -> None:
    units = {"direct": "kWh/m2", "diffuse": "kWh/m2", "quotient": "", "temperature": "C"}
    for name, unit in units.items():
        assert header(run.folder / f"results/mosaics/01/{name}.sgrd")["UNIT"] == unit
    assert header(run.folder / "results/climate/01/temperature.sgrd")["UNIT"] == "C"
    assert header(run.folder / "results/relief/dem.sgrd")["UNIT"] == "m"


# Tiles

HALOS = {"whole": ("r1c1", 1, 4000), "halo": ("r2c2", 3, 4000), "no halo": ("r2c2", 3, 0)}
Radiation = dict[str, dict[str, list[float]]]


@pytest.fixture(scope="module")
def january(run: Run) -> Radiation:
    """Direct and diffuse light on the tile in the middle of nine, cut out of the whole zone and computed alone."""

    def compute(name: str) -> None:
        tile, tiles, halo = HALOS[name]
        (run.folder / name).mkdir()
        settings = {
            "dem": "results/relief/dem.sdat", "tile": tile, "tiles": tiles, "halo": halo, "year": 2018, "month": "01",
            "latitude": 40.36, "directions": 8, "hour_step": 0.5, "transmittance": 70,
            "direct": f"{name}/direct.sdat", "diffuse": f"{name}/diffuse.sdat", "log": f"{name}/log.txt",
        }  # fmt: skip
        words = [f"{key}={value}" for key, value in settings.items()]
        command = ["Rscript", "--vanilla", str(SCRIPTS / "radiation.R"), *words]
        done = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compute, HALOS))
    tile, zone = header(run.folder / "halo/direct.sgrd"), header(run.folder / "whole/direct.sgrd")
    south, west = (round((float(tile[key]) - float(zone[key])) / CELL) for key in ("POSITION_YMIN", "POSITION_XMIN"))
    rows = range(south, south + int(tile["CELLCOUNT_Y"]))
    columns = range(west, west + int(tile["CELLCOUNT_X"]))
    light = {
        name: {what: raster(run.folder / name / f"{what}.sdat") for what in ("direct", "diffuse")} for name in HALOS
    }
    zone_columns = int(zone["CELLCOUNT_X"])
    light["whole"] = {what: block(values, zone_columns, rows, columns) for what, values in light["whole"].items()}
    return light


def errors(january: Radiation, name: str, what: str) -> tuple[float, float]:
    """Largest and mean difference of a tile from the untiled run, over the untiled mean."""
    whole = january["whole"][what]
    mean = sum(whole) / len(whole)
    differences = [abs(a - b) / mean for a, b in zip(january[name][what], whole, strict=True)]
    return max(differences), sum(differences) / len(differences)


def test_a_tile_with_a_halo_of_4_km_is_the_untiled_run_within_the_measured_bound(january: Radiation) -> None:
    """Measured here: 0.33 % at most (one half hour of the lowest sun on some days), 0.0008 % in the mean.

    The sky view factor reaches no farther than the halo, so the diffuse light, which depends on nothing else of the
    relief around, is the same to the bit.
    """
    largest, mean = errors(january, "halo", "direct")
    assert largest < 0.01
    assert mean < 2e-5
    assert january["halo"]["diffuse"] == january["whole"]["diffuse"]


def test_a_tile_without_a_halo_misses_the_shadows_and_the_horizon_of_its_neighbours(january: Radiation) -> None:
    """Measured here: up to 76 %, 0.5 % in the mean: the bound above is one that the halo keeps."""
    largest, mean = errors(january, "no halo", "direct")
    assert largest > 0.1
    assert mean > 1e-3
    assert january["no halo"]["diffuse"] != january["whole"]["diffuse"]


def test_the_sky_view_factor_of_a_window_is_that_of_the_zone_to_the_bit(run: Run) -> None:
    code = (
        'zone <- read_grid("results/relief/dem.sdat"); rows <- 40:100; columns <- 40:90;'
        'write_grid(crop_grid(zone, 20:120, 20:110), "window.sgrd");'
        'sky_view("results/relief/dem.sgrd", "v.sgrd", "zone.sgrd", 4000, 8, "log");'
        'sky_view("window.sgrd", "v.sgrd", "part.sgrd", 4000, 8, "log");'
        'a <- read_grid("zone.sgrd")$z[rows, columns]; b <- read_grid("part.sgrd")$z[rows - 19, columns - 19];'
        "cat(max(abs(a - b)), as.integer(min(a) < 0.9))"
    )
    assert numbers_of_r(code, run.folder) == [0, 1]
