"""What is said to OAR: its command line, walltimes, properties, and what of a rule's own words is refused."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.schedulers import oar_text
from snakemake_executor_plugin_ckpt.schedulers.base import Request

REQUEST = Request("ckpt-x-0001", Path("/w/run.sh"), Path("/w/batch.log"), 172800.0, 2.5, threads=4)


def test_a_submission_says_all_that_a_chain_needs() -> None:
    assert shlex.join(oar_text.submission(REQUEST, (), None)) == (
        "oarsub -n ckpt-x-0001 -t idempotent -d / --checkpoint 3 --signal 12 -l /nodes=1/core=4,walltime=48:00:00 "
        "-O /w/batch.log -E /w/batch.log 'exec /w/run.sh'"
    )


def test_the_resources_of_a_rule_become_options() -> None:
    extra = {
        "oar_project": "pr-clim",
        "oar_queue": "long",
        "oar_properties": "memnode > 64 or cpumarch='zen'",
        "oar_notify": "mail:me@example.org",
        "oar_extra": "-t besteffort",
    }
    request = replace(REQUEST, extra=extra, node_class=("cpumodel", "d'or"))
    argv = oar_text.submission(request, ["n1", "n2.site.fr"], None)

    def value(option: str) -> str:
        return argv[argv.index(option) + 1]

    assert value("--project") == "pr-clim"
    assert value("-q") == "long"
    assert value("--notify") == "mail:me@example.org"
    assert argv[-3:-1] == ["-t", "besteffort"]
    assert value("-p") == (
        "(memnode > 64 or cpumarch='zen') AND cpumodel = 'd''or' "
        "AND network_address NOT IN ('n1', 'n2.site.fr') AND network_address NOT LIKE 'n1.%'"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "0:01:30"), (60, "0:01:00"), (59.2, "0:01:00"), (0.2, "0:00:01"), (172800, "48:00:00"), (3661, "1:01:01")],
)
def test_walltimes_are_said_in_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    assert oar_text.clock(seconds) == text


def test_without_a_walltime_none_is_asked_for() -> None:
    assert oar_text.resources(2, None) == "/nodes=1/core=2"


@pytest.mark.parametrize(
    "text",
    ["-l core=3", "-lcore=3", "--resource=x", "--res x", "-p host='a'", "--checkpoint 5", "--hold", "-n x", "-r now",
     "--array 3", "-S", "--", "-t besteffort -d /tmp"],
)  # fmt: skip
def test_options_that_are_set_by_the_executor_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="oar_extra"):
        oar_text.extra(text)


@pytest.mark.parametrize("text", ["", "-t besteffort", "-t 'a b' -a 57", "--type=besteffort", "-k"])
def test_other_options_are_handed_on(text: str) -> None:
    assert oar_text.extra(text) == shlex.split(text)


def test_extra_words_with_an_open_quote_are_refused() -> None:
    with pytest.raises(BadSetting, match="quotation"):
        oar_text.extra("-t 'besteffort")


def test_a_node_class_cannot_smuggle_sql() -> None:
    with pytest.raises(BadSetting, match="node class"):
        oar_text.properties(None, ("1=1 OR x", "y"), ())


@pytest.mark.parametrize("name", ["plain", "with space", "it's", "$(touch x)", "ä;b"])
@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_the_command_is_run_whatever_the_paths_are(tmp_path: Path, name: str, shell: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    script = folder / "run.sh"
    script.write_text('#!/bin/sh\necho "$$ $CKPT_OAR_SHORTEST"\n')
    script.chmod(0o700)
    request = replace(REQUEST, script=script, log=folder / "batch.log", workdir=str(folder))
    argv = oar_text.submission(request, (), "7.5")
    started = subprocess.Popen([shell, "-c", argv[-1]], stdout=subprocess.PIPE, text=True)
    said = started.communicate(timeout=30)[0]
    if argv[argv.index("-O") + 1] == "/dev/null":
        said = request.log.read_text()
    assert said == f"{started.pid} 7.5\n"  # the same process: OAR signals no other
    allowed = name in ("plain", "with space")  # of oarsub: [a-zA-Z0-9_./% \\-]
    assert argv[argv.index("-O") + 1] == (str(request.log) if allowed else "/dev/null")
    assert argv[argv.index("-d") + 1] == (str(folder) if allowed else "/")


@pytest.mark.parametrize("own", ["cpu = 'x", "(a = 1", "a = 1)", "a = 1) OR (b = 2", "it's"])
def test_conditions_that_would_take_in_what_is_added_are_refused(own: str) -> None:
    with pytest.raises(BadSetting, match="resource oar_properties"):
        oar_text.properties(own, None, ())


@pytest.mark.parametrize("own", ["a = ')' OR (b = '(' AND c = 'd''e')", "host='n1'"])
def test_conditions_that_end_are_taken(own: str) -> None:
    assert oar_text.properties(own, None, ()) == f"({own})"
