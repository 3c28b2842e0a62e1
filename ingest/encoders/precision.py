"""bf16 on the processor: used where it is faster than fp32, which instructions for it do not promise.

With AMX, or on AMD's processors, bf16 is two to four times as fast; on Intel's that have AVX512-BF16 without AMX (or a
virtual machine that hides it) fp32 is nearly twice as fast; without instructions bf16 is many times slower. So a
processor that has them is tried, once a process, for some milliseconds.
"""

from __future__ import annotations

import time
from functools import cache

import torch

#: Side of the matrices, and how often they are multiplied in each precision: the fastest counts.
_SIDE, _TRIES = 384, 8


@cache
def cpu_has_fast_bf16() -> bool:
    """Whether this processor multiplies matrices faster in bf16 than in fp32, by more than the casts cost."""
    instructions = torch.cpu.get_capabilities()
    if instructions.get("amx_bf16"):
        return True
    return bool(instructions.get("avx512_bf16")) and _seconds(torch.float32) > 1.2 * _seconds(torch.bfloat16)


def _seconds(dtype: torch.dtype) -> float:
    """Processor time of one product on one thread, which a busy machine does not stretch."""
    values = torch.ones(_SIDE, _SIDE, dtype=dtype)
    fastest, threads = float("inf"), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        for _ in range(_TRIES):
            started = time.thread_time()
            torch.mm(values, values)
            fastest = min(fastest, time.thread_time() - started)
    torch.set_num_threads(threads)
    return fastest


def bf16_autocast(*, enabled: bool = True) -> torch.autocast:
    """A context in which training on the processor computes in bf16 if that is fast, and in fp32 otherwise."""
    return torch.autocast("cpu", torch.bfloat16, enabled=enabled and cpu_has_fast_bf16())
