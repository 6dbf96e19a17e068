"""What of processes an image would carry, counted before it is made; and who holds them."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt import proc

MIB = 1 << 20
#: What an idle Python has of its own, at most.
OWN = 12 * MIB


@contextmanager
def python(code: str, *words: str) -> Iterator[list[int]]:
    """A tree that runs a program until the end of the block; its processes once it has said something."""
    argv = [
        sys.executable,
        "-c",
        f"import mmap, os, signal, sys\n{code}\nprint('up', flush=True)\nsys.stdin.read()",
        *words,
    ]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield [process.pid, *proc.descendants(process.pid)]
    finally:
        for pid in [*proc.descendants(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.communicate()


UNLINKED = f"""
file = open(sys.argv[1], "w+b", buffering=0)
file.write(bytes({32 * MIB}))
os.unlink(sys.argv[1])
another = os.dup(file.fileno())
if os.fork() == 0: signal.pause()
"""


def test_an_open_file_without_a_name_counts_once_whoever_has_it_open(tmp_path: Path) -> None:
    with python(UNLINKED, str(tmp_path / "file")) as pids:
        assert len(pids) == 2
        assert 32 * MIB <= proc.resident_bytes(pids) < 32 * MIB + 2 * OWN


def test_an_open_file_that_has_another_name_is_no_part_of_an_image(tmp_path: Path) -> None:
    code = UNLINKED.replace("os.unlink", "os.link(sys.argv[1], sys.argv[1] + '2'); os.unlink")
    with python(code, str(tmp_path / "file")) as pids:
        assert proc.resident_bytes(pids) < 2 * OWN


def test_holes_of_a_file_without_a_name_count_for_nothing(tmp_path: Path) -> None:
    code = f"file = open(sys.argv[1], 'wb')\nos.unlink(sys.argv[1])\nos.truncate(file.fileno(), {1 << 40})"
    with python(code, str(tmp_path / "file")) as pids:
        assert proc.resident_bytes(pids) < OWN


@pytest.mark.parametrize(
    "made",
    [
        "memory = mmap.mmap(-1, size)",
        "fd = os.memfd_create('x'); os.ftruncate(fd, size); memory = mmap.mmap(fd, size)",
    ],
)
def test_memory_without_a_name_that_processes_share_counts_once(made: str) -> None:
    code = f"""
size = {64 * MIB}
{made}
memory[:] = bytes(size)
done, tell = os.pipe()
for _ in range(4):
    if os.fork() == 0:
        sum(memory[::4096])  # what each of them touches shows in its own figures
        os.write(tell, b".")
        signal.pause()
for _ in range(4): os.read(done, 1)
"""
    with python(code) as pids:
        assert len(pids) == 5
        assert 64 * MIB <= proc.resident_bytes(pids) < 64 * MIB + 5 * OWN


def test_swapped_memory_counts_like_any_other(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    status = "Name:\tx\nVmRSS:\t 9000 kB\nRssAnon:\t    3000 kB\nRssFile:\t 6000 kB\nVmSwap:\t    5000 kB\n"
    monkeypatch.setattr(proc, "text_of", lambda _: status)
    assert proc.resident_bytes([dead]) == 8000 * 1024


def test_a_process_that_is_gone_counts_for_nothing_and_hides_no_other(dead: int) -> None:
    with python("") as pids:
        alone = proc.resident_bytes(pids)
        assert 0 < alone < OWN
        assert proc.resident_bytes([dead, *pids, dead], Path(f"/proc/{dead}/root/dev/shm")) == pytest.approx(alone)


def test_who_is_held_by_none_of_its_own_is_held_from_outside() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    seize, interrupt, detach = 0x4206, 0x4207, 17
    with python("") as pids:
        assert not proc.held_from_outside(pids)
        assert libc.ptrace(seize, pids[0], 0, 0) == 0, os.strerror(ctypes.get_errno())
        assert proc.held_from_outside(pids)
        assert not proc.held_from_outside([*pids, os.getpid()]), "a debugger of its own is no saver"
        assert libc.ptrace(interrupt, pids[0], 0, 0) == 0
        os.waitpid(pids[0], 0x40000000)
        assert proc.held(pids)
        assert libc.ptrace(detach, pids[0], 0, 0) == 0
        assert not proc.held_from_outside(pids)
        assert not proc.held(pids)
