"""Study files: which variants are trained, generated and compared, and by what; docs/studies.md tells all keys.

A variant is what differs from the study's own `training`, `sampling` and `generation`, key by key. Everything is
checked when the file is read, so that no study fails after a day over a misspelled key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from graphstore.sampling.settings import SamplerSettings
from ingest.errors import Graph2ImageError, explain_validation
from model.evaluation.views import Kind
from model.generation.requests import GenerationSettings
from model.generation.variants import TEXT
from model.generation.variants import Variant as ImageVariant
from model.training.config import TrainConfig, load_train_config, preset_names

_SECTIONS = ("training", "sampling", "generation")
#: Takes the place of an encoder while a file is checked: which one is the newest is known when the study runs.
_ANY_ENCODER = "the newest"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageSettings(_Section):
    """How a variant's images are made.

    Parameters
    ----------
    neighbors
        Which neighbors they are made from: the item's `own`, `none`, those of another item (`shuffled`), or the item's
        own and another item's together (`mixed`).
    graph_guidance_scale
        Guidance scale of the neighbors.
    share
        Of `mixed`: the share of the item's own neighbors.
    guidance_scale, num_inference_steps, negative_prompt, guidance_interval, guidance_rescale, scheduler, precision
        Of `GenerationSettings`; by default those usual for the model.
    """

    neighbors: Literal["own", "none", "shuffled", "mixed"] = "own"
    graph_guidance_scale: float = Field(default=1.5, ge=0, le=1_000)
    share: float = Field(default=0.5, ge=0, le=1)
    guidance_scale: float | None = None
    num_inference_steps: int | None = None
    negative_prompt: str | None = None
    guidance_interval: tuple[float, float] | None = None
    guidance_rescale: float | None = None
    scheduler: str | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Those of `GenerationSettings` that are given."""
        return self.model_dump(exclude={"neighbors", "graph_guidance_scale", "share"}, exclude_none=True)

    @property
    def variant(self) -> ImageVariant:
        """What the images are conditioned on."""
        if self.neighbors == "none":
            return TEXT
        if self.neighbors == "mixed":
            return ImageVariant.mix(self.graph_guidance_scale, (self.share, 1 - self.share))
        return ImageVariant("graph" if self.neighbors == "own" else "shuffled", self.graph_guidance_scale)


class VariantSection(_Section):
    """A `[[variant]]`: a name, and what differs from the study's own keys."""

    name: str = Field(min_length=1, max_length=80)
    training: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    generation: dict[str, Any] = {}


class SweepSection(VariantSection):
    """A `[[sweep]]`: a variant for each value of a key, with a plot over the values.

    Parameters
    ----------
    key
        Such as `generation.graph_guidance_scale` or `training.graph_encoder.max_neighbors`.
    values
        In order.
    metric
        What is plotted, and whose trend is tested.
    """

    key: str = Field(pattern=r"^(training|sampling|generation)(\.\w+)+$")
    values: tuple[int | float, ...] = Field(min_length=2)
    metric: Kind = "image"


class ComparisonSection(_Section):
    """A `[[comparison]]`: a variant less its baseline, item by item."""

    variant: str
    baseline: str


class StudySection(_Section):
    """A study file.

    Parameters
    ----------
    base
        What all trainings start from: a preset, or a configuration file beside the study's.
    title
        Heading of the page.
    items, split
        What the images are made for: so many items of the split, the same ones for all variants.
    training_seeds, generation_seeds
        Every variant is trained with each of the first, and each model makes its images with each of the second.
    training, sampling, generation
        What all variants share, by the keys of the training configuration, the sampler and `ImageSettings`.
    metrics
        Those that the page shows; by default all.
    extractors, cluster_label
        As of `graph2image compare`.
    """

    base: str
    title: str = "Graph2Image"
    items: int = Field(default=64, ge=2, le=1_000_000)
    split: Literal["val", "test"] = "test"
    training_seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    generation_seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    training: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    generation: dict[str, Any] = {}
    metrics: tuple[Kind, ...] = ()
    extractors: tuple[str, ...] = ()
    cluster_label: str | None = None
    variant: tuple[VariantSection, ...] = ()
    sweep: tuple[SweepSection, ...] = ()
    comparison: tuple[ComparisonSection, ...] = ()


