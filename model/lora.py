"""Low-rank additions to a network's attention (LoRA, Hu et al. 2022), by peft: added, saved, merged."""

from __future__ import annotations

from pathlib import Path

from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file

from model.backbones import Backbone

#: The maps of every attention layer of UNets and of transformers: query, key, value, output.
_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]

#: As diffusers' `load_lora_weights` expects it.
LORA_FILE = "pytorch_lora_weights.safetensors"


def add_lora(backbone: Backbone, rank: int, alpha: float) -> None:
    """Freeze the network and put trainable low-rank additions beside its attention's maps; they start as zero."""
    backbone.requires_grad_(False)
    # Drawn from torch's global generator, as the weights of a new network are.
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=_TARGETS, init_lora_weights="gaussian")
    inject_adapter_in_model(config, backbone)


def save_lora(backbone: Backbone, folder: Path) -> None:
    """Write the additions alone, in diffusers' layout."""
    folder.mkdir(parents=True, exist_ok=True)
    additions = convert_state_dict_to_diffusers(get_peft_model_state_dict(backbone))
    tensors = {f"unet.{name}": tensor.contiguous().cpu() for name, tensor in additions.items()}
    save_file(tensors, folder / LORA_FILE, metadata={"format": "pt"})


def merge_lora(backbone: Backbone) -> None:
    """Add the additions to the weights they are beside, and leave a plain network."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLayer) and isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(backbone.get_submodule(parent), child, module.get_base_layer())
    del backbone.peft_config
