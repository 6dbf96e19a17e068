"""Files that a job writes: noted at a save, put back before a restore."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images import outputs


class Writer:
    """A live process that has a file open and does what it is told."""

    def __init__(self, path: Path, mode: str) -> None:
        code = (
            "import mmap, os, sys\nf = open(sys.argv[1], sys.argv[2], buffering=0)\nprint(1, flush=True)\n"
            "for line in sys.stdin:\n exec(line)\n print(1, flush=True)"
        )
        argv = [sys.executable, "-c", code, str(path), mode]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._done()

    @property
    def pid(self) -> int:
        return self.process.pid

    def does(self, statement: str) -> None:
        assert self.process.stdin is not None
        print(statement, file=self.process.stdin, flush=True)
        self._done()

    def _done(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "1\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Place:
    """A working directory, an image in the making, and writers."""

    def __init__(self, base: Path) -> None:
        self.work = base / "work"
        self.image = base / "image"
        self.work.mkdir()
        self.image.mkdir()
        self.writers: list[Writer] = []

    def writer(self, name: str, mode: str) -> Writer:
        self.writers.append(Writer(self.work / name, mode))
        return self.writers[-1]

    def snapshot(self, *names: str) -> None:
        watched = [str(self.work / name) for name in names]
        outputs.snapshot(watched, [writer.pid for writer in self.writers], self.image)

    def rollback(self) -> list[str]:
        return outputs.rollback(self.image)

    def content(self) -> dict[str, bytes | None]:
        """All that is in the working directory; None for folders."""
        return {
            str(path.relative_to(self.work)): path.read_bytes() if path.is_file() else None
            for path in self.work.rglob("*")
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for writer in made.writers:
        writer.end()


def test_an_untouched_file_is_left_alone(place: Place) -> None:
    (place.work / "out").write_bytes(b"text")
    before = (place.work / "out").stat().st_mtime_ns
    place.snapshot("out", "absent")
    assert place.rollback() == []
    assert (place.work / "out").stat().st_mtime_ns == before


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 300_000])
def test_a_file_that_grew_is_cut_to_its_size_at_the_save(place: Place, size: int) -> None:
    old = os.urandom(size)
    (place.work / "out").write_bytes(old)
    place.snapshot("out")
    with open(place.work / "out", "ab") as file:
        file.write(b"more")
    assert place.rollback() == [f"{place.work}/out: cut from {size + 4} to {size} bytes"]
    assert place.content() == {"out": old}
    assert place.rollback() == []


def test_a_file_that_was_made_later_is_removed(place: Place) -> None:
    place.snapshot("out")
    (place.work / "out").write_bytes(b"new")
    assert "did not exist at the save" in place.rollback()[0]
    assert place.content() == {}


@pytest.mark.parametrize("mode", ["ab", "a+b", "xb", "wb"])
def test_a_file_that_a_process_appends_to_is_not_copied(place: Place, mode: str) -> None:
    writer = place.writer("out", mode)
    writer.does("f.write(b'first')")
    place.snapshot()
    assert not (place.image / "outputs").exists()
    writer.does("f.write(b'second')")
    place.rollback()
    assert place.content() == {"out": b"first"}


def test_a_file_that_is_rewritten_in_place_is_put_back(place: Place) -> None:
    (place.work / "out").write_bytes(b"0123456789")
    writer = place.writer("out", "r+b")
    writer.does("f.write(b'AB')")
    place.snapshot("out")
    for change in ("f.write(b'CD')", "f.truncate(4)", "f.write(b'X' * 100)"):
        writer.does(change)
        assert place.rollback() == [f"{place.work}/out: was changed after the save, put back from the image"]
        assert place.content() == {"out": b"AB23456789"}


def test_a_program_that_also_reads_may_write_anywhere_later(place: Place) -> None:
    body = os.urandom(200_000)
    (place.work / "out").write_bytes(b"0" + body)
    writer = place.writer("out", "r+b")
    writer.does("f.seek(0, 2)")
    place.snapshot("out")
    writer.does("f.write(b'record'); f.seek(0); f.write(b'1')")
    place.rollback()
    assert (place.work / "out").read_bytes() == b"0" + body


def test_a_file_that_is_written_through_memory_is_put_back(place: Place) -> None:
    body = os.urandom(200_000)
    (place.work / "out").write_bytes(body)
    writer = place.writer("out", "r+b")
    writer.does("m = mmap.mmap(f.fileno(), 0); f.seek(0, 2); f.close()")
    place.snapshot("out")
    writer.does("m[5:9] = b'good'; m.flush()")
    place.rollback()
    assert (place.work / "out").read_bytes() == body


def test_a_file_in_place_that_is_gone_or_was_made_anew_is_put_back(place: Place) -> None:
    (place.work / "out").write_bytes(b"0123")
    place.writer("out", "r+b")
    place.snapshot("out")
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
    place.snapshot()
    place.writers[0].does("f.write(b'two')")
    assert len(place.rollback()) == 1
    assert place.content() == {"side": b"one", "read": b"input"}


REFUSALS: dict[str, Callable[[Path], object]] = {
    "shrunk": lambda path: os.truncate(path, 3),
    "vanished": lambda path: path.unlink(),
    "rewritten": lambda path: path.write_bytes(b"quite another text"),
    "rewritten with the same length": lambda path: path.write_bytes(b"TEXT"),
}


@pytest.mark.parametrize("how", REFUSALS)
def test_a_file_that_was_changed_otherwise_is_refused_and_nothing_is_touched(place: Place, how: str) -> None:
    for name in ("a-grown", "m-changed", "z-grown"):
        (place.work / name).write_bytes(b"text")
    place.writer("placed", "w+b").does("f.write(b'in place')")
    place.snapshot("a-grown", "m-changed", "z-grown", "z-new", "a-new", "placed")
    for name in ("a-grown", "z-grown", "z-new", "a-new"):
        with open(place.work / name, "ab") as file:
            file.write(b" and more")
    place.writers[0].does("f.write(b'again')")
    REFUSALS[how](place.work / "m-changed")
    before = place.content()
    with pytest.raises(ImageRefused, match="m-changed"):
        place.rollback()
    assert place.content() == before


def test_a_folder_as_output_loses_what_is_new_and_keeps_what_was_there(place: Place) -> None:
    (place.work / "out" / "deep").mkdir(parents=True)
    (place.work / "out" / "old").write_bytes(b"old")
    (place.work / "out" / "deep" / "old").write_bytes(b"deep")
    place.snapshot("out")
    before = place.content()
    with open(place.work / "out" / "deep" / "old", "ab") as file:
        file.write(b"more")
    (place.work / "out" / "new").write_bytes(b"new")
    (place.work / "out" / "deep" / "newer").mkdir()
    (place.work / "out" / "deep" / "newer" / "file").write_bytes(b"new")
    place.rollback()
    assert place.content() == before
    assert place.rollback() == []


def test_a_folder_that_was_made_later_is_removed_with_all_in_it(place: Place) -> None:
    place.snapshot("out")
    (place.work / "out" / "deep").mkdir(parents=True)
    (place.work / "out" / "deep" / "file").write_bytes(b"new")
    place.rollback()
    assert place.content() == {}


def test_a_link_to_a_folder_elsewhere_does_not_take_that_folder_along(place: Place) -> None:
    (place.work / "precious").mkdir()
    (place.work / "precious" / "data").write_bytes(b"data")
    (place.work / "out").mkdir()
    place.snapshot("out", "later")
    (place.work / "out" / "link").symlink_to(place.work / "precious")
    (place.work / "later").symlink_to(place.work / "precious")
    place.rollback()
    assert place.content() == {"out": None, "precious": None, "precious/data": b"data"}


def test_a_dangling_link_is_removed_if_new_and_kept_if_not(place: Place) -> None:
    (place.work / "out").mkdir()
    (place.work / "out" / "old").symlink_to("nowhere")
    place.snapshot("out", "new")
    (place.work / "new").symlink_to("nowhere")
    place.rollback()
    assert (place.work / "out" / "old").is_symlink()
    assert not (place.work / "new").is_symlink()


def test_an_output_reached_through_a_link_is_the_file_that_is_open(place: Place) -> None:
    (place.work / "real").mkdir()
    (place.work / "results").symlink_to("real")
    (place.work / "real" / "out").write_bytes(b"0123456789")
    place.writer("real/out", "r+b")
    place.snapshot("results/out")
    place.writers[0].does("f.write(b'AB')")
    assert len(place.rollback()) == 1
    assert (place.work / "real" / "out").read_bytes() == b"0123456789"


def test_pipes_and_devices_are_left_alone(place: Place) -> None:
    os.mkfifo(place.work / "pipe")
    place.writer("pipe", "r+b").does("f.write(b'flow')")
    outputs.snapshot(["/dev/null", str(place.work / "pipe")], [place.writers[0].pid], place.image)
    assert place.rollback() == []
    place.writers[0].does("assert f.read(4) == b'flow'")


def test_deleted_files_travel_in_the_image_and_are_not_noted(place: Place) -> None:
    writer = place.writer("out", "wb")
    (place.work / "out").unlink()
    place.snapshot("out")
    writer.does("f.write(b'x')")
    assert place.rollback() == []
    assert place.content() == {}


def test_names_with_odd_characters_are_put_back(place: Place) -> None:
    name = "a: 'ü' \"#\n- x"
    place.snapshot(name)
    (place.work / name).write_bytes(b"x")
    place.rollback()
    assert place.content() == {}


def test_a_large_closed_file_that_was_rewritten_before_its_end_is_refused(place: Place) -> None:
    large = place.work / "large"
    large.write_bytes(b"a" * 200_000)
    os.utime(large, ns=(10**18, 10**18))
    place.snapshot("large")
    with open(large, "r+b") as file:
        file.write(b"b")
    with pytest.raises(ImageRefused, match="large"):
        place.rollback()


def test_a_file_that_was_cut_can_be_restored_from_again(place: Place) -> None:
    large = place.work / "large"
    large.write_bytes(b"a" * 200_000)
    place.snapshot("large")
    with open(large, "ab") as file:
        file.write(b"b")
    assert len(place.rollback()) == 1
    assert place.rollback() == []
    assert large.read_bytes() == b"a" * 200_000
