from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.histories import History, done

from snakemake_executor_plugin_ckpt.cli.main import main

pytestmark = pytest.mark.usefixtures("no_fsync")

A, B = "count-a-0123456789abcdef", "count-b-fedcba9876543210"
COMMAND = [sys.executable, "-m", "snakemake_executor_plugin_ckpt.cli.main"]


@pytest.fixture
def state(state: Path) -> Path:
    """A state directory with two jobs of one rule, and one of another rule."""
    done(state, A, "x=a")
    parked = History(state, B, wildcards="x=b")
    parked.saved(parked=True, warnings=["cannot be saved: a socket"])
    done(state, "plot-1111111111111111", "", rule="plot")
    return state


# -- the command as a whole


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["log"], ["doctor"], ["verify"], ["gc"], ["verify-fs"]])
def test_every_command_explains_itself_with_examples(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    said = capsys.readouterr().out
    assert "examples:" in said and "exit status:" in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ckpt ")


@pytest.mark.parametrize("words", [["nix"], ["show"], ["list", "--nix"], ["log", A, "--lines", "-3"]])
def test_wrong_usage_is_said_in_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("ckpt: ") and "--help" in said


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


def test_the_command_never_imports_snakemake(state: Path) -> None:
    code = (
        "import sys; from snakemake_executor_plugin_ckpt.cli.main import main;"
        f"main(['list']); main(['show', '{A}']); main(['log', '{A}']); main(['doctor']);"
        "main(['verify']); main(['gc']);"
        "sys.exit(any(name.split('.')[0].startswith('snakemake') and name.split('.')[0] != "
        "'snakemake_executor_plugin_ckpt' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_a_reader_that_leaves_early_sees_no_error(state: Path) -> None:
    (state / A / "logs" / "payload.log").write_bytes((b"x" * 79 + b"\n") * 100_000)
    command = subprocess.Popen([*COMMAND, "log", A, "--all"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert command.stdout is not None and command.stderr is not None
    command.stdout.read(10)
    command.stdout.close()
    assert command.stderr.read() == b""
    assert command.wait(30) == 141


def test_names_that_the_terminal_cannot_show_end_nothing(state: Path) -> None:
    History(state, "odd-7777777777777777", rule="odd", wildcards="x=\u00e9")
    command = [*COMMAND, "list"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    ended = subprocess.run(command, capture_output=True, text=True, env=ascii_only, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "odd (x=\\xe9)" in ended.stdout


# -- ckpt list


def test_the_list_has_a_line_for_each_job_and_totals(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    head, first, second, third, blank, totals = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "job" and head.split()[-1] == "state" and blank == ""
    assert first.startswith("count (x=a)") and first.endswith("done")
    assert second.startswith("count (x=b)") and second.endswith("parked")
    assert third.startswith("plot ")
    assert totals == "3 jobs (2 done, 1 parked), 7 segments, 5 saves, 22.0 s lost"


def test_the_columns_are_aligned(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    column = lines[0].index("state")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines[:4])


def test_a_long_reason_is_cut_to_the_page(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = History(state, "long-2222222222222222", rule="long")
    long.segment(outcome="failed", failure="refused", reason="because\nof " + "this and " * 30)
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("long ") and line.endswith("...") for line in lines)


def test_the_list_as_json_has_the_documented_fields(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["schema"] == 1 and data["state_dir"] == str(state) and data["unreadable"] == []
    assert data["totals"]["jobs"] == 3
    first = data["jobs"][0]
    assert first["key"] == A and first["state"] == {"name": "done", "host": None, "reason": None}
    assert (first["segments"], first["saves"], first["computing_seconds"]) == (3, 2, 90.0)


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_listed(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (state / B / "segments" / "0001.yaml").write_text("schema: 99\n")
    assert main(["list"]) == 1
    said = capsys.readouterr()
    assert "count (x=a)" in said.out and "count (x=b)" not in said.out
    assert said.err.startswith(f"ckpt: {state / B} cannot be read: ") and "newer version" in said.err


def test_an_empty_state_directory_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no jobs in {tmp_path}\n"


def test_a_state_directory_that_is_not_there_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--state-dir", str(tmp_path / "nix")]) == 2
    assert "--state-dir or CKPT_STATE_DIR" in capsys.readouterr().err


def test_without_a_word_the_state_directory_is_that_of_the_workflow_here(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CKPT_STATE_DIR")
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".snakemake" / "ckpt").symlink_to(state)
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 0
    assert "3 jobs" in capsys.readouterr().out


def test_listing_changes_nothing(state: Path) -> None:
    def look() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in state.rglob("*"))

    before = look()
    main(["list"])
    main(["show", A])
    assert look() == before


# -- which job is meant


@pytest.mark.parametrize("text", [A, "count-a", "x=a", "count (x=a)", "count x=a", "(x=a"])
def test_a_job_is_named_in_many_ways(state: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", text]) == 0
    assert capsys.readouterr().out.startswith("count (x=a)\n")


def test_a_job_is_named_by_its_folder(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", f"{state / B}/"]) == 0
    assert capsys.readouterr().out.startswith("count (x=b)\n")


def test_a_name_that_means_several_jobs_lists_them(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "count"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ckpt: 'count' means 2 jobs") and A in said and B in said and "plot" not in said


def test_a_name_that_means_none_lists_what_there_is(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", "nix"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ckpt: no job matches 'nix'") and A in said and B in said


def test_a_whole_wildcard_goes_before_a_part_of_another(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    History(state, "count-ab-3333333333333333", wildcards="x=ab, y=1")
    assert main(["show", "x=a"]) == 0
    assert capsys.readouterr().out.startswith("count (x=a)\n")
    assert main(["show", "y=1"]) == 0


# -- ckpt show


def test_a_job_is_shown_with_all_that_is_known(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", B]) == 0
    said = capsys.readouterr().out
    for text in (B, str(state / B), "parked", "Timeline", "Segments", "Warnings", "a socket", "Images", "Logs"):
        assert text in said
    assert "each segment: local, walltime no limit, 1 thread" in said
    assert str(state / B / "images" / "0001") in said and "batch-0001.log" in said
    assert max(map(len, said.splitlines())) <= max(100, len(str(state)) + 100)


def test_an_earlier_attempt_is_told_in_a_line(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = done(state, "again-4444444444444444", "x=again")
    history.folder.exit_file.write_text("5\n")
    history.begin_attempt()
    assert main(["show", "again"]) == 0
    said = capsys.readouterr().out
    assert "attempt 1: 3 segments (1 to 3), 1 min 30 s computing, exit status 5" in said
    assert "payload.1.log" in said


def test_of_many_segments_the_last_are_shown(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = History(state, "many-5555555555555555", rule="many")
    for number in range(1, 51):
        history.segment(
            outcome="saved",
            useful=5.0,
            generation=number,
            images={number: 5.0},
            restored_from=number - 1 or None,
            saves=1,
        )
    main(["show", "many"])
    short = capsys.readouterr().out
    main(["show", "many", "--all"])
    long = capsys.readouterr().out
    assert "the last 40 of 50 segments" in short
    assert "--all" not in long and len(long.splitlines()) == len(short.splitlines()) + 20


def test_a_job_as_json_has_the_documented_fields(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--json", A]) == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data) == {"schema", "job", "segments", "submissions", "images", "logs"}
    assert data["job"]["key"] == A and data["job"]["exit"] == 0 and data["job"]["policy"]["engine"] == "criu"
    assert [one["restored_from"] for one in data["segments"]] == [None, 1, 2]
    assert [one["generation"] for one in data["images"]] == [1, 2]
    assert data["logs"]["payload"] == [str(state / A / "logs" / "payload.log")]


# -- ckpt log


def test_the_log_is_shown_from_its_end(state: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["log", A, "--lines", "2"]) == 0
    assert capfdbinary.readouterr().out == b"line 99\nline 100\n"
    main(["log", A])
    assert capfdbinary.readouterr().out.splitlines()[0] == b"line 61"
    main(["log", A, "--all"])
    assert len(capfdbinary.readouterr().out.splitlines()) == 100


def test_a_job_without_output_says_so(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", B]) == 1
    assert capsys.readouterr().err.startswith("ckpt: no output yet")


def test_following_a_job_that_is_over_ends(state: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    begin = time.monotonic()
    assert main(["log", A, "--follow", "--lines", "1"]) == 0
    assert capfdbinary.readouterr().out == b"line 100\n"
    assert time.monotonic() - begin < 5


def test_the_logs_of_a_segment_are_those_of_its_batch_job_and_of_saves_that_failed(
    state: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    history = done(state, "two-6666666666666666", "x=two")
    history.folder.exit_file.unlink()
    history.submit()
    history.segment(outcome="failed", failure="error", reason="no")
    logs = history.folder.logs_folder
    (logs / "batch-0001.log").write_text("first\n")
    (logs / "batch-0002.log").write_text("second\n")
    (logs / "0004-failed-criu.log").write_text("criu\n")
    assert main(["log", "two", "--segment", "2"]) == 0
    assert capfdbinary.readouterr().out.decode() == f"==> {logs / 'batch-0001.log'} <==\nfirst\n"
    assert main(["log", "two", "--segment", "4"]) == 0
    said = capfdbinary.readouterr().out.decode()
    assert "second\n" in said and "criu\n" in said and "first" not in said


def test_a_segment_that_is_not_there_is_wrong_usage(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["log", A, "--segment", "9"]) == 2
    assert "has no segment 9; it has 1 to 3" in capsys.readouterr().err


def test_ctrl_c_ends_without_a_traceback(state: Path) -> None:
    command = subprocess.Popen(
        [*COMMAND, "log", B, "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    (state / B / "logs" / "payload.log").write_text("hello\n")
    assert command.stdout is not None
    assert command.stdout.readline() == b"hello\n"  # so it follows by now
    command.send_signal(2)
    _, said = command.communicate(timeout=30)
    assert (command.returncode, said) == (130, b"")
