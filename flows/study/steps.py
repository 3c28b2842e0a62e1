"""The steps of a study (sampling, trainings, sets of images), which of them are finished, and how long the others take.

A finished step is known by a digest of all that decides its result, and is kept in `studies/<digest>.json`: a study
that was killed goes on where it was, two studies share what they have in common, and a changed graph, item or opt-out
makes new ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ValidationError

from flows import stages
from flows.samples import item_samples, picked_items
from flows.settings import Settings
from flows.study.config import ImageSettings, Study, Variant
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.root import digest
from ingest.errors import Graph2ImageError
from model.evaluation.record import EvaluationRecord, RequestedImage, read_evaluation, write_evaluation
from model.generation.requests import GenerationRequest, Sample
from model.record import has_model

Kind: TypeAlias = Literal["sample", "train", "generate"]
_VERBS = {"sample": "sample the neighbors of", "train": "train", "generate": "generate the images of"}
#: Another version makes other results of the same inputs.
_VERSION = 1


@dataclass(frozen=True)
class Step:
    """A part of a study that is made as a whole.

    Parameters
    ----------
    seed, image_seed
        Of the training, and of the start noise; None where there is none yet.
    """

    kind: Kind
    variant: Variant
    seed: int | None = None
    image_seed: int | None = None

    @property
    def title(self) -> str:
        """For people."""
        seeds = [f"seed {seed}" for seed in (self.seed, self.image_seed) if seed is not None]
        return ", ".join([f"{_VERBS[self.kind]} {self.variant.name!r}", *seeds])

    @property
    def identity(self) -> str:
        """Equal for steps that have the same result in one study."""
        variant = self.variant
        decided: list[Any] = [self.kind, dict(variant.sampling)]
        if self.kind != "sample":
            decided += [variant.training.model_dump(mode="json"), self.seed]
        if self.kind == "generate":
            decided += [variant.generation.model_dump(mode="json"), self.image_seed]
        return digest(*decided)


@dataclass(frozen=True)
class PlannedStep:
    """A step as it stands: `seconds` that it took, or is estimated to take; None if nothing alike was made yet."""

    title: str
    kind: Kind
    finished: bool
    seconds: float | None


class _Finished(BaseModel):
    """The record of a finished step."""

    step: str
    result: str
    seconds: float


class Steps:
    """The steps of a study on a data root, and their results.

    Parameters
    ----------
    batch_size, device
        Of the generation.
    """

    def __init__(self, settings: Settings, study: Study, batch_size: int = 32, device: str | None = None) -> None:
        self._settings, self._study = settings, study
        self._data = settings.data_root
        self._batch_size, self._device = batch_size, device
        self._results: dict[str, str] = {}
        self._base_models: dict[str, str] = {}
        #: Seconds, and the seconds for a unit of work, of what is finished.
        self._seconds: dict[str, float] = {}
        self._rates: dict[Kind, list[float]] = {}

    def of(self, variant: Variant) -> Iterator[Step]:
        """The steps of a variant, in their order."""
        yield Step("sample", variant)
        for seed in self._study.training_seeds:
            yield Step("train", variant, seed)
            for image_seed in self._study.generation_seeds:
                yield Step("generate", variant, seed, image_seed)

    def plan(self, variants: Sequence[Variant]) -> list[PlannedStep]:
        """All steps of some variants, each once, as they stand."""
        distinct: dict[str, Step] = {}
        for step in (step for variant in variants for step in self.of(variant)):
            distinct.setdefault(step.identity, step)
        finished = {identity: self._is_finished(step) for identity, step in distinct.items()}
        return [
            PlannedStep(
                step.title,
                step.kind,
                finished[identity],
                self._seconds.get(identity) if finished[identity] else self._estimate(step),
            )
            for identity, step in distinct.items()
        ]

    def seconds(self, variant: Variant) -> float:
        """What the finished steps of a variant took, with those that it shares with others."""
        return sum(self._seconds.get(step.identity, 0.0) for step in self.of(variant))

    def find(self, step: Step) -> str | None:
        """The result of a step if it is finished: the neighbors' name, the model's id or the evaluation's."""
        if step.identity not in self._results and (name := self._record_name(step)) is not None:
            record = self._read(name)
            if record is not None and self._is_there(step, record.result):
                self._note(step, record.result, record.seconds)
        return self._results.get(step.identity)

    def make(self, step: Step) -> bool:
        """Make the result of a step, unless it is finished; whether there was anything to do.

        Raises
        ------
        Graph2ImageError
            As the stage does.
        """
        if self.find(step) is not None:
            return False
        name = self._record_name(step)
        started = time.monotonic()
        result = {"sample": self._sample, "train": self._train, "generate": self._generate}[step.kind](step)
        if name is None:
            raise Graph2ImageError(f"cannot {step.title}: what it is made from is not there")
        seconds = round(time.monotonic() - started, 2)
        self._note(step, result, seconds)
        self._data.write_json(name, _Finished(step=step.title, result=result, seconds=seconds).model_dump())
        return True

    def evaluations(self, variant: Variant) -> tuple[EvaluationRecord, ...]:
        """The images of a variant whose steps are all finished: a record for each of its seeds."""
        return tuple(
            read_evaluation(self._data, self._result("train", step), self._result("generate", step))
            for step in self.of(variant)
            if step.kind == "generate"
        )

    @cached_property
    def withdrawn(self) -> set[str]:
        """Ids of the items that take no part."""
        return stages.withdrawn_items(self._settings)

    # -- stages --------------------------------------------------------------------------------------------------------

    def _sample(self, step: Step) -> str:
        return stages.sample(self._settings, self._sampler(step)).digest

    def _train(self, step: Step) -> str:
        from model.training.train import train  # takes seconds to import

        config = step.variant.training.model_copy(update={"seed": step.seed})
        return train(self._data, config, self._result("sample", step), None, self.withdrawn).model_id

    def _generate(self, step: Step) -> str:
        model_id, neighbors = self._result("train", step), self._result("sample", step)
        samples = item_samples(self._settings, model_id, self._item_ids, neighbors)
        requests = image_requests(samples, step.variant.generation)
        generation = stages.generation_settings(
            self._settings,
            model_id,
            seed=step.image_seed,
            batch_size=self._batch_size,
            device=self._device,
            **step.variant.generation.options,
        )
        made = stages.generate(self._settings, model_id, requests, generation).generate
        record = EvaluationRecord(
            model_id=model_id,
            split=self._study.split,
            neighbors=neighbors,
            settings=generation.recorded(),
            images=tuple(
                RequestedImage(generated_id=generated_id, item_id=request.item_id, variant=request.variant)
                for generated_id, request in zip(made.generated_ids, requests, strict=True)
            ),
        )
        write_evaluation(self._data, record)
        return record.evaluation_id

    # -- what is finished ----------------------------------------------------------------------------------------------

    def _record_name(self, step: Step) -> str | None:
        """Where the result of a step is recorded, by all that decides it; None while that is not known."""
        decided: list[Any] = [_VERSION, step.kind]
        if step.kind == "sample":
            decided += [self._sampler(step).model_dump(mode="json"), self._graph_version]
        else:
            neighbors = self.find(Step("sample", step.variant))
            config = step.variant.training
            decided += [neighbors, config.model_dump(mode="json"), step.seed, sorted(self.withdrawn)]
            if config.base_model is not None:
                decided.append(self._base_model_id(config.base_model))
            if step.kind == "generate":
                decided += [step.variant.generation.model_dump(mode="json"), step.image_seed, self._item_ids]
            if neighbors is None:
                return None
        return f"studies/{digest(*decided)}.json"

    def _is_finished(self, step: Step) -> bool:
        try:
            return self.find(step) is not None
        except Graph2ImageError:  # what it is made from is not there, which is told when it is made
            return False

    def _read(self, name: str) -> _Finished | None:
        """The record of a step; one that is damaged is as if it were not there."""
        if not self._data.exists(name):
            return None
        try:
            return _Finished.model_validate_json(self._data.read_bytes(name))
        except ValidationError:
            return None

    def _is_there(self, step: Step, result: str) -> bool:
        data = self._data
        if step.kind == "sample":
            return data.snapshot(f"neighbors/{result}") is not None
        if step.kind == "train":
            return has_model(data, result)
        model_id = self.find(Step("train", step.variant, step.seed))
        if model_id is None or not data.exists(f"evaluations/{model_id}/{result}/evaluation.json"):
            return False
        images = read_evaluation(data, model_id, result).images
        return all(data.exists(f"generated/{model_id}/{image.generated_id}.png") for image in images)

    def _result(self, kind: Kind, step: Step) -> str:
        """The result of another step of the same variant and seeds, which is finished by now."""
        seeds = {"sample": (), "train": (step.seed,), "generate": (step.seed, step.image_seed)}[kind]
        return self._results[Step(kind, step.variant, *seeds).identity]

    def _note(self, step: Step, result: str, seconds: float) -> None:
        self._results[step.identity] = result
        self._seconds[step.identity] = seconds
        self._rates.setdefault(step.kind, []).append(seconds / self._work(step))

    def _estimate(self, step: Step) -> float | None:
        rates = self._rates.get(step.kind)
        return None if not rates else sum(rates) / len(rates) * self._work(step)

    def _work(self, step: Step) -> float:
        """What the time of a step is in proportion to, among those of its kind; at least 1."""
        config = step.variant.training
        if step.kind == "train":
            return max(1.0, config.optimization.samples_before(config.optimization.steps) * config.image_size**2)
        if step.kind == "generate":
            return self._study.items * config.image_size**2 * float(step.variant.generation.num_inference_steps or 20)
        return 1.0

    def _sampler(self, step: Step) -> SamplerSettings:
        return stages.sampler_settings(self._settings, **step.variant.sampling)

    def _base_model_id(self, source: str) -> str:
        from model.pretrained.base_models import base_model_id  # takes seconds to import

        if source not in self._base_models:
            self._base_models[source] = base_model_id(source)
        return self._base_models[source]

    @cached_property
    def _graph_version(self) -> str:
        with self._settings.open_store(read_only=True) as store:
            return store.version()

    @cached_property
    def _item_ids(self) -> list[str]:
        """The items that images are made for."""
        ids = picked_items(self._settings, self._study.split, self._study.items)
        if len(ids) < 2:
            raise Graph2ImageError(
                f"{len(ids)} items of the {self._study.split} split have an image; two are needed to compare",
                "Ingest more items.",
            )
        return ids


def image_requests(samples: Sequence[Sample], settings: ImageSettings) -> list[GenerationRequest]:
    """An image for each item; another item's neighbors, where they are asked for, are those of the next one."""
    variant = settings.variant
    sets: list[tuple[Any, ...]]
    if settings.neighbors == "none":
        sets = [() for _ in samples]
    else:
        own = [sample.neighbors for sample in samples]
        others = [*own[1:], *own[:1]]
        if settings.neighbors == "mixed":
            sets = list(zip(own, others, strict=True))
        else:
            sets = [(neighbors,) for neighbors in (own if settings.neighbors == "own" else others)]
    return [
        GenerationRequest(sample.item_id, sample.text, variant, chosen)
        for sample, chosen in zip(samples, sets, strict=True)
    ]
