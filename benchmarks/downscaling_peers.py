"""The long job of workflows/downscaling beside its alternatives, on the same relief in one run.

``python benchmarks/downscaling_peers.py [--cell 200] [--months 1 7] [--cores 1] [--topocalc-python PYTHON]``

* a month in one call of SAGA (what the workflow does),
* split by day: one job a day and their sum, as a shell loop and as a Snakemake workflow of 33 jobs,
* GRASS r.sun (Debian: grass-core), every day of the month, sum of the days,
* topocalc's sky view factor (Python package), with the Python that has it.

What is not installed is left out. CPU seconds are the user's and the system's of all processes; elapsed ones suffer
from neighbours.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from calendar import monthrange
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = ROOT / "workflows" / "downscaling"
YEAR, LATITUDE, RADIUS, DIRECTIONS = 2018, 40.36, 4000, 16
NODATA = -99999.0

BY_DAY = """
DAYS = [f"{{day:02d}}" for day in range(1, {days} + 1)]
rule sum:
    input: expand("day{{day}}/direct.sdat", day=DAYS)
    output: "direct.sdat"
    shell: "Rscript --vanilla sum.R {days}"
rule sky:
    input: "dem.sdat"
    output: "svf.sdat"
    shell: "Rscript --vanilla sky.R"
rule day:
    input: "dem.sdat", "svf.sdat"
    output: "day{{day}}/direct.sdat"
    shell: "bash day.sh {{wildcards.day}}"
"""

# The sum of the days as SAGA makes it: rounded to float32 after each day.
SUM_R = """
float <- function(v) readBin(writeBin(v, raw(), size = 4L), "double", length(v), size = 4L)
days <- sprintf("%02d", seq_len(as.integer(commandArgs(TRUE)[1])))
for (what in c("direct", "diffuse")) {
  total <- 0
  for (day in days) {
    path <- sprintf("day%s/%s.sdat", day, what)
    values <- readBin(path, "double", file.size(path) / 4, size = 4L)
    values[values < 0] <- 0
    total <- float(total + values)
  }
  writeBin(total, paste0(what, ".sdat"), size = 4L)
}
"""

# One call without R. DAY with a time: without it SAGA 8.5 computes today.
DAY_SH = """
mkdir -p day$1
TZ=UTC saga_cmd -f=q -c=1 ta_lighting 2 -GRD_DEM=dem.sgrd -GRD_SVF=svf.sgrd -GRD_DIRECT=day$1/direct.sgrd \\
  -GRD_DIFFUS=day$1/diffuse.sgrd -SOLARCONST=1367 -LOCALSVF=1 -UNITS=0 -SHADOW=0 -LOCATION=0 -LATITUDE={latitude} \\
  -PERIOD=1 "-DAY={year}-{month:02d}-$1 00:00" -HOUR_RANGE_MIN=0 -HOUR_RANGE_MAX=24 -HOUR_STEP=0.5 \\
  -METHOD=2 -LUMPED=70 \\
  > day$1/log 2>&1 && grep -q "id=.DAY. .*>{year}-{month:02d}-$1<" day$1/direct.mgrd
"""

R_SUN = """
set -e
r.in.gdal --quiet -o input={dem} output=dem
g.region raster=dem
r.slope.aspect --quiet elevation=dem slope=slope aspect=aspect

for day in {days}; do
  r.sun --quiet elevation=dem slope=slope aspect=aspect day=$day step=0.5 linke_value=3 nprocs=1 \\
    beam_rad=beam$day diff_rad=diff$day
done
for part in beam diff; do
  r.series --quiet input=$(for day in {days}; do printf '%s%s,' $part $day; done | sed 's/,$//') output=$part method=sum
  r.out.bin --quiet -f input=$part output=$part.bin null={nodata} bytes=4
