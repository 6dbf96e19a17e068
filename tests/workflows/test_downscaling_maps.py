"""The maps of workflows/downscaling: colours that all eyes can tell apart, pages that hold what they must, any size."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from .downscaling import SCRIPTS

pytestmark = [
    pytest.mark.saga,
    pytest.mark.skipif(shutil.which("Rscript") is None, reason="not installed: Rscript (apt: r-base-core)"),
]

Colour = tuple[float, float, float]

#: Linear RGB as seen without one kind of cones: Machado, Oliveira & Fernandes (2009), IEEE Trans. Vis. Comput.
#: Graph. 15, 1291-1298, severity 1.0.
SIGHT = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
SEQUENTIAL = ("thermal", "sunlight")
TWO_SIDED = ("blue_red", "purple_orange")


def r(code: str, cwd: Path) -> str:
    """What R prints, knowing the functions of the maps."""
    names = ("grid", "bands", "physics", "palettes", "thinned", "maps")
    source = "; ".join(f'source("{SCRIPTS}/lib/{name}.R")' for name in names)
    done = subprocess.run(
        ["Rscript", "--vanilla", "-e", source, "-e", code], cwd=cwd, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- colours --------------------------------------------------------------------------------------------------------


def linear(colour: str) -> Colour:
    """A colour #RRGGBB as linear RGB."""
    values = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return red, green, blue


def seen(colour: Colour, sight: str) -> Colour:
    """The same without some cones."""
    red, green, blue = (
        min(1.0, max(0.0, sum(a * b for a, b in zip(row, colour, strict=True)))) for row in SIGHT[sight]
    )
    return red, green, blue


