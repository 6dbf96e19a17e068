"""Which image a segment begins with when something is wrong with the newest, and what is said of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers import steps
from helpers.jobs import LocalJob, local_job
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.images import manifest as manifests
from snakemake_executor_plugin_ckpt.images.outputs import packs

pytestmark = pytest.mark.criu

LINES = "".join(f"line {step}\n" for step in range(steps.STEPS))


@contextmanager
def parked_job(tmp_path: Path, behaviour: str, **policy: object) -> Iterator[LocalJob]:
    """A job with two images, saved after its steps 1 and 3, that is not running; all its steps may go on."""
    gates = tmp_path / "gates"
    gates.mkdir()
    command = f"{sys.executable} {steps.__file__} {behaviour} {gates}"
    with local_job(tmp_path, command, watched=["out"], **policy) as job:
        job.submit()
        for image, step in ((1, 1), (2, 3)):
            for earlier in range(step):
                (gates / str(earlier)).touch()
            wait_for((gates / f"done-{step}").exists, f"step {step}")
            job.folder.request("checkpoint" if image == 1 else "park")
            wait_for(partial(_has_image, job, image), "the save")
        job.wait()
        job.folder.clear_request("park")
        for step in range(steps.STEPS):
            (gates / str(step)).touch()
        yield job


def _has_image(job: LocalJob, number: int) -> bool:
    return job.folder.segment(1).generation == number


def damage(path: Path) -> None:
    with open(path, "r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def test_without_a_sound_copy_of_the_outputs_an_image_is_used_if_they_are_as_they_were(tmp_path: Path) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        folder = job.folder.images_folder / packs.FOLDER
        for path in folder.iterdir():
            damage(path)
        job.submit()
        segment = job.wait()[-1]
        assert (segment.restored_from, segment.exit) == (2, 0)
        assert [text.partition(": damaged: the content of packs/")[0] for text in segment.warnings] == [
            "image 2",
            "image 1",
        ]
        assert (job.work / "out").read_text() == LINES


def test_damaged_copies_are_made_anew_at_the_next_save(tmp_path: Path) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        (tmp_path / "gates" / "4").unlink()
        for path in (job.folder.images_folder / packs.FOLDER).iterdir():
            damage(path)
        job.submit()
        wait_for(lambda: (tmp_path / "gates" / "done-4").exists(), "step 4")
        job.folder.request("park")
        job.wait()
        job.folder.clear_request("park")
        (job.work / "out").unlink()
        (tmp_path / "gates" / "4").touch()
        job.submit()
        segment = job.wait()[-1]
        assert (segment.restored_from, segment.exit) == (3, 0)
        assert (job.work / "out").read_text() == LINES


@pytest.mark.parametrize("wish", ["restart", "fail"])
def test_without_any_image_that_can_be_used_it_is_done_as_was_wished_and_said(tmp_path: Path, wish: str) -> None:
    with parked_job(tmp_path, "append_by_reopening", on_no_image=wish) as job:
        for path in (job.folder.images_folder / packs.FOLDER).iterdir():
            damage(path)
        (job.work / "out").unlink()  # it is needed now, and no copy is sound
        job.submit()
        segment = job.wait()[-1]
        if wish == "fail":
            assert (segment.outcome, segment.failure) == ("failed", "error")
            assert "damaged" in (segment.reason or "")
            assert generations.numbers(job.folder.images_folder) == [1, 2]
        else:
            assert (segment.restored_from, segment.exit) == (None, 0)
            assert any("started again from the beginning" in text for text in segment.warnings)
            assert (job.work / "out").read_text() == LINES


def test_images_that_fit_another_node_are_left_to_it_and_nothing_is_begun_anew(tmp_path: Path) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        made = {number: manifests.read(generations.path_of(job.folder.images_folder, number)) for number in (1, 2)}
        for number, manifest in made.items():
            node = {**manifest.node, "cpu_flags": f"{manifest.node['cpu_flags']} avx9000"}
            manifests.write(generations.path_of(job.folder.images_folder, number), replace(manifest, node=node))
        job.submit()
        segment = job.wait()[-1]
        assert (segment.outcome, segment.failure, segment.restored_from) == ("failed", "restore", None)
        assert segment.reason is not None and "this node's CPU lacks avx9000" in segment.reason
        # An older one that fits is used when another node did not fit either.
        manifests.write(generations.path_of(job.folder.images_folder, 1), made[1])
        job.submit()
        assert [one.restored_from for one in job.wait()[2:]] == [None]
        job.submit()
        segment = job.wait()[-1]
        assert (segment.restored_from, segment.exit) == (1, 0)
        assert (job.work / "out").read_text() == LINES


@pytest.mark.parametrize("unreadable", [(1, 2), (2,)], ids=["all", "the newest"])
def test_images_that_cannot_be_read_now_are_waited_for(tmp_path: Path, unreadable: tuple[int, ...]) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        trees = [generations.path_of(job.folder.images_folder, number) / generations.TREE for number in unreadable]
        for tree in trees:
            tree.chmod(0)
        job.submit()
        wait_for(lambda: "nothing is begun anew" in job.batch_log(), "word of it")
        assert job.alive()
        for tree in trees:
            tree.chmod(0o700)
        segment = job.wait()[-1]
        assert (segment.restored_from, segment.exit, segment.warnings) == (2, 0, [])
        assert (job.work / "out").read_text() == LINES


def test_an_image_whose_outputs_cannot_be_put_back_is_passed_over_in_the_same_segment(tmp_path: Path) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        folder = job.folder.images_folder / packs.FOLDER
        newest = max(folder.iterdir(), key=lambda path: path.name)
        newest.unlink()
        os.truncate(job.work / "out", 3)
        job.submit()
        segment = job.wait()[-1]
        assert (segment.number, segment.restored_from, segment.exit) == (2, 1, 0)
        assert any(text.startswith("image 2: incomplete: packs/0002") for text in segment.warnings)
        assert (job.work / "out").read_text() == LINES


def test_two_good_images_stay_whatever_bad_ones_there_are(tmp_path: Path) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        images = job.folder.images_folder
        damage(next(generations.path_of(images, 2).rglob("pages-*.img")))
        (tmp_path / "gates" / "4").unlink()
        job.submit()
        wait_for(lambda: (tmp_path / "gates" / "done-4").exists(), "step 4")
        job.folder.request("park")
        job.wait()
        assert generations.numbers(images) == [1, 2, 3]


def test_the_outputs_that_were_copied_are_on_record(tmp_path: Path) -> None:
    with parked_job(tmp_path, "append_by_reopening") as job:
        segment = job.folder.segment(1)
        # The second save copied two lines of the output, and nothing of the two that it had.
        assert segment.copied == len("line 2\nline 3\n")
        assert segment.amount is not None and segment.resident is not None
        assert segment.amount >= segment.resident > 0
