"""The generations of a job's image: begun, committed, chosen, retired."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images import manifest as manifests
from snakemake_executor_plugin_ckpt.images.manifest import Manifest, Wanted
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
    partial = images / f".{generation:04d}.partial"
    (partial / TREE).mkdir(parents=True, mode=0o700)
    partial.chmod(0o700)
    return partial


def commit(partial: Path, images: Path, manifest: Manifest) -> int:
    """Seal an image and give it its name; the size in bytes. From here on it is the image in force.

    Raises
    ------
    OSError
        The disk did not take it; the generations before it are untouched.
    """
    size = manifests.seal(partial, manifest)
    partial.rename(path_of(images, manifest.generation))
    durable.fsync_path(images)
    return size


def abandon(partial: Path) -> None:
    """Remove an image that was not committed."""
    shutil.rmtree(partial, ignore_errors=True)


def choose(images: Path, wanted: Wanted, newest: int | None = None) -> tuple[Manifest | None, list[str]]:
    """The newest image that may be restored, all its bytes verified.

    Parameters
    ----------
    images
        The folder of the generations.
    wanted
        What it must be.
    newest
        Take none newer than this one.

    Returns
    -------
    tuple
        The manifest, or None; and why each newer one was refused.
    """
    refused = []
    for generation in reversed(numbers(images)):
        if newest is not None and generation > newest:
            refused.append(f"image {generation}: could not be restored before")
            continue
        folder = path_of(images, generation)
        try:
            manifest = manifests.read(folder)
            if manifest.generation != generation:
                raise ImageRefused(f"damaged: it is image {manifest.generation} under another name")
            manifests.check_belongs(manifest, wanted)
            manifests.check_content(folder, manifest)
        except (ImageRefused, OSError) as error:
            refused.append(f"image {generation}: {error}")
            continue
        return manifest, refused
    return None, refused


def retire(images: Path, keep: int) -> None:
    """Remove all but the newest `keep` generations (at least one is always left)."""
    for generation in numbers(images)[: -max(1, keep)]:
        durable.remove_tree(path_of(images, generation))
