"""Which nodes an image fits, by the words that Linux has for their CPUs."""

from __future__ import annotations

from typing import Any

import pytest

from snakemake_executor_plugin_ckpt.images.node import incompatible

#: What is no instruction, on real nodes: of the kernel, of boot options, microcode, the BIOS, a hypervisor.
PROPERTIES = (
    "pti ibrs ibpb stibp ssbd md_clear flush_l1d arch_capabilities invpcid_single intel_ppin retpoline kaiser "
    "hwp hwp_act_window hwp_epp hwp_pkg_req ida arat pln pts dtherm epb cqm cqm_llc cqm_mbm_total rdt_a cat_l3 mba "
    "rep_good nopl xtopology nonstop_tsc constant_tsc tsc tsc_known_freq tsc_adjust aperfmperf cpuid tpr_shadow vnmi "
    "flexpriority ept vpid vmx svm npt hypervisor monitor invpcid pcid smep smap umip la57 nx pdpe1gb mpx lwp sgx "
    "erms fsrm xsaves xsaveerptr split_lock_detect user_shstk ibt enqcmd sme sev"
)
INSTRUCTIONS = (
    "fpu cx8 cx16 cmov syscall lahf_lm mmx mmxext fxsr sse sse2 pni ssse3 sse4_1 sse4_2 sse4a misalignsse 3dnow "
    "3dnowext 3dnowprefetch avx avx2 avx_vnni avx512f avx512vl avx512_bf16 avx512_vpopcntdq avx512vbmi amx_tile "
    "amx_int8 fma fma4 f16c xop tbm xsave xsaveopt xsavec xgetbv1 pku ospke abm adx bmi1 bmi2 movbe popcnt rtm hle "
    "aes vaes pclmulqdq vpclmulqdq gfni sha_ni sha512 sm3 sm4 rdrand rdseed clflush clflushopt clwb clzero cldemote "
    "movdiri movdir64b waitpkg mwaitx serialize rdtscp rdpid rdpru fsgsbase"
)


def node(flags: str, machine: str = "x86_64") -> dict[str, Any]:
    return {"machine": machine, "kernel": "6.1", "cpu_flags": flags}


@pytest.mark.parametrize("machine", ["x86_64", "i686"])
@pytest.mark.parametrize("gone", ["pti hwp_epp", PROPERTIES], ids=["two", "all"])
def test_what_a_new_kernel_or_a_boot_option_hides_is_no_obstacle(machine: str, gone: str) -> None:
    assert incompatible(node(f"avx2 {gone}", machine), node("avx2", machine)) is None


def test_an_instruction_that_is_not_here_is_named() -> None:
    before = node("avx2 avx512f hwp pti")
    assert incompatible(before, node("avx2 hwp pti")) == "this node's CPU lacks avx512f"


@pytest.mark.parametrize("instruction", INSTRUCTIONS.split())
def test_every_instruction_counts(instruction: str) -> None:
    said = f"this node's CPU lacks {instruction}"
    assert incompatible(node(f"avx2 {instruction}"), node("pti" if instruction == "avx2" else "avx2")) == said


@pytest.mark.parametrize("machine", ["aarch64", "s390x"])
def test_on_other_machines_than_x86_every_feature_counts(machine: str) -> None:
    assert incompatible(node("asimd sve", machine), node("asimd", machine)) == "this node's CPU lacks sve"
    assert incompatible(node("asimd pti", machine), node("asimd", machine)) == "this node's CPU lacks pti"
