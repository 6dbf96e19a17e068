"""The generations of a job's image: begun, committed, chosen, retired."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import ImageRefused, WrongNode
from snakemake_executor_plugin_ckpt.faults import point
from snakemake_executor_plugin_ckpt.images import manifest as manifests
from snakemake_executor_plugin_ckpt.images.manifest import Manifest, Wanted
from snakemake_executor_plugin_ckpt.images.outputs import packs
from snakemake_executor_plugin_ckpt.state import durable

#: Engine files of an image are in this folder of it.
TREE = "tree"


def numbers(images: Path) -> list[int]:
    """The committed generations, oldest first."""
    try:
        return sorted(int(name) for name in os.listdir(images) if name.isdigit())
    except FileNotFoundError:
        return []


def path_of(images: Path, generation: int) -> Path:
    """The folder of a generation."""
    return images / f"{generation:04d}"


def begin(images: Path, generation: int) -> Path:
    """An empty folder for an image in the making; nobody takes it for an image.

    What earlier, interrupted saves left is removed: this segment is the only writer.
    """
    for name in os.listdir(images):
        if name.startswith("."):
            shutil.rmtree(images / name, ignore_errors=True)
    sweep(images)
    partial = images / f".{generation:04d}.partial"
    (partial / TREE).mkdir(parents=True, mode=0o700)
    partial.chmod(0o700)
    point("image.begun")
    return partial


def commit(partial: Path, images: Path, manifest: Manifest, new_pack: str) -> int:
    """Seal an image and give it its name; the size in bytes. From here on it is the image in force.

    Parameters
    ----------
    partial, images
        The image in the making, and where it is to be.
    manifest
        Its manifest, with the packs that were there before.
    new_pack
        The name for its own pack, if it has one.

    Raises
    ------
    OSError
        The disk did not take it; the generations before it are untouched.
    """
    size = manifests.seal(partial, manifest)
    point("image.sealed")
    try:
        _put_in_place(partial, images, manifest, new_pack)
    except OSError:
        # Its pack may be in place already, and be what fills the disk. What an image needs stays.
        with suppress(OSError):
            sweep(images)
        raise
    point("image.committed")
    return size


def _put_in_place(partial: Path, images: Path, manifest: Manifest, new_pack: str) -> None:
    if (own := manifest.files.pop(packs.NEW, None)) is not None:
        # Into its place before the manifest that names it: a pack without an image does no harm.
        manifest.packs[new_pack] = own
        (images / packs.FOLDER).mkdir(mode=0o700, exist_ok=True)
        (partial / packs.NEW).rename(images / packs.FOLDER / new_pack)
        durable.fsync_path(images / packs.FOLDER)
        point("image.packed")
    manifests.write(partial, manifest)
    point("image.listed")
    partial.rename(path_of(images, manifest.generation))
    point("image.renamed")
    durable.fsync_path(images)


def abandon(partial: Path) -> None:
    """Remove an image that was not committed."""
    shutil.rmtree(partial, ignore_errors=True)


@dataclass
class Refused:
    """Images that cannot be used.

    Attributes
    ----------
    reasons
        Of each, by its number.
    unreadable
        Those of which this may change: the disk failed, which says nothing of what they are.
    elsewhere
        Those that another node may take; that they are whole was not looked at.
    """

    reasons: dict[int, str] = field(default_factory=dict)
    unreadable: set[int] = field(default_factory=set)
    elsewhere: set[int] = field(default_factory=set)

    def add(self, generation: int, error: ImageRefused | OSError) -> None:
        """Note why one is refused."""
        self.reasons[generation] = str(error)
        if isinstance(error, OSError):
            self.unreadable.add(generation)
        if isinstance(error, WrongNode):
            self.elsewhere.add(generation)

    def lines(self) -> list[str]:
        """For a reader."""
        return [f"image {generation}: {reason}" for generation, reason in self.reasons.items()]


def usable(
    images: Path, wanted: Wanted, newest: int | None, refused: Refused, with_packs: bool = True
) -> Iterator[Manifest]:
    """The images that may be restored, the newest first, each verified when it is asked for.

    Parameters
    ----------
    images
        The folder of the generations.
    wanted
        What they must be.
    newest
        Take none newer than this one.
    refused
        Takes those that are passed over.
    with_packs
        Whether the kept outputs are verified as well; without, only those count that a rollback needs.
    """
    for generation in reversed(numbers(images)):
        if newest is not None and generation > newest:
            refused.add(generation, ImageRefused("could not be restored before"))
            continue
        folder = path_of(images, generation)
        try:
            manifest = manifests.read(folder)
            if manifest.generation != generation:
                raise ImageRefused(f"damaged: it is image {manifest.generation} under another name")
            manifests.check_belongs(manifest, wanted)
            manifests.check_content(folder, manifest, images / packs.FOLDER if with_packs else None)
        except (ImageRefused, OSError) as error:
            refused.add(generation, error)
            continue
        yield manifest


def retire(images: Path, keep: int, bad: Collection[int]) -> None:
    """Remove what is older than the newest `keep` good generations (at least one is always left).

    Parameters
    ----------
    images
        The folder of the generations.
    keep
        How many good ones stay.
    bad
        Generations that are known to be of no use: they stay while they are newer than a good one that stays, but
        do not count.
    """
    good = [generation for generation in numbers(images) if generation not in bad]
    oldest = good[-max(1, keep) :][:1]
    for generation in numbers(images):
        if oldest and generation < oldest[0]:
            point("image.retiring")
            durable.remove_tree(path_of(images, generation))
            point("image.retired")
    sweep(images)


def idle_packs(images: Path) -> list[Path]:
    """Packs that no image needs: of images that were retired or never finished."""
    needed: set[str] = set()
    for generation in numbers(images):
        with suppress(ImageRefused):  # an image whose list cannot be read is of no use, with or without packs
            needed.update(manifests.read(path_of(images, generation)).packs)
    folder = images / packs.FOLDER
    return [path for path in sorted(folder.iterdir()) if path.name not in needed] if folder.is_dir() else []


def sweep(images: Path) -> None:
    """Remove the packs that no image needs; none while the list of any image cannot be read."""
    with suppress(OSError):  # nothing rests on it
        _remove(idle_packs(images))


def _remove(idle: Iterable[Path]) -> None:
    for path in idle:
        point("pack.removing")
        with suppress(OSError):
            path.unlink()
