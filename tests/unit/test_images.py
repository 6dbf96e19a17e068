"""Manifests and generations: only the right image, whole, is ever chosen."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.images.manifest import Manifest, Wanted
from snakemake_executor_plugin_ckpt.images.node import incompatible, node_class, node_summary
from snakemake_executor_plugin_ckpt.images.outputs import packs
from snakemake_executor_plugin_ckpt.state import durable

NODE = {"machine": "x86_64", "kernel": "6.1", "libc": "glibc 2.36", "cpu_flags": "avx avx2 sse"}
WANTED = Wanted("key", 1, "fp", "criu", NODE)


def choose(images: Path, wanted: Wanted, newest: int | None = None) -> tuple[Manifest | None, list[str]]:
    """The newest image that may be restored, and why each newer one was refused."""
    refused = generations.Refused()
    chosen = next(generations.usable(images, wanted, newest, refused), None)
    return chosen, refused.lines()


def pack_name(generation: int) -> str:
    return f"{generation:04d}-test"


def make(images: Path, generation: int, **more: Any) -> Path:
    """A committed generation."""
    images.mkdir(exist_ok=True)
    partial = generations.begin(images, generation)
    (partial / "tree" / "core-1000.img").write_bytes(b"core" * 1000 + bytes([generation % 256]))
    (partial / "tree" / "pages-1.img").write_bytes(os.urandom(70000))
    (partial / "tree" / "empty").touch()
    (partial / "outputs.json").write_text("{ }\n")
    (partial / packs.NEW).write_bytes(os.urandom(5000))
    fields: dict[str, Any] = {
        "job": "key",
        "attempt": 1,
        "fingerprint": "fp",
        "generation": generation,
        "segment": generation,
        "engine": "criu",
        "engine_version": "4.2",
        "node": NODE,
        "created": 1.5,
        **more,
    }
    before = generations.numbers(images)
    shared = dict(manifest.read(generations.path_of(images, before[-1])).packs) if before else {}
    made = Manifest(**fields, packs=shared)
    assert generations.commit(partial, images, made, pack_name(generation)) == 74001 + 5000 + len("{ }\n")
    return generations.path_of(images, generation)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    make(made, 1)
    make(made, 2)
    return made


def refusal(images: Path, wanted: Wanted = WANTED) -> str:
    """Why the newest generation is refused; the one before must be taken instead."""
    chosen, refused = choose(images, wanted)
    assert chosen is not None
    assert chosen.generation == 1
    assert len(refused) == 1
    assert refused[0].startswith("image 2: ")
    return refused[0]


def test_the_newest_good_image_is_chosen(images: Path) -> None:
    chosen, refused = choose(images, WANTED)
    assert chosen is not None
    assert (chosen.generation, refused) == (2, [])


def edit(old: bytes, new: bytes) -> Callable[[Path], object]:
    def apply(image: Path) -> None:
        path = image / manifest.NAME
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    return apply


def flip(name: str, position: int) -> Callable[[Path], object]:
    def apply(image: Path) -> None:
        content = bytearray((image / name).read_bytes())
        content[position] ^= 1
        (image / name).write_bytes(content)

    return apply


def replaced(name: str, how: Callable[[Path], object]) -> Callable[[Path], object]:
    def apply(image: Path) -> None:
        (image / name).unlink()
        how(image / name)

    return apply


def from_first(name: str) -> Callable[[Path], object]:
    """The file of the first generation in the place of the second's."""

    def apply(image: Path) -> None:
        (image / name).write_bytes((image.parent / "0001" / name).read_bytes())

    return apply


def emptied(image: Path) -> None:
    for path in image.rglob("*"):
        if path.is_file():
            path.unlink()


