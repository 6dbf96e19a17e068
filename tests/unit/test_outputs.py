"""Files that a job writes: noted at a save, put back before a restore."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from helpers.writers import Place

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images.outputs import rollback


def test_an_untouched_file_is_left_alone(place: Place) -> None:
    (place.work / "out").write_bytes(b"text")
    before = (place.work / "out").stat().st_mtime_ns
    place.save("out", "absent")
    assert place.rollback() == []
    assert (place.work / "out").stat().st_mtime_ns == before


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 300_000])
def test_a_file_that_grew_is_cut_to_its_size_at_the_save(place: Place, size: int) -> None:
    old = os.urandom(size)
    (place.work / "out").write_bytes(old)
    place.save("out")
    with open(place.work / "out", "ab") as file:
        file.write(b"more")
    assert place.rollback() == [f"{place.work}/out: cut from {size + 4} to {size} bytes"]
    assert place.content() == {"out": old}
    assert place.rollback() == []


def test_a_file_that_was_made_later_is_removed(place: Place) -> None:
    place.save("out")
    (place.work / "out").write_bytes(b"new")
    assert "did not exist at the save" in place.rollback()[0]
    assert place.content() == {}


def test_a_file_that_is_rewritten_in_place_is_put_back(place: Place) -> None:
    (place.work / "out").write_bytes(b"0123456789")
    writer = place.writer("out", "r+b")
    writer.does("f.write(b'AB')")
    place.save("out")
    for change in ("f.write(b'CD')", "f.truncate(4)", "f.write(b'X' * 100)"):
        writer.does(change)
        assert place.rollback() == [f"{place.work}/out: was changed after the save, put back"]
        assert place.content() == {"out": b"AB23456789"}


def test_a_program_that_also_reads_may_write_anywhere_later(place: Place) -> None:
    body = os.urandom(200_000)
    (place.work / "out").write_bytes(b"0" + body)
    writer = place.writer("out", "r+b")
    writer.does("f.seek(0, 2)")
    place.save("out")
    writer.does("f.write(b'record'); f.seek(0); f.write(b'1')")
    place.rollback()
    assert (place.work / "out").read_bytes() == b"0" + body


def test_a_file_that_is_written_through_memory_is_put_back(place: Place) -> None:
    body = os.urandom(200_000)
    (place.work / "out").write_bytes(body)
    writer = place.writer("out", "r+b")
    writer.does("m = mmap.mmap(f.fileno(), 0); f.seek(0, 2); f.close()")
    place.save("out")
    writer.does("m[5:9] = b'good'; m.flush()")
    place.rollback()
    assert (place.work / "out").read_bytes() == body


def test_a_file_in_place_that_is_gone_or_was_made_anew_is_put_back(place: Place) -> None:
    (place.work / "out").write_bytes(b"0123")
    place.writer("out", "r+b")
    place.save("out")
    (place.work / "out").unlink()
    place.rollback()
    assert place.content() == {"out": b"0123"}
    (place.work / "new").write_bytes(b"another")
    (place.work / "new").rename(place.work / "out")
    place.rollback()
    assert place.content() == {"out": b"0123"}


def test_files_that_are_open_are_watched_without_being_declared(place: Place) -> None:
    place.writer("side", "ab").does("f.write(b'one')")
    (place.work / "read").write_bytes(b"input")
    place.writer("read", "rb")
    place.save()
    place.writers[0].does("f.write(b'two')")
    assert len(place.rollback()) == 1
    assert place.content() == {"side": b"one", "read": b"input"}


def same_length_and_time(path: Path) -> None:
    path.write_bytes(b"TEXT")
    os.utime(path, ns=(1, 1))


def another_file(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"new")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").touch()


def a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def changed_and_read_only(path: Path) -> None:
    path.write_bytes(b"x")
    path.chmod(0o400)


CHANGES: dict[str, Callable[[Path], object]] = {
    "grown": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "cut": lambda path: os.truncate(path, 3),
    "emptied and written anew": lambda path: path.write_bytes(b"quite another text"),
    "rewritten with the same length": lambda path: path.write_bytes(b"TEXT"),
    "rewritten with the same length and time": same_length_and_time,
    "grown and changed at its beginning": lambda path: path.write_bytes(b"T" + path.read_bytes()[1:] + b"more"),
    "removed": Path.unlink,
    "renamed": lambda path: path.rename(path.with_name("elsewhere")),
    "replaced by another file": another_file,
    "replaced by a folder": a_folder,
    "replaced by a link": a_link,
    "made read-only": lambda path: os.chmod(path, 0o444),
    "changed and made read-only": changed_and_read_only,
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_a_file_is_put_back_whatever_was_done_to_it(place: Place, how: str, held: bool) -> None:
    out = place.work / "out"
    out.write_bytes(b"text")
    os.utime(out, ns=(1, 1))
    if held:
        place.writer("out", "ab")
    place.save("out", "elsewhere")
    before = out.stat()
    CHANGES[how](out)
    assert any(line.startswith(str(out)) for line in place.rollback()) or how == "made read-only"
    assert place.content() == {"out": b"text"}
    after = out.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert place.rollback() == []


def test_a_temporary_file_that_was_renamed_into_place_gets_its_name_back(place: Place) -> None:
    """Written beside, renamed when done: what the restored program goes on with is the old name."""
    writer = place.writer("out.part", "wb")
    writer.does("f.write(b'half')")
    place.save("out")
    writer.does("f.write(b' done'); f.close()")
    (place.work / "out.part").rename(place.work / "out")
    place.rollback()
    assert place.content() == {"out.part": b"half"}


def test_the_private_folder_of_a_shadow_rule_is_watched_with_all_in_it(place: Place) -> None:
    private = place.work / ".snakemake" / "shadow" / "tmp123"
    (private / "deep").mkdir(parents=True)
    (private / "deep" / "closed").write_bytes(b"text")
    (place.work / ".snakemake" / "shadow" / "another").mkdir()
    writer = place.writer("out", "wb")
    writer.does(f"os.chdir({str(private / 'deep')!r})")
    place.save()
    before = place.content()
    (private / "deep" / "closed").write_bytes(b"rewritten")
    (private / "new").write_bytes(b"new")
    place.rollback()
    assert place.content() == before
    (place.work / ".snakemake" / "shadow" / "another" / "theirs").write_bytes(b"theirs")
    assert place.rollback() == []


def test_a_script_that_its_maker_removed_is_there_again_for_who_reads_it(place: Place) -> None:
    (place.work / "script.R").write_bytes(b"sum(1)")
    place.writer("script.R", "rb")
    place.save()
    (place.work / "script.R").unlink()
    place.rollback()
    assert place.content() == {"script.R": b"sum(1)"}


def test_what_the_job_only_reads_is_left_as_it_is(place: Place) -> None:
    (place.work / "input").write_bytes(b"old")
    place.writer("input", "rb")
    place.save()
    (place.work / "input").write_bytes(b"the user's own change")
    assert place.rollback() == []
    assert place.content() == {"input": b"the user's own change"}


def test_a_refusal_leaves_everything_as_it_was(place: Place) -> None:
    place.limit = 100
    (place.work / "large").write_bytes(b"x" * 200)
    for name in ("a", "z"):
        (place.work / name).write_bytes(b"text")
    place.save("a", "large", "new", "z")
    for name in ("a", "new", "z"):
        (place.work / name).write_bytes(b"changed")
    (place.work / "large").write_bytes(b"y" * 200)
    before = place.content()
    with pytest.raises(ImageRefused, match="large"):
        place.rollback()
    assert place.content() == before


@pytest.mark.parametrize(
    ("module", "step"), [(os, "utime"), (rollback, "point")], ids=["in a file", "between two files"]
)
def test_a_rollback_that_was_cut_off_is_finished_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    for name in ("a", "b", "c"):
        (place.work / name).write_bytes(name.encode())
    place.save("a", "b", "c")
    for name in ("a", "b", "c"):
        (place.work / name).write_bytes(b"changed")
    real, calls = getattr(module, step), []

    def fails_once(*what: object, **how: object) -> None:
        calls.append(what)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*what, **how)

    monkeypatch.setattr(module, step, fails_once)
    with pytest.raises(OSError, match="No space"):
        place.rollback()
    place.rollback()
    assert place.content() == {"a": b"a", "b": b"b", "c": b"c"}


@pytest.mark.parametrize("broken", ["lstat", "listdir"])
def test_what_cannot_be_looked_at_is_not_taken_to_be_absent_or_empty(
    place: Place, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    (place.work / "out").mkdir()
    (place.work / "out" / "file").write_bytes(b"text")
    real = getattr(os, broken)

    def fails(path: str) -> object:
        if str(path).startswith(str(place.work / "out")):
            raise OSError(5, "Input/output error")
        return real(path)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output"):
        patched.setattr(os, broken, fails)
        place.save("out")
    place.save("out")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output"):
        patched.setattr(os, broken, fails)
        place.rollback()
    assert place.content() == {"out": None, "out/file": b"text"}


def test_a_file_that_a_pattern_missed_at_the_save_is_not_taken_for_a_new_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.work / "cache").mkdir()
    (place.work / "cache" / "old").write_bytes(b"old")
    with monkeypatch.context() as patched:
        patched.setattr(glob, "iglob", lambda *_, **__: iter(()))  # as it does where a folder cannot be read
        place.save(patterns=("cache/*",))
    table = place.images / "0001" / "outputs.json"
    later = table.stat().st_mtime + 100
    os.utime(table, (later, later))
    assert place.rollback() == []
    os.utime(table, (later - 100, later - 100))
    (place.work / "cache" / "new").write_bytes(b"new")
    assert f"{place.work}/cache/new: did not exist at the save, removed" in place.rollback()


def test_a_folder_that_may_not_be_read_is_left_alone(place: Place) -> None:
    (place.work / "out" / "secret").mkdir(parents=True)
    (place.work / "out" / "secret" / "file").write_bytes(b"text")
    (place.work / "out" / "secret").chmod(0)
    place.save("out")
    place.rollback()
    (place.work / "out" / "secret").chmod(0o700)
    place.rollback()
    assert (place.work / "out" / "secret" / "file").read_bytes() == b"text"


def test_a_pattern_covers_files_that_come_change_and_go(place: Place) -> None:
    (place.work / "cache" / "deep").mkdir(parents=True)
    for name in ("cache/changed", "cache/gone", "cache/deep/gone"):
        (place.work / name).write_bytes(name.encode())
    (place.work / "others").write_bytes(b"others")
    place.save(patterns=("cache*", "side-*.tmp"))
    before = place.content()
    (place.work / "cache/changed").write_bytes(b"x")
    (place.work / "cache/gone").unlink()
    (place.work / "cache/new").write_bytes(b"x")
    shutil.rmtree(place.work / "cache/deep")
    (place.work / "side-1.tmp").write_bytes(b"x")
    (place.work / "cache2").mkdir()
    place.rollback()
    assert place.content() == before


def test_an_output_reached_through_a_link_is_the_file_that_is_open(place: Place) -> None:
    (place.work / "real").mkdir()
    (place.work / "results").symlink_to("real")
    (place.work / "real" / "out").write_bytes(b"0123456789")
    place.writer("real/out", "r+b")
    place.save("results/out")
    place.writers[0].does("f.write(b'AB')")
    assert len(place.rollback()) == 1
    assert (place.work / "real" / "out").read_bytes() == b"0123456789"


def test_pipes_and_devices_are_left_alone(place: Place) -> None:
    os.mkfifo(place.work / "pipe")
    place.writer("pipe", "r+b").does("f.write(b'flow')")
    place.save("/dev/null", "pipe")
    assert place.rollback() == []
    place.writers[0].does("assert f.read(4) == b'flow'")


def test_deleted_files_travel_in_the_image_and_are_not_noted(place: Place) -> None:
    writer = place.writer("out", "wb")
    (place.work / "out").unlink()
    place.save("out")
    writer.does("f.write(b'x')")
    assert place.rollback() == []
    assert place.content() == {}


def test_names_with_odd_characters_are_put_back(place: Place) -> None:
    name = "a: 'ü' \"#\n- x"
    place.save(name)
    (place.work / name).write_bytes(b"x")
    place.rollback()
    assert place.content() == {}


@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_what_a_data_base_left_beside_itself_in_a_crash_is_removed(place: Place, held: bool) -> None:
    """A journal of a transaction after the save would be played back into the older data base (seen: corrupted)."""
    (place.work / "rows.db").write_bytes(b"rows")
    (place.work / "rows.db-wal").write_bytes(b"log")
    if held:
        place.writer("rows.db", "r+b")
        place.save()
    else:
        place.save("rows.db")
    (place.work / "rows.db-journal").write_bytes(b"later")
    (place.work / "rows.db-wal").write_bytes(b"later")
    place.rollback()
    assert place.content() == {"rows.db": b"rows", "rows.db-wal": b"log"}
