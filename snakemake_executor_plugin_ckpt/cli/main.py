"""The `ckpt` command: its options, and which module does what. All else is imported only when it is needed."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import NoReturn

_PACKAGE = "snakemake_executor_plugin_ckpt.cli"
_BROKEN_PIPE, _INTERRUPTED = 141, 130  # as shells give a death by SIGPIPE or SIGINT

_ABOUT = "Looks at jobs of `snakemake --executor ckpt`, which cuts long jobs into segments that are saved and restored."
_EXITS = "exit status: 0 ok, 1 a problem was found, 2 wrong usage"
_EXAMPLES = f"""\
examples:
  ckpt list                      all jobs of the workflow in this directory
  ckpt show count                all about the one job of rule count
  ckpt log count --follow        its output, as it comes
  ckpt doctor                    can this machine save and restore jobs?
  ckpt verify                    are all images whole and right?
  ckpt gc --dry-run              what could be removed, and how large is it?
  ckpt verify-fs /bettik/$USER   does the file system keep the promises that jobs rest on?

The jobs are those of the state directory: --state-dir, else the environment variable CKPT_STATE_DIR, else
.snakemake/ckpt below the current directory. Records alone are read; no scheduler is asked. Only `gc` removes.

{_EXITS}"""

_JOB = "its key, the start of its key, its folder, or part of its rule and wildcards; it must match one job"

_LIST = f"""\
columns:
  att, seg, saves   attempt (a new one begins when the job itself failed), its segments, its saves
  images            saved states on the disk now, and their size
  computing         time in which the job itself ran
  lost              time that a run without a walltime would not have spent: stopped for saves, restores, and
                    computing that had not been saved and was, or will be, done again
  state             waiting (for a batch job), running on HOST, saved (between two segments), parked (saved and
                    stopped), lost (the next segment takes over), lost? (it seems so), cancelled, failed, done

examples:
  ckpt list
  ckpt list --state-dir /bettik/$USER/ckpt
  ckpt list --json | jq '.jobs[] | select(.state.name == "failed") | .key'

--json: {{schema, state_dir, jobs: [{{key, name, rule, wildcards, folder, state: {{name, host, reason}}, attempt,
segments, saves, images, image_bytes, computing_seconds, lost_seconds}}], totals: {{jobs, segments, saves,
computing_seconds, lost_seconds, states}}, unreadable: [{{folder, reason}}]}}

{_EXITS} (a job folder that cannot be read; a failed job is no problem of the list)"""

_SHOW = f"""\
examples:
  ckpt show count                the one job of rule count
  ckpt show x=a                  the one job with this wildcard
  ckpt show count-a-a8a2         by the start of its key
  ckpt show count --json | jq '.segments[] | [.number, .host, .computing_seconds]'

--json: {{schema, job: {{as in `ckpt list`, and workdir, fingerprint, created, exit, earlier_exits, acknowledged,
requests, watched, policy}}, segments: [{{number, attempt, host, scheduler, job_id, started, ended, outcome, reason,
exit, computing_seconds, starting_seconds, restoring_seconds, frozen_seconds, saving_seconds, unsaved_seconds,
lost_seconds, kept, saves, image, image_bytes, resident_bytes, restored_from, warnings}}], submissions, images:
[{{generation, bytes, created, folder}}], logs: {{payload, earlier, batch, failed_saves}}}}; times are Unix seconds

{_EXITS}"""

_LOG = f"""\
The output is one file over all segments: what was written after a save is taken back when the job is restored
from it, so that the file reads as if the job had never been interrupted.

examples:
  ckpt log count                 the last 40 lines
  ckpt log count --all | less
  ckpt log count --follow        until the job ends; Ctrl-C leaves it running
  ckpt log count --segment 3     what scheduler, supervisor and engine said of segment 3

{_EXITS}"""

_DOCTOR = """\
A small tree of processes is saved and restored for trial, and a few files are written to the state directory;
nothing is left behind. It tells of the machine that it runs on, so run it on a compute node too:
  srun ckpt doctor               (Slurm)
  oarsub -l walltime=0:5 'ckpt doctor > doctor.txt'

