"""The answers of the explorer's API: what the project's types have, in the API's schemas."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

from pydantic_core import to_jsonable_python

from flows.explorer import schemas
from flows.explorer.catalog import Catalog
from flows.explorer.jobs import Job
from flows.explorer.state import Explorer
from flows.report.wording import variant_name
from graphstore.lineage import OptOutReport
from ingest.errors import Graph2ImageError
from model.evaluation.metrics import Estimate, read_metrics
from model.evaluation.record import evaluation_ids, read_evaluation
from model.record import read_model_record

#: Ids of a list that are sent at most.
MAX_LIST = 200


def items_of(rows: Sequence[dict[str, Any]]) -> list[schemas.Item]:
    """Rows of the catalog as items."""
    keys = schemas.Item.model_fields
    return [schemas.Item(**{key: row[key] for key in keys if key in row}) for row in rows]


def job_answer(held: Explorer, job: Job) -> schemas.JobStatus:
    """How far a job is."""
    return schemas.JobStatus(
        job_id=job.job_id,
        state=job.state,
        created_at=job.created_at,
        position=held.jobs.position(job),
        image=job.image,
        total=job.order.images,
        step=job.step,
        steps=job.steps,
        previews=job.previews,
        images=[schemas.MadeImage(**asdict(image)) for image in job.images],
        notes=list(job.notes),
        message=job.message,
        hint=job.hint,
    )


def touched_answer(catalog: Catalog, report: OptOutReport, *, is_withdrawn: bool) -> schemas.Touched:
    """What an opt-out touches."""
    item, entity = catalog.find(report.id), catalog.find_entity(report.id)
    return schemas.Touched(
        id=report.id,
        name=(item and item["title"]) or (entity and entity["name"]) or report.id,
        has_page=item is not None and not is_withdrawn,
        is_withdrawn=is_withdrawn,
        items=list(report.items[:MAX_LIST]),
        generated=list(report.generated[:MAX_LIST]),
        models=list(report.models),
        item_count=len(report.items),
        generated_count=len(report.generated),
    )


def model_answer(held: Explorer, model_id: str) -> schemas.Model:
    """A model with its record and its evaluations; one whose record is damaged says so."""
    try:
        record = read_model_record(held.data, model_id)
    except Graph2ImageError as error:
        return schemas.Model(
            model_id=model_id, preset="unknown", trained_items=0, encoder="", neighbors="", graph_version=None,
            image_size=None, loss=0.0, loss_curve=[], parameters=0, device="", seconds=0.0, evaluations=[],
            trouble=error.message,
        )  # fmt: skip
    return schemas.Model(
        model_id=model_id,
        preset=record.config.preset,
        trained_items=record.items,
        encoder=record.encoder,
        neighbors=record.neighbors,
        graph_version=record.graph_version,
        image_size=getattr(record.config, "image_size", None),
        loss=record.loss,
        loss_curve=list(record.loss_curve),
        parameters=record.network_parameters + record.graph_parameters,
        device=record.device,
        seconds=record.seconds,
        evaluations=[
            one for one in (_evaluation(held, model_id, id_) for id_ in evaluation_ids(held.data, model_id)) if one
        ],
    )


def _evaluation(held: Explorer, model_id: str, evaluation_id: str) -> schemas.Evaluation | None:
    """An evaluation with its figures; None if it was not finished, or is of another version."""
    try:
        record = read_evaluation(held.data, model_id, evaluation_id)
        metrics = read_metrics(held.data, model_id, evaluation_id)
    except Graph2ImageError:
        return None
    variants = [
        schemas.VariantFigures(
            variant=variant_name(row.variant),
            n=row.n,
            similarity=_estimate(row.similarity),
            palette_distance=_estimate(row.palette_distance),
            copy_rate=_estimate(row.copy_rate),
            accuracy={aspect: _estimate(value) for aspect, value in row.accuracy.items()},
        )
        for row in metrics.variants
    ]
    return schemas.Evaluation(evaluation_id=evaluation_id, split=record.split, n=metrics.n, variants=variants)


def _estimate(value: Estimate | None) -> schemas.Estimate:
    return schemas.Estimate(mean=value and value.mean, se=value and value.se)


def plain(value: Any) -> Any:
    """A value of a row as JSON has it; bytes in hex."""
    return value.hex() if isinstance(value, bytes) else to_jsonable_python(value, fallback=str)


def ids_in(value: Any) -> list[str]:
    """What in a value may be the id of an item."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [value["id"]] if isinstance(value.get("id"), str) else []
    if isinstance(value, list):
        return [id_ for part in value[:MAX_LIST] for id_ in ids_in(part)]
    return []


@cache
def known_recipes() -> list[dict[str, str]]:
    """All queries of the cookbook."""
    text = resources.files("flows.explorer").joinpath("recipes.toml").read_text(encoding="utf-8")
    found: list[dict[str, str]] = tomllib.loads(text)["recipe"]
    return found
