"""Relief and kilometre fields of the user's own: what is made of them, and what is refused before a long job runs."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from .downscaling import NEEDS_SAGA, SCRIPTS, WORKFLOW

pytestmark = NEEDS_SAGA

#: A zone of 12 x 12 km in the example's relief, for fields in degrees around it.
EXTENT = [434000, 446000, 4460000, 4472000]

#: Functions that make rasters of 1/120 degree (about 1 km) from their coordinates.
MAKERS = """
library(terra)
degrees <- function(f, west = -106, south = 40, side = 96, digits = NULL) {
  r <- rast(nrows = side, ncols = side, xmin = west, xmax = west + side / 120, ymin = south, ymax = south + side / 120,
            crs = "EPSG:4326")
  at <- xyFromCell(r, seq_len(ncell(r)))
  v <- f(at[, 1], at[, 2])
  values(r) <- if (is.null(digits)) v else round(v, digits)
  r
}
height <- function(x, y) 2700 + 700 * sin(30 * x) * cos(40 * y)
celsius <- function(x, y) 18 - 0.0062 * height(x, y)
save <- function(r, name) writeRaster(r, paste0(name, ".tif"), overwrite = TRUE)
"""


def run_r(code: str, cwd: Path) -> str:
    """What R code prints that sees all of the workflow's functions."""
    source = f'for (f in list.files("{SCRIPTS}/lib", "[.]R$", full.names = TRUE)) source(f)'
    (cwd / "code.R").write_text("\n".join([source, MAKERS, code]))  # more than an argument -e may be
    command = ["Rscript", "--vanilla", "code.R"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What is refused

#: Name: how it is called, and what the error must say.
REFUSED = {
    "no projection": (
        'save({ r <- degrees(celsius); crs(r) <- ""; r }, "bare"); field("bare.tif")',
        ["temperature: bare.tif has no projection", "gdal_edit"],
    ),
    "several bands": (
        'save(c(degrees(celsius), degrees(celsius)), "two"); field("two.tif")',
        ["temperature: two.tif has 2 bands; it must have one"],
    ),
    "no raster": ('writeLines("x", "text.tif"); field("text.tif")', ["temperature: text.tif is not a raster"]),
    "elsewhere": (
        'save(degrees(celsius, west = 5), "far"); field("far.tif")',
        ["temperature: far.tif does not overlap the zone", "5 to 5.8"],
    ),
    "too small": (
        'save(degrees(celsius, side = 40), "small"); field("small.tif")',
        ["temperature: small.tif does not cover the zone", "-106 to -105.667"],
    ),
    "a hole": (
        'save({ r <- degrees(celsius); r[cellFromXY(r, cbind(-105.7, 40.35))] <- NA; r }, "hole"); field("hole.tif")',
        ["temperature: hole.tif has NoData inside the zone", "x = 4"],
    ),
    "all nodata": (
        'save({ r <- degrees(celsius); values(r) <- NA; r }, "empty"); field("empty.tif")',
        ["temperature: empty.tif has nothing but NoData in the zone"],
    ),
    "kelvin": (
        'save(degrees(celsius) + 273.15, "kelvin"); unit("kelvin.tif", "temperature", "C", c(-60, 60), "C")',
        ["temperature: kelvin.tif has values from 27", "as C", "must be from -60 to 60", "unit another one"],
    ),
    "tenths of kelvin taken for kelvin": (
        'save((degrees(celsius) + 273.15) * 10, "tenths"); unit("tenths.tif", "temperature", "K", c(-60, 60), "C")',
        ["temperature: tenths.tif", "as K", "must be from -60 to 60"],
    ),
    "percent taken for fractions": (
        'save(degrees(function(x, y) 50 + 0 * x), "percent"); unit("percent.tif", "cloud_cover", "fraction", 0:1, "")',
        ["cloud_cover: percent.tif has values from 50 to 50, as fraction", "must be from 0 to 1"],
    ),
    "fractions taken for percent": (
        'save(degrees(function(x, y) 0.5 + 0 * x), "part"); unit("part.tif", "cloud_cover", "percent", 0:1, "", 0.05)',
        ["cloud_cover: part.tif has values from 0.5 to 0.5, as percent 0.005", "at least 0.05", "unit another one"],
    ),
    "elevation in feet": (
        'save(degrees(height) * 3.28, "feet"); unit("feet.tif", "temperature_elevation", "m", c(-500, 9000), "m")',
        ["temperature_elevation: feet.tif", "must be from -500 to 9000"],
    ),
    "relief in decimetres": (
        'check_zone(list(lowest = 20000, highest = 40000, missing = 0), list(nx = 9, ny = 9), FALSE, "dem.tif")',
        ["dem: dem.tif has heights from 20000 to 40000", "in m, -500 to 9000", "feet or decimetres"],
    ),
    "relief with holes": (
        'check_zone(list(lowest = 1, highest = 2, missing = 3), list(nx = 9, ny = 9), FALSE, "dem.tif")',
        ["dem: dem.tif has NoData in 3 of 81 cells of the zone", "allow_nodata"],
    ),
    "relief of nothing": (
        'check_zone(list(lowest = Inf, highest = -Inf, missing = 81), list(nx = 9, ny = 9), TRUE, "dem.tif")',
        ["dem: dem.tif has nothing but NoData"],
    ),
    "relief that ends in the zone": (
        'save(degrees(height, side = 40), "half"); check_relief("half.tif", crs, extent, 0)',
        ["dem: half.tif does not cover the zone"],
    ),
    "relief without projection": (
        'save({ r <- degrees(height); crs(r) <- ""; r }, "bare"); check_relief("bare.tif", crs, extent, 0)',
        ["dem: bare.tif has no projection"],
    ),
    "a crs that PROJ does not know": (
        'save(degrees(height), "relief"); check_relief("relief.tif", "+proj=utmm", NULL, 0)',
        ["crs: PROJ does not know +proj=utmm"],
    ),
    "Mercator": (
        'save(degrees(height), "relief"); check_relief("relief.tif", "+proj=merc +datum=WGS84", NULL, 0)',
        [
            "crs: +proj=merc +datum=WGS84 is not true to scale: a metre is 1.31",
            "latitude 40.4",
            "+proj=utm +zone=13 +d",
        ],
    ),
    "an equal-area projection": (
        'check_crs("+proj=laea +lat_0=0 +lon_0=-105 +datum=WGS84", c(-105.6, 40.4))',
        ["crs: +proj=laea", "is not conformal: a metre is 0.938", "to 1.06", "right there is +proj=utm +zone=13"],
    ),
    "the UTM zone of another continent": (
        'check_crs("+proj=utm +zone=33 +datum=WGS84", c(-105.6, 40.4))',
        ["crs: +proj=utm +zone=33 +datum=WGS84 is not true to scale", "right there is +proj=utm +zone=13"],
    ),
    "the UTM zone after the next, in the south": (
        'check_crs("+proj=utm +zone=21 +south +datum=WGS84", c(-71, -33))',
        ["crs: +proj=utm +zone=21 +south +datum=WGS84 is not true", "+proj=utm +zone=19 +south"],
    ),
    "a turned north": (
        'check_crs("+proj=lcc +lat_1=39 +lat_2=42 +lat_0=40 +lon_0=-95 +datum=WGS84", c(-105.6, 40.4))',
        ["has its north 6.9 degrees from true north (6 are allowed)", "right there is +proj=utm +zone=13"],
    ),
    "a latitude that is not the zone's": (
        "tile_latitudes(zone, 1, crs, 41)",
        ["latitude: 41 is not that of the zone, which is from 40.29 to 40.4 degrees north; its middle is 40.34"],
    ),
    "rows too near to the pole": (
        'tile_latitudes(within(zone, y <- 6.7e6), 1, crs, "row")',
        ["latitude: the zone is from 60.43 to 60.54 degrees north; it must be between -60 and 60"],
    ),
    "stations in Fahrenheit": (
        'stations(t01 = 60 + 1:9); read_stations("s.tsv", "t01", zone)',
        ["stations: s.tsv: t01 is from 61 to 69; it must be in C, -60 to 60"],
    ),
    "few stations": (
        'stations(t01 = c(1:3, rep(NA, 6))); read_stations("s.tsv", "t01", zone)',
        ["stations: s.tsv: a lapse rate needs at least 5 stations, there are 3"],
    ),
    "stations in degrees": (
        'stations(x = -105 - 1:9 / 100, y = 40 + 1:9 / 100); read_stations("s.tsv", "t01", zone)',
        ["stations: s.tsv: x = -105.01, y = 40.01 look like degrees", "must be in m, in the crs"],
    ),
    "a station far away": (
        'stations(x = extent[1] + c(1:8, -300700)); read_stations("s.tsv", "t01", zone)',
        ["stations: s.tsv: the station at x = 133300, y = 4461000 is 301 km from the zone, more than 200"],
    ),
    "stations with decimal commas": (
        'stations(t01 = paste0(1:9, ",5")); read_stations("s.tsv", "t01", zone)',
        ["stations: s.tsv: t01 has values that are no numbers"],
    ),
}

HELPERS = f"""
crs <- "+proj=utm +zone=13 +datum=WGS84 +units=m +no_defs"
extent <- c({", ".join(map(str, EXTENT))})
coarse <- grid(matrix(0, 12, 12), extent[1] + 500, extent[3] + 500, 1000)
zone <- list(x = coarse$x, y = coarse$y, d = 1000, nx = 12, ny = 12)
stations <- function(...) {{
  made <- list(station = paste0("S", 1:9), x = extent[1] + 1:9, y = extent[3] + 1000, elevation = 100 * 1:9, t01 = 1:9)
  write.table(data.frame(modifyList(made, list(...))), "s.tsv", sep = "\\t", quote = FALSE, row.names = FALSE)
}}
field <- function(path, key = "temperature") import_field(path, key, coarse, crs)
unit <- function(path, key, ...) convert_field(field(path, key), path, key, ...)
said <- function(name, code) cat(name, "\\t", tryCatch({{ code; "accepted" }},
                                 error = function(e) gsub("\\n", " ", conditionMessage(e))), "\\n", sep = "")
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each bad input, by one R for all."""
    cases = "\n".join(f'said("{name}", {{ {code} }})' for name, (code, _) in REFUSED.items())
    said = run_r(HELPERS + cases, tmp_path_factory.mktemp("refused"))
    return dict(line.split("\t", 1) for line in said.splitlines() if "\t" in line)


@pytest.mark.parametrize("name", REFUSED)
def test_bad_data_are_refused_by_key_file_value_and_remedy(name: str, complaints: dict[str, str]) -> None:
    for part in REFUSED[name][1]:
        assert part in complaints[name]


def test_units_come_to_celsius_and_fractions(tmp_path: Path) -> None:
    code = """
    save(degrees(celsius), "c"); save(degrees(celsius) + 273.15, "k"); save((degrees(celsius) + 273.15) * 10, "t")
    save(degrees(function(x, y) 2500 + 0 * x), "clouds")
    a <- field("c.tif")$z
    b <- lapply(c("K", "0.1K"), function(u) unit(c("K" = "k.tif", "0.1K" = "t.tif")[[u]], "t", u, c(-60, 60), "C")$z)
    cat(max(abs(a - b[[1]])), max(abs(a - b[[2]])), range(unit("clouds.tif", "c", "0.01 percent", 0:1, "")$z))
    """
    kelvin, tenths, low, high = map(float, run_r(HELPERS + code, tmp_path).split())
    assert kelvin < 1e-3
    assert tenths < 1e-3
    assert (low, high) == pytest.approx((0.25, 0.25))


def test_a_field_in_degrees_lands_where_it_belongs_and_south_stays_south(tmp_path: Path) -> None:
    # Its values are its own latitude and longitude: each cell must tell those of its centre.
    code = """
    save(degrees(function(x, y) y), "lat"); save(degrees(function(x, y) x), "lon")
    lat <- field("lat.tif"); lon <- field("lon.tif")
    xy <- cbind(rep(eastings(coarse), each = 12), rep(northings(coarse), 12))
    true <- crds(project(vect(xy, crs = crs), "EPSG:4326"))
    cat(max(abs(as.vector(lat$z) - true[, 2])), max(abs(as.vector(lon$z) - true[, 1])))
    """
    for error in map(float, run_r(HELPERS + code, tmp_path).split()):
        assert error < 2e-5  # degrees: 2 m; a float of 105 has steps of 8e-6


def test_names_of_stations_are_text_as_it_stands(tmp_path: Path) -> None:
    names = ["Val d'Isere", "L'Alpe", "Hut #3", "#4", 'the "Big"', "d'Oex", "Aosta"]
    rows = [f"{name}\t{435000 + 100 * i}\t4461000\t{1000 + 10 * i}\t{i}" for i, name in enumerate(names)]
    (tmp_path / "names.tsv").write_text("\n".join(["station\tx\ty\televation\tt01", *rows]) + "\n")
    code = 's <- read_stations("names.tsv", "t01", zone); writeLines(s$station); cat(s$t01)'
    *read, months = run_r(HELPERS + code, tmp_path).splitlines()
    assert read == names
    assert months.split() == [str(i) for i in range(len(names))]


def test_the_projection_of_the_alps_is_accepted_from_end_to_end(tmp_path: Path) -> None:
    alps = yaml.safe_load((WORKFLOW / "config" / "alps.yaml").read_text())
    west, east, south, north = alps["extent"]
    code = f"""
    for (x in seq({west}, {east}, length.out = 5)) for (y in c({south}, {(south + north) / 2}, {north}))
      check_crs("{alps["crs"]}", as.vector(projected(cbind(x, y), "{alps["crs"]}", "EPSG:4326")))
    ends <- projected(cbind(c({west}, {(west + east) / 2}, {east}), 0), "{alps["crs"]}", "EPSG:4326")[, 2]
    cat(ends - ends[2])
    """
    western, _, eastern = map(float, run_r(code, tmp_path).split())
    # What alps.yaml says of the ends of a row of tiles.
    assert (western, eastern) == pytest.approx((-0.16, -0.16), abs=0.01)


# A whole run


def settings(folder: Path, **changes: Any) -> Path:
    """A configuration with all data from files of the user's own."""
    quick = yaml.safe_load((WORKFLOW / ".test" / "config" / "config.yaml").read_text())
    mine = {
        "extent": EXTENT, "cell": 400, "tiles": [2, 1], "latitude": "row", "months": [1], "hour_step": 4,
        "sky_directions": 4, "stations": None, "temperature": "tas_{month}.tif", "temperature_unit": "0.1K",
        "temperature_elevation": "height.tif", "lapse_rates": "fields", "cloud_cover": "cloud_{month}.tif",
        "cloud_unit": "0.01 percent", "dem": "dem.tif",
    }  # fmt: skip
    path = folder / "mine.yaml"
    path.write_text(json.dumps(quick | mine | changes))
    return path


def snakemake(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    """Run the workflow up to mosaics of January."""
    targets = [f"results/mosaics/01/{name}.sdat" for name in names]
    command = [sys.executable, "-m", "snakemake", "-s", str(WORKFLOW / "workflow" / "Snakefile"), "--cores", "1"]
    command += ["--directory", str(folder), "--configfile", str(folder / "mine.yaml"), "--show-failed-logs"]
    environment = {**os.environ, "SNAKEMAKE_PROFILE": "none"}
    return subprocess.run([*command, *targets], env=environment, capture_output=True, text=True, timeout=400)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a relief in degrees, and fields of January as CHELSA and EarthEnv have them; and with bad data."""
    folder = tmp_path_factory.mktemp("data")
    run_r(
        'save(degrees(height, side = 96), "height"); save(disagg(degrees(height), 4, "bilinear"), "dem");'
        'writeRaster((degrees(celsius) + 273.15) * 10, "tas_01.tif", datatype = "INT2U");'
        'writeRaster(degrees(function(x, y) 2500 + 0 * x), "cloud_01.tif", datatype = "INT2U");'
        'writeRaster(degrees(function(x, y) 25 + 0 * x), "low_01.tif", datatype = "INT2U")',
        folder,
    )
    run_r(HELPERS + 'stations(t01 = 60 + 1:9); file.rename("s.tsv", "hot.tsv")', folder)
    return folder


@pytest.fixture(scope="module")
def ran(data: Path) -> Path:
    """The folder after a run."""
    settings(data)
    done = snakemake(data, "temperature", "direct")
    assert done.returncode == 0, done.stdout + done.stderr
    return data


def table(path: Path) -> list[dict[str, float]]:
    """A table of numbers."""
    names, *lines = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(names, map(float, line), strict=True)) for line in lines]


def raster(path: Path) -> list[float]:
    """The values of a .sdat."""
    content = path.read_bytes()
    return list(struct.unpack(f"<{len(content) // 4}f", content))


def test_the_lapse_rate_of_the_fields_is_recovered(ran: Path) -> None:
    (lapse,) = table(ran / "results/climate/01/lapse.tsv")
    # Whole tenths of a kelvin, as in the file.
    assert lapse["lapse_K_per_m"] == pytest.approx(0.0062, rel=0.01)
    assert lapse["sea_level_C"] == pytest.approx(18, abs=0.1)


def test_each_row_of_tiles_has_the_latitude_of_its_middle(ran: Path) -> None:
    rows = [row["latitude"] for row in table(ran / "results/relief/latitudes.tsv")]
    assert rows[1] - rows[0] == pytest.approx(6000 / 111_000, rel=0.01)
    assert sum(rows) / 2 == pytest.approx(40.341, abs=0.005)
    flat = table(ran / "results/flat/01/flat.tsv")
    south, north = ([row["direct"] for row in flat if row["row"] == number] for number in (1, 2))
    assert len(south) == len(north) == 6
    assert all(a > b for a, b in zip(south, north, strict=True)), "January is darker in the north"


def test_the_results_are_of_the_extent_and_the_relief_of_its_surroundings_too(ran: Path) -> None:
    def header(name: str) -> dict[str, float]:
        lines = (ran / f"results/{name}.sgrd").read_text().splitlines()
        words = dict(line.split("\t= ", 1) for line in lines if "\t= " in line)
        return {key: float(words[key]) for key in ("POSITION_XMIN", "POSITION_YMIN", "CELLCOUNT_X", "CELLCOUNT_Y")}

    assert list(header("mosaics/01/temperature").values()) == [434200, 4460200, 30, 30]
    assert list(header("relief/around").values()) == [430200, 4456200, 50, 50]


def test_clouds_and_temperatures_are_those_of_the_files(ran: Path) -> None:
    clouds = raster(ran / "results/fields/01/cloud_cover.sdat")
    assert clouds == pytest.approx([0.25] * 15 * 15)  # of two cells, 800 m
    temperatures = raster(ran / "results/mosaics/01/temperature.sdat")
    assert len(temperatures) == 900
    # 2000 to 3400 m, and some sun and shade.
    assert -8 < min(temperatures) < max(temperatures) < 9


#: Stations in Fahrenheit, and nothing else that is looked at before.
HOT = {"stations": "hot.tsv", "temperature": None, "temperature_elevation": None, "cloud_cover": [0.5] * 12,
       "lapse_rates": "stations"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature_unit": "K"}, "temperature: tas_01.tif has values from"),
        ({"cloud_unit": "percent"}, "cloud_cover: cloud_01.tif has values from 2500 to 2500, as percent 25 to 25"),
        (
            {"cloud_cover": "low_{month}.tif"},
            "cloud_cover: low_01.tif has values from 25 to 25, as 0.01 percent 0.0025",
        ),
        ({"extent": [534000, 546000, 4460000, 4472000]}, "dem: dem.tif does not overlap the zone"),
        ({"latitude": 45}, "latitude: 45 is not that of the zone"),
        (HOT, "stations: hot.tsv: t01 is from 61 to 69"),
    ],
)
def test_a_run_with_bad_data_ends_before_anything_long(
    changes: dict[str, Any], message: str, data: Path, tmp_path: Path
) -> None:
    for path in (*data.glob("*.tif"), *data.glob("*.tsv")):
        shutil.copy(path, tmp_path)
    settings(tmp_path, **changes)
    done = snakemake(tmp_path, "direct")
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert not list(tmp_path.glob("results/radiation/*/*/direct.*"))
    assert not list(tmp_path.glob("results/flat/*/flat.tsv"))
    assert not list(tmp_path.glob("results/fields/*/*.sdat"))
