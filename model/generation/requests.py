"""What the generation stage is asked for: images of items, the neighbors that condition them, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ingest.datasets.root import digest
from ingest.encoders.identity import Precision
from ingest.errors import Graph2ImageError
from model.generation.variants import TEXT, Variant
from model.neighbors import Neighbor, NeighborUse

#: Schedulers that a model can be sampled with, besides its own, by the names of diffusers' classes.
SCHEDULERS: Mapping[str, str] = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
}


@dataclass(frozen=True)
class Sample:
    """An item: what a model is told of it, and its neighbors, best first."""

    item_id: str
    text: str
    split: str
    neighbors: tuple[Neighbor, ...]


@dataclass(frozen=True)
class GenerationRequest:
    """One image to make.

    Parameters
    ----------
    item_id
        The item that it is for.
    text
        The prompt.
    variant
        What the image is conditioned on besides its prompt, which says how many neighbor sets there are.
    neighbor_sets
        Sets of neighbors, best first. A set of scale 0 takes no part.
    """

    item_id: str
    text: str
    variant: Variant = TEXT
    neighbor_sets: tuple[tuple[Neighbor, ...], ...] = ()


@dataclass(frozen=True)
class CopyThresholds:
    """From when on an image counts as a copy; `model.generation.copycheck` says what is compared.

    Parameters
    ----------
    similarity
        Least cosine of the encoder's embeddings.
    bits
        Most bits, of 256, in which the perceptual hashes differ.
    """

    similarity: float
    bits: int


#: The defaults; `benchmarks/copycheck.py` measures what they find and what they flag wrongly, docs/generation.md tells.
COPY_THRESHOLDS = CopyThresholds(similarity=0.99, bits=16)


#: Largest seed: a store keeps it in 64 bits, with a sign.
MAX_SEED = 2**63 - 1
#: Steps of the noise schedule that models are trained with.
MAX_STEPS = 1_000
MAX_GUIDANCE_SCALE = 1_000.0
MAX_SIDE = 8_192
MAX_BATCH = 4_096


@dataclass(frozen=True)
class GenerationSettings:
    """What all images of a call share.

    Parameters
    ----------
    seed
        Start noise is drawn from it and the item's id.
    guidance_scale, num_inference_steps, negative_prompt, guidance_interval, guidance_rescale, height, width
        Of `Graph2ImagePipeline`.
    scheduler
        One of `SCHEDULERS`; None for the model's own.
    precision
        Number type of the networks; `auto` is the device's fastest. In fp32, an image does not depend on the batch
        that it is made in.
    watermark
        Text that is hidden in the pixels; see `model.generation.watermark`.
    copy_check
        When an image counts as a copy; None checks nothing.
    batch_size, device
        Decide memory and speed, not the images. `device` is a torch device, by default a GPU if there is one.
    """

    seed: int = 0
    guidance_scale: float = 2.0
    num_inference_steps: int = 20
    negative_prompt: str = ""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    scheduler: str | None = None
    height: int | None = None
    width: int | None = None
    precision: Precision | Literal["auto"] = "fp32"
    watermark: str | None = None
    copy_check: CopyThresholds | None = COPY_THRESHOLDS
    batch_size: int = 32
    device: str | None = None

    def recorded(self) -> dict[str, Any]:
        """What decides the images, by name: part of their ids and of their records."""
        return {key: value for key, value in asdict(self).items() if key not in ("batch_size", "device", "copy_check")}

    def check(self) -> None:
        """Raise a `Graph2ImageError` if a number is out of its range, or there is no such scheduler."""
        checked: list[tuple[str, float | None, float, float]] = [
            ("the seed", self.seed, 0, MAX_SEED),
            ("the guidance scale", self.guidance_scale, 0, MAX_GUIDANCE_SCALE),
            ("the number of inference steps", self.num_inference_steps, 1, MAX_STEPS),
            ("the guidance rescale", self.guidance_rescale, 0, 1),
            ("the height", self.height, 8, MAX_SIDE),
            ("the width", self.width, 8, MAX_SIDE),
            ("the batch size", self.batch_size, 1, MAX_BATCH),
        ]
        if self.copy_check is not None:
            checked += [
                ("the copy similarity", self.copy_check.similarity, -1, 1),
                ("the number of copy bits", self.copy_check.bits, 0, 256),
            ]
        for what, value, least, most in checked:
            if value is not None and not least <= value <= most:
                raise Graph2ImageError(f"{what} is {value}, it must be from {least:,} to {most:,}")
        first, last = self.guidance_interval
        if not 0.0 <= first <= last <= 1.0:
            raise Graph2ImageError(
                f"the guidance interval {first:g} to {last:g} is not two shares of the steps, in order"
            )
        if self.scheduler is not None and self.scheduler not in SCHEDULERS:
            raise Graph2ImageError(
                f"there is no scheduler {self.scheduler!r}", f"Schedulers are: {', '.join(SCHEDULERS)}."
            )


#: Settings that differ from the defaults above, by the preset that a model was trained from: of `sd15` those that
#: InstructG2I was published with, of `sdxl` those of Stable Diffusion XL's own pipeline.
OF_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "sd15": {"guidance_scale": 7.5, "num_inference_steps": 100, "precision": "auto"},
    "sdxl": {"guidance_scale": 5.0, "num_inference_steps": 50, "precision": "auto"},
}

#: The settings of `--fast`: 11 predictions in place of the 60 of 20 steps; docs/generation.md has what they cost.
FAST: Mapping[str, Any] = {"scheduler": "dpm++", "num_inference_steps": 5, "guidance_interval": (0.0, 0.6)}


@dataclass(frozen=True)
class Job:
    """An image to make: its id, the request, and the neighbor sets that take part, as the model sees them."""

    generated_id: str
    request: GenerationRequest
    sets: tuple[tuple[Neighbor, ...], ...]
    scales: tuple[float, ...]


def make_job(model_id: str, request: GenerationRequest, settings: GenerationSettings, use: NeighborUse) -> Job:
    """Leave out sets of scale 0 and what the model does not look at, and name the image after all that is left.

    Raises
    ------
    Graph2ImageError
        If the request has not the neighbor sets of its variant.
    """
    wanted = request.variant.graph_guidance_scales
    if len(request.neighbor_sets) != len(wanted) or request.variant.is_reference:
        raise Graph2ImageError(
            f"item {request.item_id}: {len(request.neighbor_sets)} neighbor sets, where the variant "
            f"{request.variant.label} has {len(wanted)}"
        )
    seen = [(use.seen(neighbors), scale) for neighbors, scale in zip(request.neighbor_sets, wanted, strict=True)]
    used = [(neighbors, scale) for neighbors, scale in seen if scale != 0.0 and neighbors]
    sets, scales = tuple(neighbors for neighbors, _ in used), tuple(scale for _, scale in used)
    generated_id = digest(model_id, request.item_id, request.text, request.variant, sets, scales, settings.recorded())
    return Job(generated_id, request, sets, scales)
