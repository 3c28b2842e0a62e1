"""Low-rank additions to a network's attention (LoRA, Hu et al. 2022), by peft: added, saved, merged."""

from __future__ import annotations

from pathlib import Path

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from model.networks.backbones import Backbone

#: The maps of every attention layer of UNets and of transformers: query, key, value, output.
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def add_lora(backbone: Backbone, rank: int, alpha: float) -> None:
    """Freeze the network and put trainable low-rank additions beside its attention's maps; they start as zero."""
    backbone.requires_grad_(False)
    # Drawn from torch's global generator, as the weights of a new network are.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=_TARGETS, init_lora_weights="gaussian")
    inject_adapter_in_model(config, backbone)


def save_lora(backbone: Backbone, folder: Path) -> None:
    """Write the additions alone, as diffusers' `load_lora_weights` reads them; their scale is in the weights."""
    config = backbone.peft_config["default"]
    additions = {
        name: tensor * (config.lora_alpha / config.r if ".lora_B." in name else 1.0)
        for name, tensor in get_peft_model_state_dict(backbone).items()
    }
    StableDiffusionLoraLoaderMixin.save_lora_weights(folder, convert_state_dict_to_diffusers(additions))


def merge_lora(backbone: Backbone) -> None:
    """Add the additions to the weights they are beside, and leave a plain network."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLayer) and isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, module.get_base_layer())
    del backbone.peft_config
