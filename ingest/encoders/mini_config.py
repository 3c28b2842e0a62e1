"""What a mini CLIP is made of and how it is trained; apart from the training, so that reading it needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ingest.datasets.root import digest
from ingest.encoders.identity import encoder_id

#: Per channel, of pixels in [0, 1]: the normalization of OpenAI's CLIP, which most open_clip models have too.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
#: What images are padded with: white.
PADDING = 255


class MiniClipConfig(BaseModel):
    """What a mini CLIP's weights depend on beside its training pairs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int = 32
    #: "shortest": images are cropped about their center; "longest": padded.
    resize_mode: Literal["shortest", "longest"] = "shortest"
    image_width: int = 16
    text_width: int = 128
    text_layers: int = 2
    context_length: int = Field(24, ge=8, le=77)
    embedding_dim: int = 128
    #: Weight of the loss between two views of an image, and that loss's temperature.
    view_weight: float = 0.3
    view_temperature: float = 0.1
    #: Smallest share of an image's side that a crop shows.
    smallest_crop: float = 0.75
    batch_size: int = 256
    #: Steps are `base_steps` and one more for every `pairs_per_step` training pairs, up to `max_steps`.
    base_steps: int = 200
    pairs_per_step: int = 25
    max_steps: int = 2_000
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup_steps: int = 30
    #: More training pairs than this are thinned out: their images are held in memory, 3 KiB each at 32 px.
    max_pairs: int = 200_000
    seed: int = 0

    def steps(self, pairs: int) -> int:
        return min(self.base_steps + pairs // self.pairs_per_step, self.max_steps)

    def checkpoint_config(self) -> dict[str, Any]:
        """As in open_clip's `open_clip_config.json`."""
        return {
            "model_cfg": {
                "embed_dim": self.embedding_dim,
                "vision_cfg": {
                    "image_size": self.image_size,
                    "layers": [1, 1, 1, 1],
                    "width": self.image_width,
                    "head_width": 32,
                },
                "text_cfg": {
                    "context_length": self.context_length,
                    "vocab_size": 49408,
                    "width": self.text_width,
                    "heads": self.text_width // 32,
                    "layers": self.text_layers,
                },
            },
            "preprocess_cfg": {
                "size": self.image_size,
                "mean": MEAN,
                "std": STD,
                "resize_mode": self.resize_mode,
                "fill_color": PADDING,
            },
        }


def mini_encoder_id(pairs: Sequence[tuple[str, str]], config: MiniClipConfig) -> str:
    """`mini-<digest of the configuration and the training pairs>`, and whether it sees padded images.

    `pairs` are (image hash, text), sorted.
    """
    return encoder_id(f"mini-{digest(config.model_dump(), list(pairs))[:8]}", pad=config.resize_mode == "longest")
