"""Where contents are kept: packs, files of the job's images folder that several images share.

A pack is written once, with the image that first needs it, and never again. Each piece has its checksum in the
image's table, and each pack as a whole in the manifests of the images that use it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO

from snakemake_executor_plugin_ckpt.errors import ImageRefused
from snakemake_executor_plugin_ckpt.images.outputs.table import Extent, Table

#: Name of the folder in the images folder, and of a pack in the making in its image's folder.
FOLDER, NEW = "packs", "pack"
#: Largest piece, in bytes: at most so much is copied for one changed byte.
PIECE = 4 << 20
#: Packs of one image, beyond which the smaller half is written anew into one.
_MOST_PACKS = 32


class Packer:
    """Keeps contents for one image: in packs that are there already, else in a new one.

    Parameters
    ----------
    partial
        The image in the making, which takes the new pack.
    generation
        The number of the image, for the pack's name.
    base
        The table of the image before; what it holds is not written again.
    sizes
        Bytes of the packs that the base uses.
    """

    def __init__(self, partial: Path, generation: int, base: Table, sizes: dict[str, int]) -> None:
        self.name = f"{generation:04d}-{secrets.token_hex(4)}"
        self.path = partial / NEW
        self.copied = 0
        self._file: IO[bytes] | None = None
        self._wasteful = _wasteful(base, sizes)

    def kept(self, extents: Sequence[Extent]) -> bool:
        """Whether all pieces can stay in the packs where they are."""
        return not any(extent.pack in self._wasteful for extent in extents)

    def pack(self, file: IO[bytes], old: Sequence[Extent], until: int) -> list[Extent]:
        """The pieces of a file's first bytes; those that differ from the old ones are written.

        Parameters
        ----------
        file
            Open for reading, unbuffered, at its beginning.
        old
            Its pieces in the image before; may be none.
        until
            Bytes to keep.
        """
        pieces: list[Extent] = []
        done = 0
        for size in _sizes(old, until):
            content = read_full(file, size)
            sha256 = hashlib.sha256(content).hexdigest()
            before = old[len(pieces)] if len(pieces) < len(old) else None
            if before is not None and sha256 == before.sha256 and before.pack not in self._wasteful:
                pieces.append(before)
            else:
                pieces.append(self._write(content, sha256))
            done += len(content)
            if len(content) < size:
                break  # shorter than it was a moment ago: somebody outside the tree cut it
        return pieces

    def _write(self, content: bytes, sha256: str) -> Extent:
        if self._file is None:
            self._file = open(self.path, "wb", buffering=0, opener=_private)  # noqa: SIM115 - closed by `close`
        offset = self._file.tell()
        view = memoryview(content)
        while view:
            view = view[self._file.write(view) :]
        self.copied += len(content)
        return Extent(self.name, offset, len(content), sha256)

    def close(self) -> None:
        """Close the new pack."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sizes(old: Sequence[Extent], until: int) -> Iterable[int]:
    """How to cut a file: as it was cut before, and what it grew by into new pieces, so that no old one is moved."""
    done = 0
    # Many small pieces of a file that grows slowly are made few again once in a while.
    if len(old) <= 2 * (until // PIECE) + 64:
        for extent in old:
            if done + extent.size > until:
                break
            yield extent.size
            done += extent.size
    while done < until:
        size = min(PIECE, until - done)
        yield size
        done += size


def _wasteful(base: Table, sizes: dict[str, int]) -> set[str]:
    """Packs out of which the next image takes nothing: mostly unused ones, and the small ones of too many."""
    live = base.live()
    wasteful = {name for name in live if 2 * live[name] < sizes.get(name, 0) or name not in sizes}
    rest = sorted(live.keys() - wasteful, key=lambda name: live[name])
    if len(rest) > _MOST_PACKS:
        wasteful.update(rest[: len(rest) // 2])
    return wasteful


def read_full(file: IO[bytes], size: int) -> bytes:
    """So many bytes from an unbuffered file; fewer only at its end."""
    content = file.read(size)
    if len(content) == size or not content:
        return content
    parts = [content]
    missing = size - len(content)
    while missing and (part := file.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def differing(file: IO[bytes], extents: Iterable[Extent]) -> list[tuple[int, Extent]]:
    """The pieces, each with its place in the file (bytes), that a file does not hold (any more)."""
    found = []
    place = 0
    for extent in extents:
        if hashlib.sha256(read_full(file, extent.size)).hexdigest() != extent.sha256:
            found.append((place, extent))
        place += extent.size
    return found


def content_of(images: Path, extent: Extent) -> bytes:
    """A piece out of its pack, its checksum verified.

    Raises
    ------
    ImageRefused
        The pack is gone or damaged.
    OSError
        It cannot be read now.
    """
    path = images / FOLDER / extent.pack
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(extent.offset)
            content = read_full(file, extent.size)
    except FileNotFoundError as error:
        raise ImageRefused(f"incomplete: the kept outputs {FOLDER}/{extent.pack} are gone") from error
    if hashlib.sha256(content).hexdigest() != extent.sha256:
        raise ImageRefused(f"damaged: the content of the kept outputs {FOLDER}/{extent.pack} changed")
    return content