def lab(colour: Colour) -> Colour:
    """CIE L*a*b* under D65: equal distances look about equally different."""
    rows = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    white = (0.95047, 1.0, 1.08883)
    xyz = [sum(a * b for a, b in zip(row, colour, strict=True)) / w for row, w in zip(rows, white, strict=True)]
    x, y, z = (v ** (1 / 3) if v > (6 / 29) ** 3 else v * (29 / 6) ** 2 / 3 + 4 / 29 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.fixture(scope="module")
def palettes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """17 colours of each palette."""
    code = 'for (name in names(PALETTES)) cat(name, palette_colours(name, 17), "\\n")'
    lines = [line.split() for line in r(code, tmp_path_factory.mktemp("palettes")).splitlines()]
    return {name: colours for name, *colours in lines}


def steps(values: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(values)]


def test_every_kind_of_map_has_one_of_the_tested_palettes(palettes: dict[str, list[str]], tmp_path: Path) -> None:
    used = r('for (s in STYLES) cat(s$palette, is.null(s$centre), "\\n")', tmp_path).split()
    assert set(palettes) == {*SEQUENTIAL, *TWO_SIDED}
    assert {(name, one == "TRUE") for name, one in zip(used[::2], used[1::2], strict=True)} == {
        *((name, True) for name in SEQUENTIAL),
        *((name, False) for name in TWO_SIDED),
    }


def test_the_simulated_sight_is_the_published_one() -> None:
    # Red and green of the same lightness are one colour without green cones; white stays white.
    red, green = (lab(seen(linear(colour), "deuteranopia")) for colour in ("#C83C3C", "#7F7A00"))
    assert math.dist(red, green) < 0.45 * math.dist(lab(linear("#C83C3C")), lab(linear("#7F7A00")))
    for sight in SIGHT:
        assert math.dist(lab(seen(linear("#FFFFFF"), sight)), (100, 0, 0)) < 0.1


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_one_sided_scale_grows_lighter_at_every_step(name: str, sight: str, palettes: dict[str, list[str]]) -> None:
    colours = [lab(seen(linear(colour), sight)) for colour in palettes[name]]
    assert min(steps([colour[0] for colour in colours])) > 1.5
    assert colours[-1][0] - colours[0][0] > 70
    apart = [math.dist(a, b) for a, b in itertools.pairwise(colours[::2])]
    assert min(apart) > 7


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("name", TWO_SIDED)
def test_a_two_sided_scale_darkens_to_both_ends_which_stay_apart(
    name: str, sight: str, palettes: dict[str, list[str]]
) -> None:
    colours = [lab(seen(linear(colour), sight)) for colour in palettes[name]]
    middle = len(colours) // 2
    lightness = [colour[0] for colour in colours]
    assert min(steps(lightness[: middle + 1])) > 1.5
    assert max(steps(lightness[middle:])) < -1.5
    mirrored = [math.dist(colours[middle - i], colours[middle + i]) for i in range(2, middle + 1)]
    assert min(mirrored) > 15
    assert math.dist(colours[middle][1:], (0, 0)) < 6  # the centre is white for everybody


# -- scales ---------------------------------------------------------------------------------------------------------


def test_before_and_after_share_a_scale_and_months_do_where_the_style_says_so(tmp_path: Path) -> None:
    code = """
      g <- function(from, to) grid(matrix(seq(from, to, length.out = 100), 10))
      rows <- list(list(g(-10, -5), g(5, 9)), list(g(-12, -4), g(4, 11)))
      for (shared in c(FALSE, TRUE)) for (b in month_breaks(rows, STYLES$temperature, shared)) cat(range(b), "\\n")"""
    own, other, both, same = (tuple(map(float, line.split())) for line in r(code, tmp_path).splitlines())
    assert own[0] <= -11.9 and -4.1 <= own[1] < 0
    assert 0 < other[0] <= 4.1 and other[1] >= 10.9
    assert both == same and both[0] <= -11.9 and both[1] >= 10.9


@pytest.mark.parametrize("short", [1, -1])
def test_both_sides_of_a_centre_have_the_same_steps_of_colour_also_where_one_is_shorter(
    short: int, tmp_path: Path
) -> None:
    code = f"""
      style <- list(palette = "blue_red", centre = 0)
      breaks <- class_breaks(list(grid(matrix({short} * seq(-3, 1, length.out = 100), 10))), style)
      cat(breaks, "\\n"); cat(class_colours(breaks, style), "\\n"); cat(palette_colours("blue_red", 3))"""
    first, second, third = r(code, tmp_path).splitlines()
    breaks, colours, ends = [float(word) for word in first.split()], second.split(), third.split()
    lightness = [lab(linear(colour))[0] for colour in colours]
    zero = breaks.index(0.0)
    assert sorted((-breaks[0], breaks[-1])) == pytest.approx([1.0, 3.0], abs=0.4)
    assert lightness[zero - 1] > 85 and lightness[zero] > 85
    # Only the long side reaches its end of the palette.
    assert colours[0 if short == 1 else -1] == ends[0 if short == 1 else -1]
    assert lightness[-1 if short == 1 else 0] > 60


# -- pages ----------------------------------------------------------------------------------------------------------


def layout(width: int, height: int, months: int, rows: int, shared: bool, cwd: Path) -> dict[str, list[float]]:
    code = f"""
      p <- page_layout({width}, {height}, {months}, {rows}, {str(shared).upper()})
      show <- function(name, v) cat(name, as.numeric(v), "\\n")
      show("page", c(p$width, p$height)); show("columns", p$columns); show("x", p$maps$x); show("y", p$maps$y)
      show("legends", unlist(p$legends)); show("foot", p$foot)"""
    lines = [line.split() for line in r(code, cwd).splitlines()]
    return {name: [float(value) for value in values] for name, *values in lines}


@pytest.mark.parametrize(("months", "columns"), [(1, 1), (2, 2), (3, 3), (5, 3), (12, 4)])
@pytest.mark.parametrize(("rows", "shared"), [(1, True), (2, False)])
def test_nothing_on_a_page_lies_over_anything_else(
    months: int, columns: int, rows: int, shared: bool, tmp_path: Path
) -> None:
    width, height = 300, 360
    page = layout(width, height, months, rows, shared, tmp_path)
    boxes: list[tuple[float, float, float, float]] = [
        (x, y, x + width, y + height) for x, y in zip(page["x"], page["y"], strict=True)
    ]
    count = len(page["legends"]) // 3
    xs, ys, lengths = (page["legends"][i * count : (i + 1) * count] for i in range(3))
    boxes += [(x, y, x + length, y + 45) for x, y, length in zip(xs, ys, lengths, strict=True)]
    boxes.append((0, page["foot"][0], page["page"][0], page["page"][1]))
    assert page["columns"] == [columns]
    assert len(boxes) == months * rows + (1 if shared else months) + 1
    for x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= page["page"][0] and 0 <= y0 < y1 <= page["page"][1]
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)


