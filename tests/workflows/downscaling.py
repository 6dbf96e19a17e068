"""The R code of workflows/downscaling, called from tests."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "downscaling"
SCRIPTS = WORKFLOW / "workflow" / "scripts"
#: Snakemake's arguments for the quick configuration; what follows are settings of it.
QUICK = (
    "--snakefile",
    str(WORKFLOW / "workflow" / "Snakefile"),
    "--configfile",
    str(WORKFLOW / ".test" / "config" / "config.yaml"),
    "--config",
)
NODATA = -99999.0
Key = TypeVar("Key")
#: Where R has its packages; to ask R itself takes long on a busy machine.
_LIBRARIES = ("/usr/lib/R/site-library", "/usr/local/lib/R/site-library", *os.environ.get("R_LIBS_USER", "").split(":"))
MISSING = [tool for tool in ("Rscript", "saga_cmd") if shutil.which(tool) is None]
MISSING += ["terra"] * (not any(Path(folder, "terra").is_dir() for folder in _LIBRARIES if folder))

NEEDS_SAGA = [
    pytest.mark.saga,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"not installed: {', '.join(MISSING)} (apt: saga r-base-core r-cran-terra r-cran-codetools)",
    ),
]


def needs_saga(test: Callable[..., None]) -> Callable[..., None]:
    """Mark one test of a module in which not all need it."""
    for mark in NEEDS_SAGA:
        test = mark(test)
    return test


def run_r(code: str, cwd: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run R code that sees all of the workflow's shared functions."""
    source = f'for (f in list.files("{SCRIPTS}/lib", "[.]R$", full.names = TRUE)) source(f)'
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = ["Rscript", "--vanilla", "-e", source, "-e", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def radiation(
    cwd: Path, out: str, tile: str = "r1c1", tiles: int = 1, path: str | None = None, **changes: object
) -> subprocess.CompletedProcess[str]:
    """Run the workflow's long job on cwd/dem.sgrd, as the rule does, with a halo over the whole zone."""
    (cwd / out).mkdir()
    settings = {
        "dem": "dem.sdat", "tile": tile, "tiles": tiles, "year": 2018, "month": "01",
        "latitude": 40.4, "halo": 8000, "directions": 8, "hour_step": 2, "transmittance": 70,
        "direct": f"{out}/direct.sdat", "diffuse": f"{out}/diffuse.sdat", "log": f"{out}/log.txt",
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in (settings | changes).items()]
    environment = {**os.environ, "PATH": path or os.environ["PATH"]}
    command = ["Rscript", "--vanilla", str(SCRIPTS / "radiation.R"), *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


def saga_that(folder: Path, before: str = "", after: str = "") -> str:
    """A PATH on which saga_cmd is the real one with shell code before and after it."""
    wrapper = folder / "bin" / "saga_cmd"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/bash\n{before}\n"{shutil.which("saga_cmd")}" "$@"\nstatus=$?\n{after}\nexit $status\n')
    wrapper.chmod(0o755)
    return f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}"


def numbers_of_r(code: str, cwd: Path) -> list[float]:
    """The numbers that R code prints with cat()."""
    done = run_r(code, cwd)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def numbers_of_many(codes: Mapping[Key, str], cwd: Path) -> dict[Key, list[float]]:
    """The numbers of several pieces of R code, two at a time, each in a folder of its own."""

    def one(numbered: tuple[int, str]) -> list[float]:
        number, code = numbered
        folder = cwd / f"r{number}"
        folder.mkdir()
        return numbers_of_r(code, folder)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(codes, pool.map(one, enumerate(codes.values())), strict=True))


def raster(path: Path) -> list[float]:
    """The float32 values of a .sdat, south to north, west to east."""
    data = path.read_bytes()
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def header(path: Path) -> dict[str, str]:
    """The lines of a .sgrd; SAGA writes Latin-1."""
    lines = path.read_text(encoding="latin-1").splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def block(values: list[float], columns: int, rows: range, cols: range) -> list[float]:
    """The cells of a rectangle of a raster."""
    return [values[row * columns + col] for row in rows for col in cols]
