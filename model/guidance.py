"""Classifier-free guidance over a text and over neighbor sets, as weights of the network's predictions.

    e(0, 0) + s_T [e(0, c_T) - e(0, 0)] + sum_k s_G^k [e(c_G^k, c_T) - e(0, c_T)]

(InstructG2I, Jin et al. 2024), where an absent graph is a block of zero tokens and an absent text the negative prompt,
which is empty by default. It is linear in the predictions `e`, so it holds for noise and for v-prediction alike, and is
a weighted sum: what has weight 0 is never computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Weights nearer to zero than this are what is left of a difference of equal scales.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Branch:
    """One prediction: whether it sees the prompt, and which neighbor set it sees."""

    text: bool
    neighbor_set: int | None = None


Weights = Mapping[Branch, float]


def guidance_weights(guidance_scale: float, graph_guidance_scales: Sequence[float]) -> Weights:
    """Weight of each prediction in the guidance formula, without those of weight 0; they sum to 1.

    Scale 1 means "conditioned, not amplified", 0 means "without".
    """
    weights = {
        Branch(text=False): 1.0 - guidance_scale,
        Branch(text=True): guidance_scale - sum(graph_guidance_scales),
        **{Branch(text=True, neighbor_set=index): scale for index, scale in enumerate(graph_guidance_scales)},
    }
    return {branch: weight for branch, weight in weights.items() if abs(weight) > _NEGLIGIBLE}


def conditioned_weights(guidance_scale: float, graph_guidance_scales: Sequence[float]) -> Weights:
    """The same conditions with nothing amplified: the text scale at most 1, the graph scales summing to at most 1.

    Several neighbor sets keep their proportions. This is what is used outside of the guidance interval.
    """
    total = sum(graph_guidance_scales)
    scales = [scale / total for scale in graph_guidance_scales] if total > 1.0 else graph_guidance_scales
    return guidance_weights(min(guidance_scale, 1.0), scales)


def combine(predictions: Mapping[Branch, Tensor], weights: Weights) -> Tensor:
    """Weighted sum of the predictions, each `(batch, channels, height, width)`."""
    return torch.stack([predictions[branch] * weight for branch, weight in weights.items()]).sum(dim=0)


def rescale(guided: Tensor, conditioned: Tensor, share: float) -> Tensor:
    """Bring the guided prediction's standard deviation back to the conditioned one's, by `share` in [0, 1].

    Equations 15 and 16 of Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps Are Flawed".
    """
    dims = tuple(range(1, guided.ndim))
    factor = conditioned.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True).clamp(min=1e-12)
    return guided * (share * factor + 1.0 - share)
