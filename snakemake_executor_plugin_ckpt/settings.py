"""The settings of `--executor ckpt`, and how they and a rule's resources become the policy of a job.

No postponed annotations here: Snakemake reads the types of the fields as objects.
"""

import math
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from snakemake_executor_plugin_ckpt.engines.base import find_engine
from snakemake_executor_plugin_ckpt.errors import BadSetting
from snakemake_executor_plugin_ckpt.head.incomplete import attach_without_asking
from snakemake_executor_plugin_ckpt.policy import Policy
from snakemake_executor_plugin_ckpt.schedulers.base import (
    Scheduler,
    detect,
    find_scheduler,
    load_scheduler,
    scheduler_names,
)
from snakemake_executor_plugin_ckpt.units import parse_duration, parse_patterns, parse_size

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    # A restored job must not depend on what the next node's environment happens to be.
    pass_envvar_declarations_to_cmd=True,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=0,
)


def _setting(default: Any, text: str, **metadata: Any) -> Any:
    if default is not None:
        text = f"{text} Default: {default}."
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """``--ckpt-...`` on the command line, ``ckpt-...`` in a profile."""

    scheduler: Optional[str] = _setting(
        None,
        "Who runs the segments: slurm, oar, lsf, or local (this machine, no cluster needed). Default: the one that is "
        "found here, else local.",
    )
    engine: Optional[str] = _setting("criu", "How jobs are saved: criu, or none (jobs run, but are not saved).")
    state_dir: Optional[Path] = _setting(
        None,
        "Folder on a file system that all nodes share, for job records and images (for instance /bettik/$USER/ckpt). "
        "Default: .snakemake/ckpt in the working directory.",
        metavar="DIR",
    )
    walltime: Optional[str] = _setting(
        None,
        "Walltime of a segment for rules that do not set their own by the resource 'runtime' (minutes) or "
        "'ckpt_walltime' (a duration). With its unit: 90s, 30min, 48h, 2d, 48:00:00. Default: no limit.",
        metavar="DURATION",
    )
    margin: Optional[float] = _setting(
        1.5,
        "Factor on the time that a save is expected to take, when the time to start it is set. At least 1.",
    )
    save_floor: Optional[str] = _setting(
        "2s", "Least time kept free for a save before the walltime's end.", metavar="DURATION"
    )
    save_ceiling: Optional[str] = _setting(
        "1h", "Most time kept free for a save before the walltime's end.", metavar="DURATION"
    )
    grace: Optional[str] = _setting(
        "2s", "Time between the scheduler's first signal and its kill; kept free too.", metavar="DURATION"
    )
    period: Optional[str] = _setting(
        "off",
        "Save a running job every so often besides, so that a node's death costs no more: off, a duration such as 6h, "
        "or auto (best by what its saves take and --ckpt-mtbf).",
        metavar="DURATION",
    )
    mtbf: Optional[str] = _setting(
        "30d", "Mean time between failures of one node, for --ckpt-period auto.", metavar="DURATION"
    )
    keep: Optional[int] = _setting(2, "Images kept of each unfinished job (at least 2).")
    copy_limit: Optional[str] = _setting(
        "16G",
        "Largest output that is copied with the images, so that it can be put back after a crash whatever was done to "
        "it; of a copied file each save adds only what changed. A larger one can only be cut back to its size.",
        metavar="SIZE",
    )
    max_segments: Optional[int] = _setting(1000, "Segments after which a job is given up.")
    node_property: Optional[str] = _setting(
        None,
        "What the scheduler calls the kind of a node (OAR: a property such as cluster; Slurm: a pattern of its "
        "features, such as cpu_*). Batch jobs that restore an image then ask for a node of the kind that made it.",
        metavar="NAME",
    )
    on_unsavable: Optional[str] = _setting(
        "run",
        "What to do with a job that cannot be saved: let it 'run' on to the end of its walltime, or 'fail' at once.",
        choices=["run", "fail"],
    )
    on_no_image: Optional[str] = _setting(
        "restart",
        "What to do when a later segment finds no image that it may restore: 'restart' the job from its beginning "
        "(and say so), or 'fail'.",
        choices=["restart", "fail"],
    )
    on_interrupt: Optional[str] = _setting(
        "park",
        "What Ctrl-C does with running jobs: 'park' saves and stops them, 'detach' leaves them running, 'cancel' "
        "ends them. The next run resumes parked and detached jobs.",
        choices=["park", "detach", "cancel"],
    )
    criu: Optional[str] = _setting(None, "Path of the criu program (4.2 or newer). Default: found by itself.")
    criu_way: Optional[str] = _setting(
        "auto",
        "How CRIU gets its rights: rootless (own namespaces), capabilities (on the criu program), root, or auto.",
        choices=["auto", "rootless", "capabilities", "root"],
    )
    tcp: Optional[str] = _setting(
        "refuse",
        "What to do with established TCP connections at a save: 'refuse' to save, or let them come back 'close'd.",
        choices=["refuse", "close"],
    )

    def __post_init__(self) -> None:
        """Have a new head attach without ``--rerun-incomplete``: only here it is known that jobs are to be ours."""
        attach_without_asking(ExecutorSettings)


