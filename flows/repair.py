"""What damaged files of a data root can be made from again, by kind, and making it: what `verify --repair` does."""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from flows import stages
from flows.settings import Settings
from flows.train_again import retrain_encoder, retrain_model
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.root import DataRoot
from ingest.datasets.verify import Damage
from ingest.encoders.identity import is_padded
from ingest.errors import Graph2ImageError
from ingest.images.restore import restore_rows
from ingest.parts import PART_SCHEMAS, write_parts

log = logging.getLogger(__name__)

#: What a repair came to: nothing that helps; what is damaged is removed, so that it is made again when it is needed; or
#: it is made again.
Outcome = Literal["damaged", "removed", "made again"]


@dataclass(frozen=True)
class Case:
    """Damage to files that are made again together."""

    settings: Settings
    data: DataRoot
    #: Whether what was trained may be trained again.
    retrain: bool
    #: The first and the second part of their paths, such as `embeddings` and an encoder's id.
    kind: str
    name: str
    damage: tuple[Damage, ...]

    @property
    def folder(self) -> str:
        return f"{self.kind}/{self.name}"

    def remedy(self) -> str:
        """What makes the files again, for people."""
        text = _remedy(self.kind).text
        return text.format(name=self.name) if isinstance(text, str) else text(self)

    def remove(self) -> None:
        """Remove what is left of the damaged files; those of a dataset that is only appended to are not missed then."""
        for damage in self.damage:
            if not self.data.fs.isdir(self.data.path(damage.name)):
                self.data.drop_file(*posixpath.split(damage.name))

    def remove_all(self) -> None:
        """Remove the whole folder."""
        if self.data.exists(self.folder):
            self.data.fs.rm(self.data.path(self.folder), recursive=True)


@dataclass(frozen=True)
class _Remedy:
    """What is done about damage of a kind.

    Parameters
    ----------
    text
        What makes the files again, for people; `{name}` is the case's.
    act
        Does as much of it as can be done from what there is.
    file_by_file
        Whether the damaged files are removed first, those of all such cases before anything is made, since what makes
        one dataset reads others.
    """

    text: str | Callable[[Case], str]
    act: Callable[[Case], Outcome] | None
    file_by_file: bool = False


def to_cases(settings: Settings, data: DataRoot, damage: Iterable[Damage], *, retrain: bool) -> list[Case]:
    """The damage, sorted into what is made again together, in the order in which that can be done."""
    grouped = groupby(sorted(damage, key=lambda one: (*_kind(one.name), one.name)), key=lambda one: _kind(one.name))
    cases = [Case(settings, data, retrain, kind, name, tuple(damages)) for (kind, name), damages in grouped]
    order = {kind: number for number, kind in enumerate(_REMEDIES)}
    return sorted(cases, key=lambda case: order.get(case.kind, len(order)))


def repair(cases: Sequence[Case]) -> list[Outcome]:
    """Make the files of each case again, as far as what they are made from is there."""
    for case in cases:
        if _remedy(case.kind).file_by_file:
            case.remove()
    return [_act(case) for case in cases]


def _act(case: Case) -> Outcome:
    act = _remedy(case.kind).act
    if act is None:
        return "damaged"
    try:
        return act(case)
    except Graph2ImageError as error:
        log.warning("%s cannot be made again now: %s", case.folder, error)
        return "damaged"


def _kind(name: str) -> tuple[str, str]:
    kind, _, rest = name.partition("/")
    if kind in (*PART_SCHEMAS, "entities", "parts"):
        return "items", rest.partition("/")[0].removesuffix(".json")
    if kind == "images":
        return ("image files", "") if rest.startswith("files/") else ("images", "")
    return kind, rest.partition("/")[0]


def _remedy(kind: str) -> _Remedy:
    return _REMEDIES.get(kind, _Remedy("restore it from a backup", None))


# -- one function per kind ---------------------------------------------------------------------------------------------


def _left_to_ingest(_: Case) -> Outcome:
    return "damaged"  # the source files are not ours; the next ingestion notices what is missing


def _removed(_: Case) -> Outcome:
    return "removed"


def _remove_folder(case: Case) -> Outcome:
    case.remove_all()
    return "removed"


def _ingested(case: Case) -> Outcome:
    """Let the next ingestion read the files again whose rows are damaged."""
    if any(damage.name.startswith("parts/") for damage in case.damage):
        write_parts(case.data, case.name, {})
    return "damaged"


def _image_rows(case: Case) -> Outcome:
    log.info("Entered %d stored images again", restore_rows(case.data))
    return "made again"


def _generated_rows(case: Case) -> Outcome:
    from model.generation.restore import restore_rows as restore_generated_rows

    log.info("Entered %d generated images again", restore_generated_rows(case.data))
    return "made again"


def _opt_outs(case: Case) -> Outcome:
    from graphstore.optouts import publish_opt_outs, published_opt_outs

    with case.settings.open_store(read_only=True) as store:
        case.remove()
        publish_opt_outs(store, case.data)
    log.warning(
        "optouts has the %d withdrawals that it or the graph store still had: compare them with your own records",
        published_opt_outs(case.data).num_rows,
    )
    return "made again"


