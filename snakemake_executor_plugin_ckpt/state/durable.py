"""Writing so that a crash at any instant, and another node a moment later, find the old or the new and nothing else.

The order is write, fsync, rename (or link, where nothing may be replaced), fsync of the folder. A shared file
system adds: O_APPEND and flock hold only within a node on some (BeeGFS by default), so neither is used here.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from snakemake_executor_plugin_ckpt import faults
from snakemake_executor_plugin_ckpt.errors import StateError

# The C reader is ten times faster; a libyaml is in every wheel of PyYAML, but a site's own build may lack it.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = type("_Dumper", (getattr(yaml, "CSafeDumper", yaml.SafeDumper),), {})
# A name that is no UTF-8 is a lone surrogate in Python, which YAML knows no word for: it is there to be read only.
_Dumper.add_representer(str, lambda dumper, text: dumper.represent_str(readable(text)))

_NO_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}


def fsync_path(path: Path) -> None:
    """Have a file or folder on the disk; file systems that cannot sync a folder are let pass."""
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise
    finally:
        os.close(opened)


def _write_temporary(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    faults.point("write", path)
    opened = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(opened, "wb") as file:
            file.write(content)
            file.flush()
            faults.point("fsync", path)
            os.fsync(file.fileno())
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def replace(path: Path, content: bytes) -> None:
    """Put new content in the place of a file."""
    temporary = _write_temporary(path, content)
    faults.point("rename", path)
    temporary.replace(path)
    faults.point("renamed", path)
    fsync_path(path.parent)
    faults.point("replaced", path)


def create(path: Path, content: bytes) -> bool:
    """Create a file with its content, unless there is one; whether this caller created it.

    By link(2), which is exclusive on NFS too and, unlike O_EXCL, never shows an empty file.
    """
    temporary = _write_temporary(path, content)
    try:
        faults.point("link", path)
        os.link(temporary, path)
        faults.point("linked", path)
    except FileExistsError:
        # An NFS client repeats a request whose answer was lost, and is then told of its own link (nfs(5)).
        if not os.path.samefile(temporary, path):
            return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
            raise
        return _create_without_link(path, content)
    finally:
        temporary.unlink()
    faults.point("unlinked", path)
    fsync_path(path.parent)
    faults.point("created", path)
    return True


def _create_without_link(path: Path, content: bytes) -> bool:
    try:
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(opened, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fsync_path(path.parent)
    return True


def make_folder(path: Path) -> None:
    """Create a private folder and those above it, on the disk."""
    if path.is_dir():
        return
    make_folder(path.parent)
    faults.point("mkdir")
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    faults.point("made")
    fsync_path(path.parent)


def readable(text: str) -> str:
    """A text that any file takes; what is no UTF-8 of a name in it is escaped, so it is that name no more."""
    return text.encode(errors="backslashreplace").decode()


def to_yaml(data: Any) -> bytes:
    """YAML of plain data, in the order given; texts as `readable` has them."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text.encode()


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    StateError
        The file does not hold a mapping.
    """
    try:
        data = yaml.load(path.read_bytes(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise StateError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(data, dict):
        raise StateError(f"{path} does not hold a record")
    return data


def remove_tree(path: Path) -> None:
    """Remove a folder so that no half of it is ever found under its name."""
    doomed = path.with_name(f".{path.name}.removed.{os.uname().nodename}.{os.getpid()}")
    faults.point("remove", path)
    try:
        path.rename(doomed)
    except FileNotFoundError:
        return
    faults.point("doomed", path)
    fsync_path(path.parent)
    shutil.rmtree(doomed, ignore_errors=True)
    faults.point("removed", path)