def cut_manifest(by: int) -> Callable[[Path], object]:
    def apply(image: Path) -> None:
        path = image / manifest.NAME
        os.truncate(path, path.stat().st_size - by)

    return apply


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    (
        "a file cut short",
        lambda i: os.truncate(i / "tree/pages-1.img", 69999),
        "damaged: tree/pages-1.img has 69999 bytes",
    ),
    ("a file cut to nothing", lambda i: os.truncate(i / "tree/core-1000.img", 0), "damaged: tree/core-1000.img has 0"),
    ("a file that grew", lambda i: os.truncate(i / "tree/empty", 1), "damaged: tree/empty has 1 bytes"),
    ("the first bit", flip("tree/pages-1.img", 0), "damaged: the content of tree/pages-1.img"),
    ("a bit in the middle", flip("tree/pages-1.img", 35000), "damaged: the content of tree/pages-1.img"),
    ("the last bit", flip("tree/pages-1.img", -1), "damaged: the content of tree/pages-1.img"),
    ("the outputs' list", flip("outputs.json", 1), "damaged: the content of outputs.json"),
    ("a file deleted", lambda i: (i / "tree/core-1000.img").unlink(), "incomplete: tree/core-1000.img is missing"),
    ("an empty file deleted", lambda i: (i / "tree/empty").unlink(), "incomplete: tree/empty is missing"),
    ("a file added", lambda i: (i / "tree/core-7.img").touch(), "damaged: tree/core-7.img does not belong"),
    ("a hidden file added", lambda i: (i / ".x").touch(), "damaged: .x does not belong"),
    ("another generation's file", from_first("tree/core-1000.img"), "damaged: the content of tree/core-1000.img"),
    ("another generation's manifest", from_first(manifest.NAME), "damaged"),
    ("an edited manifest", edit(b"attempt: 1", b"attempt: 2"), "damaged: the checksum of MANIFEST.yaml"),
    ("a manifest's added space", edit(b"attempt: 1", b"attempt:  1"), "damaged: the checksum of MANIFEST.yaml"),
    ("an emptied manifest", lambda i: os.truncate(i / manifest.NAME, 0), "damaged: the checksum of MANIFEST.yaml"),
    ("a manifest cut short", lambda i: os.truncate(i / manifest.NAME, 200), "damaged: the checksum of MANIFEST.yaml"),
    ("a manifest without its checksum's end", cut_manifest(5), "damaged"),
    ("no manifest", lambda i: (i / manifest.NAME).unlink(), "incomplete: no readable MANIFEST.yaml"),
    ("a folder as manifest", replaced(manifest.NAME, Path.mkdir), "incomplete"),
    ("an empty folder", emptied, "incomplete"),
    ("binary noise", lambda i: (i / manifest.NAME).write_bytes(os.urandom(500)), "damaged"),
    ("a file that became a folder", replaced("tree/empty", Path.mkdir), "incomplete: tree/empty"),
    ("a dangling link", replaced("tree/empty", lambda path: path.symlink_to("nowhere")), "incomplete: tree/empty"),
]


PACK_DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("cut short", lambda p: os.truncate(p, 4999), "damaged: packs/0002-test has 4999 bytes instead of 5000"),
    ("a bit", lambda p: p.write_bytes(p.read_bytes()[:-1] + b"?"), "damaged: the content of packs/0002-test changed"),
    ("deleted", lambda p: p.unlink(), "incomplete: packs/0002-test is missing"),
    ("another's", lambda p: p.write_bytes((p.parent / pack_name(1)).read_bytes()), "damaged: the content of packs/"),
]


@pytest.mark.parametrize(("damage", "said"), [row[1:] for row in PACK_DAMAGES], ids=[row[0] for row in PACK_DAMAGES])
def test_an_image_whose_kept_outputs_are_damaged_is_refused(
    images: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(images / packs.FOLDER / pack_name(2))
    assert said in refusal(images)


@pytest.mark.parametrize(("damage", "said"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_a_damaged_image_is_refused_by_its_right_name_and_the_one_before_taken(
    images: Path, damage: Callable[[Path], object], said: str
) -> None:
    damage(generations.path_of(images, 2))
    assert said in refusal(images)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"job": "other"}, "foreign: it is of the job other"),
        ({"fingerprint": "old"}, "stale: the rule's code"),
        ({"attempt": 0}, "stale: it is of attempt 0, this is attempt 1"),
        ({"engine": "dmtcp"}, "saved by the engine dmtcp, the job now uses criu"),
        ({"node": {**NODE, "cpu_flags": "avx avx2 avx512f sse"}}, "incompatible node: this node's CPU lacks avx512f"),
        ({"node": {**NODE, "machine": "aarch64"}}, "incompatible node: it is of a aarch64 node"),
        ({"unknown": {"schema": 2}}, "update the plugin"),
    ],
)
def test_a_sound_image_that_is_not_the_right_one_is_refused(
    images: Path, more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "others", 2, **more)
    generations.abandon(generations.path_of(images, 2))
    (tmp_path / "others" / "0002").rename(images / "0002")
    assert said in refusal(images)


