"""`ckpt verify`: whatever is wrong with an image is found and said, and nothing is changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.histories import History, done

from snakemake_executor_plugin_ckpt.cli.main import main
from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.images.manifest import Manifest
from snakemake_executor_plugin_ckpt.images.node import node_class

pytestmark = pytest.mark.usefixtures("no_fsync")

KEY = "count-a-0123456789abcdef"


@pytest.fixture
def job(state: Path) -> History:
    """An unfinished job with two good images."""
    history = History(state, KEY, wildcards="x=a")
    history.saved()
    history.saved(restored_from=1)
    return history


def image(job: History, generation: int) -> Path:
    return generations.path_of(job.folder.images_folder, generation)


def test_good_images_are_said_to_be_good(job: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    said = capsys.readouterr().out
    assert "count (x=a), image 2 (4.4 KiB): ok" in said and "image 1 (4.4 KiB): ok" in said
    assert said.splitlines()[-1].startswith("1 job, 2 images, ") and said.endswith("all good\n")


def _flip(folder: Path) -> None:
    path = folder / "tree" / "pages.img"
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)


def _edit(folder: Path) -> None:
    path = folder / manifest.NAME
    path.write_bytes(path.read_bytes().replace(b"attempt: 1", b"attempt: 2"))


def _resize(folder: Path) -> None:
    os.truncate(folder / "tree" / "pages.img", 100)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (_flip, "damaged: the content of tree/pages.img changed"),
    "a size": (_resize, "damaged: tree/pages.img has 100 bytes instead of 4096"),
    "a file is gone": (lambda folder: (folder / "tree" / "pages.img").unlink(), "incomplete: tree/pages.img"),
    "a file too many": (lambda folder: (folder / "tree" / "new").touch(), "damaged: tree/new does not belong"),
    "no manifest": (lambda folder: (folder / manifest.NAME).unlink(), "incomplete: no readable MANIFEST.yaml"),
    "the manifest": (_edit, "damaged: the checksum of MANIFEST.yaml"),
    "an empty manifest": (lambda folder: (folder / manifest.NAME).write_bytes(b""), "damaged: the checksum"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_every_damage_is_found_and_named(job: History, what: str, capsys: pytest.CaptureFixture[str]) -> None:
    damage, said = BROKEN[what]
    damage(image(job, 2))
    assert main(["verify", "x=a", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    newest, older = data["jobs"][0]["images"]
    assert (newest["good"], older["good"]) == (False, True)
    assert newest["reason"].startswith(said)
    assert data["ok"] is False and data["totals"]["bad"] == 1 and data["jobs"][0]["problem"] is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("job", "another", "foreign: it is of the job another"),
        ("attempt", 7, "stale: it is of attempt 7"),
        ("fingerprint", "old", "stale: the rule's code"),
        ("engine", "dmtcp", "it was saved by the engine dmtcp"),
        ("generation", 9, "damaged: it is image 9 under another name"),
        ("files", {"x": {"size": 3, "sha256": "0"}}, "incomplete: x is missing"),
    ],
)
def test_an_image_that_is_sound_but_not_the_right_one_is_found(
    job: History, field: str, value: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image(job, 2)
    read = replace(manifest.read(folder), **{field: value})  # type: ignore[arg-type]
    if field == "files":
        _seal_as_it_is(folder, read)
    else:
        (folder / manifest.NAME).unlink()
        manifest.write(folder, read)
    assert main(["verify", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["jobs"][0]["images"][0]["reason"].startswith(said)


def _seal_as_it_is(folder: Path, what: Manifest) -> None:
    """A manifest whose own checksum agrees, whatever it says of the files."""
    empty = folder.parent / ".empty"
    empty.mkdir()
    text = replace(what, files={})
    text.unknown = {"files": what.files}
    manifest.write(empty, text)
    shutil.move(empty / manifest.NAME, folder / manifest.NAME)
    empty.rmdir()


def test_a_manifest_that_makes_no_sense_is_refused_without_a_traceback(
    job: History, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image(job, 2)
    _seal_as_it_is(folder, replace(manifest.read(folder), files={"tree/pages.img": 3}))  # type: ignore[dict-item]
    assert main(["verify", "--json"]) == 1
    reason = json.loads(capsys.readouterr().out)["jobs"][0]["images"][0]["reason"]
    assert reason.startswith("damaged: MANIFEST.yaml does not hold what it should")


def test_an_image_of_another_kind_of_node_is_good_and_noted(job: History, capsys: pytest.CaptureFixture[str]) -> None:
    folder = image(job, 2)
    read = replace(manifest.read(folder), node={**node_class(), "machine": "riscv64"})
    (folder / manifest.NAME).unlink()
    manifest.write(folder, read)
    assert main(["verify"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "KiB): ok; not on this node: it is of a riscv64 node" in said


def test_an_unfinished_job_without_a_good_image_left_is_a_problem(
    job: History, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(image(job, 1))
    shutil.rmtree(image(job, 2))
    assert main(["verify"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "PROBLEM: it was saved, but no good image is left" in said
    assert said.endswith("1 unfinished job without a good image")


def test_a_finished_job_and_one_that_never_saved_need_no_image(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in done(state, KEY).folder.images_folder.iterdir():
        shutil.rmtree(one)
    History(state, "new-1111111111111111")
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.endswith("nothing to verify\n")


def test_images_of_an_earlier_attempt_are_not_missed(job: History) -> None:
    job.begin_attempt()
    assert main(["verify"]) == 0


def test_verifying_changes_nothing(job: History, state: Path) -> None:
    def look() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in state.rglob("*"))

    before = look()
    main(["verify"])
    assert look() == before


def test_a_job_folder_that_cannot_be_read_is_a_problem(
    job: History, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / KEY / "segments" / "0001.yaml").write_text("schema: 99\n")
    assert main(["verify"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_job_that_is_not_there_is_wrong_usage(job: History) -> None:
    assert main(["verify", "nix"]) == 2


def test_verify_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--help"]) == 0
    said = capsys.readouterr().out
    assert "examples:" in said and "exit status:" in said and "--json:" in said