def _embeddings(case: Case) -> Outcome:
    stages.embed(case.settings, case.name)
    return "made again"


def _neighbors(case: Case) -> Outcome:
    snapshot = case.data.snapshot(case.folder)
    if snapshot is None:
        return "removed"
    case.remove_all()
    report = stages.sample(case.settings, SamplerSettings(**snapshot.metadata["settings"]))
    return "made again" if report.digest == case.name else "removed"


def _autoencoder(case: Case) -> Outcome:
    """Remove it, with the latents that it has made: one that is trained on another machine differs in the last bits."""
    for name in case.data.names("latents"):
        if name.startswith(f"latents/{case.name}-"):
            case.data.fs.rm(case.data.path(name), recursive=True)
    case.remove_all()
    return "removed"


def _encoder(case: Case) -> Outcome:
    """Not made again by itself: trained elsewhere it differs in the last bits, and its vectors with it."""
    if not case.retrain:
        return "damaged"
    retrain_encoder(case.settings, case.name)
    return "made again"


def _model(case: Case) -> Outcome:
    if not case.retrain:
        return "damaged"
    retrain_model(case.settings, case.name)
    return "made again"


def _retrain_option(seconds: object) -> str:
    """What `--retrain` would do, given how many seconds the training took then."""
    took = f" (the first time took {seconds:,.0f} s)" if isinstance(seconds, int | float) else ""
    return f"a backup; or `graph2image verify --repair --retrain`, which trains it again{took}"


def _embed_command(case: Case) -> str:
    seconds = None
    try:
        record = case.data.read_json(f"{case.folder}/encoder.json")
        trained_here, origin = "config" in record, str(record["origin"])
        seconds = record.get("seconds")
    except (Graph2ImageError, FileNotFoundError, KeyError, TypeError):
        trained_here, origin = case.name.startswith("mini-"), case.name
    options = ("" if trained_here else f" --encoder {origin}") + (" --pad" if is_padded(case.name) else "")
    vectors = f"embeddings/{case.name} and text-embeddings/{case.name}"
    backup = "a backup" if seconds is None else _retrain_option(seconds)
    return f"{backup}; or remove encoders/{case.name}, {vectors}, and embed again: `graph2image embed{options}`"


def _train_command(case: Case) -> str:
    command = stages.train_command(case.settings, case.name)
    if command is None:
        return f"a backup; or remove models/{case.name}, and train again"
    seconds = case.data.read_json(f"{case.folder}/model.json").get("seconds")
    return f"{_retrain_option(seconds)}; or remove models/{case.name}, and {command}"


_REMEDIES: dict[str, _Remedy] = {
    "image files": _Remedy(
        "`graph2image ingest` of their source again, with --images or --fetch", _left_to_ingest, file_by_file=True
    ),
    "fetches": _Remedy("`graph2image ingest --fetch` asks for those URLs again", _removed, file_by_file=True),
    "images": _Remedy(
        "the stored images, and `graph2image ingest` for those whose files are lost too", _image_rows, file_by_file=True
    ),
    "items": _Remedy("`graph2image ingest` of all files of {name} again", _ingested, file_by_file=True),
    "optouts": _Remedy("the graph store; what it does not have: `graph2image optout` again", _opt_outs),
    "encoders": _Remedy(_embed_command, _encoder),
    "embeddings": _Remedy("`graph2image embed --encoder {name}`", _embeddings, file_by_file=True),
    "text-embeddings": _Remedy("`graph2image embed --encoder {name}`", _embeddings, file_by_file=True),
    "unreadable": _Remedy("`graph2image embed --encoder {name}`", _remove_folder),
    "projections": _Remedy("the next `graph2image neighbors`", _remove_folder),
    "neighbors": _Remedy("`graph2image neighbors --all` with the same settings", _neighbors, file_by_file=True),
    "autoencoders": _Remedy("the next `graph2image train` of the same configuration", _autoencoder),
    "latents": _Remedy("the next `graph2image train` of the same configuration", _removed, file_by_file=True),
    "training-arrays": _Remedy("the next `graph2image train` of the same configuration", _remove_folder),
    "models": _Remedy(_train_command, _model),
    "classifiers": _Remedy("the next `graph2image evaluate`", _remove_folder),
    "evaluations": _Remedy("the same `graph2image evaluate --model {name}` again", _removed, file_by_file=True),
    "features": _Remedy("the next `graph2image compare`", _removed, file_by_file=True),
    "comparisons": _Remedy("the same `graph2image compare` again", _remove_folder),
    "snapshots": _Remedy("the next `graph2image retrain`", _remove_folder),
    "runs": _Remedy("a backup; without one, what is known of those runs is lost", _removed, file_by_file=True),
    "generated": _Remedy(
        "the records in the images; those whose files are lost: the same `generate` or `evaluate` again",
        _generated_rows,
        file_by_file=True,
    ),
}

#: Datasets that are only appended to.
APPENDED = ("embeddings", "features", "fetches", "generated", "images", "latents", "optouts", "runs", "text-embeddings")
