"""The diffusers pipeline that makes an image from a text and one or several sets of graph neighbors.

The network's cross-attention sees `[text tokens ; graph tokens]` (InstructG2I, Jin et al. 2024); `model.guidance` has
the formula that combines its predictions. One class serves the structure of Stable Diffusion 1.5, that of Stable
Diffusion XL, which has a second text encoder, and transformers over patches; see `model.networks.backbones`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.modeling_utils import ModelMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
)

# Named in a saved pipeline's `model_index.json`; diffusers loads only classes of modules that are imported already.
import model.networks.autoencoder
import model.networks.taef2  # noqa: F401
from ingest.images.loading import square
from model.guidance import Branch, combine, conditioned_weights, guidance_weights, rescale
from model.neighbor_sets import NeighborImages, NeighborSet, PerSet, image_rows, neighbor_sets, pad
from model.networks.backbones import Backbone, Condition, predict
from model.networks.image_encoder import OpenClipImageEncoder
from model.networks.latents import denormalize_latents, encode_images, normalize_latents, spatial_factor
from model.networks.neighbor_detail import latent_detail
from model.networks.neighbor_tokens import GraphEncoder, graph_token_count
from model.networks.text_encoders import EncodedTexts, TextEncoders

_OUTPUT_TYPES = ("pil", "np", "pt", "latent")


class Graph2ImagePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Text- and graph-conditioned latent diffusion.

    Parameters
    ----------
    vae
        Autoencoder between images in [-1, 1] and latents: `MiniAutoencoder`, `TAEF2`, or one of diffusers.
    text_encoder, tokenizer
        CLIP text model, whose last hidden states condition the network, and its tokenizer.
    unet
        A network of `model.networks.backbones`; predicts noise or v, as `scheduler.config.prediction_type` says.
    scheduler
        Any diffusers scheduler.
    graph_encoder
        Makes graph tokens from the prompt and the neighbor embeddings: a `GraphQFormer`, or `NeighborTokens`.
    text_encoder_2, tokenizer_2
        Stable Diffusion XL's second pair; see `model.networks.text_encoders.TextEncoders`.
    image_encoder, feature_extractor
        What neighbors given as images are embedded with; an `OpenClipImageEncoder` needs no extractor. Without an
        encoder the pipeline takes embeddings only.
    max_neighbors
        Only so many neighbors of a set, the first, are looked at; None means all, and 0 is a text-only model.
    force_zeros_for_empty_prompt
        Whether an empty text is all zeros to the network, as in Stable Diffusion XL.
    detail_image_size, detail_image_fit
        Side in pixels of the squares that the detail of neighbors' images is taken from, and how they are made so; of
        a model that looks at detail.
    """

    model_cpu_offload_seq = "image_encoder->text_encoder->text_encoder_2->graph_encoder->unet->vae"
    _optional_components: ClassVar[list[str]] = ["text_encoder_2", "tokenizer_2", "image_encoder", "feature_extractor"]
    #: Attention of open_clip's towers reads its parts' weights past their hooks.
    _exclude_from_cpu_offload: ClassVar[list[str]] = ["image_encoder"]
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: ModelMixin,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: Backbone,
        scheduler: SchedulerMixin,
        graph_encoder: GraphEncoder,
        text_encoder_2: CLIPTextModelWithProjection | None = None,
        tokenizer_2: CLIPTokenizer | None = None,
        image_encoder: OpenClipImageEncoder | CLIPVisionModelWithProjection | None = None,
        feature_extractor: CLIPImageProcessor | None = None,
        max_neighbors: int | None = None,
        force_zeros_for_empty_prompt: bool = False,
        detail_image_size: int | None = None,
        detail_image_fit: str = "crop",
    ) -> None:
        super().__init__()
        if max_neighbors is not None and max_neighbors < 0:
            raise ValueError(f"max_neighbors is {max_neighbors}, it must be at least 0, or None")
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            scheduler=scheduler,
            graph_encoder=graph_encoder,
            text_encoder_2=text_encoder_2,
            tokenizer_2=tokenizer_2,
            image_encoder=image_encoder,
            feature_extractor=feature_extractor,
        )
        self.register_to_config(
            max_neighbors=max_neighbors,
            force_zeros_for_empty_prompt=force_zeros_for_empty_prompt,
            detail_image_size=detail_image_size,
            detail_image_fit=detail_image_fit,
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=spatial_factor(vae))
        self._interrupt = False
        self._num_timesteps = 0

    @property
    def interrupt(self) -> bool:
        """Whether a callback has asked, by setting `_interrupt`, to leave out the remaining steps."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Steps of the current or last call, for callbacks; some schedulers take more than they are asked for."""
        return self._num_timesteps

    def encode_prompt(self, prompt: Sequence[str]) -> EncodedTexts:
        """Texts as the network is conditioned on them."""
        encoders = TextEncoders(
            self.text_encoder,
            self.tokenizer,
            self.text_encoder_2,
            self.tokenizer_2,
            self.config.force_zeros_for_empty_prompt,
        )
        return encoders.encode(prompt, device=self._execution_device)

    def encode_graph(
        self,
        input_ids: Tensor,
        neighbor_embeds: Tensor | None = None,
        neighbor_mask: Tensor | None = None,
        **more: Tensor,
    ) -> Tensor:
        """Graph tokens `(batch, length, token_size)`; the arguments are those of `GraphQFormer.forward`."""
        device = self._execution_device
        neighbor_set = NeighborSet(neighbor_embeds, neighbor_mask, **more).to(self.graph_encoder, device)
        tokens: Tensor = self.graph_encoder(input_ids.to(device), **neighbor_set.tensors())
        return tokens

    @torch.no_grad()
    def encode_neighbors(self, images: Sequence[Image.Image]) -> Tensor:
        """Embeddings `(images, neighbor_dim)` of neighbors' images.

        Raises
        ------
        ValueError
            If the pipeline has no image encoder.
        """
        if self.image_encoder is None:
            raise ValueError("this pipeline has no image encoder: give neighbor_embeds instead of neighbors")
        if self.feature_extractor is not None:
            pixels = self.feature_extractor(
                [image.convert("RGB") for image in images], return_tensors="pt"
            ).pixel_values
        else:
            pixels = self.image_encoder.preprocess(images)
        embeds: Tensor = self.image_encoder(pixels.to(self._execution_device, self.image_encoder.dtype)).image_embeds
        return embeds

    @torch.no_grad()
    def encode_detail(self, images: Sequence[Image.Image]) -> Tensor:
        """Detail `(images, tokens, numbers)` float32 of neighbors' images, by the pipeline's own autoencoder.

        Raises
        ------
        ValueError
            If the model looks at no detail.
        """
        kind, size = getattr(self.graph_encoder.config, "neighbor_detail", None), self.config.detail_image_size
        if kind is None or size is None:
            raise ValueError("this model does not look at the detail of neighbors' images")
        squares = [np.asarray(square(image.convert("RGB"), size, self.config.detail_image_fit)) for image in images]
        latents = normalize_latents(self.vae, encode_images(self.vae, np.stack(squares)))
        return latent_detail(kind, latents.half())  # as the training's latents are kept

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        neighbors: NeighborImages | Sequence[NeighborImages] | None = None,
        *,
        neighbor_embeds: PerSet = None,
        neighbor_mask: PerSet = None,
        neighbor_text_embeds: PerSet = None,
        neighbor_weights: PerSet = None,
        neighbor_types: PerSet = None,
        neighbor_detail: PerSet = None,
        negative_prompt: str | Sequence[str] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        guidance_scale: float = 7.5,
        graph_guidance_scale: float | Sequence[float] = 1.5,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guidance_rescale: float = 0.0,
        num_images_per_prompt: int = 1,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, int, dict[str, Any]], dict[str, Any]] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Generate images.

        Several neighbor sets are mixed when `graph_guidance_scale` is a list: 70% of one and 30% of another are
        `neighbors=[these, those], graph_guidance_scale=[0.7 * 1.5, 0.3 * 1.5]`. The same holds for `neighbor_embeds`
        and the arguments beside it, lists of tensors then.

        Parameters
        ----------
        prompt
            One or several texts; the empty text means "no text".
        neighbors
            Images of the prompt's neighbors, best first; of several prompts, one list of images for each. For a model
            that looks at the neighbors' images only.
        neighbor_embeds
            Instead of `neighbors`: embeddings `(batch, neighbors, neighbor_dim)`. Neither of them: text only.
        neighbor_mask, neighbor_text_embeds, neighbor_weights, neighbor_types, neighbor_detail
            See `GraphQFormer.forward`; detail is from `encode_detail`.
        negative_prompt
            What the unconditional prediction sees instead of the empty text; one, or one per prompt.
        height, width
            Size of the images in pixels; by default what the network was trained for.
        num_inference_steps
            Denoising steps.
        guidance_scale, graph_guidance_scale
            Scale of the text and of each neighbor set: 0 means "without", 1 "conditioned, not amplified".
        guidance_interval
            Share of the steps, from and to, in which guidance amplifies; in the others the network is conditioned and
            nothing more, which costs fewer predictions (Kynkäänniemi et al. 2024).
        guidance_rescale
            How far guidance's growth of the prediction's standard deviation is taken back, 0 to 1 (Lin et al. 2024).
        num_images_per_prompt
            Images of each prompt; they follow each other.
        eta
            Noise that DDIM adds, 0 to 1; schedulers without it ignore it.
        generator
            Source of the start noise and of a scheduler's own; a list has one per image.
        latents
            Start noise, `(images, channels, h, w)`, instead of drawing it.
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
            If the arguments' lengths or shapes do not fit together, or a number is out of its range.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        negatives = _per_prompt(negative_prompt or "", len(prompts))
        if not prompts or not all(isinstance(text, str) for text in (*prompts, *negatives)):
            raise ValueError("prompt and negative_prompt are texts, one at least")
        if output_type not in _OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}, expected one of {', '.join(_OUTPUT_TYPES)}")
        if neighbors is not None:
            if not all(given is None for given in (neighbor_embeds, neighbor_mask, neighbor_detail)):
                raise ValueError("give neighbors, or neighbor_embeds, neighbor_mask and neighbor_detail, not both")
            several = isinstance(graph_guidance_scale, Sequence)
            image_sets = list(neighbors) if several else [neighbors]
            rows = [image_rows(images, len(prompts)) for images in image_sets]
            encoded = [self._encode_images(row) for row in rows]
            neighbor_embeds, neighbor_mask = [embeds for embeds, _ in encoded], [mask for _, mask in encoded]
            if (shape := getattr(self.graph_encoder, "detail_shape", None)) is not None:
                neighbor_detail = [
                    self._of_images(row, self.encode_detail, torch.zeros(shape)).to(embeds.device)
                    for row, embeds in zip(rows, neighbor_embeds, strict=True)
                ]
        sets, scales = neighbor_sets(
            neighbor_embeds,
            neighbor_mask,
            neighbor_text_embeds,
            neighbor_weights,
            neighbor_types,
            neighbor_detail,
            graph_guidance_scale,
        )
        _check_numbers(
            num_inference_steps,
            num_images_per_prompt,
            guidance_interval,
            guidance_rescale,
        )
        if unknown := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise ValueError(f"callbacks get {self._callback_tensor_inputs}, not {sorted(unknown)}")
        for neighbor_set in sets:
            neighbor_set.check(self.graph_encoder, len(prompts))

        device, count = self._execution_device, len(prompts) * num_images_per_prompt
        guided, conditioned = guidance_weights(guidance_scale, scales), conditioned_weights(guidance_scale, scales)
        conditions = self._encode_branches(
            dict.fromkeys((*guided, *conditioned)), prompts, negatives, sets, num_images_per_prompt
        )
        latents = self._start(latents, (count, *self._latent_shape(height, width)), generator)
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        latents = latents * self.scheduler.init_noise_sigma

        self._interrupt = False
        step_arguments = self._step_arguments(generator, eta)
        timesteps = self.scheduler.timesteps
        self._num_timesteps = len(timesteps)
        first, last = (round(share * len(timesteps)) for share in guidance_interval)
        for index, timestep in enumerate(self.progress_bar(timesteps)):
            if self.interrupt:
                continue
            weights, rescaled = (guided, guidance_rescale) if first <= index < last else (conditioned, 0.0)
            predictions = self._predict(
                latents, timestep, conditions, dict.fromkeys((*weights, *(conditioned if rescaled else ())))
            )
            prediction = combine(predictions, weights)
            if rescaled:
                prediction = rescale(prediction, combine(predictions, conditioned), rescaled)
            latents = self.scheduler.step(prediction, timestep, latents, **step_arguments).prev_sample
            if callback_on_step_end is not None:
                latents = callback_on_step_end(self, index, timestep, {"latents": latents}).get("latents", latents)

        images: Any = latents if output_type == "latent" else self.decode(latents, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _encode_images(self, rows: list[list[Image.Image]]) -> tuple[Tensor, Tensor]:
        """Embeddings and mask of one neighbor set, given as each prompt's images."""
        dim = self.graph_encoder.config.neighbor_dim
        if dim is None:
            raise ValueError("this model does not look at neighbors' images")
        embeds = self._of_images(rows, self.encode_neighbors, torch.zeros(dim))
        counts = torch.tensor([len(row) for row in rows], device=embeds.device)
        return embeds, torch.arange(embeds.shape[1], device=embeds.device) < counts[:, None]

    def _of_images(
        self, rows: list[list[Image.Image]], encode: Callable[[Sequence[Image.Image]], Tensor], absent: Tensor
    ) -> Tensor:
        """What `encode` makes of each prompt's images, padded with `absent`, which is zero."""
        # What is not looked at is not encoded, and counts as a neighbor: weights and the like are given for it.
        seen = {id(image): image for row in rows for image in row[: self.config.max_neighbors]}
        if not seen:
            return torch.zeros(len(rows), 0, *absent.shape)
        values = dict(zip(seen, encode(list(seen.values())), strict=True))
        unseen = torch.zeros_like(next(iter(values.values())))
        padded, _ = pad(
            [torch.stack([values.get(id(image), unseen) for image in row] or [unseen])[: len(row)] for row in rows]
        )
        return padded

    def _encode_branches(
        self, branches: Iterable[Branch], prompts: list[str], negatives: list[str], sets: list[NeighborSet], times: int
    ) -> dict[Branch, Condition]:
        """What each branch sees, `times` rows per prompt."""
        dtype = self.unet.dtype
        distinct = list(dict.fromkeys((*prompts, *negatives)))
        encoded = self.encode_prompt(distinct)
        text, no_text = (
            encoded[torch.tensor([distinct.index(one) for one in texts], device=encoded.input_ids.device)]
            for texts in (prompts, negatives)
        )
        conditions = {}
        for branch in branches:
            seen = text if branch.text else no_text
            if branch.neighbor_set is None:
                length = graph_token_count(self.graph_encoder, seen.hidden.shape[1])
                graph = seen.hidden.new_zeros(len(seen.hidden), length, seen.hidden.shape[2], dtype=dtype)
            else:
                neighbor_set = sets[branch.neighbor_set].best(self.config.max_neighbors)
                graph = self.encode_graph(text.input_ids, **neighbor_set.tensors()).to(dtype)
            tokens = torch.cat([seen.hidden.to(dtype), graph], dim=1).repeat_interleave(times, 0)
            pooled = None if seen.pooled is None else seen.pooled.to(dtype).repeat_interleave(times, 0)
            conditions[branch] = Condition(tokens, pooled)
        return conditions

    def _predict(
        self, latents: Tensor, timestep: Tensor, conditions: dict[Branch, Condition], branches: Iterable[Branch]
    ) -> dict[Branch, Tensor]:
        """The predictions of some branches, in one pass."""
        chosen = {branch: conditions[branch] for branch in branches}
        pooled = [condition.pooled for condition in chosen.values() if condition.pooled is not None]
        condition = Condition(
            torch.cat([condition.tokens for condition in chosen.values()]), torch.cat(pooled) if pooled else None
        )
        model_input = self.scheduler.scale_model_input(torch.cat([latents] * len(chosen)), timestep)
        predictions = predict(self.unet, model_input.to(condition.tokens.dtype), timestep, condition)
        return dict(zip(chosen, predictions.chunk(len(chosen)), strict=True))

    def _latent_shape(self, height: int | None, width: int | None) -> tuple[int, int, int]:
        """Channels, height and width of the latents of images of so many pixels, or of the network's own size."""
        factor, size = self.image_processor.config.vae_scale_factor, self.unet.config.sample_size
        sides = list(size) if isinstance(size, Sequence) else [size, size]
        multiple = factor * getattr(self.unet.config, "patch_size", 1)
        for index, (name, pixels) in enumerate((("height", height), ("width", width))):
            if pixels is not None:
                if pixels < multiple or pixels % multiple:
                    raise ValueError(f"{name} is {pixels}, it must be a multiple of {multiple}")
                sides[index] = pixels // factor
        if None in sides:
            raise ValueError("this model's network has no size of its own: give height and width")
        return self.unet.config.in_channels, sides[0], sides[1]

    def _start(
        self,
        latents: Tensor | None,
        shape: tuple[int, int, int, int],
        generator: torch.Generator | list[torch.Generator] | None,
    ) -> Tensor:
        """Start noise, drawn unless it is given."""
        if isinstance(generator, list) and len(generator) != shape[0]:
            raise ValueError(f"{len(generator)} generators for {shape[0]} images: give one, or one per image")
        if latents is None:
            latents = randn_tensor(shape, generator=generator, device=self._execution_device, dtype=self.unet.dtype)
        elif tuple(latents.shape) != shape:
            raise ValueError(f"latents are {tuple(latents.shape)}, expected {shape}")
        return latents.to(device=self._execution_device, dtype=self.unet.dtype)

    def decode(self, latents: Tensor, output_type: str = "pil") -> Any:
        """Images of normalized latents, also of unfinished ones, which a callback gets; types as of `__call__`."""
        upcast = self.vae.dtype == torch.float16 and getattr(self.vae.config, "force_upcast", False)
        if upcast:
            self.vae.to(torch.float32)  # its activations are too large for float16
        decoded = self.vae.decode(denormalize_latents(self.vae, latents.to(self.vae.dtype))).sample
        if upcast:
            self.vae.to(torch.float16)
        return self.image_processor.postprocess(decoded, output_type=output_type)

    def _step_arguments(self, generator: torch.Generator | list[torch.Generator] | None, eta: float) -> dict[str, Any]:
        """What the scheduler's step accepts of these."""
        accepted = inspect.signature(self.scheduler.step).parameters
        return {name: value for name, value in (("generator", generator), ("eta", eta)) if name in accepted}


def _per_prompt(texts: str | Sequence[str], count: int) -> list[str]:
    rows = [texts] * count if isinstance(texts, str) else list(texts)
    if len(rows) != count:
        raise ValueError(f"{len(rows)} negative prompts for {count} prompts")
    return rows


def _check_numbers(steps: int, images: int, interval: tuple[float, float], rescaled: float) -> None:
    for name, value in (("num_inference_steps", steps), ("num_images_per_prompt", images)):
        if value < 1:
            raise ValueError(f"{name} is {value}, it must be at least 1")
    if not 0.0 <= interval[0] <= interval[1] <= 1.0:
        raise ValueError(f"guidance_interval is {tuple(interval)}, not two shares of the steps in order")
    if not 0.0 <= rescaled <= 1.0:
        raise ValueError(f"guidance_rescale is {rescaled}, it must be between 0 and 1")
