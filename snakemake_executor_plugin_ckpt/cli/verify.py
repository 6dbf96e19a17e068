"""`ckpt verify [JOB]`: whether the images of jobs are whole and right; every byte is read, nothing is changed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from snakemake_executor_plugin_ckpt.cli import facts
from snakemake_executor_plugin_ckpt.cli.facts import Facts
from snakemake_executor_plugin_ckpt.cli.text import page_width, plural, wrap
from snakemake_executor_plugin_ckpt.errors import CkptError, ImageRefused
from snakemake_executor_plugin_ckpt.images import generations, manifest
from snakemake_executor_plugin_ckpt.images.manifest import Wanted
from snakemake_executor_plugin_ckpt.images.node import incompatible, node_class
from snakemake_executor_plugin_ckpt.images.outputs import packs
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.state.folder import JobFolder
from snakemake_executor_plugin_ckpt.units import format_size


@dataclass(frozen=True)
class Verdict:
    """What was found of one image.

    Attributes
    ----------
    bytes
        Its size.
    good
        Whether it would be restored, on a node that fits.
    reason
        Why it would be refused.
    note
        Why it would not be restored on this node, though on another one.
    """

    generation: int
    folder: str
    bytes: int
    good: bool
    reason: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Checked:
    """What was found of one job's images.

    Attributes
    ----------
    over
        Whether the job has ended, so that no image of it will be restored.
    problem
        Why the job can no longer be restored, though it had been saved.
    """

    key: str
    name: str
    folder: str
    over: bool
    images: list[Verdict]
    problem: str | None


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 if an image is bad or a job lost all of them, else 0."""
    found: list[Facts]
    if arguments.job is None:
        found, unreadable = facts.read_all(facts.existing_state_dir(arguments.state_dir))
    else:
        found, unreadable = [facts.read(facts.find_job(arguments.state_dir, arguments.job))], {}
    checked = []
    for known in found:
        checked.append(check(known))
        if not arguments.json:
            for line in _lines(checked[-1], page_width()):
                print(line, flush=True)
    if arguments.json:
        print(json.dumps(as_json(checked, unreadable), indent=2))
    else:
        print(_totals(checked))
    for folder, reason in unreadable.items():
        print(f"ckpt: {folder} cannot be read: {reason}", file=sys.stderr)
    return 1 if unreadable or _bad(checked) else 0


def check(known: Facts) -> Checked:
    """Verify all images of a job, the newest first.

    Parameters
    ----------
    known
        What is on record of it.
    """
    over = is_over(known)
    images = list(verdicts(known))
    problem = None
    had = any(one.attempt == known.job.attempt and one.generation is not None for one in known.segments)
    if not over and (images or had) and not any(one.good for one in images):
        problem = "it was saved, but no good image is left: it would start again from the beginning"
    return Checked(known.job.key, facts.name_of(known.job), str(known.folder), over, images, problem)


def is_over(known: Facts) -> bool:
    """Whether the job has ended, well or not."""
    return known.exit is not None or bool(known.job.acknowledged)


def verdicts(known: Facts) -> Iterator[Verdict]:
    """Each image of a job, the newest first, verified only when it is asked for."""
    images = JobFolder(known.folder).images_folder
    sizes = {image.generation: image.size for image in known.images}
    for generation in reversed(generations.numbers(images)):
        folder = generations.path_of(images, generation)
        reason, note = examine(known, folder, generation)
        if reason and not folder.exists():
            continue  # retired while it was looked at
        yield Verdict(generation, str(folder), sizes.get(generation, 0), reason is None, reason, note)


def examine(known: Facts, folder: Path, generation: int) -> tuple[str | None, str | None]:
    """Why an image would be refused anywhere, and why on this node only; None where nothing speaks against it.

    Parameters
    ----------
    known
        What is on record of the job.
    folder, generation
        The image, and the number that it should have.
    """
    job = known.job
    try:
        read = manifest.read(folder)
        if read.generation != generation:
            raise ImageRefused(f"damaged: it is image {read.generation} under another name")
        # Measured against its own node, so that all but the node is judged.
        wanted = Wanted(job.key, job.attempt, job.fingerprint, Policy.from_dict(job.policy).engine, read.node)
        manifest.check_belongs(read, wanted)
        manifest.check_content(folder, read, folder.parent / packs.FOLDER)
        return None, incompatible(read.node, node_class())
    except (CkptError, OSError) as error:
        return str(error), None


def as_json(checked: list[Checked], unreadable: dict[str, str]) -> dict[str, object]:
    """What was found as plain data; see `Checked` and `Verdict` for the fields."""
    images = [image for job in checked for image in job.images]
    return {
        "schema": 1,
        "ok": not (unreadable or _bad(checked)),
        "jobs": [asdict(job) for job in checked],
        "totals": {
            "jobs": len(checked),
            "images": len(images),
            "bad": sum(not image.good for image in images),
            "bytes": sum(image.bytes for image in images),
            "without_image": sum(job.problem is not None for job in checked),
        },
        "unreadable": [{"folder": folder, "reason": reason} for folder, reason in unreadable.items()],
    }


def _bad(checked: list[Checked]) -> bool:
    return any(job.problem or not all(image.good for image in job.images) for job in checked)


def _lines(job: Checked, width: int) -> list[str]:
    lines = []
    for image in job.images:
        said = "ok" if image.good else f"REFUSED: {image.reason}"
        note = f"; not on this node: {image.note}" if image.note else ""
        lines += wrap(f"{job.name}, image {image.generation} ({format_size(image.bytes)}): {said}{note}", width, 4)
    if job.problem:
        lines += wrap(f"{job.name}: {'' if lines else f'({job.folder}) '}PROBLEM: {job.problem}", width, 4)
    return lines


def _totals(checked: list[Checked]) -> str:
    images = [image for job in checked for image in job.images]
    bad = sum(not image.good for image in images)
    lost = sum(job.problem is not None for job in checked)
    return (
        f"{plural(len(checked), 'job')}, {plural(len(images), 'image')}, "
        f"{format_size(sum(image.bytes for image in images))}: "
        + (f"{bad} bad" if bad else "all good" if images else "nothing to verify")
        + (f", {plural(lost, 'unfinished job')} without a good image" if lost else "")
    )
