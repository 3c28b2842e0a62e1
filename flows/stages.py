"""The stages of the main job: plain functions from settings and ids to a report of counts.

Each opens what it needs, calls one library function, and closes it again. The command line, the demo and the Prefect
flows call these, so all three do the same thing. Every stage can be called again: what is done already is found and
reported as unchanged. Each imports what it needs, so that this module takes no time to import.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ingest.errors import Graph2ImageError, explain_validation

if TYPE_CHECKING:
    from flows.settings import Settings
    from graphstore.lineage import LineageReport
    from graphstore.loading.load import LoadReport
    from graphstore.sampling.dataset import SampleReport
    from graphstore.sampling.explanation import NeighborExplanation
    from graphstore.sampling.settings import Engine, SamplerSettings
    from graphstore.search.images import SimilarItems
    from graphstore.search.titles import FoundItems
    from graphstore.store import IndexReport
    from ingest.encoders.embed import EmbedReport
    from ingest.encoders.mini_config import MiniClipConfig
    from ingest.ingestion import Ingestion
    from ingest.pipeline import IngestReport
    from ingest.writers.instructg2i import ExportReport
    from model.evaluation.evaluate import EvaluationReport
    from model.evaluation.record import EvaluationRecord
    from model.generation.generate import GenerateReport
    from model.generation.requests import GenerationRequest, GenerationSettings
    from model.training.config import TrainConfig
    from model.training.train import TrainReport

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IngestOutcome:
    """What an ingestion wrote to Parquet, and what it brought to the graph store."""

    ingest: IngestReport
    load: LoadReport

    @property
    def changed(self) -> bool:
        return self.ingest.changed or self.load.changed


@dataclass(frozen=True)
class EmbedOutcome:
    """What was embedded, and what the store's index of vectors got of it; None for a store without indexes."""

    embed: EmbedReport
    index: IndexReport | None

    @property
    def encoder(self) -> str:
        return self.embed.encoder

    @property
    def changed(self) -> bool:
        return self.embed.changed or (self.index is not None and self.index.changed)


@dataclass(frozen=True)
class GenerateOutcome:
    """What was generated, by which model, the lineage recorded for it; `notes` tell what is not as asked for."""

    model_id: str
    generate: GenerateReport
    lineage: LineageReport
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return self.generate.changed or self.lineage.changed


def ingest(settings: Settings, ingestion: Ingestion) -> IngestOutcome:
    """Ingest the files of a source, and load them into the graph store.

    Raises
    ------
    Graph2ImageError
        If a file, a setting or the source is wrong; see `ingest.sources` and `graphstore.loading.load`. Also if every
        row was rejected: what was ingested before is then still there.
    """
    from graphstore.loading.load import check_fits
    from graphstore.store import NoGraphError
    from ingest.images.fetch import FetchSettings
    from ingest.sources import ingest_source, open_source

    with explain_validation("setting fetch"):
        fetch = FetchSettings(**settings.fetch)
    opened = open_source(ingestion)
    # What the graph cannot take is refused before anything is read.
    with contextlib.suppress(NoGraphError), settings.open_store(read_only=True) as store:
        check_fits(store, opened.names, opened.item_columns)
    report = ingest_source(settings.data_root, ingestion, fetch)
    if report.rows_read and report.rows_read == sum(report.rejected.values()):
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in report.rejected.items())
        raise Graph2ImageError(
            f"{report.source}: every row was rejected ({reasons})",
            f"rejects/{report.source} in the data root lists each with what is wrong with it.",
        )
    return IngestOutcome(report, load(settings, report.source, prune=ingestion.prune))


def withdrawn_items(settings: Settings) -> set[str]:
    """Ids of the items that were withdrawn, by the graph store and the data root."""
    with settings.open_graph(read_only=True) as store:
        items = [store.nodes(label, ["id", "opted_out"]) for label in store.labels_of_kind("item")]
        return {id_ for nodes in items for id_ in nodes.filter(nodes["opted_out"])["id"].to_pylist()}


def load(settings: Settings, source: str, *, prune: bool = False) -> LoadReport:
    """Bring the published items, entities and relations of `source` into the graph store.

    If that withdraws items, as they came to a withdrawn entity, what was made from them is marked as stale.
    """
    from flows.trained import trained_models
    from graphstore.loading.load import load_source
    from graphstore.registry import mark_stale, opted_out_items

    data = settings.data_root
    with settings.open_graph() as store:
        before = {*opted_out_items(store)}
        report = load_source(store, data, source, prune=prune)
        if report.changed and not before.issuperset(opted_out_items(store)):
            mark_stale(store, data, trained_models(data))
        if store.indexes is not None:
            store.indexes.update_titles()
        return report