examples:
  ckpt doctor
  ckpt doctor --state-dir /bettik/$USER/ckpt
  ckpt doctor --criu ~/criu/sbin/criu --criu-way rootless
  ckpt doctor --json | jq '.checks[] | select(.status != "ok")'

--json: {schema, usable, host, user, way, version, checks: [{name, status: ok | warning | problem, found, remedy,
who: you | an admin, details}]}

exit status: 0 jobs can be saved here, 1 they cannot, 2 wrong usage"""


_VERIFY = f"""\
Of each image: is its table of contents unchanged, is it of this job, attempt and fingerprint, and is every byte of
every file as it was saved. An image of another kind of node is good; that this node could not restore it is noted.

examples:
  ckpt verify                    the images of all jobs
  ckpt verify count              those of the one job of rule count
  ckpt verify --json | jq '.jobs[].images[] | select(.good | not)'

--json: {{schema, ok, jobs: [{{key, name, folder, over, images: [{{generation, folder, bytes, good, reason, note}}],
problem}}], totals: {{jobs, images, bad, bytes, without_image}}, unreadable: [{{folder, reason}}]}}

{_EXITS} (an image is bad, or an unfinished job has no good one left although it was saved)"""

_GC = f"""\
what is removed:
  of finished jobs               images and temporary files; a job that failed is not finished
  of jobs without a segment      images that were never finished; images beyond those that the job keeps (--ckpt-keep),
                                 once that many newer ones were verified: never the last good one
  leftovers                      interrupted writes and removals, kept outputs (packs) that no image needs, records
                                 of batch jobs that are gone (of local ones: if their process was of this host)
  with --older-than              the whole folders, logs and history too, of jobs that succeeded, and of whose success
                                 Snakemake was told, if nothing happened to them for so long

Nothing of a job is touched while a segment of it runs or may run, and links are never followed.

examples:
  ckpt gc --dry-run              say what would be removed, and remove nothing
  ckpt gc --state-dir /bettik/$USER/ckpt --older-than 30d
  ckpt gc --dry-run --json | jq .totals.bytes

--json: {{schema, state_dir, dry_run, removed: [{{path, bytes, reason, job}}], left: [{{path, reason}}],
failed: [{{path, reason}}], totals: {{things, bytes}}}}

{_EXITS} (something could not be removed, or a job folder not be read)"""

_VERIFY_FS = f"""\
Several processes at once create files, take a lock and replace files in a folder of their own in DIR, which is removed
at the end. What must hold: of all who create a file one wins; of all who want the lock one has it; who reads a file
that is being replaced sees it whole, and never older than was acknowledged. For two hosts, start it on one, and within
the time on the other with the --join that the first one prints. No clocks are compared.

examples:
  ckpt verify-fs /bettik/$USER
  ckpt verify-fs /bettik/$USER --seconds 120 --processes 8
  ckpt verify-fs /bettik/$USER --join ckpt-trial-0123456789ab     (on the second host)
  ckpt verify-fs . --json | jq .ok

--json: {{schema, ok, token, directory, file_system, seconds, hosts: {{HOST: processes}}, parties, names, tries,
two_winners, no_winner, holds, overlaps, lost_updates, replacements, reads, torn, older, absent, stale_handles, answers,
delay_median, delay_longest, features: {{hard_links, hard_links_across_folders, fsync_file, fsync_folder, reflink}},
errors}}

