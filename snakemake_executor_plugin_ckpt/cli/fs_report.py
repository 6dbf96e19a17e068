"""What `ckpt verify-fs` measured, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from snakemake_executor_plugin_ckpt.cli.text import plural, wrap

#: Seconds after which a change is seen so late that it should be said.
_LATE = 5.0


@dataclass(frozen=True)
class Report:
    """What was measured.

    Attributes
    ----------
    token, directory, file_system, seconds
        The trial, where, on what (as this host mounted it), and for how long.
    hosts
        Processes that took part, by host.
    parties
        Those who took part, one for each call of the command; two on one host may have two mounts.
    names, tries, two_winners, no_winner
        Exclusive creation: names, tries for them, names that more than one process created, and that none did.
    holds, overlaps, lost_updates
        The lock: how often held, how often by two at once, and how often a counter raised under it was read as it
        had been before an acknowledged replacement.
    replacements, reads, torn, older, absent
        Replacing: files replaced and read, reads that were half-written, older than acknowledged, or found nothing.
    stale_handles
        Reads that failed with ESTALE, which is no violation.
    answers, delay_median, delay_longest
        Changes that one party made and another answered, and the seconds until the first saw the answer.
    features
        What the file system can do: hard links, fsync, reflinks.
    errors
        What kept processes from measuring.
    """

    token: str
    directory: str
    file_system: str
    seconds: float
    hosts: dict[str, int]
    parties: list[str]
    names: int
    tries: int
    two_winners: int
    no_winner: int
    holds: int
    overlaps: int
    lost_updates: int
    replacements: int
    reads: int
    torn: int
    older: int
    absent: int
    stale_handles: int
    answers: int
    delay_median: float | None
    delay_longest: float | None
    features: dict[str, bool]
    errors: list[str]

    @property
    def violations(self) -> int:
        """Times that a promise was broken."""
        creation = self.two_winners + self.no_winner
        return creation + self.overlaps + self.lost_updates + self.torn + self.older + self.absent

    @property
    def measured(self) -> bool:
        """Whether there was enough to judge by."""
        return not self.errors and min(self.names, self.holds, self.replacements, self.reads) > 0


def as_json(report: Report) -> dict[str, object]:
    """The report as plain data; see `Report` for the fields."""
    return {"schema": 1, "ok": report.measured and not report.violations, **asdict(report)}


def as_text(report: Report, width: int) -> list[str]:
    """The report for a reader, the verdict last."""
    hosts = ", ".join(f"{host} ({plural(number, 'process', 'processes')})" for host, number in report.hosts.items())
    if len(report.parties) > len(report.hosts) > 0:
        hosts += f", by {len(report.parties)} calls of this command"
    rows = [
        ("file system", f"{report.file_system}, {report.directory}"),
        (plural(len(report.hosts), "host"), hosts),
        (
            "creation",
            f"{plural(report.names, 'name')}, {report.tries} tries: {report.two_winners} with more than one winner, "
            f"{report.no_winner} with none",
        ),
        (
            "lock",
            f"held {report.holds} times: {plural(report.overlaps, 'overlap')}, "
            f"{plural(report.lost_updates, 'lost update')} of a counter",
        ),
        (
            "replacement",
            f"{report.replacements} replaced, {report.reads} read: {report.torn} half-written, {report.older} older "
            f"than acknowledged, {report.absent} absent",
        ),
        ("visibility", _visibility(report)),
        *_features(report.features),
    ]
    if report.stale_handles:
        rows.append(("note", f"{report.stale_handles} reads failed with ESTALE, as NFS may; a second try helps"))
    rows += [("PROBLEM", error) for error in report.errors]
    lines = [line for name, text in rows for line in wrap(f"{name + ':':<14}{text}", width, 14)]
    return [*lines, "", *wrap(_verdict(report), width)]


def _visibility(report: Report) -> str:
    if report.delay_median is None or report.delay_longest is None:
        return "not measured, since one call took part: what one kernel writes it sees at once"
    text = (
        f"{plural(report.answers, 'change')} answered by another host, there and back in {report.delay_median:.3f} s "
        f"(median) to {report.delay_longest:.3f} s (longest)"
    )
    late = "; caches hide changes: jobs go on later by so much, no promise is broken"
    return text + (late if report.delay_longest > _LATE else "")


def _features(features: dict[str, bool]) -> list[tuple[str, str]]:
    def word(name: str) -> str:
        return "yes" if features.get(name) else "NO"

    links = "" if features.get("hard_links") else "; claims and the lock need them"
    clones = "yes" if features.get("reflink") else "no (FICLONE): copies take their time and room"
    return [
        ("hard links", f"{word('hard_links')}; across folders: {word('hard_links_across_folders')}{links}"),
        ("fsync", f"files: {word('fsync_file')}; folders: {word('fsync_folder')}"),
        ("reflinks", clones),
        ("xattrs", "not needed"),
    ]


def _verdict(report: Report) -> str:
    if report.violations:
        return (
            f"{plural(report.violations, 'violation')}: two segments of one job could run at once here, or a record "
            "be read wrongly. Use another file system (--state-dir)."
        )
    if not report.measured:
        return "Nothing can be said: not all of it could be measured."
    if len(report.hosts) > 1:
        return "All held, between these hosts."
    mounts = " or mounts" if len(report.parties) > 1 else ""
    return (
        f"All held, between processes{mounts} of this host; --join on a second host shows whether it holds between two."
    )