def _number(option: str, value: object, good: Callable[[float], bool], remedy: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        raise BadSetting(option, value, remedy) from None
    if not (math.isfinite(number) and good(number)):
        raise BadSetting(option, value, remedy)
    return number


def _duration(option: str, value: object) -> float:
    try:
        seconds = parse_duration(str(value))
    except ValueError as error:
        raise BadSetting(option, value, str(error)) from None
    if seconds <= 0:
        raise BadSetting(option, value, "a duration must be longer than nothing")
    return seconds


def _size(option: str, value: object) -> int:
    try:
        return parse_size(str(value))
    except ValueError as error:
        raise BadSetting(option, value, str(error)) from None


def _patterns(option: str, value: object) -> list[str]:
    try:
        return parse_patterns(str(value), os.getcwd())
    except ValueError as error:
        raise BadSetting(option, value, str(error)) from None


def _period(option: str, value: object) -> float | Literal["auto"] | None:
    if str(value) == "auto":
        return "auto"
    return None if str(value) in ("off", "None") else _duration(option, value)


def base_policy(settings: ExecutorSettings) -> Policy:
    """The policy that the settings alone give.

    Raises
    ------
    BadSetting
        A setting that cannot be used.
    """
    engine, scheduler = settings.engine or "criu", settings.scheduler or detect()
    floor, ceiling = (
        _duration("--ckpt-save-floor", settings.save_floor),
        _duration("--ckpt-save-ceiling", settings.save_ceiling),
    )
    if ceiling < floor:
        raise BadSetting(
            "--ckpt-save-ceiling",
            settings.save_ceiling,
            f"it is less than --ckpt-save-floor {settings.save_floor}",
        )
    options = {"criu": settings.criu, "criu-way": settings.criu_way, "tcp": settings.tcp}
    return Policy(
        engine=engine,
        engine_place=find_engine(engine),
        engine_options={name: value for name, value in options.items() if value},
        scheduler=scheduler,
        scheduler_place=find_scheduler(scheduler),
        walltime=None if settings.walltime is None else _duration("--ckpt-walltime", settings.walltime),
        margin=_number("--ckpt-margin", settings.margin, lambda x: x >= 1, "use a number of 1 or more"),
        floor=floor,
        ceiling=ceiling,
        grace=_duration("--ckpt-grace", settings.grace),
        period=_period("--ckpt-period", settings.period),
        mtbf=_duration("--ckpt-mtbf", settings.mtbf),
        keep=int(_number("--ckpt-keep", settings.keep, lambda x: x >= 2, "keep 2 images or more")),
        copy_limit=_size("--ckpt-copy-limit", settings.copy_limit),
        max_segments=int(_number("--ckpt-max-segments", settings.max_segments, lambda x: x >= 1, "use 1 or more")),
        node_property=settings.node_property,
        on_unsavable=_choice(settings, "on_unsavable"),
        on_no_image=_choice(settings, "on_no_image"),
    )


def _choice(settings: ExecutorSettings, name: str) -> str:
    value = getattr(settings, name)
    choices = type(settings).__dataclass_fields__[name].metadata["choices"]
    if value not in choices:
        raise BadSetting("--ckpt-" + name.replace("_", "-"), value, "use " + " or ".join(choices))
    return str(value)


#: State directory of a scheduler that is only asked for what it knows without one.
_NOWHERE = Path("/nonexistent")

#: Resources of ours that a rule may set; another one that starts alike is a slip of the pen.
RESOURCES = ("ckpt", "ckpt_walltime", "ckpt_period", "ckpt_engine", "ckpt_files", "ckpt_later")


def policy_for(base: Policy, rule: str, resources: Mapping[str, Any], threads: int) -> Policy:
    """The policy of one job.

    Raises
    ------
    BadSetting
        A resource that cannot be used; the message names rule and resource.
    """
    from dataclasses import replace

    def option(name: str) -> str:
        return f"rule {rule}, resource {name}"

    for name in resources:
        if name.startswith("ckpt") and name not in RESOURCES:
            raise BadSetting(option(name), resources[name], "the resources of this kind are " + ", ".join(RESOURCES))
    engine = str(resources.get("ckpt_engine", base.engine))
    switch = resources.get("ckpt", 1)
    if str(switch) not in ("0", "1", "True", "False"):
        raise BadSetting(option("ckpt"), switch, "use 0 to run the job without saving it, or leave it out")
    if str(switch) in ("0", "False"):
        engine = "none"
    scheduler = load_scheduler(base.scheduler_place, _NOWHERE)
    policy = replace(
        base,
        engine=engine,
        engine_place=find_engine(engine, option("ckpt_engine")),
        walltime=_walltime(base, resources, option),
        period=_period(option("ckpt_period"), resources["ckpt_period"]) if "ckpt_period" in resources else base.period,
        files=_patterns(option("ckpt_files"), resources["ckpt_files"]) if "ckpt_files" in resources else base.files,
        threads=threads,
        mem_mb=_positive(option("mem_mb"), resources.get("mem_mb")),
        extra=_extra(scheduler, resources, option),
        later=_later(scheduler, option("ckpt_later"), resources.get("ckpt_later")),
    )
    _check_walltime(policy, option("runtime" if "runtime" in resources else "ckpt_walltime"))
    return policy


def _extra(scheduler: Scheduler, resources: Mapping[str, Any], option: Callable[[str], str]) -> dict[str, str]:
    """Resources that are for the scheduler alone, in its own names; what others have is theirs."""
    for name, value in resources.items():
        if remedy := scheduler.refusal(name, str(value)):
            raise BadSetting(option(name), value, remedy)
    return {name: str(value) for name, value in resources.items() if scheduler.takes(name)}


def _later(scheduler: Scheduler, option: str, value: object) -> dict[str, str]:
    """Resources of all segments but the first: ``runtime=600 slurm_partition=long``."""
    if value is None:
        return {}
    found = {}
    try:
        parts = shlex.split(str(value))
    except ValueError as error:
        raise BadSetting(option, value, f"it is not shell words: {error}") from None
    for part in parts:
        name, equals, text = part.partition("=")
        if refusal := scheduler.refusal(name, text):
            raise BadSetting(option, value, f"{name}: {refusal}")
        mine = name in ("runtime", "mem_mb") or scheduler.takes(name)
        if not equals or not (mine or _is_for_another(name)):
            remedy = "write name=value, with blanks between, where a name is runtime, mem_mb or one of the scheduler's"
            raise BadSetting(option, value, remedy)
        if mine:
            found[name] = text
    for name in found.keys() & {"runtime", "mem_mb"}:
        _number(f"{option}, {name}", found[name], lambda x: x > 0, "use a number more than 0")
    return found


def _is_for_another(resource: str) -> bool:
    """Whether some scheduler that is installed takes a resource: one profile may serve several."""
    return any(load_scheduler(find_scheduler(name), _NOWHERE).takes(resource) for name in scheduler_names())


def _walltime(base: Policy, resources: Mapping[str, Any], option: Callable[[str], str]) -> float | None:
    if "ckpt_walltime" in resources:
        return _duration(option("ckpt_walltime"), resources["ckpt_walltime"])
    if "runtime" in resources:
        remedy = "runtime is the walltime of a segment, in minutes, and more than 0"
        return 60 * _number(option("runtime"), resources["runtime"], lambda x: x > 0, remedy)
    return base.walltime


def _positive(option: str, value: object) -> int | None:
    if value is None:
        return None
    return int(_number(option, value, lambda x: x > 0, "use a number more than 0"))


def _check_walltime(policy: Policy, option: str) -> None:
    """Refuse, before anything is submitted, a walltime in which nothing could be computed."""
    need = policy.floor + policy.grace
    if policy.engine != "none" and policy.walltime is not None and policy.walltime <= need:
        raise BadSetting(
            f"{option} (or --ckpt-walltime)",
            f"{policy.walltime:g} s",
            f"a save is given at least {policy.floor:g} s (--ckpt-save-floor) and the scheduler's grace is "
            f"{policy.grace:g} s (--ckpt-grace), so it must be longer than {need:g} s",
        )
