"""What cannot be saved, from recorded /proc text and from processes of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.waiting import wait_for

from snakemake_executor_plugin_ckpt.engines.criu import unsavable
from snakemake_executor_plugin_ckpt.engines.world.namespaces import Way

ANONYMOUS = "7f6a5c000000-7f6a5c021000 rw-p 00000000 00:00 0 \n"
ORDINARY = """\
559f4d3a5000-559f4d3a6000 r--p 00000000 fe:00 1572906                    /usr/bin/python3.11
559f4e0d5000-559f4e1f6000 rw-p 00000000 00:00 0                          [heap]
7f6a5c000000-7f6a5c021000 rw-p 00000000 00:00 0 
7f6a5e1c2000-7f6a5e1e8000 r--p 00000000 fe:00 1572999                    /usr/lib/x86_64-linux-gnu/libc.so.6
7f6a5e400000-7f6a5e401000 rw-p 00000000 00:00 0 
7f6a5e500000-7f6a5e501000 rw-s 00000000 fe:00 77                         /data/a file with spaces
7ffd1b5f2000-7ffd1b613000 rw-p 00000000 00:00 0                          [stack]
7ffd1b7a4000-7ffd1b7a8000 r--p 00000000 00:00 0                          [vvar]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""  # noqa: W291
SHARED = "7f6a5e200000-7f6a5e201000 rw-s 00000000 00:1a 42                         "


def _line(path: str, access: str = "rw-s") -> str:
    return f"7f6a5e200000-7f6a5e201000 {access} 00000000 00:1a 42                         {path}\n"


def _findings(maps: str) -> list[str]:
    return list(unsavable._of_maps(unsavable._MAP.findall(maps)))


@pytest.mark.parametrize("before", ["", ANONYMOUS, ORDINARY])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (_line("/dev/shm/sem.mp-x8 (deleted)"), "like /dev/shm/sem."),
        (_line("/usr/lib/libfoo.so.1 (deleted)", "r-xp"), "like /usr/lib/libfoo.so.1 "),
        (_line("/SYSV00000000 (deleted)"), "System V shared memory"),
        (_line("/[aio] (deleted)"), "native asynchronous I/O"),
        (_line("/memfd:pulse (deleted)"), "shares memory through /memfd:pulse"),
    ],
)
def test_a_mapping_that_cannot_be_saved_is_named_wherever_it_stands(before: str, line: str, said: str) -> None:
    found = _findings(before + line + ORDINARY)
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize("before", ["", ANONYMOUS, ORDINARY])
@pytest.mark.parametrize(
    "line",
    [
        "",
        _line("/dev/zero (deleted)"),
        _line("/memfd:jit (deleted)", "r-xp"),
        _line("/data/x (copy)"),
    ],
)
def test_ordinary_mappings_are_no_finding_wherever_they_stand(before: str, line: str) -> None:
    assert _findings(before + line + ANONYMOUS) == []


def test_the_same_mapping_is_named_once() -> None:
    assert len(_findings(_line("/SYSV0 (deleted)") * 5)) == 1


def test_this_process_and_its_children_can_be_saved() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert unsavable.find([child.pid], "rootless") == []
    finally:
        child.kill()
        child.wait()


def test_processes_that_are_gone_are_no_finding() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert unsavable.find([child.pid], "rootless") == []
    assert unsavable.find([], "rootless") == []


INOTIFY = (
    "import ctypes, time\nl = ctypes.CDLL(None)\nfd = l.inotify_init()\nl.inotify_add_watch(fd, b'.', 256)\n"
    "print(1, flush=True)\ntime.sleep(60)"
)
NO_WATCH = "import ctypes, time\nctypes.CDLL(None).inotify_init()\nprint(1, flush=True)\ntime.sleep(60)"
SEMAPHORE = "import multiprocessing, time\na = multiprocessing.Lock()\nprint(1, flush=True)\ntime.sleep(60)"
TCP = (
    "import socket, time\na = socket.create_server(('127.0.0.1', 0))\n"
    "b = socket.create_connection(a.getsockname())\nc = a.accept()\nprint(1, flush=True)\ntime.sleep(60)"
)
SYSV = (
    "import ctypes, time\nl = ctypes.CDLL(None)\nn = l.shmget(0, 4096, 0o600)\nl.shmat.restype = ctypes.c_void_p\n"
    "l.shmat(n, None, 0)\nl.shmctl(n, 0, None)\nprint(1, flush=True)\ntime.sleep(60)"
)
LISTENS = "import socket, time\na = socket.create_server(('127.0.0.1', 0))\nprint(1, flush=True)\ntime.sleep(60)"


@pytest.mark.parametrize(
    ("code", "way", "said"),
    [
        (INOTIFY, "rootless", "inotify"),
        (INOTIFY, "root", ""),
        (NO_WATCH, "rootless", ""),
        (SEMAPHORE, "rootless", "multiprocessing"),
        (SEMAPHORE, "root", ""),
        (SYSV, "rootless", "System V shared memory"),
        (SYSV, "root", "System V shared memory"),
        (TCP, "rootless", "established TCP connection"),
        (LISTENS, "rootless", ""),
    ],
)
def test_what_a_program_does_is_found_in_proc(code: str, way: Way, said: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        found = unsavable.find([child.pid], way)
        assert bool(found) == bool(said)
        for finding in found:
            assert said in finding
            assert f"process {child.pid} (" in finding
        if said.startswith("established"):
            assert unsavable.find([child.pid], way, tcp_close=True) == []
    finally:
        child.kill()
        child.communicate()


def test_a_tracer_is_found(tmp_path: Path) -> None:
    fake = tmp_path / "status"
    fake.write_text("Name:\tx\nTracerPid:\t4711\nSeccomp:\t2\nSeccomp_filters:\t1\n")
    text = fake.read_text()
    lines = dict(line.split(":\t", 1) for line in text.splitlines())
    assert lines["TracerPid"] == "4711"
    strace = subprocess.Popen([sys.executable, "-c", _TRACED], stdout=subprocess.PIPE, text=True)
    try:
        assert strace.stdout is not None
        line = strace.stdout.readline().strip()
        if not line.isdigit():
            pytest.skip("this machine allows no tracing")
        traced = int(line)
        wait_for(lambda: any("is traced by process" in one for one in unsavable.find([traced], "root")))
    finally:
        strace.kill()
        strace.communicate()


_TRACED = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    if libc.ptrace(0, 0, 0, 0) != 0:
        print("no", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)
os.waitpid(child, os.WUNTRACED)
print(child, flush=True)
time.sleep(60)
"""


def test_namespaces_of_its_own_are_found_and_only_named_once() -> None:
    child = subprocess.Popen(
        ["unshare", "-r", "-m", "sh", "-c", "echo 1; exec sleep 60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        if not child.stdout.readline():
            pytest.skip("this machine allows no user namespaces")
        found = unsavable.find([os.getpid(), child.pid], "rootless")
        mine = [line for line in found if line.startswith(f"process {child.pid} ")]
        assert len(mine) == 1
        assert "namespace of its own" in mine[0]
    finally:
        child.kill()
        child.communicate()
