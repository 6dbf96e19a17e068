"""Names of any bytes, of processes and of files: they are read as they are, and a record takes them escaped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.jobs import a_job, a_segment

from snakemake_executor_plugin_ckpt import proc
from snakemake_executor_plugin_ckpt.engines.criu import unsavable
from snakemake_executor_plugin_ckpt.errors import StateError
from snakemake_executor_plugin_ckpt.images.outputs import watched
from snakemake_executor_plugin_ckpt.state import durable
from snakemake_executor_plugin_ckpt.state.folder import JobFolder

#: In Latin-1, as old programs and old archives make them.
LATIN = os.fsdecode(b"carte_\xe9.bin")
MAPS = """
import mmap, os, sys
with open(sys.argv[1], "w+b") as file:
    file.truncate(4096)
    kept = mmap.mmap(file.fileno(), 4096)
if sys.argv[2:] == ["gone"]:
    os.remove(sys.argv[1])
print(1, flush=True)
sys.stdin.read()
"""


@contextmanager
def running(*argv: str) -> Iterator[int]:
    """A program that said a line."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process.pid
    finally:
        process.kill()
        process.communicate()


def test_a_process_whose_name_the_kernel_cuts_in_a_letter_is_seen_as_any_other(tmp_path: Path) -> None:
    script = tmp_path / "modélisatioééé.sh"
    script.write_text("#!/bin/sh\necho up\nread -r word\n")
    script.chmod(0o700)
    with running(str(script)) as pid:
        with pytest.raises(UnicodeDecodeError):
            Path(f"/proc/{pid}/comm").read_bytes().decode()
        stat = proc.read_stat(pid)
        assert stat is not None
        assert os.fsencode(stat.name) == script.name.encode()[:15]
        assert stat.parent == os.getpid()
        found = proc.identify(pid)
        assert found is not None and found.alive()
        assert proc.number_inside(pid) is not None
        assert proc.resident_bytes([pid]) > 0
        assert not proc.held([pid])
        assert unsavable.find([pid], "rootless") == []


def test_a_mapped_file_of_any_name_is_watched_and_no_obstacle(tmp_path: Path) -> None:
    path = str(tmp_path / LATIN)
    with running(sys.executable, "-c", MAPS, path) as pid:
        assert watched.opened([pid])[path].mapped
        assert unsavable.find([pid], "rootless") == []
        assert unsavable.silently_wrong([pid], "rootless") == []


def test_what_cannot_be_saved_is_told_whatever_its_name(tmp_path: Path) -> None:
    with running(sys.executable, "-c", MAPS, str(tmp_path / LATIN), "gone") as pid:
        (finding,) = unsavable.find([pid], "rootless")
    assert LATIN in finding
    folder = JobFolder(tmp_path / "job")
    folder.make()
    folder.update(a_segment(warnings=[finding]))
    assert r"carte_\udce9.bin" in folder.segment(1).warnings[0]


def test_a_job_whose_paths_a_record_cannot_keep_is_refused(tmp_path: Path) -> None:
    """Read again, they would be other paths, and what they name would not be put back."""
    folder = JobFolder(tmp_path)
    path = f"/data/{LATIN}"
    for job in (a_job(watched=["/data/é", path]), a_job(workdir=path), a_job(policy={"files": [path]})):
        with pytest.raises(StateError, match=r"/data/carte_\\udce9.bin .* no UTF-8"):
            folder.write_job(job)
    folder.write_job(a_job(watched=["/data/é 日本"]))
    kept = folder.job()
    assert kept is not None and kept.watched == ["/data/é 日本"]


def test_a_lost_segments_reason_may_be_of_any_bytes(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.segments_folder.mkdir()
    (folder.segments_folder / "0001.lost").write_bytes(b"n\xf8de is gone\n")
    assert "de is gone" in (folder.lost(1) or "")


@pytest.mark.parametrize("text", ["é 日本 \U0001f600", "a: b # c", "two\nlines", "'\"", "", "1", "\\udce9"])
def test_other_texts_are_in_a_record_what_they_were(tmp_path: Path, text: str) -> None:
    (tmp_path / "record").write_bytes(durable.to_yaml({"text": text, "list": [text], text: 1}))
    assert durable.read_yaml(tmp_path / "record") == {"text": text, "list": [text], text: 1}
