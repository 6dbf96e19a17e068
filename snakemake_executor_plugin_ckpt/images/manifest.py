"""An image's table of contents: every file with its size and checksum, and at the end the table's own."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_ckpt.errors import ImageRefused, StateError, WrongNode
from snakemake_executor_plugin_ckpt.images.node import incompatible
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.records import Record

NAME = "MANIFEST.yaml"
_SELF = "manifest_sha256"
_THREADS = 2


@dataclass
class Manifest(Record):
    """What an image is and what it is made of.

    Attributes
    ----------
    job, attempt, fingerprint
        Whose it is; an image of another one is never restored.
    files
        Relative path to ``{size: bytes, sha256: hex}``.
    packs
        The same of the packs with the outputs' contents, which are in a folder beside the image.
    """

    job: str
    attempt: int
    fingerprint: str
    generation: int
    segment: int
    engine: str
    engine_version: str
    node: dict[str, Any]
    created: float
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    packs: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """What an image must be to be restored here and now."""

    job: str
    attempt: int
    fingerprint: str
    engine: str
    node: dict[str, Any]


def seal(folder: Path, manifest: Manifest) -> int:
    """Have every file of an image on the disk, and only then write its manifest; the image's size in bytes.

    Raises
    ------
    OSError
        The disk did not take it (full, quota, gone); the folder is no image then.
    """
    paths = sorted(_files(folder))
    # Checksums are read from the page cache while the disk writes: both take the same time as one.
    with ThreadPoolExecutor(_THREADS) as pool:
        sums = [pool.submit(_checksum, path) for path in paths]
        for path in paths:
            durable.fsync_path(path)
        for path, done in zip(paths, sums, strict=True):
            manifest.files[str(path.relative_to(folder))] = {"size": path.stat().st_size, "sha256": done.result()}
    for parent in sorted({path.parent for path in paths}, reverse=True):
        durable.fsync_path(parent)
    return sum(int(entry["size"]) for entry in manifest.files.values())


def write(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, its own checksum last.

    Raises
    ------
    OSError
        See `seal`.
    """
    body = durable.to_yaml(manifest.to_dict())
    durable.replace(folder / NAME, body + f"{_SELF}: {hashlib.sha256(body).hexdigest()}\n".encode())


def read(folder: Path) -> Manifest:
    """The manifest of an image, its own checksum verified.

    Raises
    ------
    ImageRefused
        There is none, or it is damaged.
    OSError
        It cannot be read now, which says nothing of what it is.
    """
    try:
        content = (folder / NAME).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ImageRefused(f"incomplete: no readable {NAME} ({error.strerror})") from error
    body, found, own = content.rpartition(f"{_SELF}: ".encode())
    if not found or own.strip().decode(errors="replace") != hashlib.sha256(body).hexdigest():
        raise ImageRefused(f"damaged: the checksum of {NAME} does not agree with its content")
    try:
        data = durable.read_yaml(folder / NAME)
        data.pop(_SELF)
        manifest = Manifest.from_dict(data)
        for entry in [*manifest.files.values(), *manifest.packs.values()]:
            int(entry["size"]), str(entry["sha256"])
    except StateError as error:
        raise ImageRefused(f"unreadable: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ImageRefused(f"damaged: {NAME} does not hold what it should ({error!r})") from error
    return manifest


def check_belongs(manifest: Manifest, wanted: Wanted) -> None:
    """Refuse an image that is sound but not the right one.

    Raises
    ------
    ImageRefused
        It is foreign, stale, or (`WrongNode`) from an incompatible node.
    """
    if manifest.job != wanted.job:
        raise ImageRefused(f"foreign: it is of the job {manifest.job}")
    if manifest.fingerprint != wanted.fingerprint:
        raise ImageRefused("stale: the rule's code, params, inputs or software changed since it was saved")
    if manifest.attempt != wanted.attempt:
        raise ImageRefused(f"stale: it is of attempt {manifest.attempt}, this is attempt {wanted.attempt}")
    if manifest.engine != wanted.engine:
        raise ImageRefused(f"it was saved by the engine {manifest.engine}, the job now uses {wanted.engine}")
    if reason := incompatible(manifest.node, wanted.node):
        raise WrongNode(f"incompatible node: {reason}")


def check_content(folder: Path, manifest: Manifest, packs: Path | None) -> None:
    """Compare every file with the manifest: none missing, none added, none changed.

    Parameters
    ----------
    folder, manifest
        The image.
    packs
        The folder of the packs; None to leave them out.

    Raises
    ------
    ImageRefused
        Something differs; the message says what.
    """
    found = {str(path.relative_to(folder)) for path in _files(folder)} - {NAME}
    if missing := sorted(manifest.files.keys() - found):
        raise ImageRefused(f"incomplete: {missing[0]} is missing")
    if added := sorted(found - manifest.files.keys()):
        raise ImageRefused(f"damaged: {added[0]} does not belong to it")
    paths = {folder / name: entry for name, entry in manifest.files.items()}
    if packs is not None:
        paths |= {packs / name: entry for name, entry in manifest.packs.items()}
    for path, entry in paths.items():
        if not path.is_file():
            raise ImageRefused(f"incomplete: {_short(path, folder)} is missing")
        if (size := path.stat().st_size) != entry["size"]:
            raise ImageRefused(f"damaged: {_short(path, folder)} has {size} bytes instead of {entry['size']}")
    with ThreadPoolExecutor(_THREADS) as pool:
        for path, checksum in zip(paths, pool.map(_checksum, paths), strict=True):
            if checksum != paths[path]["sha256"]:
                raise ImageRefused(f"damaged: the content of {_short(path, folder)} changed")


def _short(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder if path.is_relative_to(folder) else folder.parent))


def _files(folder: Path) -> Iterator[Path]:
    for root, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            yield Path(root, name)


def _raise(error: OSError) -> None:
    raise error  # os.walk would pass over what it cannot read, and the files in it would seem to be missing


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