done
"""

TOPOCALC = """
import sys, numpy
from topocalc.viewf import viewf
rows, columns, cell = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
dem = numpy.fromfile("dem.sdat", "<f4").reshape(rows, columns)[::-1].astype("float64")
svf, _ = viewf(numpy.ascontiguousarray(dem), cell, nangles=int(sys.argv[4]))
svf[::-1].astype("<f4").tofile("topocalc.bin")
"""


@dataclass
class Cost:
    """What commands cost: CPU and elapsed seconds."""

    cpu: float
    elapsed: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu + other.cpu, self.elapsed + other.elapsed)

    def line(self, unit: Cost) -> str:
        return f"{self.cpu:8.1f} {self.elapsed:8.1f} {self.cpu / unit.cpu:7.2f}"


def run(command: list[str], folder: Path, check: bool = True) -> Cost:
    """Run a command to its end; its output goes to a log in its folder."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with (folder / "commands.log").open("ab") as log:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if check and done.returncode:
        raise SystemExit(f"{command[:4]} failed:\n" + (folder / "commands.log").read_text(errors="replace")[-2000:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.monotonic() - start)


def r_with_lib(workflow: Path, code: str) -> list[str]:
    lib = workflow / "workflow" / "scripts" / "lib"
    source = f'for (f in list.files("{lib}", "[.]R$", full.names = TRUE)) source(f)'
    return ["Rscript", "--vanilla", "-e", source, "-e", code]


def snakemake(*words: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *words]


def values(path: Path) -> array[float]:
    numbers = array("f")
    numbers.frombytes(path.read_bytes())
    return numbers


def flipped(numbers: array[float], columns: int) -> array[float]:
    """A raster from north to south as one from south to north."""
    out = array("f")
    for start in range(len(numbers) - columns, -1, -columns):
        out.extend(numbers[start : start + columns])
    return out


def compare(ours: array[float], theirs: array[float], relief: array[float]) -> tuple[float, float, float, float]:
    """Correlation, both means and the largest difference over the cells that both have."""
    pairs = [
        (a, b)
        for a, b, z in zip(ours, theirs, relief, strict=True)
        if z != NODATA and b != NODATA and not math.isnan(b)
    ]
    mean_a, mean_b = (sum(pair[i] for pair in pairs) / len(pairs) for i in (0, 1))
    products = [0.0, 0.0, 0.0]
    for a, b in pairs:
        products[0] += (a - mean_a) * (b - mean_b)
        products[1] += (a - mean_a) ** 2
        products[2] += (b - mean_b) ** 2
    correlation = products[0] / math.sqrt(products[1] * products[2]) if products[1] and products[2] else math.nan
    return correlation, mean_a, mean_b, max(abs(a - b) for a, b in pairs)


def make_relief(workflow: Path, cell: int, folder: Path) -> tuple[int, int]:
    """The workflow's own relief on its grid; returns rows and columns."""
    folder.mkdir()
    # Not a rule's environment: the number of cells is all that matters.
    run(
        [
            *snakemake("-s", str(workflow / "workflow" / "Snakefile"), "--cores", "1", "--directory", str(folder)),
            "results/relief/dem.sdat", "--config", f"cell={cell}",
        ],
        folder,
    )  # fmt: skip
    for extension in ("sdat", "sgrd", "prj"):
        shutil.copy(folder / "results" / "relief" / f"dem.{extension}", folder / f"dem.{extension}")
    header = dict(line.split("\t= ", 1) for line in (folder / "dem.sgrd").read_text().splitlines() if "\t= " in line)
    return int(header["CELLCOUNT_Y"]), int(header["CELLCOUNT_X"])


def copy_relief(source: Path, folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        for extension in ("sdat", "sgrd", "prj"):
            shutil.copy(source / f"{name}.{extension}", folder / f"{name}.{extension}")
    return folder


def sky_code() -> str:
    return f'sky_view("dem.sgrd", "visible.sgrd", "svf.sgrd", {RADIUS}, {DIRECTIONS}, "log")'


def in_one_call(workflow: Path, relief: Path, month: int, folder: Path) -> tuple[Cost, Cost]:
    """Sky view factor and month as the workflow computes them: two calls of SAGA from R."""
    copy_relief(relief, folder, "dem")
    sky = run(r_with_lib(workflow, sky_code()), folder)
    site = f"list(latitude = {LATITUDE}, hour_step = 0.5, transmittance = 70)"
    code = f'sun_of_month("dem.sgrd", "svf.sgrd", "direct.sgrd", "diffuse.sgrd", {YEAR}, {month}, {site}, "log")'
    return sky, run(r_with_lib(workflow, code), folder)


def by_day(workflow: Path, ours: Path, month: int, cores: int, folder: Path) -> tuple[Cost, Cost]:
    """A call a day and the sum: in a loop (sky view factor given), and as jobs of Snakemake (with it)."""
    days = monthrange(YEAR, month)[1]
    costs = []
    for name in ("loop", "jobs"):
        place = copy_relief(ours, folder / name, "dem", *(["svf"] if name == "loop" else []))
        (place / "sum.R").write_text(SUM_R)
        (place / "day.sh").write_text(DAY_SH.format(latitude=LATITUDE, year=YEAR, month=month))
        (place / "sky.R").write_text(r_with_lib(workflow, "")[3] + "\n" + sky_code() + "\n")
        (place / "Snakefile").write_text(BY_DAY.format(days=days))
        if name == "loop":
            loop = f"for day in $(seq -w 1 {days}); do bash day.sh $day || exit 1; done; Rscript --vanilla sum.R {days}"
            costs.append(run(["bash", "-c", loop], place))
        else:
            costs.append(run(snakemake("--cores", str(cores), "--quiet", "all"), place))
        for what in ("direct", "diffuse"):
            same = (place / f"{what}.sdat").read_bytes() == (ours / f"{what}.sdat").read_bytes()
            difference = max(
                abs(a - b) for a, b in zip(values(place / f"{what}.sdat"), values(ours / f"{what}.sdat"), strict=True)
            )
            print(
                f"  sum of {days} days ({name}), {what}: same bytes {same}, largest difference {difference:.3g} kWh/m2"
            )
    return costs[0], costs[1]


def r_sun(relief: Path, month: int, folder: Path) -> Cost:
    """Every day of the month by GRASS, kWh/m2 in beam.bin and diff.bin (from north to south)."""
    folder.mkdir()
    first = sum(monthrange(YEAR, earlier)[1] for earlier in range(1, month))
    days = " ".join(str(first + day) for day in range(1, monthrange(YEAR, month)[1] + 1))
    script = folder / "sun.sh"
    script.write_text(R_SUN.format(dem=relief / "dem.sdat", days=days, nodata=NODATA))
    return run(["grass", "--tmp-location", str(relief / "dem.sdat"), "--exec", "bash", str(script)], folder)


def show_r_sun(ours: Path, theirs: Path, columns: int) -> None:
    relief = values(ours / "dem.sdat")
    for what, name in (("direct", "beam"), ("diffuse", "diff")):
        other = flipped(values(theirs / f"{name}.bin"), columns)
        other = array("f", (value / 1000 if value != NODATA else value for value in other))
        correlation, mean, theirs_mean, _ = compare(values(ours / f"{what}.sdat"), other, relief)
        print(
            f"  {what}: SAGA {mean:.2f}, r.sun {theirs_mean:.2f} kWh/m2 in the mean "
            f"({theirs_mean / mean - 1:+.1%}), r = {correlation:.4f}"
        )


def topocalc(python: str, ours: Path, size: tuple[int, int], cell: int) -> Cost:
    script = ours / "topocalc_svf.py"
    script.write_text(TOPOCALC)
    return run([python, str(script), str(size[0]), str(size[1]), str(cell), str(DIRECTIONS)], ours)


def show_month(label: str, sky: Cost, whole: Cost, rows: list[tuple[str, Cost]]) -> None:
    print(f"\n{label:44} {'CPU s':>8} {'elapsed':>8} {'ratio':>7}")
    unit = sky + whole
    ours = [("SAGA, month in one call (with sky view)", unit), ("  of this the sky view factor", sky)]
    for name, cost in [*ours, *rows]:
        print(f"{name:44} {cost.line(unit)}")


def main() -> int:
    """Run all that is installed and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", type=int, default=200, help="m")
    parser.add_argument("--months", type=int, nargs="+", default=[1, 7])
    parser.add_argument("--cores", type=int, default=1, help="for the jobs of the split by day")
    parser.add_argument("--workflow", type=Path, default=WORKFLOW)
    parser.add_argument("--topocalc-python", default=sys.executable)
    arguments = parser.parse_args()
    workflow: Path = arguments.workflow.resolve()
    with tempfile.TemporaryDirectory(prefix="ckpt-peers-") as name:
        base = Path(name)
        size = make_relief(workflow, arguments.cell, base / "relief")
        print(f"relief: {size[0]} x {size[1]} cells of {arguments.cell} m; {os.cpu_count()} cores")
        for month in arguments.months:
            print(f"\nmonth {month}")
            folder = base / f"month{month}"
            folder.mkdir()
            ours = folder / "ours"
            sky, whole = in_one_call(workflow, base / "relief", month, ours)
            rows = []
            loop, jobs = by_day(workflow, ours, month, arguments.cores, folder)
            rows.append(("split by day, a loop (with the same sky view)", loop + sky))
            rows.append((f"split by day, Snakemake's jobs ({arguments.cores} at once)", jobs))
            if shutil.which("grass"):
                rows.append(("GRASS r.sun, day by day", r_sun(base / "relief", month, folder / "grass")))
                show_r_sun(ours, folder / "grass", size[1])
            show_month(f"month {month}", sky, whole, rows)
        has = importlib.util.find_spec("topocalc") or arguments.topocalc_python != sys.executable
        if has:
            cost = topocalc(arguments.topocalc_python, ours, size, arguments.cell)
            found = compare(values(ours / "svf.sdat"), values(ours / "topocalc.bin"), values(ours / "dem.sdat"))
            print(
                f"\nsky view factor: SAGA {found[1]:.4f}, topocalc {found[2]:.4f} in the mean, largest difference "
                f"{found[3]:.3f}, r = {found[0]:.4f}; {sky.cpu:.1f} and {cost.cpu:.1f} s of CPU"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
