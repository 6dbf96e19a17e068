"""Time, memory, segments and image sizes of a run, before it is started.

The model, measured with SAGA 8.5.0 on one core (README.md says where it holds):

    seconds of a radiation job = 2 + cells * (steps * k * season + directions * radius / cell * 1.2e-8)
    memory                     = 250 MB + 30 bytes * cells
    image                      = 140 MB + 24 bytes * cells        (measured: 20 to 29 bytes)
    segments                   = seconds / (walltime - 2 * (0.5 s + image / save rate)), rounded up

    cells   of the tile with its halo                  steps   days * (24 / hour_step + 1)
    k       1.1e-7 s at 25 m, 1.0e-7 at 50, 0.9e-7 at 100     season  1 in midwinter to 1.25 in midsummer

The workflow's own rules take their `mem_mb` and `runtime` from here.
"""

from __future__ import annotations

import argparse
import calendar
import math
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

WORKFLOW = Path(__file__).resolve().parents[2]
BAND_CELLS = 2e6  # of lib/bands.R
DEGREE = 111_200.0  # m
SAVE_OVERHEAD = 0.5  # s: a supervisor's start, manifest and syncs; measured 0.1 to 0.4 (benchmarks/README.md)


@dataclass(frozen=True)
class Zone:
    """The results' grid, and the relief around it that is in memory only while it is imported."""

    rows: int
    columns: int
    beyond: int  # cells of halo outside the zone on every side

    @property
    def cells(self) -> int:
        """All of them, without what is beyond."""
        return self.rows * self.columns

    @property
    def around(self) -> int:
        """All of them, with what is beyond."""
        return (self.rows + 2 * self.beyond) * (self.columns + 2 * self.beyond)


Config = Mapping[str, Any]


def tile_counts(config: Config) -> tuple[int, int]:
    """Rows and columns of tiles."""
    tiles = config["tiles"]
    rows, columns = tiles if isinstance(tiles, list) else (tiles, tiles)
    return int(rows), int(columns)


def zone_of(config: Config, dem: Path | None = None, imported: Path | None = None) -> Zone | None:
    """The grid of the results: by the extent, the imported relief, or (roughly) the header of a GeoTIFF."""
    cell = config["cell"]
    if config.get("extent"):
        west, east, south, north = config["extent"]
        return Zone(round((north - south) / cell), round((east - west) / cell), math.ceil(config["halo"] / cell))
    if imported and imported.is_file():
        text = imported.read_text(errors="replace")
        counts = dict(re.findall(r"(CELLCOUNT_[XY])\s*= *(\d+)", text))
        if len(counts) == 2:
            return Zone(int(counts["CELLCOUNT_Y"]), int(counts["CELLCOUNT_X"]), 0)
    size = geotiff_size(dem) if dem else None
    return Zone(math.ceil(size[0] / cell), math.ceil(size[1] / cell), 0) if size else None


def geotiff_size(path: Path) -> tuple[float, float] | None:
    """Height and width (m) of a little-endian GeoTIFF by its header; none when that does not say."""
    with path.open("rb") as file:
        head = file.read(8)
        if head[:4] != b"II*\0":
            return None
        file.seek(struct.unpack("<I", head[4:])[0])
        tags = {}
        for _ in range(struct.unpack("<H", file.read(2))[0]):
            tag, kind, count, value = struct.unpack("<HHI4s", file.read(12))
            tags[tag] = (kind, count, value)

        def doubles(tag: int, count: int) -> tuple[float, ...]:
            file.seek(struct.unpack("<I", tags[tag][2])[0])
            return struct.unpack(f"<{count}d", file.read(8 * count))

        def integer(tag: int) -> int:
            kind, _, value = tags[tag]
            return int(struct.unpack("<H2x" if kind == 3 else "<I", value)[0])

        if not {256, 257, 33550, 33922} <= tags.keys():
            return None
        columns, rows = integer(256), integer(257)
        dx, dy = doubles(33550, 2)
        north = doubles(33922, 6)[4]
        if dx > 0.1:
            return rows * dy, columns * dx
        return rows * dy * DEGREE, columns * dx * DEGREE * math.cos(math.radians(north - rows * dy / 2))


def window_cells(config: Config, zone: Zone, tile: str) -> int:
    """Cells of a tile with its halo, as lib/tiles.R cuts them."""
    halo = math.ceil(float(config["halo"]) / float(config["cell"]))
    place = [int(number) for number in tile[1:].split("c")]
    sides = []
    for size, count, index in zip((zone.rows, zone.columns), tile_counts(config), place, strict=True):
        first, last = round(size * (index - 1) / count) - halo, round(size * index / count) + halo
        sides.append(min(size + zone.beyond, last) - max(-zone.beyond, first))
    return sides[0] * sides[1]


