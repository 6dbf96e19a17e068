"""What would leave wrong results of the downscaling workflow without a word: each is told, or stops the job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .downscaling import NEEDS_SAGA, QUICK, SCRIPTS, WORKFLOW, header, radiation, raster, run_r, saga_that

pytestmark = NEEDS_SAGA


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    """A folder with a plain of 20 x 20 cells of 100 m, and a wall of 500 m through its middle."""
    done = run_r('z <- matrix(2000, 20, 20); z[, 10] <- 2500; write_grid(grid(z, d = 100), "dem.sdat")', tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


# SAGA that fails


@pytest.mark.parametrize(
    ("after", "message"),
    [("status=3", "exited with status 3"), ("echo Error: no licence", "but said: Error: no licence")],
)
def test_a_failed_saga_stops_the_job_although_its_output_is_complete(after: str, message: str, wall: Path) -> None:
    path = saga_that(wall, after=f"if [[ $* == *GRD_DIRECT* ]]; then {after}; stat -c %s out/.scratch/direct.sdat; fi")
    done = radiation(wall, "out", path=path)
    assert done.returncode != 0
    assert message in done.stderr
    assert (wall / "out" / "log.txt").read_text(errors="replace").splitlines()[-1] == "1600"
    assert sorted(file.name for file in (wall / "out").iterdir()) == ["log.txt"]


# A full disk


@pytest.mark.parametrize("told", [True, False])
def test_a_grid_that_does_not_fit_on_the_disk_is_not_there(told: bool, tmp_path: Path) -> None:
    """40 kB where a file may have 16: the write is short, or (not told) the process is killed."""
    code = f'for (f in list.files("{SCRIPTS}/lib", "[.]R$", full.names = TRUE)) source(f);'
    code += 'write_grid(grid(matrix(1, 100, 100)), "out")'
    ignored = "trap '' XFSZ; " if told else ""
    shell = f"{ignored}ulimit -f 16; Rscript --vanilla -e '{code}'"
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert not told or "16384 bytes, but 100 x 100 cells need 40000" in done.stderr
    assert {file.name for file in tmp_path.iterdir()} <= {"out.part.sdat", "out.part.sgrd", "out.part.prj"}


@pytest.mark.parametrize("extension", ["sgrd", "prj"])
def test_a_grid_whose_texts_do_not_fit_on_the_disk_is_not_there(extension: str, tmp_path: Path) -> None:
    (tmp_path / f"out.part.{extension}").symlink_to("/dev/full")
    done = run_r('write_grid(grid(matrix(1, 9, 9), prj = "PROJCS"), "out")', tmp_path)
    assert done.returncode != 0
    assert f"out.part.{extension}: not all was written" in done.stderr
    assert not list(tmp_path.glob("out.s*"))


def test_a_grid_that_fits_leaves_its_three_files_and_no_more(tmp_path: Path) -> None:
    assert run_r('write_grid(grid(matrix(1:6, 2)), "out.sdat", "m")', tmp_path).returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.prj", "out.sdat", "out.sgrd"]
    assert raster(tmp_path / "out.sdat") == [1, 3, 5, 2, 4, 6]
    assert header(tmp_path / "out.sgrd")["NAME"] == "out"


# The halo


def test_without_a_halo_the_sky_of_a_cell_ends_at_its_neighbours(wall: Path) -> None:
    # SAGA takes a radius of 0 for the whole grid: the wall would darken all of the plain.
    done = radiation(wall, "out", halo=0)
    assert done.returncode == 0, done.stderr
    diffuse = raster(wall / "out" / "diffuse.sdat")
    plain = [diffuse[20 * row + column] for row in range(1, 19) for column in (*range(1, 8), *range(11, 19))]
    assert max(plain) - min(plain) < 1e-4 * max(plain)
    assert diffuse[20 * 5 + 8] < 0.9 * plain[0]


@pytest.mark.parametrize(
    ("extent", "said"),
    [
        ("c(424000, 452000, 4452000, 4482000)", "ends about 2700 m short of the halo of 4000 m in the west; shadows"),
        ("c(428000, 452000, 4452000, 4486000)", "ends about 700 m short of the halo of 4000 m in the north; shadows"),
        ("c(428000, 452000, 4452000, 4482000)", ""),
    ],
)
def test_a_relief_that_ends_inside_the_halo_is_told_of_by_its_side(extent: str, said: str, tmp_path: Path) -> None:
    # The last one is that of the valley.
    dem = SCRIPTS.parents[1] / "resources" / "rmnp-dem.tif"
    utm = "+proj=utm +zone=13 +datum=WGS84 +units=m +no_defs"
    done = run_r(f'check_relief("{dem}", "{utm}", {extent}, 4000)', tmp_path)
    assert done.returncode == 0, done.stderr
    assert [said in line for line in done.stderr.splitlines() if "warning: dem: " in line] == [True] * bool(said)


# Checks of the user's own data


def test_other_stations_are_looked_at_again_but_nothing_of_the_sun_is_computed_again(tmp_path: Path) -> None:
    stations = tmp_path / "mine.tsv"
    stations.write_text((WORKFLOW / "resources" / "stations.tsv").read_text())

    def snakemake(*arguments: str) -> str:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *QUICK, "stations=mine.tsv", "hour_step=4"]
        command += [*arguments, "--", "results/flat/01/flat.tsv", "results/climate/01/lapse.tsv"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "rule flat_reference" in snakemake()
    stations.write_text(stations.read_text().replace("GREELEY_UNC", "GREELEY"))
    again = snakemake("-n")
    assert "rule check_stations" in again
    assert "rule climate" in again
    assert "rule flat_reference" not in again


# The empty edges


def test_a_coast_is_no_wedge_to_cut_off(tmp_path: Path) -> None:
    done = run_r("z <- matrix(1, 60, 60); z[1:12, 1:30] <- NA; crop_nodata(grid(z))", tmp_path)
    assert done.returncode != 0
    assert "crop_nodata: 360 of 3240 cells with relief" in done.stderr
    assert "allow_nodata: true" in done.stderr


@pytest.mark.parametrize(("allowed", "size"), [("False", [109, 88]), ("True", [113, 92])])
def test_what_is_cut_off_is_told_and_nothing_is_where_nodata_is_allowed(
    allowed: str, size: list[int], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *QUICK, f"allow_nodata={allowed}"]
    target = ["--", "results/relief/summary.tsv"]
    done = subprocess.run([*command, *target], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = header(tmp_path / "results" / "relief" / "dem.sgrd")
    assert [int(lines["CELLCOUNT_Y"]), int(lines["CELLCOUNT_X"])] == size
    log = (tmp_path / "logs" / "import_relief.log").read_text(errors="replace")
    assert ("crop_nodata: 107 of 9699 cells with relief are cut off" in log) == (allowed == "False")
