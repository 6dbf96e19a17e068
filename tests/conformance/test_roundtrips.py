"""Real programs, saved and restored at different moments: what they write is what an undisturbed run writes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.engines import Trial, variants
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.errors import EngineError

SAVING = pytest.mark.parametrize("variant", variants(saving=True))
MISSING = [tool for tool in ("Rscript", "saga_cmd") if shutil.which(tool) is None]
NEEDS_SAGA = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (apt: saga r-base-core)")
#: Exit status, what was said, and the content of all files by their names.
Result = tuple[int, str, dict[str, bytes]]
# SAGA writes times into its log and its headers.
NOT_RESULTS = (".log", ".mgrd", ".sgrd", ".prj")


def results(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(NOT_RESULTS)
    }


def undisturbed_and_saved(
    base: Path, variant: str, script: str, when: list[str | float], prepare: Callable[[Path], object] | None = None
) -> None:
    """Run a script as it is, then with a save and a restore at each moment; compare all files and the output.

    A moment is a text that the payload says, or seconds after the last restore.
    """

    def run(number: int, moments: list[str | float]) -> tuple[int, Result]:
        folder = base / f"run-{number}"
        folder.mkdir()
        if prepare:
            prepare(folder)
        with Trial(folder) as trial:
            return _run(trial, variant, script, moments)

    _, whole = run(0, [])
    # On a busy machine the program may be over before this process had its turn.
    tries = (run(number, when) for number in range(1, 4))
    saved = next((result for saves, result in tries if saves >= 2), None)
    assert saved is not None, "the program was over too soon"
    assert saved == whole
    assert whole[0] == 0, whole[1]
    assert whole[2]


def _run(trial: Trial, variant: str, script: str, moments: list[str | float]) -> tuple[int, Result]:
    """How often the program was saved, and its result."""
    engine = trial.engine(variant)
    payload = trial.shell(script, TZ="UTC", LC_ALL="C.UTF-8", OMP_NUM_THREADS="1")
    running = trial.launch(engine, payload)
    saves = 0
    for moment in moments:
        if isinstance(moment, str):
            trial.wait_said(moment)
        else:
            time.sleep(moment)
        if running.poll() is not None:
            break
        folder = trial.image()
        try:
            trial.save(engine, running, folder=folder)
        except EngineError:
            if running.poll() is None:
                raise
            shutil.rmtree(folder)
            break  # it ended in that moment
        running = trial.restore(engine, folder, payload)
        shutil.rmtree(folder)
        saves += 1
    status = trial.wait(running)
    trial.end(running)
    assert not trial.alive()
    return saves, (status, trial.said(), results(trial.folder))


THREADS = """
import hashlib, threading
def work(name):
    digest = hashlib.sha256(name.encode())
    with open("out-" + name, "w") as out:
        for number in range(700000):
            digest.update(digest.digest())
            if number % 1000 == 0:
                out.write(digest.hexdigest() + "\\n")
threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


@SAVING
def test_python_with_threads(tmp_path: Path, variant: str) -> None:
    script = f"cat > t.py <<'E'\n{THREADS}\nE\nexec {sys.executable} t.py"
    undisturbed_and_saved(tmp_path, variant, script, [0.2, 0.1, 0.15])


@SAVING
def test_a_chain_of_pipes(tmp_path: Path, variant: str) -> None:
    script = (
        "(for b in 1 2 3 4 5 6; do seq $((b * 20000)) $((b * 20000 + 19999)); sleep 0.15; done)"
        " | awk '{print ($1 * 7919) % 100003, $1}' | sort -k1,1n -k2,2n | tee sorted | gzip -n > out.gz\n"
        'echo "${PIPESTATUS[@]}"'
    )
    undisturbed_and_saved(tmp_path, variant, script, [0.05, 0.1, 0.2, 0.1])


@SAVING
def test_writers_that_append_and_writers_that_open_anew(tmp_path: Path, variant: str) -> None:
    script = (
        "exec 5>> open; for n in $(seq 120); do echo $n >> appended; echo $n >&5; echo $n > last; echo $n\n"
        "cp last copy.tmp && mv copy.tmp renamed; sleep 0.005; done"
    )
    undisturbed_and_saved(tmp_path, variant, script, ["3\n", "40\n", "80\n", 0.05])


@SAVING
def test_a_daemonised_child(tmp_path: Path, variant: str) -> None:
    script = (
        "(setsid sh -c 'for n in $(seq 60); do echo $n >> daemon; sleep 0.01; done; touch daemon-done' &)\n"
        "echo up; until [ -e daemon-done ]; do sleep 0.01; done; echo seen"
    )
    undisturbed_and_saved(tmp_path, variant, script, ["up", 0.1, 0.1])


