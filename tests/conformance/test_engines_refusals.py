"""What cannot be saved is refused with its process and a way out, found before the save, and goes on unharmed."""

from __future__ import annotations

import platform
import shutil
import socket
import subprocess
import threading

import pytest
from helpers.engines import Trial, variants

from snakemake_executor_plugin_ckpt.errors import Unsavable

SAVING = pytest.mark.parametrize("variant", variants(saving=True))
END = "\nprint('up')\nwhile not os.path.exists('go'): time.sleep(0.02)\n"

TCP = (
    "import os, socket, sys, time\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
    + END
    + ("s.sendall(b'hello')\nsys.exit(0 if s.recv(5) == b'world' else 1)")
)
IO_URING = (
    "import ctypes, os, sys, time\np = ctypes.create_string_buffer(120)\n"
    "fd = ctypes.CDLL(None, use_errno=True).syscall(425, 4, p)\n"
    "if fd < 0: print('no', flush=True); sys.exit(9)" + END + "os.fstat(fd); sys.exit(11)"
)
TRACED = """
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    while not os.path.exists("go"): time.sleep(0.02)
    os._exit(12)
if libc.ptrace(0x4206, child, 0, 0) != 0:
    print("no", flush=True); os.kill(child, 9); sys.exit(9)
print("up")
os.waitpid(child, 0)
sys.exit(12)
"""
INOTIFY = (
    "import ctypes, os, sys, time\nl = ctypes.CDLL(None); fd = l.inotify_init(); l.inotify_add_watch(fd, b'.', 256)"
    + END
    + "os.fstat(fd); sys.exit(13)"
)

SYSV = (
    "import ctypes, os, sys, time\nl = ctypes.CDLL(None); l.shmat.restype = ctypes.c_void_p\n"
    "number = l.shmget(0, 4096, 0o600); l.shmat(number, None, 0); l.shmctl(number, 0, None)" + END + "sys.exit(16)"
)

MEMFD = (
    "import mmap, os, sys, time\nfd = os.memfd_create('shared'); os.ftruncate(fd, 4096); m = mmap.mmap(fd, 4096)"
    + END
    + "os.pwrite(fd, b'seen', 0); sys.exit(15 if m[:4] == b'seen' else 1)"
)


def refused(trial: Trial, variant: str, code: str, said: str, status: int, *words: str) -> None:
    """The program `code` cannot be saved, is told so, and ends as if nobody had tried."""
    engine = trial.engine(variant)
    running = trial.launch(engine, trial.python(code, *words))
    if "no" in trial.wait_said("\n").split():
        pytest.skip("this kernel refuses the call")
    findings = engine.unsavable(running)
    assert any(said in finding for finding in findings), findings
    for finding in findings:
        assert finding.startswith("process ")
    for stop in (True, False):
        with pytest.raises(Unsavable) as error:
            engine.save(running, trial.image(), lambda: None, stop, 60.0)
        assert said in str(error.value)
        assert error.value.findings
    assert running.poll() is None
    (trial.folder / "go").touch()
    assert trial.wait(running) == status, trial.said()


@SAVING
def test_an_established_connection_is_refused_and_goes_on(trial: Trial, variant: str) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            if connection.recv(5) == b"hello":
                connection.sendall(b"world")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        refused(trial, variant, TCP, "TCP", 0, str(listener.getsockname()[1]))
        thread.join(30)


@SAVING
def test_a_connection_is_closed_where_that_was_asked(trial: Trial, variant: str) -> None:
    code = (
        "import os, socket, sys, time\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))"
        + END
        + ("try: data = s.recv(5)\nexcept OSError: data = b''\nsys.exit(21 if not data else 1)")
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        engine = trial.engine(variant, tcp="close")
        payload = trial.python(code, str(listener.getsockname()[1]))
        running = trial.launch(engine, payload)
        trial.wait_said("up")
        assert engine.unsavable(running) == []
        running = trial.cycle(engine, running, payload)
        (trial.folder / "go").touch()
        assert trial.wait(running) == 21, trial.said()


@SAVING
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the number of the call is not known")
def test_io_uring_is_refused_and_goes_on(trial: Trial, variant: str) -> None:
    refused(trial, variant, IO_URING, "io_uring", 11)


@SAVING
def test_a_tracer_is_refused_and_goes_on(trial: Trial, variant: str) -> None:
    refused(trial, variant, TRACED, "tracer", 12)


@pytest.mark.criu
def test_a_file_watch_is_refused_without_root_and_goes_on(trial: Trial) -> None:
    refused(trial, "criu-rootless", INOTIFY, "inotify", 13)


@pytest.mark.root
@pytest.mark.criu
def test_a_file_watch_is_saved_by_root(trial: Trial) -> None:
    engine = trial.engine("criu-root")
    payload = trial.python(INOTIFY.replace("os.fstat(fd)", "assert b'go' in os.read(fd, 999)"))
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    assert engine.unsavable(running) == []
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 13, trial.said()


@SAVING
def test_system_v_shared_memory_is_refused_and_goes_on(trial: Trial, variant: str) -> None:
    refused(trial, variant, SYSV, "System V shared memory", 16)


@SAVING
def test_a_container_in_the_job_is_refused_and_goes_on(trial: Trial, variant: str) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-r", "true"], check=False).returncode:
        pytest.skip("this machine allows no user namespaces")
    code = (
        "import os, subprocess, sys, time\n"
        "sys.exit(subprocess.call(['unshare', '-r', 'sh', '-c',"
        " 'echo up; until [ -e go ]; do sleep 0.02; done; exit 14']))"
    )
    refused(trial, variant, code, "container", 14)


SEMAPHORE = "import multiprocessing, os, sys, time\nlock = multiprocessing.Lock()" + END + "sys.exit(15)"


@pytest.mark.criu
def test_locks_of_multiprocessing_are_refused_without_root_and_go_on(trial: Trial) -> None:
    refused(trial, "criu-rootless", SEMAPHORE, "multiprocessing", 15)


@pytest.mark.criu
@pytest.mark.root
def test_locks_of_multiprocessing_are_saved_as_root(trial: Trial) -> None:
    engine = trial.engine("criu-root")
    payload = trial.python(SEMAPHORE)
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    assert engine.unsavable(running) == []
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 15


@pytest.mark.criu
def test_memory_shared_through_a_memfd_which_criu_would_restore_wrongly_is_refused_and_goes_on(trial: Trial) -> None:
    refused(trial, "criu-rootless", MEMFD, "memfd", 15)


@pytest.mark.root
@pytest.mark.criu
def test_memory_shared_through_a_memfd_is_saved_as_root(trial: Trial) -> None:
    engine = trial.engine("criu-root")
    payload = trial.python(MEMFD)
    running = trial.launch(engine, payload)
    trial.wait_said("up")
    running = trial.cycle(engine, running, payload)
    (trial.folder / "go").touch()
    assert trial.wait(running) == 15, trial.said()
