"""bf16 on the processor: used where it has instructions for it, since in software it is many times slower than fp32."""

from __future__ import annotations

import torch


def cpu_has_bf16() -> bool:
    """Whether this processor computes in bf16 itself: AVX512-BF16 or AMX."""
    instructions = torch.cpu.get_capabilities()
    return bool(instructions.get("avx512_bf16") or instructions.get("amx_bf16"))


def bf16_autocast(*, enabled: bool = True) -> torch.autocast:
    """A context in which training on the processor computes in bf16 if that is fast, and in fp32 otherwise."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and cpu_has_bf16())
