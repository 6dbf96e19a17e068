"""Folders and links among the outputs: as they were at the save, with all in them, and nothing elsewhere touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers.writers import Place

from snakemake_executor_plugin_ckpt.errors import ImageRefused


@pytest.fixture(autouse=True)
def removable(place: Place) -> Iterator[None]:
    """Leave no folder that pytest may not remove."""
    yield
    subprocess.run(["chmod", "-R", "u+rwx", place.work], check=True)


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


def test_a_folder_that_was_moved_and_left_as_a_link_is_there_again_with_all_in_it(place: Place) -> None:
    out, moved = place.work / "out", place.work / "moved"
    (out / "deep").mkdir(parents=True)
    (out / "deep" / "file").write_bytes(b"text")
    place.save("out")
    out.rename(moved)
    out.symlink_to(moved)
    (moved / "deep").chmod(0o500)
    place.rollback()
    for folder in (out, moved):
        assert not folder.is_symlink()
        assert (folder / "deep" / "file").read_bytes() == b"text"
    assert mode(moved / "deep") == 0o500  # nobody asked us to look after that one
    assert place.rollback() == []


# -- permissions ---------------------------------------------------------------------------------------------------


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(place: Place) -> dict[str, int]:
    """Permissions of all folders in the working directory."""
    return {str(path.relative_to(place.work)): mode(path) for path in place.work.rglob("*") if path.is_dir()}


def protect(*folders: Path) -> None:
    """As ``chmod -R a-w`` does, files apart."""
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(mode(path) & 0o555)


def tree(place: Place) -> Path:
    """A declared folder with another one in it, and files in both."""
    out = place.work / "out"
    (out / "deep").mkdir(parents=True)
    for path in (out / "old", out / "deep" / "old"):
        path.write_bytes(path.parent.name.encode())
    out.chmod(0o755)
    (out / "deep").chmod(0o750)
    return out


def nothing_new(_: Path) -> None:
    """Only the permissions change."""


def new_files(out: Path) -> None:
    (out / "new").write_bytes(b"new")
    (out / "deep" / "new").write_bytes(b"new")


def new_folders(out: Path) -> None:
    (out / "deep" / "newer" / "newest").mkdir(parents=True)
    (out / "deep" / "newer" / "newest" / "file").write_bytes(b"new")


def files_are_gone(out: Path) -> None:
    (out / "old").unlink()
    (out / "deep" / "old").unlink()


def files_are_rewritten(out: Path) -> None:
    (out / "deep" / "old").write_bytes(b"other")


def files_are_replaced(out: Path) -> None:
    (out / "new").write_bytes(b"new")
    (out / "new").rename(out / "deep" / "old")


def all_is_gone(out: Path) -> None:
    for folder in (out, out / "deep"):
        folder.chmod(0o700)
    shutil.rmtree(out)


def a_link_instead(out: Path) -> None:
    (out / "deep").rename(out.with_name("moved"))
    (out / "deep").symlink_to(out.with_name("moved"))


CHANGES: list[Callable[[Path], None]] = [
    nothing_new,
    new_files,
    new_folders,
    files_are_gone,
    files_are_rewritten,
    files_are_replaced,
    all_is_gone,
    a_link_instead,
]
changes = pytest.mark.parametrize("change", CHANGES)


@changes
def test_a_folder_that_was_write_protected_after_the_save_is_writable_again(
    place: Place, change: Callable[[Path], None]
) -> None:
    out = tree(place)
    place.save("out")
    content, permissions = content_of(place), modes(place)
    change(out)
    protect(out)
    place.rollback()
    assert content_of(place) == content
    assert permissions.items() <= modes(place).items()
    (out / "deep" / "next").write_bytes(b"what the restored program goes on with")
    place.rollback()
    assert place.rollback() == []


@changes
@pytest.mark.parametrize("meanwhile", [0o555, 0o755], ids=["closed again", "left open"])
def test_a_folder_that_was_write_protected_at_the_save_is_put_back_with_all_in_it_and_protected(
    place: Place, change: Callable[[Path], None], meanwhile: int
) -> None:
    out = tree(place)
    protect(out)
    place.save("out")
    content, permissions = content_of(place), modes(place)
    for folder in (out, out / "deep"):
        folder.chmod(0o755)
    change(out)
    for folder in (out / "deep", out):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(meanwhile)
    place.rollback()
    assert content_of(place) == content
    assert permissions.items() <= modes(place).items()
    assert place.rollback() == []


def content_of(place: Place) -> dict[str, bytes | None]:
    return {name: content for name, content in place.content().items() if name.startswith("out")}


def test_a_write_protected_folder_that_was_made_later_is_removed(place: Place) -> None:
    place.save("out")
    new_folders(place.work / "out")
    protect(place.work / "out")
    place.rollback()
    assert place.content() == {}


def test_a_folder_that_nobody_may_look_into_is_looked_into_and_a_refusal_closes_it_again(place: Place) -> None:
    out = tree(place)
    place.limit = 1000
    (out / "deep" / "large").write_bytes(b"x" * 2000)
    place.save("out")
    before = place.content()
    new_files(out)
    for folder in (out / "deep", out):
        folder.chmod(0)
    place.rollback()
    assert place.content() == before
    assert modes(place) == {"out": 0o755, "out/deep": 0o750}
    (out / "deep" / "large").write_bytes(b"y" * 2000)
    (out / "deep").chmod(0)
    out.chmod(0o100)
    with pytest.raises(ImageRefused, match="large"):
        place.rollback()
    assert mode(out) == 0o100
    out.chmod(0o700)
    assert mode(out / "deep") == 0


def test_a_folder_of_somebody_else_keeps_its_permissions(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tree(place)
    place.save("out")
    (out / "new").write_bytes(b"new")
    (out / "deep").chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda real=os.geteuid: real() + 1)
    place.rollback()
    assert not (out / "new").exists()
    assert modes(place) == {"out": 0o755, "out/deep": 0o700}


def test_permissions_that_the_file_system_does_not_let_anybody_set_are_no_reason_not_to_go_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tree(place)
    place.save("out")
    (out / "new").write_bytes(b"new")
    out.chmod(0o775)

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuses)
    place.rollback()
    assert not (out / "new").exists()


@changes
@pytest.mark.parametrize("protected", [False, True], ids=["open at the save", "protected at the save"])
def test_a_rollback_of_folders_that_dies_at_any_step_is_finished_by_the_next(
    place: Place, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], protected: bool
) -> None:
    out = tree(place)
    if protected:
        protect(out)
    place.save("out")
    content, permissions = content_of(place), modes(place)
    for last in range(1, 100):
        for folder in (out, out / "deep"):
            folder.chmod(0o755)
        change(out)
        protect(out)
        with monkeypatch.context() as patched:
            died = dies_after(patched, last)
            with suppress(Death):
                place.rollback()
        place.rollback()
        assert content_of(place) == content
        assert permissions.items() <= modes(place).items()
        shutil.rmtree(place.work / "moved", ignore_errors=True)
        if not died:
            return
    raise AssertionError("it never came to its end")


class Death(BaseException):
    """Nothing in the program catches it."""


def dies_after(patched: pytest.MonkeyPatch, last: int) -> list[str]:
    """Let so many changes of the disk happen, and none after; what the next one would have been, if there was one."""
    done: list[str] = []
    died: list[str] = []

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if died or len(done) == last:
                died.append(name)
                raise Death
            done.append(name)
            return real(*arguments, **options)

        return call

    for name in ("chmod", "mkdir", "unlink", "rmdir", "symlink", "truncate", "utime"):
        patched.setattr(os, name, counted(name, getattr(os, name)))
    return died
