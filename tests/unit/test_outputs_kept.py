"""What a save copies of the outputs: only what changed, most of it while the payload runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from helpers.writers import Place, append, overwrite

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images import generations
from snakemake_executor_plugin_ckpt.images.outputs import packs, snapshot
from snakemake_executor_plugin_ckpt.images.outputs.packs import PIECE
from snakemake_executor_plugin_ckpt.images.outputs.snapshot import LARGE, Rewritten
from snakemake_executor_plugin_ckpt.images.outputs.table import Table
from snakemake_executor_plugin_ckpt.state import durable

MANY = LARGE + 12345


def test_of_a_file_that_grew_only_the_growth_is_copied(place: Place) -> None:
    out = place.work / "out"
    out.write_bytes(os.urandom(3 * PIECE + 5))
    place.save("out")
    assert place.copied == 3 * PIECE + 5
    for _ in range(3):
        append(out, b"x" * 1000)
        place.save("out")
        assert place.copied == 1000
    content = out.read_bytes()
    out.unlink()
    place.rollback(4)
    assert out.read_bytes() == content


def test_of_a_file_that_changed_in_places_only_these_pieces_are_copied(place: Place) -> None:
    out = place.work / "out"
    out.write_bytes(os.urandom(5 * PIECE))
    place.save("out")
    overwrite(out, 10, b"x")
    overwrite(out, 3 * PIECE, b"x")
    place.save("out")
    assert place.copied == 2 * PIECE


def test_of_a_file_that_did_not_change_nothing_is_copied(place: Place) -> None:
    (place.work / "out").write_bytes(b"x" * 100)
    place.save("out")
    assert place.save("out") == 2
    assert place.copied == 0
    assert len(os.listdir(place.images / packs.FOLDER)) == 1


def test_a_file_that_was_left_alone_is_not_even_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.work / "out").write_bytes(b"x" * 100)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 10)
    place.save("out")
    monkeypatch.setattr(packs, "read_full", None)
    place.save("out")
    assert place.copied == 0


def test_a_file_changed_in_the_same_moment_with_the_same_times_is_noticed(place: Place) -> None:
    out = place.work / "out"
    out.write_bytes(b"old")
    place.save("out")
    kept = out.stat()
    out.write_bytes(b"new")
    os.utime(out, ns=(kept.st_mtime_ns, kept.st_mtime_ns))
    place.save("out")
    out.unlink()
    place.rollback(2)
    assert out.read_bytes() == b"new"


def test_every_generation_brings_back_its_own(place: Place) -> None:
    contents = {}
    for number in range(1, 6):
        (place.work / "grows").write_bytes(b"".join(b"%05d" % one for one in range(number * 1000)))
        (place.work / "changes").write_bytes(os.urandom(PIECE + 7))
        (place.work / f"only-{number}").write_bytes(b"%d" % number)
        names = [f"only-{one}" for one in range(1, 6)]
        assert place.save("grows", "changes", *names) == number
        contents[number] = place.content()
        (place.work / f"only-{number}").unlink()
    for number in (2, 5, 1, 3, 4):
        place.rollback(number)
        assert place.content() == contents[number]


def test_packs_that_are_mostly_waste_are_given_up(place: Place) -> None:
    (place.work / "stays").write_bytes(os.urandom(1000))
    (place.work / "changes").write_bytes(os.urandom(5000))
    place.save("stays", "changes")
    (place.work / "changes").write_bytes(os.urandom(5000))
    place.save("stays", "changes")  # the first pack has 1000 bytes of 6000 in use now
    place.save("stays", "changes")
    assert place.copied == 1000
    generations.retire(place.images, 1, bad=())
    total = sum(path.stat().st_size for path in (place.images / packs.FOLDER).iterdir())
    assert total == 6000
    before = place.content()
    for name in before:
        (place.work / name).unlink()
    place.rollback(3)
    assert place.content() == before


def test_many_small_growths_do_not_make_packs_without_end(place: Place) -> None:
    for number in range(80):
        append(place.work / "log", b"line %d\n" % number)
        place.save("log")
        generations.retire(place.images, 2, bad=())
    assert len(os.listdir(place.images / packs.FOLDER)) <= 36
    content = (place.work / "log").read_bytes()
    (place.work / "log").unlink()
    place.rollback(80)
    assert (place.work / "log").read_bytes() == content


def test_a_damaged_copy_that_is_needed_refuses_the_image_and_touches_nothing(place: Place) -> None:
    (place.work / "out").write_bytes(b"text")
    place.save("out", "new")
    (pack,) = (place.images / packs.FOLDER).iterdir()
    pack.write_bytes(b"tExt")
    assert place.rollback() == []  # the file itself is as it was
    for name in ("new", "out"):
        (place.work / name).write_bytes(b"changed")
    with pytest.raises(ImageRefused, match="damaged: the content of the kept outputs"):
        place.rollback()
    pack.unlink()
    with pytest.raises(ImageRefused, match=r"incomplete: the kept outputs .* are gone"):
        place.rollback()
    assert place.content() == {"new": b"changed", "out": b"changed"}


# -- a save that does not stop the payload -------------------------------------------------------------------------


def test_what_happens_between_survey_and_freeze_is_in_the_image(place: Place) -> None:
    for name in ("grows", "changes", "goes", "opened"):
        (place.work / name).write_bytes(os.urandom(1000))
    place.writer("opened", "r+b")

    def meanwhile() -> None:
        append(place.work / "grows", b"more")
        overwrite(place.work / "changes", 5, b"other")
        (place.work / "goes").unlink()
        (place.work / "comes").write_bytes(b"new")
        place.writers[0].does("f.write(b'in place')")

    names = ("grows", "changes", "goes", "comes", "opened")
    place.save(*names, survey=True, before=meanwhile)
    frozen = place.content()
    for name in names:
        (place.work / name).write_bytes(b"later")
    place.rollback()
    assert place.content() == frozen


@pytest.mark.usefixtures("no_fsync")
def test_a_file_that_was_still_mapped_in_the_survey_is_read_again_in_the_freeze(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second write into a page that is not on the disk yet moves no time."""
    out = place.work / "out"
    out.write_bytes(bytes(1 << 16))
    writer = place.writer("out", "r+b")
    writer.does("m = mmap.mmap(f.fileno(), 0); f.close(); m[:5] = b'first'")
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 10)
    place.save("out", survey=True, before=lambda: writer.does("m[:5] = b'later'; m.close()"))
    frozen = place.content()
    out.unlink()
    place.rollback()
    assert place.content() == frozen


