"""The downscaling workflow's sizes: the estimates against measured runs, and grids larger than the memory."""

from __future__ import annotations

import importlib.util
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from .downscaling import SCRIPTS, WORKFLOW, needs_saga

ROOT = Path(__file__).resolve().parents[2]
GIB = 2**30


def load() -> ModuleType:
    """The workflow's script, which is in no package."""
    spec = importlib.util.spec_from_file_location("estimate", SCRIPTS / "estimate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["estimate"] = module
    spec.loader.exec_module(module)
    return module


estimate = load()


def config(name: str = "valley", **changes: Any) -> dict[str, Any]:
    """A configuration that comes with the workflow."""
    found: dict[str, Any] = estimate.read_config(WORKFLOW / "config" / f"{name}.yaml")
    return found | changes


# The model


@pytest.mark.parametrize(
    ("cell", "cells", "month", "low", "high"),
    [
        # User seconds that were measured for real relief, with the sky view factor (the facts' table "End to end").
        (100, 175 * 175, 1, 6, 8),
        (100, 200 * 240, 1, 8, 11),
        (25, 700 * 700, 1, 79, 90),
        (25, 700 * 700, 7, 118, 126),
    ],
)
def test_the_time_of_a_radiation_job_is_within_a_third_of_measured_ones(
    cell: int, cells: int, month: int, low: float, high: float
) -> None:
    seconds = estimate.radiation_seconds(config(cell=cell), cells, month)
    assert low / 1.34 <= seconds <= high * 1.34


@pytest.mark.parametrize(("cells", "measured"), [(1080**2, 174 + 0), (4000**2, 166 + 29 * 16)])
def test_the_memory_of_a_radiation_job_is_not_less_than_measured_and_not_twice_as_much(
    cells: int, measured: float
) -> None:
    assert measured <= estimate.radiation_mb(cells) <= 2 * measured


@pytest.mark.parametrize(("cells", "measured"), [(270**2, (119, 146)), (1080**2, (111, 175)), (4000**2, (380, 560))])
def test_images_are_as_large_as_measured_ones(cells: int, measured: tuple[int, int]) -> None:
    low, high = measured
    assert low <= estimate.image_mb(cells) <= high


def test_the_model_with_the_originals_options_gives_the_originals_time_and_memory() -> None:
    # LOCATION=1 (4.7e-7 s) and a flat relief besides (2.9e-7): 15 to 30 days and 100 GB, so they said.
    cells, steps = 60718 * 40264, estimate.steps(config(year=2018), 1)
    assert steps == 49 * 31
    assert cells * steps * (4.7e-7 + 2.9e-7) / 86400 == pytest.approx(32, abs=1)
    assert cells * 45e-9 == pytest.approx(110, abs=1)


def test_the_estimate_of_a_job_is_the_formula_by_hand() -> None:
    valley = config()
    zone = estimate.zone_of(valley)
    assert (zone.rows, zone.columns, zone.beyond) == (1200, 960, 160)
    cells = estimate.window_cells(valley, zone, "r1c1")
    assert cells == (600 + 320) * (960 + 320)
    january = 2 + cells * (1519 * 1.1e-7 * (1 + 0.125 * (1 - math.cos(math.pi / 12))) + 16 * 160 * 1.2e-8)
    assert estimate.radiation_seconds(valley, cells, 1) == pytest.approx(january)
    # Half a second and the image at 200 MB/s, for the restore and for the save.
    usable = 120 - 2 * (0.5 + (140 + 24e-6 * cells) / 200)
    assert estimate.segments(january, cells, 120, 200) == math.ceil(january / usable) == 3
    assert estimate.segments(january, cells, 300, 200) == 1
    assert estimate.segments(january, cells, 2, 200) == 0


def test_the_valley_takes_most_of_an_hour_with_two_jobs_at_a_time() -> None:
    valley = config()
    jobs = list(estimate.jobs(valley, estimate.zone_of(valley), 120, 200))
    assert len(jobs) == 24
    assert 45 <= sum(job.seconds for job in jobs) / 2 / 60 <= 55


def test_the_demos_jobs_are_told_to_need_the_segments_that_they_need() -> None:
    """5 to 8 were measured under the profile's 9 s, where the disk took 450 MB/s."""
    demo = config("config")
    jobs = list(estimate.jobs(demo, estimate.zone_of(demo, WORKFLOW / demo["dem"]), 9, 450))
    assert {job.segments for job in jobs} <= {5, 6, 7, 8}


def test_the_demos_zone_is_told_by_the_header_of_its_relief_within_five_percent() -> None:
    demo = config("config")
    zone = estimate.zone_of(demo, WORKFLOW / demo["dem"])
    assert zone.rows == pytest.approx(872, rel=0.05)
    assert zone.columns == pytest.approx(704, rel=0.05)


def test_the_windows_of_all_tiles_are_those_that_the_job_reads() -> None:
    small = config(cell=100, tiles=[3, 2], extent=[0, 5000, 0, 7000], halo=1000)
    zone = estimate.zone_of(small)
    assert estimate.tiles_of(small) == ["r1c1", "r1c2", "r2c1", "r2c2", "r3c1", "r3c2"]
    assert [estimate.window_cells(small, zone, tile) for tile in ("r1c1", "r2c2")] == [(23 + 20) * 45, (24 + 20) * 45]
    whole = estimate.Zone(70, 50, 0)
    assert estimate.window_cells(small, whole, "r1c1") == (23 + 10) * (25 + 10)


@pytest.mark.parametrize("name", ["valley", "alps"])
def test_the_command_prints_the_estimate_without_snakemake(name: str) -> None:
    command = [sys.executable, str(SCRIPTS / "estimate.py"), "--configfile", str(WORKFLOW / "config" / f"{name}.yaml")]
    done = subprocess.run([*command, "--jobs", "100"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = {line[:28].strip(): line[28:] for line in done.stdout.splitlines()}
    if name == "alps":
        assert lines["zone"] == "37200 x 22000 cells of 25 m, 818.4 million"
        assert lines["segments of 2.0 days"] == "1"
        assert lines["one job a month (tiles: 1)"].endswith("2 segments")
    else:
        assert lines["radiation jobs"] == "24, each 1.18 million cells"


def test_estimates_need_no_heavy_imports() -> None:
    code = "import sys, estimate; print(sorted({'snakemake', 'numpy', 'pandas'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# Dry runs


def dry_run(folder: Path, *arguments: str) -> str:
    """What snakemake says of a run that it does not begin."""
    command = [sys.executable, "-m", "snakemake", "-n", "--nocolor", "--directory", str(folder), *arguments]
    environment = {**os.environ, "SNAKEMAKE_PROFILE": "none"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def touched_data(folder: Path, wanted: dict[str, Any]) -> None:
    """Empty files where the data of a configuration would be."""
    names = [wanted["dem"], wanted["temperature_elevation"]]
    for month in range(1, 13):
        names += [wanted[key].replace("{month}", f"{month:02d}") for key in ("temperature", "cloud_cover")]
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


def test_the_alps_are_planned_in_seconds_and_ask_for_what_the_model_says(tmp_path: Path) -> None:
    alps = config("alps")
    touched_data(tmp_path, alps)
    said = dry_run(tmp_path, "--profile", str(WORKFLOW / "profiles" / "alps"), "--executor", "local", "--cores", "2")
    counts = dict(line.split() for line in said.splitlines() if len(line.split()) == 2 and line.split()[1].isdigit())
    assert counts["radiation"] == counts["temperature"] == "480"
    assert counts["import_fields"] == "12"
    tile = "r10c1"
    job = next(part for part in said.split("\nrule ") if f"month=07, tile={tile}" in part and "radiation:" in part)
    cells = estimate.window_cells(alps, estimate.zone_of(alps), tile)
    memory = estimate.rule_mb(alps, estimate.zone_of(alps), "radiation", tile)
    assert f"mem_mb={memory}," in job
    assert estimate.radiation_mb(cells) <= memory <= 1.2 * estimate.radiation_mb(cells)
    minutes = int(job.split("runtime=")[1].split()[0].rstrip(","))
    assert minutes == pytest.approx(1.5 * estimate.radiation_seconds(alps, cells, 7) / 60 + 5, abs=1)


def test_a_job_never_asks_for_more_than_the_walltime(tmp_path: Path) -> None:
    alps = config("alps", tiles=1)
    zone = estimate.zone_of(alps)
    assert estimate.radiation_seconds(alps, estimate.window_cells(alps, zone, "r1c1"), 7) > 48 * 3600
    assert estimate.rule_minutes(alps, zone, "radiation") == 48 * 60


@pytest.mark.parametrize(("size", "radiations"), [("demo", "8"), ("valley", "24")])
def test_each_small_size_is_planned_by_one_command(size: str, radiations: str, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), "--size", size, "--directory", str(tmp_path), "-n"]
    done = subprocess.run(
        [*command, "--executor", "local", "--cores", "2"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"radiation {radiations}" in [" ".join(line.split()) for line in done.stdout.splitlines()]


# Windows and bands


def run_r(code: str, cwd: Path, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    """R code that sees all of the workflow's functions, with no more address space than told."""
    source = f'for (f in list.files("{SCRIPTS}/lib", "[.]R$", full.names = TRUE)) source(f)'
    return limited(["Rscript", "--vanilla", "-e", source, "-e", code], cwd, memory)


def limited(command: list[str], cwd: Path, memory: int | None) -> subprocess.CompletedProcess[str]:
    """A command with no more address space than told."""

    def limit() -> None:
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    return subprocess.run(command, cwd=cwd, preexec_fn=limit, capture_output=True, text=True, timeout=300)


def huge_grid(folder: Path, side: int) -> None:
    """A flat relief of side x side cells of 100 m that takes no room on the disk."""
    done = run_r('write_grid(grid(matrix(0, 2, 2), d = 100), "dem.sdat", "m")', folder)
    assert done.returncode == 0, done.stderr
    header = (folder / "dem.sgrd").read_text()
    for axis in "XY":
        header = header.replace(f"CELLCOUNT_{axis}\t= 2", f"CELLCOUNT_{axis}\t= {side}")
    (folder / "dem.sgrd").write_text(header)
    with (folder / "dem.sdat").open("r+b") as data:
        data.truncate(4 * side * side)


@needs_saga
def test_a_radiation_job_of_a_zone_of_six_gigabytes_needs_less_than_two(tmp_path: Path) -> None:
    huge_grid(tmp_path, 40_000)
    (tmp_path / "out").mkdir()
    settings = {
        "dem": "dem.sdat", "tile": "r900c700", "tiles": 1000, "year": 2018, "month": "01", "latitude": 45,
        "halo": 1000, "directions": 4, "hour_step": 4, "transmittance": 70,
        "direct": "out/direct.sdat", "diffuse": "out/diffuse.sdat", "log": "out/log.txt",
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in settings.items()]
    done = limited(["Rscript", "--vanilla", str(SCRIPTS / "radiation.R"), *words], tmp_path, 2 * GIB)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "direct.sdat").stat().st_size == 4 * 40 * 40


@needs_saga
def test_windows_and_bands_give_the_bytes_of_the_whole(tmp_path: Path) -> None:
    code = """
    z <- 2000 + 500 * outer(sin(1:53 / 3), cos(1:47 / 4)); z[1:4, 1:3] <- NA; z[30, 20] <- NA
    write_grid(grid(z, 500, 700, 25, "PROJ"), "dem.sdat", "m")
    whole <- read_grid("dem.sdat")
    BAND_CELLS <- 200
    same <- function(a, b) cat(identical(a, b), "")
    bytes <- function(name) lapply(paste0(name, c(".sdat", ".prj")), function(f) readBin(f, "raw", 1e6))
    same(read_grid("dem.sdat", 11:40, 5:30), crop_grid(whole, 11:40, 5:30))
    write_grid(crop_grid(whole, 3:40, 2:30), "crop", "m"); copy_window("dem", "copy", 3:40, 2:30, "m")
    same(bytes("crop"), bytes("copy"))
    same(readLines("crop.sgrd")[-1], readLines("copy.sgrd")[-1])
    means <- block_means_of("dem", 5); BAND_CELLS <- 2e6; same(means, block_means_of("dem", 5)); BAND_CELLS <- 200
    same(unlist(grid_summary("dem")), c(lowest = min(whole$z, na.rm = TRUE), highest = max(whole$z, na.rm = TRUE),
                                        missing = sum(is.na(whole$z))))
    write_bands(grid_frame("dem"), c("one", "two"), function(r) list(whole$z[r, ], 2 * whole$z[r, ]), c("m", "m"))
    same(bytes("one")[[1]], bytes("dem")[[1]]); same(read_grid("two")$z, 2 * whole$z)
    cat(length(list.files(pattern = "part")) == 0)
    """
    done = run_r(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["TRUE"] * 8


@needs_saga
def test_a_band_that_fails_leaves_no_grid(tmp_path: Path) -> None:
    code = """
    write_grid(grid(matrix(1, 50, 10), d = 25), "dem.sdat"); BAND_CELLS <- 100
    write_bands(grid_frame("dem"), "out", function(rows) if (rows[1] > 20) stop("no") else read_grid("dem", rows)$z)
    """
    done = run_r(code, tmp_path)
    assert done.returncode != 0
    assert not (tmp_path / "out.sdat").exists()
    assert not (tmp_path / "out.sgrd").exists()


@needs_saga
def test_a_zone_cut_out_of_its_relief_has_the_shadows_of_what_is_around_it(tmp_path: Path) -> None:
    done = run_r(
        "z <- 2500 + 600 * outer(sin(1:40 / 4), cos(1:36 / 3)); g <- grid(z, d = 250);"
        'write_grid(g, "around.sdat"); write_grid(crop_grid(g, 11:30, 11:28), "dem.sdat")',
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    settings = {
        "tiles": "1", "tile": "r1c1", "year": 2018, "month": "01", "latitude": 40.4, "halo": 2500, "directions": 8,
        "hour_step": 2, "transmittance": 70,
    }  # fmt: skip

    def radiate(out: str, **more: str) -> bytes:
        (tmp_path / out).mkdir()
        places = {"direct": f"{out}/direct.sdat", "diffuse": f"{out}/diffuse.sdat", "log": f"{out}/log.txt"}
        words = [f"{key}={value}" for key, value in (settings | places | more).items()]
        done = limited(["Rscript", "--vanilla", str(SCRIPTS / "radiation.R"), *words], tmp_path, None)
        assert done.returncode == 0, done.stderr
        return (tmp_path / out / "direct.sdat").read_bytes()

    whole = radiate("whole", dem="around.sdat")
    inside = b"".join(whole[4 * (row * 36 + 10) : 4 * (row * 36 + 28)] for row in range(10, 30))
    assert radiate("cut", dem="dem.sdat", around="around.sdat") == inside
    assert radiate("alone", dem="dem.sdat") != inside
