"""The diffusers pipeline that makes an image from a text and one or several sets of graph neighbors.

The UNet's cross-attention sees `[text tokens ; graph tokens]`. Guidance combines up to `2 + sets` predictions:

    e(0, 0) + s_T [e(0, c_T) - e(0, 0)] + sum_k s_G^k [e(c_G^k, c_T) - e(0, c_T)]

where an absent graph is a block of zero tokens and an absent text is the empty prompt (InstructG2I, Jin et al. 2024).
It is linear in the predictions, so it holds for noise and for v-prediction alike. Scale 1 means "conditioned, not
amplified", 0 means "without"; only the predictions whose weight is not zero are computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

# Named in a saved pipeline's `model_index.json`; diffusers loads only classes of modules that are imported already.
import model.autoencoder
import model.taef2  # noqa: F401
from model.graph_qformer import GraphQFormer
from model.latents import denormalize_latents, spatial_factor
from model.text import encode_texts


@dataclass(frozen=True)
class Branch:
    """One prediction in the guidance formula: its weight, whether it sees the text, and which neighbor set it sees."""

    weight: float
    text: bool
    neighbor_set: int | None


def guidance_branches(guidance_scale: float, graph_guidance_scales: Sequence[float]) -> list[Branch]:
    """Predictions with a non-zero weight in the guidance formula; the weights sum to 1."""
    branches = [
        Branch(1.0 - guidance_scale, text=False, neighbor_set=None),
        Branch(guidance_scale - sum(graph_guidance_scales), text=True, neighbor_set=None),
        *(Branch(scale, text=True, neighbor_set=index) for index, scale in enumerate(graph_guidance_scales)),
    ]
    return [branch for branch in branches if branch.weight != 0.0]


class Graph2ImagePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text- and graph-conditioned latent diffusion.

    Parameters
    ----------
    vae
        Autoencoder between images in [-1, 1] and latents: `MiniAutoencoder`, `TAEF2`, or one of diffusers.
    text_encoder, tokenizer
        CLIP text model, whose last hidden states condition the UNet, and its tokenizer.
    unet
        Predicts noise or v, as `scheduler.config.prediction_type` says.
    scheduler
        Any diffusers scheduler.
    graph_encoder
        Makes graph tokens from the prompt and the neighbor embeddings.
    """

    model_cpu_offload_seq = "text_encoder->graph_encoder->unet->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: ModelMixin,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        graph_encoder: GraphQFormer,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            graph_encoder=graph_encoder,
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=spatial_factor(vae))

    def encode_prompt(self, prompt: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids `(batch, length)` and text hidden states `(batch, length, hidden_size)`."""
        return encode_texts(self.text_encoder, self.tokenizer, prompt)

    def encode_graph(self, input_ids: Tensor, neighbor_embeds: Tensor, neighbor_mask: Tensor | None = None) -> Tensor:
        """Graph tokens `(batch, length, hidden_size)`; see `GraphQFormer.forward`."""
        tokens: Tensor = self.graph_encoder(input_ids, neighbor_embeds, neighbor_mask)
        return tokens

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        neighbor_embeds: Tensor | Sequence[Tensor] | None = None,
        neighbor_mask: Tensor | Sequence[Tensor] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        graph_guidance_scale: float | Sequence[float] = 1.5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Generate one image per prompt.

        Parameters
        ----------
        prompt
            One or several texts; the empty text means "no text".
        neighbor_embeds
            Embeddings of each prompt's neighbors, `(batch, neighbors, neighbor_dim)`; a list of such tensors mixes
            several neighbor sets. None: text only.
        neighbor_mask
            `(batch, neighbors)`, nonzero where there is a neighbor, one per set; None means all are there.
        height, width
            Size of the images in pixels; by default what the UNet was trained for.
        num_inference_steps
            Denoising steps.
        guidance_scale
            Text scale `s_T`.
        graph_guidance_scale
            Graph scale `s_G`, one number per neighbor set (a single number serves all sets).
        generator
            Source of the start noise (and of a stochastic scheduler's noise); a list holds one per prompt, so that an
            image does not depend on the batch it is made in.
        latents
            Start noise `(batch, channels, height, width)` in latent pixels, instead of drawing it.
        output_type
            `"pil"`, `"np"`, `"pt"`, or `"latent"` for the normalized latents.
        return_dict
            Whether to return an `ImagePipelineOutput` or a tuple.
        callback_on_step_end
            Called as `callback(pipeline, step, timestep, {"latents": latents})`; may return changed latents.
        callback_on_step_end_tensor_inputs
            Which tensors the callback gets.

        Raises
        ------
        ValueError
            If the arguments' lengths or shapes do not fit together.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        sets, masks, scales = _neighbor_sets(neighbor_embeds, neighbor_mask, graph_guidance_scale)
        self._check_inputs(prompts, sets, masks, num_inference_steps, callback_on_step_end_tensor_inputs)
        device, batch = self._execution_device, len(prompts)

        branches = guidance_branches(guidance_scale, scales)
        condition = self._encode_branches(branches, prompts, sets, masks)
        weights = torch.tensor([branch.weight for branch in branches], device=device, dtype=condition.dtype)

        factor = self.image_processor.config.vae_scale_factor
        sample_size = self.unet.config.sample_size
        shape = (
            batch,
            self.unet.config.in_channels,
            height // factor if height else sample_size,
            width // factor if width else sample_size,
        )
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=device, dtype=condition.dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"latents are {tuple(latents.shape)}, expected {shape}")
        else:
            latents = latents.to(device=device, dtype=condition.dtype)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = latents * self.scheduler.init_noise_sigma

        step_arguments = self._step_arguments(generator)
        for index, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            model_input = self.scheduler.scale_model_input(torch.cat([latents] * len(branches)), timestep)
            predictions = self.unet(model_input, timestep, encoder_hidden_states=condition).sample
            prediction = torch.einsum("k,kbchw->bchw", weights, predictions.unflatten(0, (len(branches), batch)))
            latents = self.scheduler.step(prediction, timestep, latents, **step_arguments).prev_sample
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, timestep, {"latents": latents}).get("latents", latents)

        images: Any = latents
        if output_type != "latent":
            decoded = self.vae.decode(denormalize_latents(self.vae, latents)).sample
            images = self.image_processor.postprocess(decoded, output_type=output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _check_inputs(
        self,
        prompts: list[str],
        sets: list[Tensor],
        masks: list[Tensor | None],
        num_inference_steps: int,
        callback_inputs: Sequence[str],
    ) -> None:
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is {num_inference_steps}, it must be at least 1")
        unknown = set(callback_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(f"callbacks get {self._callback_tensor_inputs}, not {sorted(unknown)}")
        dim = self.graph_encoder.config.neighbor_dim
        for embeds, mask in zip(sets, masks, strict=True):
            if embeds.ndim != 3 or embeds.shape[0] != len(prompts) or embeds.shape[2] != dim:
                raise ValueError(
                    f"neighbor_embeds are {tuple(embeds.shape)}, expected ({len(prompts)}, neighbors, {dim}): "
                    "one row per prompt, embedded by the encoder that the model was trained with"
                )
            if mask is not None and mask.shape != embeds.shape[:2]:
                raise ValueError(f"neighbor_mask is {tuple(mask.shape)}, expected {tuple(embeds.shape[:2])}")

    def _encode_branches(
        self, branches: list[Branch], prompts: list[str], sets: list[Tensor], masks: list[Tensor | None]
    ) -> Tensor:
        """Each branch's `[text tokens ; graph tokens]`, stacked: `(branches * batch, 2 * length, hidden_size)`."""
        device, dtype = self._execution_device, self.unet.dtype
        input_ids, text = self.encode_prompt(prompts)
        empty = None if all(branch.text for branch in branches) else self.encode_prompt([""])[1].expand_as(text)
        conditions = []
        for branch in branches:
            graph = torch.zeros_like(text)
            if branch.neighbor_set is not None:
                embeds, mask = (
                    sets[branch.neighbor_set].to(device, self.graph_encoder.dtype),
                    masks[branch.neighbor_set],
                )
                graph = self.encode_graph(input_ids, embeds, None if mask is None else mask.to(device))
            conditions.append(torch.cat([text if branch.text or empty is None else empty, graph], dim=1))
        return torch.cat(conditions).to(dtype)

    def _step_arguments(self, generator: torch.Generator | list[torch.Generator] | None) -> dict[str, Any]:
        """Pass the generator on to schedulers that draw noise themselves."""
        accepted = inspect.signature(self.scheduler.step).parameters
        return {"generator": generator} if "generator" in accepted else {}


def _neighbor_sets(
    embeds: Tensor | Sequence[Tensor] | None,
    masks: Tensor | Sequence[Tensor] | None,
    scales: float | Sequence[float],
) -> tuple[list[Tensor], list[Tensor | None], list[float]]:
    """The three arguments as lists of one length: one entry per neighbor set."""
    sets = [] if embeds is None else [embeds] if isinstance(embeds, Tensor) else list(embeds)
    if masks is None:
        mask_list: list[Tensor | None] = [None] * len(sets)
    else:
        mask_list = [masks] if isinstance(masks, Tensor) else list(masks)
    scale_list = list(scales) if isinstance(scales, Sequence) else [scales] * len(sets)
    if not len(sets) == len(mask_list) == len(scale_list):
        raise ValueError(
            f"{len(sets)} neighbor sets, {len(mask_list)} masks and {len(scale_list)} graph guidance scales "
            "do not fit together"
        )
    return sets, mask_list, scale_list