def embed(
    settings: Settings,
    encoder: str | MiniClipConfig = "mini",
    *,
    pad: bool = False,
    device: str | None = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    batch_size: int = 256,
) -> EmbedOutcome:
    """Embed the images and texts that have no vector yet; bring the images' vectors to the store's index."""
    from ingest.datasets.lock import writer_lock
    from ingest.encoders.embed import embed as embed_dataset

    data, withdrawn = settings.data_root, withdrawn_items(settings)
    with writer_lock(data, "embed"):
        report = embed_dataset(
            data,
            encoder=encoder,
            pad=pad,
            device=device,
            precision=precision,
            batch_size=batch_size,
            withdrawn=withdrawn,
        )
    with settings.open_graph(read_only=True) as store:
        if store.indexes is None:
            return EmbedOutcome(report, None)
    with settings.open_graph() as store:
        return EmbedOutcome(report, store.indexes.update_vectors(data, report.encoder) if store.indexes else None)


def similar(settings: Settings, item_id: str, encoder: str | None, k: int, label: str | None) -> SimilarItems:
    """Find the items whose images are most similar to an item's.

    `encoder` is by default the one whose vectors the store has, else the newest.
    """
    from graphstore.search import images

    data = settings.data_root
    with settings.open_graph(read_only=True) as store:
        encoder = encoder or (store.indexes and store.indexes.encoder()) or newest(settings, "encoders")
        return images.similar(store, data, item_id, encoder=encoder, k=k, label=label)


def search(settings: Settings, text: str, k: int, label: str | None) -> FoundItems:
    """Find the items whose titles have words of `text`."""
    from graphstore.search.titles import search as search_titles

    with settings.open_graph(read_only=True) as store:
        return search_titles(store, text, k=k, label=label)


def sample(settings: Settings, sampler: SamplerSettings) -> SampleReport:
    """Sample the neighbors of every item."""
    from graphstore.sampling.dataset import sample_all

    with settings.open_graph(read_only=True) as store:
        return sample_all(store, settings.data_root, sampler)


def explain(settings: Settings, item_id: str, sampler: SamplerSettings, engine: Engine = "push") -> NeighborExplanation:
    """Sample the neighbors of one item, with titles, scores and paths."""
    from graphstore.sampling.explanation import explain_neighbors

    with settings.open_graph(read_only=True) as store:
        return explain_neighbors(store, settings.data_root, item_id, sampler, engine=engine)


def export_instructg2i(settings: Settings, folder: Path, neighbors: str | None = None) -> ExportReport:
    """Write the neighbor samples `neighbors` (by default the newest) in InstructG2I's layout."""
    from ingest.writers import instructg2i

    data = settings.data_root
    samples = f"neighbors/{neighbors or newest(settings, 'neighbors')}"
    return instructg2i.export_instructg2i(data, folder, samples, withdrawn=withdrawn_items(settings))


def train(
    settings: Settings, config: str | Path | TrainConfig, neighbors: str | None = None, encoder: str | None = None
) -> TrainReport:
    """Train the model that `config` describes on the neighbor samples `neighbors` (by default the newest).

    `config` is a preset, a configuration file, or what one holds; `encoder` is that of the neighbors' images, by
    default the one that the samples were ranked with.
    """
    from model.training.config import load_train_config

    checked = load_train_config(config) if isinstance(config, str | Path) else config
    neighbors = neighbors or newest(settings, "neighbors")
    withdrawn = withdrawn_items(settings)
    # Last, since the import takes seconds: what is missing is told before.
    from model.training.train import train as train_model

    report = train_model(settings.data_root, checked, neighbors, encoder, withdrawn)
    if os.environ.get("RANK", "0") == "0":  # the first of the processes that `accelerate launch` starts
        register(settings, [report.model_id])
    return report


def register(settings: Settings, model_ids: Sequence[str] | None = None) -> list[str]:
    """Bring published models, by default all, to the registry; returns those that are new to it."""
    from flows.trained import trained_models
    from graphstore.registry import register_models

    data = settings.data_root
    with settings.open_graph() as store:
        return register_models(store, data, trained_models(data, model_ids))


def train_command(settings: Settings, model_id: str) -> str | None:
    """What a user calls to train a published model again; None if its record cannot be read."""
    from model.record import read_model_record
    from model.training.config import load_train_config, preset_names

    try:
        record = read_model_record(settings.data_root, model_id)
    except Graph2ImageError:
        return None
    config = record.config.model_dump(mode="json")
    preset = str(config["preset"])
    is_preset = preset in preset_names() and load_train_config(preset).model_dump(mode="json") == config
    name = preset if is_preset else "CONFIG"
    command = f"`graph2image train {name} --neighbors {record.neighbors} --encoder {record.encoder}`"
    return command if is_preset else f"{command}, CONFIG being the file of preset {preset!r} that it was trained by"


