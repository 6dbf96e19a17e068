"""The formulas of workflows/downscaling, its long job, and its refusal to leave wrong results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .downscaling import (
    NEEDS_SAGA,
    NODATA,
    WORKFLOW,
    block,
    numbers_of_r,
    radiation,
    raster,
    run_r,
    saga_that,
)

pytestmark = NEEDS_SAGA


@pytest.fixture
def ridge(tmp_path: Path) -> Path:
    """A folder with a small ridge, 24 x 20 cells of 250 m, NoData in a corner of 4 x 3 cells."""
    numbers_of_r(
        "z <- 2500 + 600 * outer(sin(1:24 / 4), cos(1:20 / 3)); z[1:4, 1:3] <- NA;"
        'write_grid(grid(z, d = 250), "dem.sdat")',
        tmp_path,
    )
    return tmp_path


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


def test_means_over_blocks_keep_the_sum_and_leave_nodata_out(tmp_path: Path) -> None:
    code = (
        "z <- outer(1:12, 1:8, function(i, j) i^2 + 10 * j); g <- grid(z, 50, 50, 100);"
        'write_grid(g, "g"); b <- block_means_of("g", 4);'
        'z[1:4, 1:3] <- NA; z[5:8, 1:4] <- NA; write_grid(grid(z), "n"); n <- block_means_of("n", 4)$z;'
        "cat(sum(b$z) * 16 - sum(g$z), b$z[2, 1] - mean(g$z[5:8, 1:4]), n[1, 1] - mean(g$z[1:4, 4]),"
        "n[2, 1] - mean(z, na.rm = TRUE), b$x, b$y, b$d)"
    )
    assert numbers_of_r(code, tmp_path) == [0, 0, 0, 0, 200, 200, 400]


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
