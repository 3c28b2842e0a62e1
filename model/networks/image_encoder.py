"""The image tower of an open_clip model as a part of a pipeline, so that neighbors can be given as images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from open_clip.model import CLIP
from open_clip.transform import PreprocessCfg
from PIL import Image
from torch import Tensor
from transformers.models.clip.modeling_clip import CLIPVisionModelOutput

from ingest.encoders.pixels import PixelGeometry


class OpenClipImageEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Images to unit vectors, equal to those of the encoder that the tower comes from.

    Parameters
    ----------
    model_cfg, preprocess_cfg
        The two parts of an `open_clip_config.json`.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, model_cfg: dict[str, Any], preprocess_cfg: dict[str, Any]) -> None:
        super().__init__()
        no_text = {"context_length": 1, "vocab_size": 1, "width": 8, "heads": 1, "layers": 1}
        self.visual = CLIP(
            model_cfg["embed_dim"], model_cfg["vision_cfg"], no_text, quick_gelu=model_cfg.get("quick_gelu", False)
        ).visual

    @classmethod
    def from_open_clip(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> OpenClipImageEncoder:
        """Take the image tower out of an open_clip checkpoint: its `open_clip_config.json` and its weights."""
        encoder: OpenClipImageEncoder = cls(config["model_cfg"], config["preprocess_cfg"])
        encoder.load_state_dict({name: value for name, value in state.items() if name.startswith("visual.")})
        encoder.requires_grad_(False).eval()
        return encoder

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """Normalized pixels `(images, 3, height, width)` float32."""
        config = vars(PreprocessCfg(**self.config.preprocess_cfg))
        geometry = PixelGeometry.from_preprocess_cfg(config)
        pixels = torch.from_numpy(np.stack([geometry.fit(image.convert("RGB")) for image in images]))
        mean, std = (torch.tensor(config[key])[:, None, None] * 255 for key in ("mean", "std"))
        return pixels.float().sub_(mean).div_(std)

    def forward(self, pixel_values: Tensor) -> CLIPVisionModelOutput:
        """Encode pixels from `preprocess`; `image_embeds` is `(images, dim)`, of unit length."""
        return CLIPVisionModelOutput(image_embeds=F.normalize(self.visual(pixel_values), dim=-1))
