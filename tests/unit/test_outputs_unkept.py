"""What of the outputs is too large to be kept: only signs tell whether it is as it was at the save."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from helpers.writers import Place, append, overwrite

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images.outputs import packs
from snakemake_executor_plugin_ckpt.images.outputs.table import NAME, Table


def test_a_file_above_the_limit_is_not_copied_but_cut_and_it_is_said(place: Place) -> None:
    place.limit = 200_000
    large = place.work / "large"
    large.write_bytes(os.urandom(300_000))
    os.utime(large, ns=(1, 1))
    place.save("large")
    assert place.copied == 0
    assert "--ckpt-copy-limit" in place.warnings[0]
    content = large.read_bytes()
    append(large, b"more")
    assert place.rollback() == [f"{large}: cut from 300004 to 300000 bytes"]
    assert large.read_bytes() == content
    assert place.rollback() == []


@pytest.mark.parametrize("where", [0, 150_000, 299_999])
def test_a_file_above_the_limit_that_was_rewritten_is_refused(place: Place, where: int) -> None:
    place.limit = 200_000
    large = place.work / "large"
    large.write_bytes(os.urandom(300_000))
    os.utime(large, ns=(1, 1))
    place.save("large")
    overwrite(large, where, b"?")
    with pytest.raises(ImageRefused, match="changed after the save otherwise than by growing"):
        place.rollback()


def test_a_file_above_the_limit_that_is_written_in_place_is_refused_as_soon_as_it_changed(place: Place) -> None:
    place.limit = 200_000
    (place.work / "large").write_bytes(os.urandom(300_000))
    writer = place.writer("large", "r+b")
    place.save("large")
    assert place.rollback() == []
    writer.does("f.seek(0, 2); f.write(b'more')")
    with pytest.raises(ImageRefused, match="large"):
        place.rollback()


def test_a_file_above_the_limit_that_is_gone_is_refused(place: Place) -> None:
    place.limit = 200_000
    (place.work / "large").write_bytes(os.urandom(300_000))
    place.save("large")
    (place.work / "large").unlink()
    with pytest.raises(ImageRefused, match="is gone and was not kept"):
        place.rollback()


def settled(place: Place, held: bool) -> Path:
    """A file above the limit that was saved long after its last change: closed, or open for writing in place."""
    place.limit = 200_000
    large = place.work / "large"
    large.write_bytes(os.urandom(300_000))
    os.utime(large, ns=(1, 1))
    if held:
        place.writer("large", "r+b")
    place.save("large")
    return large


def moved_and_moved_back(path: Path) -> None:
    """As a head does with the outputs of a job that fails: Snakemake would remove them."""
    path.rename(path.with_name("aside"))
    path.with_name("aside").rename(path)


def protected(path: Path) -> None:
    path.chmod(0o444)


def linked(path: Path) -> None:
    os.link(path, path.with_name("other"))


@pytest.mark.parametrize("how", [moved_and_moved_back, linked, protected])
@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_a_file_above_the_limit_of_which_only_the_change_time_moved_is_the_same(
    place: Place, how: Callable[[Path], None], held: bool
) -> None:
    large = settled(place, held)
    before = large.stat()
    how(large)
    assert place.rollback() == []
    after = large.stat()
    assert (after.st_mode, after.st_ino, after.st_mtime_ns) == (before.st_mode, before.st_ino, before.st_mtime_ns)
    assert place.rollback() == []


def copied_over(path: Path) -> None:
    """The same content and times in another file: the one that was open is gone."""
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def rewritten(where: int) -> Callable[[Path], None]:
    """Changed at this place, and the time set back."""

    def change(path: Path) -> None:
        overwrite(path, where, b"?!")
        os.utime(path, ns=(1, 1))

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "touched": os.utime,
    "cut": lambda path: os.truncate(path, 299_999),
    "replaced by a copy": copied_over,
    "its begin rewritten and the time set back": rewritten(9),
    "its end rewritten and the time set back": rewritten(299_998),
}


@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_a_file_above_the_limit_that_any_sign_tells_to_be_another_is_refused(
    place: Place, how: str, held: bool
) -> None:
    large = settled(place, held)
    CHANGES[how](large)
    with pytest.raises(ImageRefused, match="changed after the save otherwise than by growing"):
        place.rollback()


# -- on another node -----------------------------------------------------------------------------------------------


def to_another_node(place: Place, generation: int = 1) -> None:
    """Have an image be from a node where the file system's mount has another number."""
    table = place.images / f"{generation:04d}" / NAME
    data = json.loads(table.read_text())
    for entry in data["entries"]:
        if "stamp" in entry:
            entry["stamp"][-1] += 1
    table.write_text(json.dumps(data))