def generate(
    settings: Settings,
    model_id: str,
    requests: Sequence[GenerationRequest],
    generation: GenerationSettings,
    notes: tuple[str, ...] = (),
) -> GenerateOutcome:
    """Generate an image per request and record what each was made from in the graph store.

    `notes` are what `requests` are otherwise than asked for; they are passed on.
    """
    from graphstore.registry import is_stale
    from model.generation.generate import generate as generate_images

    report = generate_images(settings.data_root, model_id, requests, generation)
    recorded = record_lineage(settings, [model_id])
    with settings.open_graph(read_only=True) as store:
        if is_stale(store, model_id):
            notes = (*notes, f"{model_id} is stale: it was trained on items that have been withdrawn since")
    return GenerateOutcome(model_id, report, recorded, notes)


def record_lineage(settings: Settings, model_ids: Sequence[str] | None = None) -> LineageReport:
    """Record in the graph store what the images of all published models, or of some, were made from."""
    from flows.trained import trained_models
    from graphstore import lineage

    data = settings.data_root
    with settings.open_graph() as store:
        return lineage.record_lineage(store, data, trained_models(data, model_ids))


def evaluate(settings: Settings, evaluation: EvaluationRecord) -> EvaluationReport:
    """Judge the images that the evaluation has requested."""
    from model.evaluation.evaluate import evaluate as judge_images

    return judge_images(settings.data_root, evaluation, withdrawn_items(settings))


def sampler_settings(settings: Settings, *, encoder: str | None = None, **options: Any) -> SamplerSettings:
    """Settings of the sampler; `encoder` is by default the newest one.

    Raises
    ------
    pydantic.ValidationError
        If an option is out of its range.
    Graph2ImageError
        If the mode needs an encoder and there is none.
    """
    from graphstore.sampling.settings import SamplerSettings

    checked = SamplerSettings(encoder=encoder or "the newest", **options)
    if encoder is None:
        newest_encoder = _newest_encoder(settings, needed=checked.compares_images)
        return checked.model_copy(update={"encoder": newest_encoder})
    return checked


def _newest_encoder(settings: Settings, *, needed: bool) -> str | None:
    """Id of the newest encoder; None if there is none and it is not `needed`."""
    try:
        return newest(settings, "encoders")
    except Graph2ImageError:
        if needed:
            raise
        return None


def generation_settings(
    settings: Settings,
    model_id: str | None = None,
    *,
    fast: bool = False,
    copy_check: bool = True,
    copy_similarity: float | None = None,
    copy_bits: int | None = None,
    **options: Any,
) -> GenerationSettings:
    """Settings of the generation: `options` that are not None, else those of `fast`, else the defaults for the model.

    The model is by default that of `default_model`.

    Raises
    ------
    Graph2ImageError
        If there is no such model, or an option is out of its range.
    """
    from model.generation.requests import COPY_THRESHOLDS, FAST, OF_PRESETS, CopyThresholds, GenerationSettings
    from model.record import read_model_record

    thresholds = CopyThresholds(
        COPY_THRESHOLDS.similarity if copy_similarity is None else copy_similarity,
        COPY_THRESHOLDS.bits if copy_bits is None else copy_bits,
    )
    given = {key: value for key, value in options.items() if value is not None}
    chosen = {**(FAST if fast else {}), **given, "copy_check": thresholds if copy_check else None}
    GenerationSettings(**chosen).check()  # what makes no sense is told before any model is looked for
    record = read_model_record(settings.data_root, model_id or default_model(settings))
    return GenerationSettings(**{**OF_PRESETS.get(record.config.preset, {}), **chosen})


def default_model(settings: Settings) -> str:
    """Id of the promoted model; if none is promoted, of the newest.

    Raises
    ------
    Graph2ImageError
        If there is no model yet, or the promoted one is not under this data root.
    """
    from graphstore.registry import promoted_models
    from graphstore.store import NoGraphError
    from model.record import has_model

    promoted: list[str] = []
    with contextlib.suppress(NoGraphError), settings.open_store(read_only=True) as store:
        promoted = promoted_models(store)
    if not promoted:
        return newest(settings, "models")
    if not has_model(settings.data_root, promoted[-1]):
        raise Graph2ImageError(
            f"the promoted model {promoted[-1]} is not under {settings.data}",
            "Restore it from a backup, promote another one with `graph2image promote MODEL`, or name one with --model.",
        )
    return promoted[-1]


def newest(settings: Settings, kind: Literal["neighbors", "models", "encoders"]) -> str:
    """Name of the newest complete `neighbors` dataset, `models` or `encoders` folder.

    Raises
    ------
    Graph2ImageError
        If there is none yet; the hint names the command that makes one.
    """
    marker, makes = {
        "neighbors": ("_snapshot.json", "neighbors --all"),
        "models": ("model.json", "train CONFIG"),
        "encoders": ("encoder.json", "embed"),
    }[kind]
    data = settings.data_root
    found = data.complete_folders(kind, marker)
    if not found:
        raise Graph2ImageError(f"there are no {kind} under {data.url} yet", f"Run `graph2image {makes}` first.")
    return max(found, key=lambda name: data.fs.modified(data.path(kind, name, marker)))
