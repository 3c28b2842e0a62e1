"""Training configurations: a preset, and what a TOML file changes of it.

Presets are the TOML files in `model/presets`. A configuration file names one (`preset = "mini"`) and gives only what
differs; tables are merged key by key. A file that gives a base model, or another kind of network, replaces the parts of
the preset that it excludes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ingest.errors import Graph2ImageError, explain_validation
from ingest.images.loading import Fit

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

#: Tables that build a model from scratch.
_SCRATCH = ("autoencoder", "unet", "transformer", "diffusion")
#: Samples of a step at half the image's side for each of a step at the whole.
_COARSE_SAMPLES = 4


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AutoencoderConfig(_Section):
    """The autoencoder between images and latents.

    Parameters
    ----------
    path
        A local one: TAEF2's two weight files in a folder, or the folder of a diffusers autoencoder (safetensors).
        None: a `MiniAutoencoder` is trained on the training images, by the keys below.
    channels, latent_channels, blocks, patch_size
        Sizes of the `MiniAutoencoder`; a pixel of its latents is `2 * patch_size` pixels of the image.
    steps, batch_size, learning_rate
        Its training.
    texture_weight
        Weight of the textures' distance beside the absolute error; 0 leaves it out.
    """

    path: str | None = None
    channels: int = Field(ge=8, multiple_of=16, le=65_536)
    latent_channels: int = Field(ge=1, le=1_024)
    blocks: int = Field(ge=1, le=1_024)
    patch_size: int = Field(default=2, ge=1, le=64)
    steps: int = Field(ge=1, le=1_000_000_000)
    batch_size: int = Field(ge=1, le=65_536)
    learning_rate: float = Field(gt=0)
    texture_weight: float = Field(default=0.5, ge=0)


class UNetConfig(_Section):
    """Sizes of the `UNet2DConditionModel`, by the names of its own configuration.

    `attention_heads` is what diffusers calls `attention_head_dim` there.
    """

    block_out_channels: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(min_length=1)
    down_block_types: tuple[str, ...]
    up_block_types: tuple[str, ...]
    layers_per_block: int = Field(ge=1, le=1_024)
    attention_heads: int = Field(ge=1, le=1_024)


class TransformerConfig(_Section):
    """Sizes of a `PixArtTransformer2DModel` in place of the UNet, by the names of its own configuration.

    Latents are cut into patches of `patch_size` by `patch_size`; a token has `num_attention_heads * attention_head_dim`
    numbers.
    """

    patch_size: int = Field(ge=1, le=1_024)
    num_layers: int = Field(ge=1, le=1_024)
    num_attention_heads: int = Field(ge=1, le=1_024)
    attention_head_dim: int = Field(ge=4, multiple_of=4, le=65_536)


class GraphEncoderConfig(_Section):
    """What makes graph tokens of an item's neighbors.

    Parameters
    ----------
    kind
        `"qformer"`: the Graph-QFormer; `"projection"`: the neighbors' projected tokens themselves, without it.
    max_neighbors
        It reads so many neighbors, the best. With 0 there are no graph tokens at all: a text-only model.
    neighbor_content
        What it knows of a neighbor: its image, its text, or both.
    neighbor_weights
        Whether neighbors that the walk reaches more often get more attention.
    relation_types
        Whether it is told the type of the first relation on the way to a neighbor.
    standardize
        Whether the neighbors' embeddings, and their detail, are standardized by those of the training.
    neighbor_detail
        What it knows of a neighbor's image beside the embedding, from the autoencoder's latents: nothing; the mean and
        standard deviation of each channel; or the latents, pooled to a 4x4 grid.
    tokens_per_neighbor, cross_attention_freq
        Of `GraphQFormer`.
    num_hidden_layers
        Layers of the Graph-QFormer, which start as the text encoder's first so many.
    """

    kind: Literal["qformer", "projection"] = "qformer"
    max_neighbors: int = Field(ge=0, le=1_000)
    neighbor_content: Literal["images", "texts", "both"] = "images"
    neighbor_weights: bool = False
    relation_types: bool = False
    standardize: bool = False
    # Left out where it is off, so that models keep their ids.
    neighbor_detail: Literal["none", "statistics", "latents"] = Field(
        default="none", exclude_if=lambda value: value == "none"
    )
    tokens_per_neighbor: int = Field(ge=1, le=1_000)
    cross_attention_freq: int = Field(ge=1, le=1_024)
    num_hidden_layers: int = Field(ge=1, le=1_024)

    @property
    def images(self) -> bool:
        """Whether the neighbors' images are looked at."""
        return self.max_neighbors > 0 and self.neighbor_content != "texts"

    @property
    def texts(self) -> bool:
        """Whether the neighbors' texts are looked at."""
        return self.max_neighbors > 0 and self.neighbor_content != "images"

    @model_validator(mode="after")
    def _detail_is_of_images(self) -> GraphEncoderConfig:
        if self.neighbor_detail != "none" and (self.kind == "projection" or not self.images):
            raise ValueError(
                f'neighbor_detail = "{self.neighbor_detail}" needs a Graph-QFormer that looks at neighbors\' images'
            )
        return self

    @model_validator(mode="after")
    def _projection_knows_contents_only(self) -> GraphEncoderConfig:
        if self.kind == "projection" and (self.neighbor_weights or self.relation_types):
            raise ValueError(
                'kind = "projection" has no attention that neighbor_weights or relation_types could change'
            )
        return self