@pytest.mark.parametrize(("width", "height", "columns"), [(500, 100, 2), (400, 500, 4), (100, 700, 6)])
def test_twelve_months_fill_the_page_of_a_wide_zone_and_of_a_tall_one(
    width: int, height: int, columns: int, tmp_path: Path
) -> None:
    page = layout(width, height, 12, 1, True, tmp_path)
    assert page["columns"] == [columns]
    assert len(set(page["y"])) == 12 / columns
    assert page["page"][0] < 2200 and page["page"][1] < 1900


@pytest.mark.parametrize(("most", "length"), [(1, 1), (4999, 2000), (5000, 5000), (17000, 10000), (250000, 200000)])
def test_the_scale_bar_has_a_round_length(most: float, length: float, tmp_path: Path) -> None:
    assert float(r(f"cat(round_length({most}))", tmp_path)) == length


def pixels(path: Path) -> list[bytes]:
    """The lines of an RGB picture, and a check that the file holds nothing but the picture (no date, no program)."""
    data, at, packed = path.read_bytes()[8:], 0, b""
    width = height = 0
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert kind in (b"IHDR", b"pHYs", b"IDAT", b"IEND"), kind
        if kind == b"IHDR":
            width, height, depth, colours, *_ = struct.unpack(">2I5B", body)
            assert (depth, colours) == (8, 2)
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw, lines, above = zlib.decompress(packed), [], bytes(3 * width)
    for start in range(0, height * (3 * width + 1), 3 * width + 1):
        above = unfiltered(raw[start], bytearray(raw[start + 1 : start + 1 + 3 * width]), above)
        lines.append(above)
    return lines