@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_a_file_above_the_limit_is_the_same_on_a_node_with_another_number_for_its_mount(
    place: Place, held: bool
) -> None:
    large = settled(place, held)
    to_another_node(place)
    assert place.rollback() == []
    linked(large)
    assert place.rollback() == []
    overwrite(large, 150_000, b"?")
    with pytest.raises(ImageRefused, match="large"):
        place.rollback()


def test_a_file_above_the_limit_that_grew_is_cut_on_a_node_with_another_number_for_its_mount(place: Place) -> None:
    large = settled(place, held=False)
    content = large.read_bytes()
    append(large, b"more")
    to_another_node(place)
    assert place.rollback() == [f"{large}: cut from 300004 to 300000 bytes"]
    assert large.read_bytes() == content


# -- what was kept, on another node ------------------------------------------------------------------------------


def test_a_file_that_was_left_alone_is_not_read_for_a_rollback_on_another_node(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.work / "out").write_bytes(b"x" * 100)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 10)
    place.save("out")
    to_another_node(place)
    monkeypatch.setattr(packs, "read_full", None)
    assert place.rollback() == []


@pytest.mark.parametrize("survey", [False, True])
def test_a_save_on_another_node_reads_what_it_cannot_know_and_copies_only_what_changed(
    place: Place, monkeypatch: pytest.MonkeyPatch, survey: bool
) -> None:
    for name in ("same", "changed"):
        (place.work / name).write_bytes(b"x" * 100)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 10)
    place.save("same", "changed")
    to_another_node(place)
    (place.work / "changed").write_bytes(b"y" * 100)
    read: list[int] = []
    real = packs.read_full

    def counted(file: IO[bytes], size: int) -> bytes:
        read.append(size)
        return real(file, size)

    monkeypatch.setattr(packs, "read_full", counted)
    place.save("same", "changed", survey=survey)
    assert (sum(read), place.copied) == (200, 100)
    before = place.content()
    for name in before:
        (place.work / name).unlink()
    place.rollback(2)
    assert place.content() == before


def test_images_that_are_there_already_are_still_understood(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(
        '{"version": 1, "patterns": ["/w/c*"], "entries": ['
        '{"path": "/w/d", "kind": "folder", "mode": 493, "names": ["a"]}, '
        '{"path": "/w/d/a", "kind": "file", "mode": 420, "stamp": [3, 5, 7, 11, 64768], '
        '"extents": [["0001-ab", 0, 3, "00"]]}, '
        '{"path": "/w/l", "kind": "file", "mode": 420, "stamp": [9, 5, 7, 12, 64768], "ends": ["00", "01"], '
        '"rigid": true}]}'
    )
    table = Table.read(tmp_path)
    assert table.entries["/w/l"].stamp == (9, 5, 7, 12, 64768)
    assert table.live() == {"0001-ab": 3}
    (tmp_path / "new").mkdir()
    table.write(tmp_path / "new")
    assert json.loads((tmp_path / "new" / NAME).read_text()) == json.loads((tmp_path / NAME).read_text())
