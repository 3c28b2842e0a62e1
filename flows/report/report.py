"""Write `report.html`: what a model makes of held-out items, beside the true images, its controls and its neighbors.

The page needs nothing but itself: images are data URLs, charts are inline SVG, there is no script, and its content
security policy allows no request.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from flows.report import figures, wording
from flows.report.content import Card, Content
from flows.report.templates import template
from flows.timing import StageTiming
from graphstore.schema import ITEM_LINEAGE_RELATIONS, SYSTEM_RELATIONS, GraphSchema
from ingest.datasets.root import DataRoot
from model.evaluation.metrics import Estimate, Metrics, read_metrics
from model.evaluation.record import EvaluationRecord
from model.generation.variants import TEXT
from model.record import ModelRecord, read_model_record

logger = logging.getLogger(__name__)

#: Held-out items that are shown with all their variants, and in the strip at the top.
CARDS = 12
HERO = 8


def build_report(
    data: DataRoot,
    schema: GraphSchema,
    evaluation: EvaluationRecord,
    out: Path,
    timings: Sequence[StageTiming],
    *,
    title: str,
    store_url: str,
    withdrawn: Collection[str] = (),
) -> str:
    """Write the report of an evaluation to `out`, atomically.

    Reads the model's record, the evaluation's `metrics.json`, the rows and files of exactly the images that it
    requested, and the items, entities, relations and neighbors behind them.

    Parameters
    ----------
    schema
        What the graph store has, for the counts.
    title
        Name of the data, such as "A synthetic gallery".
    store_url
        Store of the lineage command on the page.
    withdrawn
        Ids of opted-out items: neither they nor images made for them or from them are shown.

    Returns
    -------
    str
        The headline: whether the graph helps, with the figures.

    Raises
    ------
    Graph2ImageError
        If there is no such model, the requested images are gone, or they have not been judged.
    """
    record = read_model_record(data, evaluation.model_id)
    metrics = read_metrics(data, evaluation.model_id, evaluation.evaluation_id)
    content = Content(data, evaluation, withdrawn, record.config.image_fit)
    cards = content.cards(CARDS)
    noun = _noun(cards)
    differences = wording.main_differences(metrics)
    claim, evidence = wording.claim(differences), wording.evidence(metrics, differences, noun)
    between = content.between(reason for card in cards for reason in card.reasons)
    page = template("report.html.j2").render(
        title=title,
        claim=claim,
        evidence=evidence,
        differences=differences,
        noun=noun,
        metrics=metrics,
        reach=_reach(metrics),
        copying_note=wording.copying_note(metrics),
        judge_note=wording.judge_note(metrics),
        copies_note=wording.copies_note(metrics),
        question_notes=[wording.question_note(question) for question in metrics.questions.values()],
        aspects=metrics.aspects,
        headline_aspect=wording.headline_aspect(metrics),
        main_variant=wording.MAIN_VARIANT,
        text_variant=TEXT,
        cards=cards,
        hero=[card for card in cards if card.item.image and card.of(wording.MAIN_VARIANT)][:HERO],
        strips=content.strips(),
        via=partial(wording.via_words, between=between),
        graph=_graph(schema),
        charts=_charts(content),
        reasons=content.reasons_by_type(),
        record=record,
        training_items=record.items,
        loss=figures.curve(record.loss_curve, "training step", "loss"),
        timings=timings,
        lineage=_lineage(content, cards, store_url),
        provenance=_provenance(record, evaluation, cards),
    )
    DataRoot(str(out.parent)).write_bytes(out.name, page.encode())
    logger.info("Wrote %s, %.1f MB", out, len(page.encode()) / 1e6)
    return f"{claim}: {evidence}."


def _noun(cards: Sequence[Card]) -> str:
    """What one item is called: its label in lower case, if all have the same."""
    labels = {card.item.label for card in cards}
    return wording.words(labels.pop()) if len(labels) == 1 else "item"


def _reach(metrics: Metrics) -> dict[str, float]:
    """Largest distance from 0 of any paired difference with its two standard errors, per measure."""
    estimates: dict[str, list[Estimate]] = {
        **{aspect: [row.accuracy[aspect] for row in metrics.paired] for aspect in metrics.aspects},
        "similarity": [row.similarity for row in metrics.paired],
        "palette_distance": [row.palette_distance for row in metrics.paired],
    }
    return {
        measure: max((abs(value.mean or 0) + 2 * (value.se or 0) for value in values), default=0) or 1.0
        for measure, values in estimates.items()
    }


def _graph(schema: GraphSchema) -> dict[str, Any]:
    """Labels and relations with their counts, largest first; lineage apart."""
    system = {*SYSTEM_RELATIONS, *ITEM_LINEAGE_RELATIONS}
    return {
        kind: sorted((label for label in schema.labels if label.kind == kind), key=lambda label: -label.count)
        for kind in ("item", "entity")
    } | {
        "relations": sorted(
            (relation for relation in schema.relations if relation.type not in system),
            key=lambda relation: -relation.count,
        ),
        "lineage": [
            (relation.type, relation.count)
            for relation in schema.relations
            if relation.type in system and relation.count
        ],
    }


def _charts(content: Content) -> list[dict[str, Any]]:
    return [
        {
            "caption": f"How many relations {article} {kind} has",
            "svg": figures.histogram(
                figures.size_bins(content.degrees_of(dataset)), f"relations of {article} {kind}", dataset
            ),
        }
        for article, kind, dataset in (("an", "item", "items"), ("an", "entity", "entities"))
    ]


def _lineage(content: Content, cards: Sequence[Card], store_url: str) -> dict[str, Any] | None:
    """The question of one shown image, and its answer as the `generated` dataset has it."""
    made = next((made for card in cards if (made := card.of(wording.MAIN_VARIANT))), None)
    if made is None:
        return None
    cypher = (
        f"MATCH (g:GeneratedImage {{id: '{made.row['generated_id']}'}})-[c:CONDITIONED_ON]->(n) "
        "RETURN n.id, n.title, c.weight, c.rank ORDER BY c.rank"
    )
    items = content.items(neighbor["item_id"] for neighbor in made.row["neighbors"])
    return {
        "command": f'graph2image query "{cypher}" --store {shlex.quote(store_url)}',
        "made": made,
        "rows": [
            (neighbor, items.get(neighbor["item_id"]))
            for neighbor in sorted(made.row["neighbors"], key=lambda neighbor: neighbor["rank"])
        ],
    }


def _provenance(record: ModelRecord, evaluation: EvaluationRecord, cards: Sequence[Card]) -> dict[str, str]:
    settings = cards[0].made[0].row["settings"] if cards and cards[0].made else {}
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("graph2image", "torch", "diffusers"))
    return {
        "Model": record.model_id,
        "Evaluation": f"{evaluation.evaluation_id} ({evaluation.split} split)",
        "Graph version": record.graph_version or "not recorded",
        "Neighbor samples": evaluation.neighbors or "sampled from the graph as it was",
        "Encoder": record.encoder,
        "Training seed": str(record.config.seed),
        "Generation": ", ".join(
            f"{words} {settings[name]:g}"
            for words, name in (
                ("seed", "seed"),
                ("text guidance scale", "guidance_scale"),
                ("steps", "num_inference_steps"),
            )
            if name in settings
        ),
        "Software": f"{versions}, Python {platform.python_version()}",
        "Machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "Written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
