"""Training configurations: a preset, and what a TOML file changes of it.

Presets are the TOML files in `model/presets`. A configuration file names one (`preset = "mini"`) and gives only what
differs; tables are merged key by key.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ingest.errors import Graph2ImageError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AutoencoderConfig(_Section):
    """The autoencoder between images and latents.

    Parameters
    ----------
    path
        A local one: TAEF2's two weight files in a folder, or the folder of a diffusers autoencoder (safetensors).
        None: a `MiniAutoencoder` is trained on the training images, by the keys below.
    channels, latent_channels, blocks
        Sizes of the `MiniAutoencoder`.
    steps, batch_size, learning_rate
        Its training.
    """

    path: str | None = None
    channels: int = Field(ge=8, multiple_of=16)
    latent_channels: int = Field(ge=1)
    blocks: int = Field(ge=1)
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)


class UNetConfig(_Section):
    """Sizes of the `UNet2DConditionModel`, by the names of its own configuration.

    `attention_heads` is what diffusers calls `attention_head_dim` there.
    """

    block_out_channels: tuple[int, ...]
    down_block_types: tuple[str, ...]
    up_block_types: tuple[str, ...]
    layers_per_block: int = Field(ge=1)
    attention_heads: int = Field(ge=1)


class GraphEncoderConfig(_Section):
    """The Graph-QFormer.

    It reads the `max_neighbors` best neighbors; its layers start as the text encoder's first `num_hidden_layers`.
    """

    max_neighbors: int = Field(ge=1)
    tokens_per_neighbor: int = Field(ge=1)
    cross_attention_freq: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)


class DiffusionConfig(_Section):
    """The noise schedule (names of diffusers' schedulers), and the cap of the min-SNR loss weight."""

    prediction_type: Literal["v_prediction", "epsilon"]
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"]
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)
    rescale_betas_zero_snr: bool
    timestep_spacing: Literal["trailing", "leading", "linspace"]
    snr_gamma: float = Field(gt=0)

    @model_validator(mode="after")
    def _noise_needs_signal(self) -> DiffusionConfig:
        if self.rescale_betas_zero_snr and self.prediction_type == "epsilon":
            raise ValueError("a zero terminal SNR needs v_prediction: from pure noise, the noise teaches nothing")
        return self


class OptimizationConfig(_Section):
    """The training loop: AdamW, linear warm-up, cosine decay to zero, EMA of the weights.

    `text_dropout`, `graph_dropout` and `joint_dropout` are the shares of samples that are trained without text, without
    graph, and without either, so that every branch of the guidance formula is learned. A checkpoint to resume from is
    kept every `checkpoint_every` steps. A processor without bf16 of its own computes in fp32 whatever `precision` says.
    """

    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    ema_decay: Fraction
    max_grad_norm: float = Field(gt=0)
    text_dropout: Fraction
    graph_dropout: Fraction
    joint_dropout: Fraction
    precision: Literal["bf16", "fp32"]
    checkpoint_every: int = Field(ge=1)

    @model_validator(mode="after")
    def _shares_fit(self) -> OptimizationConfig:
        if self.text_dropout + self.graph_dropout + self.joint_dropout > 1.0:
            raise ValueError("text_dropout, graph_dropout and joint_dropout add up to more than 1")
        return self


class TrainConfig(_Section):
    """A training run; see the sections."""

    preset: str
    image_size: int = Field(ge=8, multiple_of=8)
    seed: int = Field(ge=0)
    autoencoder: AutoencoderConfig
    unet: UNetConfig
    graph_encoder: GraphEncoderConfig
    diffusion: DiffusionConfig
    optimization: OptimizationConfig


def preset_names() -> list[str]:
    """Names that `preset` may have."""
    return sorted(
        path.name.removesuffix(".toml")
        for path in resources.files("model.presets").iterdir()
        if path.name.endswith(".toml")
    )


def load_train_config(config: str | Path) -> TrainConfig:
    """Read a configuration file, or a preset by its name.

    Raises
    ------
    Graph2ImageError
        If there is no such file or preset, the file is no TOML, or a key is unknown or has a wrong value; the message
        names the file and the key.
    """
    if str(config) in preset_names():
        return _validate(f"preset {config}", _read_preset(str(config)))
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
    return _validate(str(path), _merge(_read_preset(preset), changes))


def _read_preset(name: str) -> dict[str, Any]:
    text = (resources.files("model.presets") / f"{name}.toml").read_text(encoding="utf-8")
    return {"preset": name, **tomllib.loads(text)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = base.get(key)
        merged[key] = _merge(inner, value) if isinstance(value, dict) and isinstance(inner, dict) else value
    return merged


def _validate(source: str, values: dict[str, Any]) -> TrainConfig:
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            reason = "unknown key" if problem["type"] == "extra_forbidden" else problem["msg"]
            problems.append(f"{key}: {reason}" if key else reason)
        raise Graph2ImageError(f"{source}: {'; '.join(problems)}") from error
