"""What of a node an image depends on."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

_X86 = re.compile(r"x86_64|i[3-6]86")
#: Of the words that Linux has for an x86 CPU (arch/x86/include/asm/cpufeatures.h), those of instructions, and of state,
#: that a user's program can use. Most others come and go with the kernel, its boot options, microcode, the BIOS or a
#: hypervisor (pti, ibrs, ssbd, hwp*, cqm*, ida, tsc_known_freq, ept): a maintenance would make all images useless.
#: Left out on purpose: what only a kernel may do (invpcid, monitor; xsaves, which newer kernels hide on Zen 1 and 2),
#: what only says that something is fast (erms, fsrm, rep_good; a BIOS can switch it off), mpx (no-operations unless the
#: kernel enables it, and none does any more), enqcmd (of use only with a device, which no image holds; shown or not by
#: the kernel's configuration), and what every x86-64 has (tsc, sep, nopl, lm). rtm and hle count: libraries choose
#: variants with xtest when they start. CRIU compares by CPUID after this (--cpu-cap=ins; criu/arch/x86/cpu.c), but of
#: AVX-512 only the older parts and nothing newer.
_X86_INSTRUCTIONS = re.compile(
    r"fpu|cx8|cx16|cmov|syscall|lahf_lm|fxsr|mmx(?:ext)?|3dnow\w*|pni|s?sse\w*|misalignsse"
    r"|avx\w*|amx_\w+|apx\w*|fma4?|f16c|xop|tbm|xsave(?:opt|c)?|xgetbv1|pku|ospke"
    r"|abm|adx|bmi[12]|movbe|popcnt|cmpccxadd|rtm|hle|tsxldtrk"
    r"|aes|vaes|pclmulqdq|vpclmulqdq|gfni|sha_ni|sha512|sm[34]|rdrand|rdseed|(?:rng|ace2?|phe|pmm)_en"
    r"|clflush(?:opt)?|clwb|clzero|cldemote|movdiri|movdir64b|waitpkg|mwaitx|serialize|rdtscp|rdpid|rdpru|fsgsbase"
)


@cache
def node_class() -> dict[str, Any]:
    """Architecture, kernel, C library and CPU features of this node: all of them, `incompatible` chooses."""
    uname = os.uname()
    return {
        "machine": uname.machine,
        "kernel": uname.release,
        "libc": " ".join(platform.libc_ver()),
        "cpu_flags": _cpu_flags(Path("/proc/cpuinfo").read_text()),
    }


def node_summary() -> dict[str, Any]:
    """The same for a reader: the CPU's model instead of its hundred flags."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    return {name: value for name, value in node_class().items() if name != "cpu_flags"} | {"cpu": model}


def _cpu_flags(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, flags = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return " ".join(sorted(flags.split()))
    return ""


def _instructions(node: dict[str, Any]) -> set[str]:
    """What a program may have chosen when it started; on other machines than x86 that is every feature (hwcaps)."""
    flags = set(str(node.get("cpu_flags", "")).split())
    if not _X86.fullmatch(str(node.get("machine"))):
        return flags
    return {flag for flag in flags if _X86_INSTRUCTIONS.fullmatch(flag)}


def incompatible(image: dict[str, Any], here: dict[str, Any]) -> str | None:
    """Why an image of one node class cannot be restored on another; None when nothing speaks against it.

    A program chose its instructions when it started (ifunc, BLAS kernels), so each one that the old node had
    must be here; more of them do no harm.
    """
    if image.get("machine") != here.get("machine"):
        return f"it is of a {image.get('machine')} node, this is {here.get('machine')}"
    missing = _instructions(image) - _instructions(here)
    if missing:
        return "this node's CPU lacks " + ", ".join(sorted(missing)[:8])
    return None