def unfiltered(kind: int, line: bytearray, above: bytes) -> bytes:
    for i in range(len(line)):
        left, up, corner = (line[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
        line[i] = (line[i] + (0, left, up, (left + up) // 2, paeth(left, up, corner))[kind]) % 256
    return bytes(line)


def paeth(a: int, b: int, c: int) -> int:
    return min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]


def test_a_cell_has_on_the_page_the_colour_of_its_value_at_its_place(tmp_path: Path) -> None:
    code = """
      relief <- grid(matrix(1000, 40, 60), 5e5, 4e6, 100); relief$step <- 1
      value <- relief; value$z[] <- rep(1:60, each = 40); value$z[1, 1] <- NA # the south-west
      map_page("map.png", list(list(value)), relief, STYLES$sun, "May", 180, 200, "100 m")
      edges <- month_breaks(list(list(value)), STYLES$sun, TRUE)[[1]]
      cat(class_colours(edges, STYLES$sun)[findInterval(c(5, 30, 55), edges)])
      p <- page_layout(180, 120, 1, 1, TRUE); cat("", p$maps$x, p$maps$y)"""
    *colours, x, y = r(code, tmp_path).split()
    lines = pixels(tmp_path / "map.png")

    def at(column: int, row_from_north: int) -> str:
        start = 3 * (int(x) + 3 * column + 1)
        return "#" + lines[int(y) + 3 * row_from_north + 1][start : start + 3].hex().upper()

    assert [at(4, 20), at(29, 20), at(54, 20)] == colours
    assert at(0, 39) == "#D9D9D9"  # no relief
    assert at(0, 0) != "#D9D9D9"


# -- sizes ----------------------------------------------------------------------------------------------------------


def header(path: Path, nx: int, ny: int, top_to_bottom: bool = False) -> None:
    lines = {
        "DATAFORMAT": "FLOAT", "BYTEORDER_BIG": "FALSE", "TOPTOBOTTOM": str(top_to_bottom).upper(),
        "POSITION_XMIN": 1000, "POSITION_YMIN": 2000, "CELLCOUNT_X": nx, "CELLCOUNT_Y": ny, "CELLSIZE": 25,
        "NODATA_VALUE": -99999,
    }  # fmt: skip
    path.write_text("".join(f"{key}\t= {value}\n" for key, value in lines.items()))


@pytest.mark.parametrize("top_to_bottom", [False, True])
def test_a_thinned_grid_holds_every_kth_cell_at_its_own_place(top_to_bottom: bool, tmp_path: Path) -> None:
    nx, ny = 11, 7
    header(tmp_path / "g.sgrd", nx, ny, top_to_bottom)
    rows = [[100.0 * row + column for column in range(nx)] for row in range(ny)]  # from the south
    rows[1][4] = -99999.0
    stored = itertools.chain.from_iterable(reversed(rows) if top_to_bottom else rows)
    (tmp_path / "g.sdat").write_bytes(struct.pack(f"<{nx * ny}f", *stored))
    code = 'g <- read_thinned("g", 4, 100); cat(g$x, g$y, g$d, g$step, dim(g$z), t(g$z))'
    x, y, d, step, high, wide, *cells = r(code, tmp_path).split()
    assert (float(x), float(y), float(d), int(step)) == (1000 + 25, 2000 + 25, 75, 3)
    assert (int(high), int(wide)) == (2, 4)
    assert cells == ["101", "NA", "107", "110", "401", "404", "407", "410"]


def test_a_zone_of_a_hundred_million_cells_is_drawn_in_the_memory_of_a_small_one(tmp_path: Path) -> None:
    nx, ny = 12500, 8000
    for name in ("dem", "mosaic"):
        header(tmp_path / f"{name}.sgrd", nx, ny)
        with open(tmp_path / f"{name}.sdat", "wb") as file:
            file.truncate(4 * nx * ny)  # a hole: no disk is used
    code = f"""
      for (name in c("grid", "physics", "palettes", "thinned", "maps")) source(paste0("{SCRIPTS}/lib/", name, ".R"))
      dem <- read_thinned("dem", 520, 780); rows <- list(lapply(rep("mosaic", 12), read_thinned, 520, 780))
      map_page("map.png", rows, dem, STYLES$sun, month.name, 520, 780, "25 m")"""
    with subprocess.Popen(["Rscript", "--vanilla", "-e", code], cwd=tmp_path) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    assert status == 0
    # All cells of one grid alone are 800 MB as R's numbers.
    assert usage.ru_maxrss < 400_000, f"{usage.ru_maxrss} kB"
    width, height = struct.unpack(">2I", (tmp_path / "map.png").read_bytes()[16:24])
    assert width < 2300 and height < 1800


def test_gentle_or_thinned_relief_has_shade_too_and_flat_ground_has_none(tmp_path: Path) -> None:
    code = """
      hill <- function(steep) grid(outer(1:40, 1:40, function(y, x) 100 * steep * (sin(x / 4) + cos(y / 4))), d = 100)
      for (steep in c(0, 0.1, 2)) cat(sd(hillshade(hill(steep))), "")"""
    flat, gentle, steep = map(float, r(code, tmp_path).split())
    assert flat == 0
    assert gentle > 0.08 and steep > 0.08
    assert json.loads(r("cat(hillshade(grid(matrix(0, 3, 3)))[5])", tmp_path)) == pytest.approx(math.sin(math.pi / 4))