class DiffusionConfig(_Section):
    """The noise schedule, by the names of diffusers' schedulers."""

    prediction_type: Literal["v_prediction", "epsilon"]
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)
    rescale_betas_zero_snr: bool
    timestep_spacing: Literal["trailing", "leading", "linspace"]

    @model_validator(mode="after")
    def _noise_needs_signal(self) -> DiffusionConfig:
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise ValueError("a zero terminal SNR needs v_prediction: from pure noise, the noise teaches nothing")
        return self


class OptimizationConfig(_Section):
    """The training loop.

    Parameters
    ----------
    trainable
        `"full"`: the whole network; `"lora"`: low-rank additions to its attention; `"graph"`: nothing of it. The
        Graph-QFormer and the neighbor projection are trained in any case.
    lora_rank, lora_alpha
        Rank and scale of the additions (Hu et al. 2022).
    steps
        Optimizer steps; 0 publishes the model as it starts, which a fine-tuned one can be compared with.
    coarse_steps
        The first so many of them see the images at half the side. That is a quarter of the latents' pixels, so such a
        step has four times the samples; forms are learned from many images rather than from large ones.
    batch_size, gradient_accumulation
        A step is of `batch_size * gradient_accumulation` samples, of which `batch_size` are computed at a time, by all
        processes together; both hold for the images' full size.
    optimizer
        `"adamw-8bit"` keeps its state in 8 bits; it needs the package bitsandbytes.
    learning_rate, schedule, warmup_steps
        Linear warm-up, then cosine decay to zero, or constant.
    weight_decay, max_grad_norm
        Of AdamW; and the norm that gradients are clipped to.
    ema_decay
        Decay of the moving average of the weights, which is what is published; 0 publishes the weights themselves.
    snr_gamma
        Cap of the min-SNR loss weight (Hang et al. 2023); 0 is the plain loss.
    text_dropout, graph_dropout, joint_dropout
        Shares of samples that are trained without text, without graph, and without either, so that every branch of the
        guidance formula is learned.
    precision
        A processor that is not faster in bf16 computes in fp32 whatever this says.
    gradient_checkpointing
        Computes activations twice instead of keeping them: less memory, more time.
    checkpoint_every, checkpoints_kept
        Steps between checkpoints to resume from, and how many of them stay.
    sample_every
        Steps between grids of sample images; there is one at the end too. 0 makes none.
    trackers
        What the loss and the learning rate are logged to, by `accelerate`'s names.
    """

    trainable: Literal["full", "lora", "graph"] = "full"
    lora_rank: int = Field(default=16, ge=1, le=65_536)
    lora_alpha: float = Field(default=16.0, gt=0)
    steps: int = Field(ge=0, le=1_000_000_000)
    coarse_steps: int = Field(default=0, ge=0, le=1_000_000_000)
    batch_size: int = Field(ge=1, le=65_536)
    gradient_accumulation: int = Field(default=1, ge=1, le=65_536)
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    learning_rate: float = Field(gt=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = Field(ge=0, le=1_000_000_000)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    ema_decay: float = Field(ge=0, lt=1)
    snr_gamma: float = Field(ge=0)
    text_dropout: Fraction
    graph_dropout: Fraction
    joint_dropout: Fraction
    precision: Literal["bf16", "fp32"]
    gradient_checkpointing: bool = False
    checkpoint_every: int = Field(ge=1, le=1_000_000_000)
    checkpoints_kept: int = Field(default=2, ge=1, le=1_000_000_000)
    sample_every: int = Field(default=0, ge=0, le=1_000_000_000)
    trackers: tuple[str, ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _shares_fit(self) -> OptimizationConfig:
        if self.text_dropout + self.graph_dropout + self.joint_dropout > 1.0:
            raise ValueError("text_dropout, graph_dropout and joint_dropout add up to more than 1")
        if self.coarse_steps > self.steps:
            raise ValueError(f"coarse_steps is {self.coarse_steps}, of {self.steps} steps")
        return self

    def samples(self, step: int) -> int:
        """Samples of an optimizer step, the first of which is 0."""
        return self.batch_size * self.gradient_accumulation * (_COARSE_SAMPLES if step < self.coarse_steps else 1)

    def samples_before(self, step: int) -> int:
        """Samples of all optimizer steps before `step`."""
        coarse = min(step, self.coarse_steps)
        return self.batch_size * self.gradient_accumulation * (step + coarse * (_COARSE_SAMPLES - 1))


class TrainConfig(_Section):
    """A training run; see the sections.

    Parameters
    ----------
    image_size, image_fit
        Side of the images in pixels, and how an image that is not square becomes so: `"crop"` takes its middle, `"pad"`
        all of it on white, as the reference does. (The encoder's images are the encoder's own matter: `embed --pad`.)
    base_model
        A pretrained model to start from: a folder in diffusers' layout, such as that of a published model, or a name on
        the hub. Without one everything is trained from scratch, by `autoencoder`, `diffusion`, and `unet` or
        `transformer`.
    diffusion
        With a base model: a noise schedule to fine-tune it to, by default its own.
    """

    preset: str
    image_size: int = Field(ge=8, multiple_of=8, le=8_192)
    image_fit: Fit = "crop"
    seed: int = Field(ge=0, le=2**63 - 1)
    base_model: str | None = None
    autoencoder: AutoencoderConfig | None = None
    unet: UNetConfig | None = None
    transformer: TransformerConfig | None = None
    graph_encoder: GraphEncoderConfig
    diffusion: DiffusionConfig | None = None
    optimization: OptimizationConfig

    @model_validator(mode="after")
    def _halves(self) -> TrainConfig:
        if self.optimization.coarse_steps and self.image_size % 16:
            raise ValueError(
                f"optimization.coarse_steps needs an image_size that is a multiple of 16, not {self.image_size}"
            )
        return self

    @model_validator(mode="after")
    def _something_to_train(self) -> TrainConfig:
        if self.optimization.trainable == "graph" and self.graph_encoder.max_neighbors == 0 and self.optimization.steps:
            raise ValueError('optimization.trainable = "graph" with graph_encoder.max_neighbors = 0 trains nothing')
        return self

    @model_validator(mode="after")
    def _one_origin(self) -> TrainConfig:
        given = [name for name in _SCRATCH if getattr(self, name) is not None]
        if self.base_model is not None:
            if wrong := [name for name in given if name != "diffusion"]:
                raise ValueError(f"a base model brings its own parts: leave out [{'], ['.join(wrong)}]")
            return self
        if (self.unet is None) == (self.transformer is None):
            raise ValueError("give a base model, or one of [unet] and [transformer]")
        if missing := [name for name in ("autoencoder", "diffusion") if name not in given]:
            raise ValueError(f"without a base model, [{'] and ['.join(missing)}] must be given")
        if self.optimization.trainable != "full":
            raise ValueError(
                f'optimization.trainable = "{self.optimization.trainable}" needs a base model: '
                "a network that starts from nothing has to be trained"
            )
        return self


def preset_names() -> list[str]:
    """Names that `preset` may have."""
    return sorted(
        path.name.removesuffix(".toml")
        for path in resources.files("model.training.presets").iterdir()
        if path.name.endswith(".toml")
    )


def load_train_config(config: str | Path, *changes: Mapping[str, Any], changed_by: str = "") -> TrainConfig:
    """Read a configuration file, or a preset by its name, with further changes by the same rules.

    Parameters
    ----------
    changes
        What else differs, as a configuration file would say it; the last one counts.
    changed_by
        What messages call these changes.

    Raises
    ------
    Graph2ImageError
        If there is no such file or preset, the file is no TOML, or a key is unknown or has a wrong value; the message
        names the file and the key.
    """
    source, values = _read(config)
    for change in changes:
        values = _change(values, change)
    return _validate(changed_by if any(changes) else source, values)


def _read(config: str | Path) -> tuple[str, dict[str, Any]]:
    """What messages call a configuration, and its keys."""
    if str(config) in preset_names():
        return f"preset {config}", _read_preset(str(config))
    path = Path(config)
    try:
        changes = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Graph2ImageError(
            f"there is no configuration file {path}", f"Presets are: {', '.join(preset_names())}."
        ) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Graph2ImageError(f"cannot read {path}: {error}") from error
    preset = changes.get("preset")
    if preset not in preset_names():
        raise Graph2ImageError(
            f"{path}: preset is {preset!r}", f"Write `preset = ...` with one of: {', '.join(preset_names())}."
        )
    return str(path), _change(_read_preset(preset), changes)


def _change(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return _merge({key: base[key] for key in base if key not in _replaced(changes)}, changes)


def _read_preset(name: str) -> dict[str, Any]:
    text = (resources.files("model.training.presets") / f"{name}.toml").read_text(encoding="utf-8")
    return {"preset": name, **tomllib.loads(text)}


def _replaced(changes: Mapping[str, Any]) -> set[str]:
    """Keys of a preset that a file excludes by giving what stands in their place."""
    if "base_model" in changes:
        return set(_SCRATCH)
    networks = {"unet", "transformer"} & set(changes)
    if networks:
        return {"unet", "transformer", "base_model"} - networks
    return set()


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = base.get(key)
        merged[key] = _merge(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return merged


def _validate(source: str, values: dict[str, Any]) -> TrainConfig:
    with explain_validation(source):
        return TrainConfig.model_validate(values)