MANY = """
import os, resource, time
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
count = min(1200, min(hard, 4096) - 50)
os.mkdir("many")
files = [open(f"many/{n}", "w+") for n in range(count)]
for turn in range(3):
    for n, file in enumerate(files): file.write(f"{turn} {n}\\n")
    print("turn", turn, flush=True)
    time.sleep(0.3)
"""


@SAVING
def test_more_than_a_thousand_open_files(tmp_path: Path, variant: str) -> None:
    script = f"cat > t.py <<'E'\n{MANY}\nE\n{sys.executable} t.py"
    undisturbed_and_saved(tmp_path, variant, script, ["turn 0", "turn 1"])


@SAVING
def test_an_unlinked_open_file_and_a_locked_one(tmp_path: Path, variant: str) -> None:
    code = (
        "import fcntl, os, time\nf = open('ghost', 'w+'); f.write('x' * 100000); f.flush(); os.unlink('ghost')\n"
        "l = open('lock', 'w'); fcntl.lockf(l, fcntl.LOCK_EX)\n"
        "for n in range(60): f.write(str(n)); f.flush(); time.sleep(0.01)\n"
        "f.seek(0); open('out', 'w').write(f.read())"
    )
    script = f"cat > t.py <<'E'\n{code}\nE\n{sys.executable} t.py"
    undisturbed_and_saved(tmp_path, variant, script, [0.15, 0.1, 0.1])


R = """
x <- 1; file <- file("out.txt", "w")
for (n in 1:40) {
  x <- (x * 1103515245 + 12345) %% 2147483648
  writeLines(sprintf("%d %.0f %s", n, x, system(paste0("sleep 0.02; echo child ", n), intern = TRUE)), file)
  cat("n", n, "\\n")
}
close(file)
set.seed(7); m <- matrix(rnorm(40000), 200); write.table(solve(m)[1:5, 1:5], "solved.txt")
"""


@pytest.mark.saga
@NEEDS_SAGA
@SAVING
def test_r_with_children_of_its_own(tmp_path: Path, variant: str) -> None:
    script = f"cat > t.R <<'E'\n{R}\nE\nRscript --vanilla t.R; exit $?"
    undisturbed_and_saved(tmp_path, variant, script, ["n 5 ", "n 15 ", "n 30 ", 0.1])


LIGHTING = """
saga <- "saga_cmd -f=q -c=1"
status <- system(paste(saga, "ta_lighting 3",
  "-DEM=dem.sgrd -VISIBLE=v.sgrd -SVF=svf.sgrd -RADIUS=4000 -NDIRS=8 > saga.log"))
stopifnot(status == 0)
cat("sky\\n")
status <- system(paste(saga, "ta_lighting 2 -GRD_DEM=dem.sgrd -GRD_SVF=svf.sgrd -GRD_DIRECT=direct.sgrd",
  "-GRD_DIFFUS=diffuse.sgrd -LOCATION=0 -LATITUDE=40.37 -PERIOD=2 '-DAY=2018-01-01 00:00'",
  "'-DAY_STOP=2018-01-10 00:00' -DAYS_STEP=1 -HOUR_STEP=0.5 -METHOD=2 -LUMPED=70 -UNITS=0 -SHADOW=0 > saga.log"))
stopifnot(status == 0, file.size("direct.sdat") == 4 * 180 * 180)
cat("radiation\\n")
"""


def _relief(folder: Path) -> None:
    import math
    from array import array

    side = 180
    cells = array("f", (1500 + 600 * math.sin(x / 9) * math.cos(y / 11) for y in range(side) for x in range(side)))
    (folder / "dem.sdat").write_bytes(cells.tobytes())
    (folder / "dem.sgrd").write_text(
        "NAME\t= dem\nDATAFORMAT\t= FLOAT\nDATAFILE_OFFSET\t= 0\nBYTEORDER_BIG\t= FALSE\n"
        "POSITION_XMIN\t= 0.0\nPOSITION_YMIN\t= 0.0\n"
        f"CELLCOUNT_X\t= {side}\nCELLCOUNT_Y\t= {side}\nCELLSIZE\t= 100.0\nZ_FACTOR\t= 1.0\n"
        "NODATA_VALUE\t= -99999.0\nTOPTOBOTTOM\t= FALSE\n"
    )


@pytest.mark.saga
@NEEDS_SAGA
@SAVING
def test_bash_r_and_saga(tmp_path: Path, variant: str) -> None:
    script = f"cat > t.R <<'E'\n{LIGHTING}\nE\nRscript --vanilla t.R; exit $?"
    undisturbed_and_saved(tmp_path, variant, script, [0.4, "sky", 0.3, 0.3], _relief)
    assert wait_for(lambda: (tmp_path / "run-1" / "diffuse.sdat").exists())
