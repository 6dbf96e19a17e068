from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.state import durable

SPAWN = multiprocessing.get_context("spawn")
CONTESTANTS = 8
ROUNDS = 15


def _contest(barrier: Barrier, folder: str, number: int) -> None:
    content = f"{number}\n".encode() * 20000
    won = []
    for turn in range(ROUNDS):
        barrier.wait(60)
        if durable.create(Path(folder, f"prize-{turn}"), content):
            won.append(turn)
    Path(folder, f"won-{number}").write_text(" ".join(map(str, won)))


def test_create_has_one_winner_among_many_processes_and_shows_whole_files_only(tmp_path: Path) -> None:
    barrier = SPAWN.Barrier(CONTESTANTS)
    contestants = [
        SPAWN.Process(target=_contest, args=(barrier, str(tmp_path), number)) for number in range(CONTESTANTS)
    ]
    for one in contestants:
        one.start()
    while any(one.is_alive() for one in contestants):
        for prize in tmp_path.glob("prize-*"):
            _assert_whole(prize)
    assert [one.exitcode for one in contestants] == [0] * CONTESTANTS
    winners = {
        turn: number
        for number in range(CONTESTANTS)
        for turn in map(int, (tmp_path / f"won-{number}").read_text().split())
    }
    total = sum(len((tmp_path / f"won-{number}").read_text().split()) for number in range(CONTESTANTS))
    assert total == ROUNDS
    for turn in range(ROUNDS):
        assert _assert_whole(tmp_path / f"prize-{turn}") == winners[turn]
    assert not list(tmp_path.glob(".*")), "temporary files were left"


def _assert_whole(path: Path) -> int:
    lines = path.read_bytes().split()
    assert len(lines) == 20000
    assert len(set(lines)) == 1
    return int(lines[0])


def test_create_is_exclusive_where_the_file_system_knows_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert durable.create(tmp_path / "a", b"first")
    assert not durable.create(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a"]


def test_a_reader_sees_the_old_or_the_new_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([65 + turn % 26]) * 200_000 for turn in range(60)]
    durable.replace(path, contents[0])
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nwhile True:\n c = open(sys.argv[1], 'rb').read()\n"
            " if len(c) != 200000 or len(set(c)) != 1: sys.exit(1)\n if c[0] == 90: sys.exit(0)",
            str(path),
        ]
    )
    while reader.poll() is None:
        for content in contents:
            durable.replace(path, content)
    assert reader.returncode == 0


@pytest.mark.parametrize("write", [durable.replace, durable.create])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(
    write: Callable[[Path, bytes], Any], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", unsupported)
    durable.fsync_path(tmp_path)


ORDER = {
    "replace": ["write", "fsync file", "rename", "fsync folder"],
    "create": ["write", "fsync file", "link", "unlink", "fsync folder"],
}


@pytest.mark.skipif(shutil.which("strace") is None, reason="not installed: strace")
@pytest.mark.parametrize("verb", ["replace", "create"])
def test_the_kernel_is_asked_in_the_order_that_a_crash_cannot_hurt(verb: str, tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from snakemake_executor_plugin_ckpt.state import durable\n"
        "os.getpriority(0, 0)\n"
        f"durable.{verb}(Path(sys.argv[1]), b'content')\nos.getpriority(0, 0)"
    )
    calls = "trace=write,fsync,rename,link,unlink,getpriority"
    trace = tmp_path / "trace"
    (tmp_path / "folder").mkdir()
    argv = ["strace", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", code, str(tmp_path / "folder" / "f")]
    done = subprocess.run(argv, timeout=60, capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr and "ptrace" in done.stderr:
        pytest.skip("this machine allows no tracing")
    assert done.returncode == 0, done.stderr
    seen = trace.read_text().split("getpriority(")[1].splitlines()[1:]
    order = []
    for line in seen:
        call = line.partition("(")[0]
        if call == "fsync":
            call = "fsync folder" if line.partition("<")[2].partition(">")[0].endswith("/folder") else "fsync file"
        order.append(call)
    assert order == ORDER[verb]


@pytest.mark.parametrize("verb", ["replace", "create"])
def test_content_is_on_the_disk_before_it_has_its_name(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync = os.fsync

    def watched(number: int) -> None:
        name = os.readlink(f"/proc/self/fd/{number}")
        named = (tmp_path / "f").exists()
        order.append(f"{'folder' if name == str(tmp_path) else 'file'} named={named}")
        fsync(number)

    monkeypatch.setattr(os, "fsync", watched)
    getattr(durable, verb)(tmp_path / "f", b"content")
    assert order == ["file named=False", "folder named=True"]


@pytest.mark.parametrize(
    "content", [b"", b"- a\n", b"text", b"a: [", b"a: !!python/object:os.system {}", b"\xff\xfe\x00"]
)
def test_what_is_no_record_is_refused_with_its_path(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    with pytest.raises(StateError, match=r"odd\.yaml"):
        durable.read_yaml(path)


def test_yaml_keeps_text_numbers_and_order() -> None:
    data = {"z": "yes", "a": "1e3", "n": None, "t": "2018-01-01", "u": "ü\n x: y", "f": 0.1, "s": "0123", "e": ""}
    path = Path("x")
    text = durable.to_yaml(data)
    import yaml

    assert yaml.safe_load(text) == data, path
    assert list(yaml.safe_load(text)) == list(data)


def test_folders_are_private_to_the_user(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    durable.make_folder(tmp_path / "a" / "b")


def test_files_are_private_to_the_user(tmp_path: Path) -> None:
    durable.replace(tmp_path / "a", b"secret")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_removed_tree_is_gone_under_its_name_and_a_missing_one_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    durable.remove_tree(tmp_path / "tree")
    durable.remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_a_link_that_the_server_made_although_it_denies_it_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def repeated(source: Path, target: Path) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "File exists", str(target))

    monkeypatch.setattr(os, "link", repeated)
    assert durable.create(tmp_path / "record", b"mine")
    monkeypatch.setattr(os, "link", real)
    assert not durable.create(tmp_path / "record", b"another's")
    assert (tmp_path / "record").read_bytes() == b"mine"