def tiles_of(config: Config) -> list[str]:
    """Names of all tiles."""
    rows, columns = tile_counts(config)
    return [f"r{row}c{column}" for row in range(1, rows + 1) for column in range(1, columns + 1)]


def steps(config: Config, month: int) -> int:
    """Instants of a month for which SAGA computes the sun; 0 h and 24 h both count."""
    days = calendar.monthrange(config["year"], month)[1]
    return days * (math.floor(24 / float(config["hour_step"]) + 1e-9) + 1)


def season(config: Config, month: int) -> float:
    """Long days cost more: 1 in midwinter, 1.25 in midsummer."""
    south = isinstance(config["latitude"], int | float) and config["latitude"] < 0
    phase = (month - 0.5) / 12 + (0.5 if south else 0)
    return 1 + 0.25 * (1 - math.cos(2 * math.pi * phase)) / 2


def step_seconds(cell: float) -> float:
    """The k of the model: seconds for a cell and an instant."""
    return 1e-7 * min(1.2, max(0.8, 1.1 - 0.1 * math.log2(cell / 25)))


def radiation_seconds(config: Config, cells: int, month: int) -> float:
    """Computing time of a radiation job."""
    sun = steps(config, month) * step_seconds(config["cell"]) * season(config, month)
    sky = float(config["sky_directions"]) * float(config["halo"]) / float(config["cell"]) * 1.2e-8
    return 2 + cells * (sun + sky)


def radiation_mb(cells: int) -> float:
    """Memory of a radiation job: R, sh and saga_cmd."""
    return 250 + 30e-6 * cells


def image_mb(cells: int) -> float:
    """What a save of a radiation job writes."""
    return 140 + 24e-6 * cells


def save_seconds(cells: int, rate_mb: float) -> float:
    """What a save costs, and as much a restore."""
    return SAVE_OVERHEAD + image_mb(cells) / rate_mb


def segments(seconds: float, cells: int, walltime: float, rate_mb: float) -> int:
    """Batch jobs that a radiation job needs; 0: the walltime leaves it no time between restore and save."""
    if seconds <= walltime:
        return 1
    usable = walltime - 2 * save_seconds(cells, rate_mb)
    return math.ceil(seconds / usable) if usable > 0 else 0


def rule_mb(config: Config, zone: Zone | None, rule: str, tile: str = "r1c1") -> int:
    """Memory (MB) to ask for a job of a rule, a tenth more than the model says."""
    if rule == "radiation" and config.get("radiation_mem_mb"):
        return int(config["radiation_mem_mb"])
    if zone is None:
        return {"radiation": 2000, "import_relief": 4000}.get(rule, 1500)
    cell_km = float(config["cell"]) / 1000
    coarse = zone.cells * cell_km**2
    tile_columns = zone.columns / tile_counts(config)[1]
    needed = {
        # Without an extent R looks at the whole relief to cut its empty edges.
        "import_relief": 300 + 24e-6 * zone.around + (0 if config.get("extent") else 70e-6 * zone.cells),
        "import_fields": 300 + 100e-6 * coarse,
        "climate": 250 + 2000e-6 * coarse,
        "flat_reference": 300,
        "radiation": radiation_mb(window_cells(config, zone, tile)),
        "temperature": 250 + 300e-6 * BAND_CELLS + 80e-6 * zone.rows * cell_km * tile_columns,
        "mosaic": 250 + 100e-6 * BAND_CELLS,
    }[rule]
    return 100 * math.ceil(needed * 1.1 / 100)


def rule_minutes(config: Config, zone: Zone | None, rule: str, tile: str = "r1c1", month: int = 7) -> int:
    """Minutes to ask for a job of a rule: half as much again as the model, and no more than `walltime`."""
    longest = int(60 * config["walltime"])
    if zone is None:
        return longest
    tile_cells = zone.cells / math.prod(tile_counts(config))
    needed = {
        "import_relief": 60 + 10e-6 * zone.around,
        "flat_reference": 60 + 12 * (tile_counts(config)[0] if config["latitude"] == "row" else 1),
        "radiation": radiation_seconds(config, window_cells(config, zone, tile), month),
        "temperature": 30 + 10e-6 * tile_cells,
        "mosaic": 30 + 1e-6 * zone.cells,
    }.get(rule, 300.0)
    return min(longest, 5 + math.ceil(1.5 * needed / 60))


# The command


