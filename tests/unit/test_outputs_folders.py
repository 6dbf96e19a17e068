"""Folders and links among the outputs: as they were at the save, with all in them, and nothing elsewhere touched."""

from __future__ import annotations

import os
import shutil

import pytest
from helpers.writers import Place


def test_a_folder_as_output_loses_what_is_new_and_keeps_what_was_there(place: Place) -> None:
    (place.work / "out" / "deep").mkdir(parents=True)
    (place.work / "out" / "old").write_bytes(b"old")
    (place.work / "out" / "deep" / "old").write_bytes(b"deep")
    place.save("out")
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
    place.save("out")
    (place.work / "out" / "deep").mkdir(parents=True)
    (place.work / "out" / "deep" / "file").write_bytes(b"new")
    place.rollback()
    assert place.content() == {}


def test_a_link_to_a_folder_elsewhere_does_not_take_that_folder_along(place: Place) -> None:
    (place.work / "precious").mkdir()
    (place.work / "precious" / "data").write_bytes(b"data")
    (place.work / "out").mkdir()
    place.save("out", "later")
    (place.work / "out" / "link").symlink_to(place.work / "precious")
    (place.work / "later").symlink_to(place.work / "precious")
    place.rollback()
    assert place.content() == {"out": None, "precious": None, "precious/data": b"data"}


def test_a_dangling_link_is_removed_if_new_and_kept_if_not(place: Place) -> None:
    (place.work / "out").mkdir()
    (place.work / "out" / "old").symlink_to("nowhere")
    place.save("out", "new")
    (place.work / "new").symlink_to("nowhere")
    place.rollback()
    assert (place.work / "out" / "old").is_symlink()
    assert not (place.work / "new").is_symlink()


def test_a_folder_that_was_removed_is_there_again_with_all_in_it(place: Place) -> None:
    (place.work / "out" / "deep" / "empty").mkdir(parents=True)
    (place.work / "out" / "deep" / "file").write_bytes(b"deep")
    (place.work / "out" / "link").symlink_to("deep")
    os.mkfifo(place.work / "out" / "pipe")
    place.save("out")
    shutil.rmtree(place.work / "out")
    place.rollback()
    assert place.content() == {
        "out": None,
        "out/deep": None,
        "out/deep/empty": None,
        "out/deep/file": b"deep",
        "out/link": None,
        "out/pipe": None,
    }
    assert os.readlink(place.work / "out" / "link") == "deep"
    assert (place.work / "out" / "pipe").is_fifo()
    assert place.rollback() == []


def test_a_link_that_leads_elsewhere_now_leads_back(place: Place) -> None:
    for name in ("one", "two"):
        (place.work / name).write_bytes(name.encode())
    (place.work / "out").symlink_to("one")
    place.save("out")
    (place.work / "out").unlink()
    (place.work / "out").symlink_to("two")
    place.rollback()
    assert os.readlink(place.work / "out") == "one"
    assert (place.work / "two").read_bytes() == b"two"


def test_links_in_a_circle_are_links(place: Place) -> None:
    (place.work / "a").symlink_to("b")
    (place.work / "b").symlink_to("a")
    place.save("a")
    (place.work / "a").unlink()
    place.rollback()
    assert os.readlink(place.work / "a") == "b"


@pytest.mark.parametrize("saved", [b"text", b"PRE", b"", b"PRECIOUS"], ids=["other", "its begin", "empty", "same"])
@pytest.mark.parametrize("held", [False, True], ids=["closed", "open"])
def test_a_file_that_took_the_place_of_another_is_not_written_into(place: Place, saved: bytes, held: bool) -> None:
    out, precious = place.work / "out", place.work / "precious"
    out.write_bytes(saved)
    os.utime(out, ns=(1, 1))
    if held:
        place.writer("out", "ab")
    place.save("out")
    mode = out.stat().st_mode
    precious.write_bytes(b"PRECIOUS")
    precious.chmod(0o440)
    before = precious.stat()
    out.unlink()
    os.link(precious, out)
    place.rollback()
    assert place.content() == {"out": saved, "precious": b"PRECIOUS"}
    after = precious.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (before.st_mode, before.st_mtime_ns, 1)
    assert (out.stat().st_mode, out.stat().st_mtime_ns) == (mode, 1)
    assert place.rollback() == []


@pytest.mark.parametrize("text", [b"text and more", b"te", b"", b"TEXT", b"text"])
def test_other_names_of_a_file_go_on_to_mean_it(place: Place, text: bytes) -> None:
    out, other = place.work / "out", place.work / "other"
    out.write_bytes(b"text")
    os.link(out, other)
    place.save("out")
    before = out.stat()
    out.write_bytes(text)
    out.chmod(0o400)
    place.rollback()
    assert place.content() == {"out": b"text", "other": b"text"}
    assert out.samefile(other)
    assert (out.stat().st_mode, out.stat().st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