{_EXITS} (a promise was broken, or could not be measured)"""


class _Parser(argparse.ArgumentParser):
    """Says errors in a line, as all commands of this package do."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"ckpt: {message}\ntry: {self.prog} --help\n")


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version

        print(f"ckpt {version('snakemake-executor-plugin-ckpt')}")
        parser.exit(0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    parser = build_parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    from snakemake_executor_plugin_ckpt.cli.facts import UsageError
    from snakemake_executor_plugin_ckpt.errors import BadSetting, CkptError

    _accept_all_names()
    try:
        status: int = import_module(f"{_PACKAGE}.{arguments.command.replace('-', '_')}").run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _let_stdout_go()
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        return _INTERRUPTED
    except CkptError as error:
        print(f"ckpt: {error}", file=sys.stderr)
        return 2 if isinstance(error, (UsageError, BadSetting)) else 1
    except OSError as error:
        print(f"ckpt: {error.filename}: {error.strerror}" if error.filename else f"ckpt: {error}", file=sys.stderr)
        return 1
    return status


def _accept_all_names() -> None:
    """A file name that the terminal cannot show is shown escaped, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _let_stdout_go() -> None:
    """The reader has gone; what is still buffered must not raise when the interpreter ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def build_parser() -> argparse.ArgumentParser:
    """All options of all commands."""
    parser = _Parser("ckpt", description=_ABOUT, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _add(commands, "list", "all jobs, a line each", _LIST)
    show = _add(commands, "show", "all about one job: timeline, segments, images, logs", _SHOW, job=True)
    show.add_argument("--all", action="store_true", help="show all segments, not only the last 40")
    _log_options(_add(commands, "log", "the output of one job", _LOG, job=True, json=False))
    _doctor_options(_add(commands, "doctor", "whether this machine can save and restore jobs", _DOCTOR))
    verify = _add(commands, "verify", "whether images are whole and right: every byte is read", _VERIFY)
    verify.add_argument("job", metavar="JOB", nargs="?", help=f"{_JOB} (default: all jobs)")
    _gc_options(_add(commands, "gc", "remove what is no longer needed", _GC))
    what = "measure whether a file system keeps the promises that jobs rest on"
    _verify_fs_options(_add(commands, "verify-fs", what, _VERIFY_FS, state_dir=False))
    return parser


def _add(
    commands: argparse._SubParsersAction[_Parser],
    name: str,
    what: str,
    epilog: str,
    job: bool = False,
    json: bool = True,
    state_dir: bool = True,
) -> _Parser:
    command = commands.add_parser(
        name,
        help=what,
        description=what[0].upper() + what[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if job:
        command.add_argument("job", metavar="JOB", help=_JOB)
    if state_dir:
        text = "where the job folders are (default: $CKPT_STATE_DIR, else .snakemake/ckpt)"
        command.add_argument("--state-dir", metavar="DIR", help=text)
    if json:
        command.add_argument("--json", action="store_true", help="print JSON, for programs (see below)")
    return command


def _log_options(command: _Parser) -> None:
    how_much = command.add_mutually_exclusive_group()
    how_much.add_argument("--lines", "-n", type=_count, default=40, metavar="N", help="the last N lines (default: 40)")
    how_much.add_argument("--all", action="store_true", help="all lines")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--follow", "-f", action="store_true", help="go on as it grows, until the job ends")
    text = "what scheduler, supervisor and engine said of segment N, instead of the output"
    which.add_argument("--segment", type=_count, metavar="N", help=text)


def _doctor_options(command: _Parser) -> None:
    command.add_argument("--criu", metavar="PATH", help="the criu program (default: $CKPT_CRIU, else found by itself)")
    ways = ("auto", "rootless", "capabilities", "root")
    text = "how CRIU gets its rights: " + ", ".join(ways) + " (default: auto)"
    command.add_argument("--criu-way", choices=ways, metavar="WAY", help=text)


def _gc_options(command: _Parser) -> None:
    command.add_argument("--dry-run", "-n", action="store_true", help="say what would be removed, and remove nothing")
    text = "also remove the whole folders of jobs that succeeded so long ago, such as 30d"
    command.add_argument("--older-than", type=_duration, metavar="DURATION", help=text)


def _verify_fs_options(command: _Parser) -> None:
    command.add_argument("dir", metavar="DIR", help="a folder on the file system in question")
    command.add_argument("--seconds", type=_seconds, default=5.0, metavar="N", help="measure for N s (default: 5)")
    text = "how many processes of this host take part (default: 4)"
    command.add_argument("--processes", type=_processes, default=4, metavar="N", help=text)
    command.add_argument("--join", metavar="TOKEN", help="take part in the trial that another host holds")


def _duration(text: str) -> float:
    from snakemake_executor_plugin_ckpt.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, up to a day")
    return seconds


def _processes(text: str) -> int:
    if not 1 <= (number := _count(text)) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return number


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