@dataclass(frozen=True)
class Job:
    """A radiation job by the model."""

    month: int
    cells: int
    seconds: float
    segments: int


def jobs(config: Config, zone: Zone, walltime: float, rate_mb: float) -> Iterator[Job]:
    """All radiation jobs."""
    for month in sorted(config["months"]):
        for tile in tiles_of(config):
            cells = window_cells(config, zone, tile)
            seconds = radiation_seconds(config, cells, month)
            yield Job(month, cells, seconds, segments(seconds, cells, walltime, rate_mb))


def duration(seconds: float) -> str:
    """Seconds for people."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def size(mb: float) -> str:
    """Megabytes for people."""
    return f"{mb / 1000:.1f} GB" if mb >= 2000 else f"{mb:.0f} MB"


def span(values: list[float], text: Any) -> str:
    """Smallest to largest, once when they are the same."""
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"


def table(config: Config, zone: Zone, walltime: float, rate_mb: float, parallel: int) -> list[tuple[str, str]]:
    """What the command prints, line by line."""
    found = list(jobs(config, zone, walltime, rate_mb))
    images = [image_mb(job.cells) for job in found]
    total = sum(job.seconds for job in found)
    cut = [job.segments for job in found]
    seconds = [job.seconds for job in found]
    whole = dict(config) | {"tiles": 1}
    uncut = max(jobs(whole, zone, walltime, rate_mb), key=lambda job: job.seconds)
    results = 4e-6 * zone.cells * len(config["months"]) * 10
    impossible = "the walltime is too short for a save and a restore"
    return [
        ("zone", f"{zone.columns} x {zone.rows} cells of {config['cell']:g} m, {zone.cells / 1e6:.1f} million"),
        (
            "radiation jobs",
            f"{len(found)}, each {span([job.cells / 1e6 for job in found], '{:.2f}'.format)} million cells",
        ),
        ("time of one", span(seconds, duration)),
        ("memory of one", span([radiation_mb(job.cells) for job in found], size)),
        ("image of one", span(images, size)),
        (
            f"segments of {duration(walltime)}",
            span([float(n) for n in cut], "{:.0f}".format) if min(cut) else impossible,
        ),
        ("saves in all", str(sum(n - 1 for n in cut)) if min(cut) else "-"),
        ("images on disk", f"{size(2 * parallel * max(images))} at most: two for each of {parallel} jobs at a time"),
        (
            "computing in all",
            f"{duration(total)} of one core, {duration(total / parallel)} with {parallel} jobs at a time",
        ),
        ("import of the relief", f"{size(rule_mb(config, zone, 'import_relief'))}"),
        ("results on disk", size(results)),
        (
            "one job a month (tiles: 1)",
            f"{duration(uncut.seconds)}, {size(radiation_mb(uncut.cells))}, "
            f"image {size(image_mb(uncut.cells))}, {uncut.segments or 'too many'} segments",
        ),
    ]


def read_config(path: Path) -> dict[str, Any]:
    """A configuration with the schema's defaults."""
    schema = yaml.safe_load((WORKFLOW / "workflow" / "schemas" / "config.schema.yaml").read_text())
    config = {key: value["default"] for key, value in schema["properties"].items() if "default" in value}
    return config | dict(yaml.safe_load(path.read_text()))


def seconds_of(text: str) -> float:
    """A duration as 90s, 30m, 48h or 2d."""
    match = re.fullmatch(r"([\d.]+)([smhd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is not a duration as 90s, 30m, 48h or 2d")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def main() -> int:
    """Print the estimate of a configuration."""
    description = (__doc__ or "").replace("%", "%%")
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, default=WORKFLOW / "config" / "config.yaml")
    parser.add_argument("--directory", type=Path, default=Path(), help="of the run: where its relief may be already")
    parser.add_argument(
        "--walltime", type=seconds_of, help="of a batch job, as 90s or 48h (default: of the configuration)"
    )
    parser.add_argument("--save-rate", type=float, default=200, help="MB/s to the shared disk (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="jobs at a time (default: %(default)s)")
    arguments = parser.parse_args()
    config = read_config(arguments.configfile)
    walltime = arguments.walltime or 3600 * (config["walltime"] or 48)
    places = [arguments.directory / config["dem"], WORKFLOW / config["dem"]]
    dem = next((place for place in places if place.is_file()), None)
    zone = zone_of(config, dem, arguments.directory / "results" / "relief" / "dem.sgrd")
    if zone is None:
        sys.exit("estimate: how large is the zone? Set extent in the configuration, or import the relief first")
    for name, value in table(config, zone, walltime, arguments.save_rate, arguments.jobs):
        print(f"{name:28}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