def test_what_only_the_survey_read_is_on_the_disk_before_the_freeze_and_what_the_freeze_read_after_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may keep a file's new times and lose its new content; a rollback trusts the times."""
    out = place.work / "out"
    out.write_bytes(b"text")
    steps: list[str] = []

    def noted(step: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if step != "sync" or arguments == (out,):
                steps.append(step)
            return real(*arguments)

        return call

    monkeypatch.setattr(durable, "fsync_path", noted("sync", durable.fsync_path))
    monkeypatch.setattr(packs, "read_full", noted("read", packs.read_full))

    def save(before: Callable[..., object]) -> list[str]:
        steps.clear()
        place.save("out", survey=True, before=noted("freeze", before), after=noted("thaw", lambda: None))
        return steps

    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 10)
    assert save(lambda: None) == ["sync", "read", "freeze", "thaw"]
    assert save(lambda: None) == ["freeze", "thaw"]
    overwrite(out, 0, b"T")
    assert save(lambda: overwrite(out, 0, b"t")) == ["sync", "read", "freeze", "read", "thaw", "sync"]


def test_of_a_large_file_that_grows_only_the_new_end_is_read_in_the_freeze(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.work / "log").write_bytes(os.urandom(MANY))
    writer = place.writer("log", "ab")
    read: list[int] = []
    real = packs.read_full

    def counted(file: object, size: int) -> bytes:
        content = real(file, size)  # type: ignore[arg-type]
        read.append(len(content))
        return content

    def grows() -> None:
        writer.does("f.write(b'more')")
        monkeypatch.setattr(packs, "read_full", counted)

    place.save("log", survey=True, before=grows, after=lambda: monkeypatch.setattr(packs, "read_full", real))
    assert sum(read) == MANY % PIECE + 4
    frozen = place.content()
    (place.work / "log").unlink()
    place.rollback()
    assert place.content() == frozen


@pytest.mark.parametrize("step", ["before", "after"])
def test_a_large_file_that_did_not_only_grow_after_all_spoils_the_save_and_is_then_read_as_a_whole(
    place: Place, step: str
) -> None:
    log = place.work / "log"
    log.write_bytes(os.urandom(MANY))
    place.save("log")
    append(log, b"more")
    frozen: list[bytes] = []

    def change(when: str) -> None:
        append(log, b"and more" if when == "before" else b"")
        if when == step:
            overwrite(log, 100, b"another beginning")
        if when == "before":
            frozen.append(log.read_bytes())

    with pytest.raises(Rewritten, match="log was rewritten") as caught:
        place.save("log", survey=True, before=lambda: change("before"), after=lambda: change("after"))
    assert caught.value.paths == [str(log)]
    assert generations.numbers(place.images) == [1]
    overwrite(log, 100, b"the first beginning")
    place.save("log", survey=True, before=lambda: change("before"), after=lambda: change("after"), careful=("log",))
    log.write_bytes(b"")
    place.rollback(2)
    assert log.read_bytes() == frozen[-1]


def test_a_large_file_that_is_renamed_right_after_the_freeze_spoils_nothing(place: Place) -> None:
    log = place.work / "log"
    log.write_bytes(os.urandom(MANY))
    place.save(
        "log", "done", survey=True, before=lambda: append(log, b"x"), after=lambda: log.rename(place.work / "done")
    )
    content = (place.work / "done").read_bytes()
    place.rollback()
    assert place.content() == {"log": content}


def test_what_there_is_to_copy_is_known_without_reading(place: Place) -> None:
    from snakemake_executor_plugin_ckpt.images.outputs.watched import Watch

    (place.work / "folder").mkdir()
    (place.work / "folder" / "a").write_bytes(b"x" * 300)
    (place.work / "b").write_bytes(b"x" * 50)
    watch = Watch((str(place.work / "folder"), str(place.work / "b"), str(place.work / "none")))
    assert snapshot.changed_bytes(watch, Table(), limit=1000) == 350
    assert snapshot.changed_bytes(watch, Table(), limit=100) == 50
