from __future__ import annotations

from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.engines.criu.commands import (
    OLDEST,
    Criu,
    highest_pid,
    parse_failure,
    parse_version,
)
from snakemake_executor_plugin_ckpt.engines.criu.locate import locate
from snakemake_executor_plugin_ckpt.errors import EngineError


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Version: 4.2.1\n", (4, 2, 1)),
        ("Version: 4.2\nGitID: v4.2-10-gabc\n", (4, 2)),
        ("Warn  (criu/kerndat.c:1): x\nVersion: 3.17.1\n", (3, 17, 1)),
        ("Version:4.10\n", (4, 10)),
        ("", ()),
        ("criu: command not found", ()),
        ("Version: unknown", ()),
        ("Version: 4.2.", (4, 2)),
    ],
)
def test_a_version_is_read_from_what_criu_says(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_versions_compare_as_numbers() -> None:
    assert parse_version("Version: 4.10") > OLDEST > parse_version("Version: 4.1.1") > ()


@pytest.mark.parametrize(
    ("names", "highest"),
    [
        (["core-1000.img", "core-1234.img", "core-999.img", "pagemap-2000.img"], 1234),
        ([], 0),
        (["inventory.img", "core-x.img", "core-5.img.tmp", "xcore-7.img"], 0),
    ],
)
def test_the_highest_process_number_comes_from_the_core_files(names: list[str], highest: int) -> None:
    assert highest_pid(names) == highest


def test_a_dump_that_goes_on_and_one_that_stops_differ_in_one_word() -> None:
    criu, folder = Criu("/opt/criu"), Path("/image")
    words = [criu.dump(1000, folder, Path("/work"), Path("/script"), stop) for stop in (True, False)]
    assert set(words[1]) - set(words[0]) == {"--leave-running"}
    assert words[0][:2] == ["/opt/criu", "dump"]
    for word in ("--tree=1000", "--images-dir=/image", "--work-dir=/work", "--unprivileged", "--cpu-cap=ins"):
        assert word in words[0]


def test_a_restore_is_detached_and_checks_the_cpu() -> None:
    words = Criu("criu").restore(Path("/image"), Path("/work"), Path("/pid"))
    assert {"--restore-detached", "--pidfile=/pid", "--cpu-cap=ins", "--unprivileged"} <= set(words)


@pytest.mark.parametrize("close", [True, False])
def test_connections_are_closed_only_when_asked(close: bool) -> None:
    criu = Criu("criu", tcp_close=close)
    for words in (
        criu.dump(1, Path("i"), Path("w"), Path("s"), True),
        criu.restore(Path("i"), Path("w"), Path("p")),
    ):
        assert ("--tcp-close" in words) == close


NOISE = """\
(00.000120) Warn  (criu/kerndat.c:1240): $XDG_RUNTIME_DIR not set. Cannot find location for kerndat file
(00.003301) Error (criu/net.c:3661): net: Unexpected error: -1(Operation not permitted)
(00.004014) Error (criu/rlimit.c:50): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
"""
END = "(00.059912) Error (criu/cr-dump.c:2128): Dumping FAILED.\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.", "TCP"),
        ("Error (criu/files.c:533): Can't dump file 4 of that type [0] (unknown): anon_inode:[io_uring]", "io_uring"),
        ("Error (criu/namespaces.c:1200): Can't dump nested user namespace for 1005", "container"),
        ("Error (criu/proc_parse.c:120): Can't open map_files/7f12: Operation not permitted", "multiprocessing"),
        ("Error (criu/files-reg.c:900): Can't dump ghost file /a/b of 5368709120 size, increase limit", "1 GiB"),
        ("Error (criu/files-reg.c:1700): Can't find suitable path for handle", "inotify"),
        ("Error (criu/sk-unix.c:800): unix: External socket is used. half of stream unix connection", "unix socket"),
        ("Error (compel/src/lib/infect.c:418): suspending seccomp failed: Operation not permitted", "seccomp"),
        ("Error (criu/cr-dump.c:1): Task 7 with SysVIPC shmem map @7f doesn't live in IPC ns", "System V"),
    ],
)
def test_a_known_failure_is_named_with_its_way_out(line: str, reason: str) -> None:
    failure = parse_failure(f"{NOISE}(00.05) {line}\n{END}")
    assert len(failure.reasons) == 1
    assert reason in failure.reasons[0]
    assert failure.lines == [line.partition("): ")[2]]


def test_what_criu_says_at_every_run_is_no_reason() -> None:
    failure = parse_failure(NOISE + END)
    assert failure.lines == []
    assert failure.reasons == []


def test_warnings_that_speak_of_known_things_are_no_reason() -> None:
    log = "(00.01) Warn  (criu/x.c:1): seccomp is old\n(00.02) Error (criu/y.c:2): Something else\n"
    failure = parse_failure(log + END)
    assert failure.reasons == []
    assert failure.lines == ["Something else"]


def test_the_last_lines_of_an_unknown_failure_are_kept() -> None:
    log = "".join(f"(00.0{n}) Error (criu/z.c:{n}): trouble {n}\n" for n in range(9))
    assert parse_failure(log).lines == ["trouble 5", "trouble 6", "trouble 7", "trouble 8"]


@pytest.mark.parametrize("log", ["", "\n", "garbage", "Error (", "\0\ufffd"])
def test_a_log_without_sense_has_no_reasons(log: str) -> None:
    assert parse_failure(log).reasons == []


def _program(folder: Path, text: str) -> str:
    path = folder / "criu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo Version: 4.1.1", "version 4.1.1, needed is 4.2"),
        ("echo 'error while loading shared libraries: libnet.so' >&2; exit 127", "libnet.so"),
        ("exit 0", "no version"),
    ],
)
def test_an_unusable_criu_is_refused_with_its_own_words(script: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError) as error:
        locate({"criu": _program(tmp_path, script)})
    assert said in str(error.value)
    assert "--ckpt-criu" in str(error.value)


def test_a_criu_that_is_not_there_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="nowhere"):
        locate({"criu": str(tmp_path / "nowhere")})


def test_the_named_criu_comes_before_all_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CKPT_CRIU", "/nowhere/criu")
    named = _program(tmp_path, "echo Version: 4.9")
    assert locate({"criu": named}) == (named, (4, 9))
    with pytest.raises(EngineError, match="/nowhere/criu"):
        locate({})
