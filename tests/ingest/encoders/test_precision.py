"""bf16 on a processor: only where there are instructions for it, and they are faster."""

from __future__ import annotations

import pytest
import torch

from ingest.encoders.precision import bf16_autocast, cpu_has_fast_bf16


@pytest.mark.parametrize(("instructions", "fast"), [({}, False), ({"amx_bf16": True, "avx512_bf16": True}, True)])
def test_instructions_decide_where_they_can(
    instructions: dict[str, bool], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    cpu_has_fast_bf16.cache_clear()
    try:
        assert cpu_has_fast_bf16() == fast
        with bf16_autocast():
            assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == (torch.bfloat16 if fast else torch.float32)
        with bf16_autocast(enabled=False):
            assert torch.mm(torch.ones(2, 2), torch.ones(2, 2)).dtype == torch.float32
    finally:
        cpu_has_fast_bf16.cache_clear()


def test_the_trial_leaves_the_threads_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    cpu_has_fast_bf16.cache_clear()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert cpu_has_fast_bf16() in (True, False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        cpu_has_fast_bf16.cache_clear()