def test_a_node_with_more_instructions_or_another_kernel_is_no_obstacle() -> None:
    more = {**NODE, "cpu_flags": "avx avx2 sse avx9000", "kernel": "9.9"}
    assert incompatible(NODE, more) is None
    assert incompatible(more, NODE) == "this node's CPU lacks avx9000"
    assert incompatible(node_class(), node_class()) is None
    assert "cpu" in node_summary()


def test_without_a_good_image_all_refusals_are_told(images: Path) -> None:
    for number in (1, 2):
        flip("tree/pages-1.img", 5)(generations.path_of(images, number))
    chosen, refused = choose(images, WANTED)
    assert chosen is None
    assert [line.partition(":")[0] for line in refused] == ["image 2", "image 1"]


def test_without_any_image_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert choose(tmp_path / "none", WANTED) == (None, [])


def test_an_image_that_cannot_be_read_now_is_told_from_a_bad_one(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip("tree/pages-1.img", 5)(generations.path_of(images, 1))
    real = Path.read_bytes

    def broken(path: Path) -> bytes:
        if path.parent.name == "0002":
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", broken)
    refused = generations.Refused()
    assert next(generations.usable(images, WANTED, None, refused), None) is None
    assert (set(refused.reasons), refused.unreadable) == ({2, 1}, {2})


def test_an_image_whose_restores_failed_is_passed_over(images: Path) -> None:
    chosen, refused = choose(images, WANTED, newest=1)
    assert chosen is not None
    assert chosen.generation == 1
    assert refused == ["image 2: could not be restored before"]


def test_an_image_under_another_number_is_refused(images: Path) -> None:
    generations.path_of(images, 2).rename(images / "0007")
    chosen, refused = choose(images, WANTED)
    assert chosen is not None
    assert chosen.generation == 1
    assert refused == ["image 7: damaged: it is image 2 under another name"]


def test_what_a_crash_before_the_rename_left_is_no_image(images: Path) -> None:
    partial = generations.begin(images, 3)
    (partial / "tree" / "core-1.img").write_bytes(b"half")
    assert generations.numbers(images) == [1, 2]
    sealed = replace(manifest.read(generations.path_of(images, 2)), generation=3, files={})
    manifest.seal(partial, sealed)
    manifest.write(partial, sealed)
    chosen, refused = choose(images, WANTED)
    assert chosen is not None
    assert (chosen.generation, refused) == (2, [])


def test_a_new_save_clears_what_interrupted_ones_left(images: Path) -> None:
    left = generations.begin(images, 3)
    (left / "tree" / "huge").write_bytes(b"x")
    (images / ".0001.removed.node.7").mkdir()
    partial = generations.begin(images, 3)
    assert sorted(os.listdir(images)) == [".0003.partial", "0001", "0002", "packs"]
    assert os.listdir(partial / "tree") == []
    assert partial.stat().st_mode & 0o777 == 0o700


def test_an_abandoned_save_leaves_the_generations_as_they_were(images: Path) -> None:
    generations.abandon(generations.begin(images, 3))
    assert sorted(os.listdir(images)) == ["0001", "0002", "packs"]


def test_a_full_disk_at_the_seal_makes_no_image(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = generations.begin(images, 3)
    (partial / "tree" / "core-1.img").write_bytes(b"x")
    sealed = replace(manifest.read(generations.path_of(images, 2)), generation=3, files={})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        generations.commit(partial, images, sealed, "pack-3")
    assert generations.numbers(images) == [1, 2]


@pytest.mark.parametrize(
    ("module", "step", "left"),
    [(manifest, "write", [1, 2]), (Path, "rename", [1, 2]), (durable, "fsync_path", [1, 2, 3])],
    ids=["no manifest", "no name", "named"],
)
def test_a_commit_that_failed_leaves_no_pack_that_no_image_needs(
    images: Path, monkeypatch: pytest.MonkeyPatch, module: object, step: str, left: list[int]
) -> None:
    real = getattr(module, step)

    def full(path: Path, *more: object) -> object:
        if step == "write" or (step == "rename" and path.name == ".0003.partial") or path == images:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *more)

    monkeypatch.setattr(module, step, full)
    with pytest.raises(OSError, match="No space"):
        make(images, 3)
    assert generations.numbers(images) == left
    assert sorted(os.listdir(images / packs.FOLDER)) == [pack_name(number) for number in left]


@pytest.mark.parametrize(
    ("keep", "left"), [(1, [4]), (2, [3, 4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4]), (0, [4]), (-1, [4])]
)
def test_retiring_keeps_the_newest_and_never_removes_the_last(images: Path, keep: int, left: list[int]) -> None:
    make(images, 3)
    make(images, 4)
    generations.retire(images, keep, bad=())
    assert generations.numbers(images) == left
    assert sorted(os.listdir(images)) == [*(f"{number:04d}" for number in left), "packs"]


@pytest.mark.parametrize(
    ("bad", "left"), [([3], [2, 3, 4]), ([2, 3], [1, 2, 3, 4]), ([1], [3, 4]), ([1, 2, 3, 4], [1, 2, 3, 4])]
)
def test_retiring_keeps_as_many_good_ones_whatever_bad_ones_there_are(
    images: Path, bad: list[int], left: list[int]
) -> None:
    make(images, 3)
    make(images, 4)
    generations.retire(images, 2, bad)
    assert generations.numbers(images) == left


def test_packs_stay_as_long_as_an_image_needs_them(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        make(tmp_path / "images", number)
    second = generations.path_of(tmp_path / "images", 2)
    alone = replace(manifest.read(second), packs={})
    (second / manifest.NAME).unlink()
    manifest.write(second, alone)
    generations.retire(tmp_path / "images", 2, bad=())
    assert sorted(os.listdir(tmp_path / "images" / packs.FOLDER)) == [pack_name(number) for number in (1, 2, 3)]
    generations.abandon(generations.path_of(tmp_path / "images", 3))
    generations.sweep(tmp_path / "images")
    assert os.listdir(tmp_path / "images" / packs.FOLDER) == []


def test_generations_are_ordered_by_number_beyond_four_digits(images: Path) -> None:
    make(images, 9999)
    make(images, 10000)
    assert generations.numbers(images) == [1, 2, 9999, 10000]
    chosen, _ = choose(images, WANTED)
    assert chosen is not None
    assert chosen.generation == 10000


def test_the_manifest_is_written_last(images: Path) -> None:
    image = generations.path_of(images, 2)
    newest = max(image.rglob("*"), key=lambda path: path.stat().st_mtime_ns if path.is_file() else 0)
    assert newest.name == manifest.NAME


@pytest.mark.parametrize("files", [{"x": 3}, {"x": {"size": "big"}}, ["x"], {"x": {"sha256": "0"}}])
def test_a_manifest_that_is_sealed_but_nonsense_is_refused(tmp_path: Path, files: object) -> None:
    folder = tmp_path / "0001"
    folder.mkdir()
    data = {"schema": 1, "job": "j", "attempt": 1, "fingerprint": "f", "generation": 1, "segment": 1}
    body = durable.to_yaml({**data, "engine": "e", "engine_version": "1", "node": {}, "created": 0.0, "files": files})
    seal = f"manifest_sha256: {hashlib.sha256(body).hexdigest()}\n".encode()
    (folder / manifest.NAME).write_bytes(body + seal)
    with pytest.raises(ImageRefused, match="does not hold what it should"):
        manifest.read(folder)


def test_an_old_image_that_cannot_be_read_keeps_no_new_one_from_being_made(images: Path) -> None:
    folder = generations.path_of(images, 1)
    folder.rename(images / "aside")
    folder.symlink_to(folder)  # ELOOP, as a failing disk gives EIO
    kept = sorted((images / packs.FOLDER).iterdir())
    make(images, 4)
    assert generations.numbers(images)[-1] == 4
    assert set(kept) <= set((images / packs.FOLDER).iterdir()), "which of them it needs is not known"