@dataclass(frozen=True)
class Variant:
    """A variant, checked.

    Parameters
    ----------
    training
        The configuration; its seed is replaced by each of the study's.
    sampling
        Options of `flows.stages.sampler_settings`.
    changes
        What the file says of it, key by key, for people.
    """

    name: str
    training: TrainConfig
    sampling: Mapping[str, Any]
    generation: ImageSettings
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """Variants over the values of a key."""

    name: str
    key: str
    metric: Kind
    values: tuple[float, ...]
    variants: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study, checked; the fields are those of `StudySection`."""

    title: str
    items: int
    split: str
    training_seeds: tuple[int, ...]
    generation_seeds: tuple[int, ...]
    metrics: tuple[Kind, ...]
    extractors: tuple[str, ...]
    cluster_label: str | None
    variants: tuple[Variant, ...]
    sweeps: tuple[Sweep, ...]
    comparisons: tuple[tuple[str, str], ...]


def load_study(path: Path) -> Study:
    """Read a study file.

    Raises
    ------
    Graph2ImageError
        If there is no such file, it is no TOML, or a key, a value or a variant in it is unknown; the message names the
        file and the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise Graph2ImageError(f"there is no study file {path}", "docs/studies.md tells how to write one.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Graph2ImageError(f"cannot read {path}: {error}") from error
    with explain_validation(str(path), "docs/studies.md tells all keys."):
        section = StudySection.model_validate(content)
    sweeps = [(sweep, [f"{sweep.name} {value:g}" for value in sweep.values]) for sweep in section.sweep]
    variants = [_variant(path, section, one, f"variant {number}") for number, one in enumerate(section.variant, 1)]
    for number, (sweep, names) in enumerate(sweeps, 1):
        for name, value in zip(names, sweep.values, strict=True):
            one = VariantSection(name=name, **_with_value(sweep, value))
            variants.append(_variant(path, section, one, f"sweep {number}, {sweep.key} = {value:g}"))
    names = [variant.name for variant in variants]
    _check(path, section, names)
    return Study(
        title=section.title,
        items=section.items,
        split=section.split,
        training_seeds=section.training_seeds,
        generation_seeds=section.generation_seeds,
        metrics=section.metrics,
        extractors=section.extractors,
        cluster_label=section.cluster_label,
        variants=tuple(variants),
        sweeps=tuple(
            Sweep(sweep.name, sweep.key, sweep.metric, tuple(map(float, sweep.values)), tuple(swept))
            for sweep, swept in sweeps
        ),
        comparisons=tuple((one.variant, one.baseline) for one in section.comparison)
        or tuple((names[0], name) for name in names[1:]),
    )


def _check(path: Path, section: StudySection, names: list[str]) -> None:
    """What only the whole of the file can tell."""
    if not names:
        raise Graph2ImageError(f"{path}: there is no variant", "Write at least one [[variant]] or [[sweep]].")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise Graph2ImageError(f"{path}: two variants are called {twice!r}", "Give each a name of its own.")
    for key in ("training_seeds", "generation_seeds"):
        seeds = getattr(section, key)
        if len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**63 for seed in seeds):
            raise Graph2ImageError(f"{path}: {key}: {list(seeds)} are not different numbers from 0 on")
    for number, one in enumerate(section.comparison, 1):
        for key, name in (("variant", one.variant), ("baseline", one.baseline)):
            if name not in names:
                raise Graph2ImageError(
                    f"{path}: comparison {number}: {key}: there is no variant {name!r}",
                    f"Variants are: {', '.join(names)}.",
                )
        if one.variant == one.baseline:
            raise Graph2ImageError(f"{path}: comparison {number}: {one.variant!r} is compared with itself")


def _variant(path: Path, study: StudySection, one: VariantSection, place: str) -> Variant:
    """Check a variant's keys, with the study's own under them."""
    where = f"{path}: {place} ({one.name!r})"
    if "preset" in {**study.training, **one.training}:
        raise Graph2ImageError(f"{where}: training.preset: a variant changes keys of the base, {study.base}")
    base = study.base if study.base in preset_names() else path.parent / study.base
    training = load_train_config(base, study.training, one.training, changed_by=f"{where}: training")
    sampling = {**study.sampling, **one.sampling}
    with explain_validation(f"{where}: sampling"):
        SamplerSettings(**{"encoder": _ANY_ENCODER, **sampling})
    with explain_validation(f"{where}: generation"):
        generation = ImageSettings(**{**study.generation, **one.generation})
    try:
        GenerationSettings(**generation.options).check()
    except Graph2ImageError as error:
        raise Graph2ImageError(f"{where}: generation: {error.message}", error.hint) from error
    changes = tuple(f"{key} = {value}" for section in _SECTIONS for key, value in _flat(getattr(one, section), section))
    return Variant(one.name, training, sampling, generation, changes)


def _with_value(sweep: SweepSection, value: float) -> dict[str, dict[str, Any]]:
    """The sections of a sweep's variant, with its key set to `value`."""
    changed: Any = value
    for part in reversed(sweep.key.split(".")):
        changed = {part: changed}
    sections = {section: getattr(sweep, section) for section in _SECTIONS}
    return {section: _merged(sections[section], changed.get(section, {})) for section in _SECTIONS}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merged(merged.get(key, {}), value) if isinstance(value, Mapping) else value
    return merged


def _flat(values: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.{name}")
        else:
            yield f"{key}.{name}", value
