"""The HTTP API of the explorer, which its pages use too: typed, and described by OpenAPI."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic_core import to_jsonable_python

from flows import stages
from flows.explorer import schemas
from flows.explorer.answers import (
    MAX_LIST,
    ids_in,
    items_of,
    job_answer,
    known_recipes,
    model_answer,
    plain,
    touched_answer,
)
from flows.explorer.catalog import Choice, NotFoundError
from flows.explorer.guard import MAX_UPLOAD
from flows.explorer.jobs import Job, Mix, Order
from flows.explorer.state import Explorer
from flows.trained import trained_models
from flows.upkeep import opt_out
from graphstore.lineage import lineage, touched_by_opt_out
from graphstore.registry import registered_models
from graphstore.store import is_truncated
from ingest.datasets.items import among
from ingest.datasets.names import CONDITIONED_ON, GENERATED_FOR, GENERATED_IMAGE
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError, explain_validation
from model.record import model_ids, read_model_record

#: Items of a page, at most.
MAX_PAGE = 500

#: Labels of a node in Cypher: `A|B` of `(n:A|B)`.
_LABELS = re.compile(r"\(\w*:([\w|]+)")


def explorer(request: Request) -> Explorer:
    """What the server holds."""
    held: Explorer = request.app.state.explorer
    return held


def choice(
    label: Annotated[str | None, Query(max_length=200)] = None,
    source: Annotated[str | None, Query(max_length=200)] = None,
    split: Annotated[str | None, Query(max_length=200)] = None,
    image: Annotated[str | None, Query(pattern="^(with|without)$")] = None,
) -> Choice:
    """The facets of a request."""
    return Choice(label or None, source or None, split or None, image or None)


Held = Annotated[Explorer, Depends(explorer)]
Chosen = Annotated[Choice, Depends(choice)]
IdQuery = Annotated[str, Query(min_length=1, max_length=4096)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
GeneratedId = Annotated[str, Path(pattern="^[0-9a-f]{16}$")]

api = APIRouter(
    prefix="/api",
    responses={
        400: {"model": schemas.Error, "description": "It makes no sense, or cannot be done; the message says why."},
        404: {"model": schemas.Error, "description": "What is named does not exist, or was withdrawn."},
        503: {"model": schemas.Error, "description": "The store or the queue is busy, or there is no graph yet."},
    },
)


@api.get("/status", tags=["graph"])
def status(held: Held) -> schemas.Status:
    """What there is, and what this server may do."""
    catalog = held.catalogs.now()
    return schemas.Status(
        graph_version=catalog.version,
        items=len(catalog),
        encoder=held.encoder(),
        models=model_ids(held.data),
        allows_optout=held.allows_optout,
    )


# -- search ------------------------------------------------------------------------------------------------------------


@api.get("/facets", tags=["search"])
def facets(held: Held, chosen: Chosen) -> schemas.Facets:
    """Count items by label, source and split, and with or without an image."""
    return schemas.Facets(**held.catalogs.now().counts(chosen))


@api.get("/items", tags=["search"])
def items(
    held: Held, chosen: Chosen, after: Annotated[str | None, Query(max_length=4096)] = None, limit: Limit = 100
) -> schemas.ItemPage:
    """List items in the order of their ids; `after` is the `next` of the page before."""
    rows, total = held.catalogs.now().page(chosen, after or None, limit)
    more = rows[-1]["id"] if len(rows) == limit else None
    return schemas.ItemPage(items=items_of(rows), next=more, total=total)


@api.get("/search", tags=["search"])
def search(
    held: Held,
    chosen: Chosen,
    q: Annotated[str | None, Query(max_length=1000, description="Words of titles; any of them will do.")] = None,
    like: Annotated[
        str | None, Query(max_length=4096, description="Id of an item: find those with like images.")
    ] = None,
    limit: Limit = 200,
) -> schemas.ItemPage:
    """Find items by words, or by the image of an item; best first."""
    catalog = held.catalogs.now()
    if (q is None) == (like is None):
        raise Graph2ImageError("give either words (q) or an item (like)")
    if q is not None:
        rows, total = catalog.with_words(q, chosen, limit)
        return schemas.ItemPage(items=items_of(rows), next=None, total=total)
    item = catalog.item(like or "")
    if item["image_hash"] is None:
        raise Graph2ImageError(f"item {item['id']} has no image to compare", "Search for words instead.")
    encoder = held.needed_encoder()
    query = catalog.vector(held.data, encoder, item["image_hash"])
    rows = catalog.like(held.data, encoder, query, chosen, limit, but=item["id"])
    return schemas.ItemPage(items=items_of(rows), next=None, total=len(rows))


@api.post(
    "/search/image",
    tags=["search"],
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"image/*": {"schema": {"type": "string", "format": "binary", "maxLength": MAX_UPLOAD}}},
        }
    },
)
async def search_image(request: Request, held: Held, chosen: Chosen, limit: Limit = 200) -> schemas.ItemPage:
    """Find items by an image, which is the body of the request; it is not kept."""
    from starlette.concurrency import run_in_threadpool

    content = await request.body()

    def find() -> schemas.ItemPage:
        encoder = held.needed_encoder()
        query = held.queries.vector(content, encoder)
        rows = held.catalogs.now().like(held.data, encoder, query, chosen, limit, but=None)
        return schemas.ItemPage(items=items_of(rows), next=None, total=len(rows))

    return await run_in_threadpool(find)


@api.get("/entities", tags=["search"])
def entities(
    held: Held,
    q: Annotated[str, Query(max_length=200)] = "",
    label: Annotated[str | None, Query(max_length=200)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> list[schemas.Entity]:
    """Find entities by their names."""
    return [schemas.Entity(**row) for row in held.catalogs.now().entities(q, label or None, limit)]


# -- items -------------------------------------------------------------------------------------------------------------


@api.get("/item", tags=["items"])
def item(held: Held, id: IdQuery) -> schemas.ItemDetail:  # noqa: A002
    """An item with its text, properties and entities."""
    catalog = held.catalogs.now()
    row = catalog.item(id)
    with held.graph.reading() as store:
        label = row["label"]
        names = [name for name in store.node_labels()[label].names if name not in ("id", "title", "text", "opted_out")]
        columns = ", ".join(f"n.`{name}` AS `{name}`" for name in ["text", *names])
        (found,) = store.read(f"MATCH (n:`{label}` {{id: $id}}) RETURN {columns}", {"id": id}).to_pylist() or [{}]
        entity_labels, related = store.labels_of_kind("entity"), []
        for type_, start, end in store.relation_types():
            if start == label and end in entity_labels:
                cypher = f"MATCH (n:`{label}` {{id: $id}})-[:`{type_}`]->(e:`{end}`) RETURN e.id AS id"
                related += [(type_, other) for other in store.read(cypher, {"id": id})["id"].to_pylist()]
        cypher = (
            f"MATCH (g:{GENERATED_IMAGE})-[:{GENERATED_FOR}|{CONDITIONED_ON}]->(n:`{label}` {{id: $id}}) "
            f"RETURN DISTINCT g.id AS id ORDER BY id LIMIT {MAX_LIST}"
        )
        generated = store.read(cypher, {"id": id})["id"].to_pylist()
    named = [(type_, catalog.find_entity(other)) for type_, other in related]
    return schemas.ItemDetail(
        **items_of([row])[0].model_dump(),
        text=found.pop("text", None),
        properties={key: to_jsonable_python(value) for key, value in found.items() if value is not None},
        entities=[schemas.Related(type=type_, **entity) for type_, entity in named if entity is not None],
        generated=generated,
    )


@api.post("/neighbors", tags=["items"])
def neighbors(held: Held, wanted: schemas.SamplingRequest) -> schemas.Sampled:
    """Sample the neighbors of an item with any settings; and what connects them."""
    catalog = held.catalogs.now()
    catalog.item(wanted.item_id)
    with explain_validation("settings"):
        sampler = stages.sampler_settings(
            held.settings,
            mode=wanted.mode,
            query=wanted.query,
            k=wanted.k,
            pool=2 * wanted.k if wanted.pool is None else wanted.pool,
            image_required=not wanted.any_item,
            via=tuple(wanted.via) if wanted.via else None,
            relation_weights=wanted.relation_weights,
            directions=wanted.directions,
            epsilon=wanted.epsilon,
        )
    found = held.neighborhoods.around(catalog, wanted.item_id, sampler)
    rows = zip(found.explanation.neighbors, found.reasons, strict=True)
    return schemas.Sampled(
        item_id=wanted.item_id,
        split=found.explanation.split,
        neighbors=[schemas.SampledNeighbor(**asdict(neighbor), reason=reason) for neighbor, reason in rows],
        notes=list(found.explanation.notes),
        nodes=[schemas.Node(**node) for node in found.nodes],
        edges=[schemas.Edge(**edge) for edge in found.edges],
        relation_types=list(found.types),
    )


# -- making images -----------------------------------------------------------------------------------------------------


@api.post("/generate", tags=["images"], status_code=202)
def generate(held: Held, wanted: schemas.GenerateRequest) -> schemas.JobStatus:
    """Queue images to be made; ask `/api/jobs/{job_id}` how far they are."""
    held.catalogs.now().item(wanted.item_id)
    model_id = wanted.model_id or held.model_in_use()
    read_model_record(held.data, model_id)
    if wanted.mix is not None and wanted.neighbors is not None:
        raise Graph2ImageError("a mixture takes the place of the neighbors: give one of them")
    if wanted.mix is not None and wanted.mix.first == wanted.mix.second:
        raise Graph2ImageError("a mixture is of two different entities")
    chosen, scales = wanted.neighbors, wanted.graph_scales
    if chosen == []:  # text only, as the command line says it
        chosen, scales = None, [0.0]
    order = Order(
        item_id=wanted.item_id,
        model_id=model_id,
        graph_scales=tuple(dict.fromkeys(scales)),
        prompt=wanted.prompt,
        neighbors=None if chosen is None else tuple(chosen),
        mix=None
        if wanted.mix is None
        else Mix(wanted.mix.first, wanted.mix.second, tuple(dict.fromkeys(wanted.mix.shares))),
        seed=wanted.seed,
        steps=wanted.steps,
        guidance_scale=wanted.guidance_scale,
        fast=wanted.fast,
    )
    return job_answer(held, held.jobs.add(order))


JobId = Annotated[str, Path(pattern="^[A-Za-z0-9_-]{1,64}$")]


def _job(held: Explorer, job_id: str) -> Job:
    job = held.jobs.find(job_id)
    if job is None:
        raise NotFoundError("there is no such job any more", "Its images are kept: see the item's page.")
    return job


@api.get("/jobs/{job_id}", tags=["images"])
def job_status(held: Held, job_id: JobId) -> schemas.JobStatus:
    """How far a job is."""
    return job_answer(held, _job(held, job_id))


@api.get("/jobs/{job_id}/preview", tags=["images"], response_class=Response)
def job_preview(held: Held, job_id: JobId) -> Response:
    """The image that is being made, as it is (WebP)."""
    preview = _job(held, job_id).preview
    if preview is None:
        raise NotFoundError("there is no preview now")
    return Response(preview, media_type="image/webp")


@api.delete("/jobs/{job_id}", tags=["images"])
def cancel_job(held: Held, job_id: JobId) -> schemas.JobStatus:
    """Cancel a job; one that runs ends after its present step, and keeps its finished images."""
    job = _job(held, job_id)
    held.jobs.cancel(job)
    return job_answer(held, job)


# -- lineage -----------------------------------------------------------------------------------------------------------


@api.get("/lineage/{generated_id}", tags=["lineage"])
def image_lineage(held: Held, generated_id: GeneratedId) -> schemas.Lineage:
    """What a generated image was made from, how much, and by which model."""
    with held.graph.reading() as store:
        told = lineage(store, generated_id)
    catalog = held.catalogs.now()
    for source in told["conditioned_on"]:
        row = catalog.find(source["id"])
        source["image_hash"] = row and row["image_hash"]  # not of one that was withdrawn
        related = [entity.split(" ", 1) for entity in source["entities"]]
        source["entities"] = [
            {"type": type_, "id": id_, "name": (catalog.find_entity(id_) or {"name": id_})["name"]}
            for type_, id_ in related
        ]
    return schemas.Lineage(**{key: to_jsonable_python(value) for key, value in told.items() if key != "image_path"})


@api.get("/record/{generated_id}", tags=["lineage"])
def image_record(held: Held, generated_id: GeneratedId) -> dict[str, Any]:
    """The whole record of a generated image, as its file has it too."""
    rows = (
        held.data.dataset("generated", GENERATED_SCHEMA).to_table(filter=among("generated_id", [generated_id]))
    ).to_pylist()
    if not rows:
        raise NotFoundError(f"there is no generated image {generated_id!r}")
    row: dict[str, Any] = to_jsonable_python(rows[0])
    return row


@api.get("/touched", tags=["lineage"])
def touched(held: Held, id: IdQuery) -> schemas.Touched:  # noqa: A002
    """What an item or entity is in: what an opt-out of it would touch. Nothing is changed."""
    catalog = held.catalogs.now()
    with held.graph.reading() as store:
        report = touched_by_opt_out(store, held.data, id, trained_models(held.data))
    return touched_answer(catalog, report, is_withdrawn=not report.changed)


@api.post("/optout", tags=["lineage"])
def withdraw(held: Held, wanted: schemas.OptOutRequest) -> schemas.Touched:
    """Withdraw an item or entity, for good; only if the server was started with `--allow-optout`."""
    if not held.allows_optout:
        raise Graph2ImageError(
            "this server withdraws nothing", "Start it with --allow-optout, or call `graph2image optout`."
        )
    if wanted.confirm != wanted.id:
        raise Graph2ImageError("the confirmation is not the id of what is to be withdrawn")
    catalog = held.catalogs.now()
    with held.graph.released():
        report = opt_out(held.settings, wanted.id, wanted.reason)
    return touched_answer(catalog, report, is_withdrawn=True)


# -- models ------------------------------------------------------------------------------------------------------------


@api.get("/models", tags=["models"])
def models(held: Held) -> list[schemas.Model]:
    """All published models with their records and evaluations, the newest first."""
    ids = model_ids(held.data)
    fs, data = held.data.fs, held.data
    ids.sort(key=lambda model_id: fs.modified(data.path("models", model_id, "model.json")), reverse=True)
    with held.graph.reading() as store:
        registered = {model.model_id: model for model in registered_models(store)}
    found = []
    for model in (model_answer(held, model_id) for model_id in ids):
        entry = registered.get(model.model_id)
        if entry is not None:
            model.status, model.stale, model.images = entry.status, entry.stale, entry.images
        found.append(model)
    return found


# -- Cypher ------------------------------------------------------------------------------------------------------------


@api.post("/query", tags=["graph"])
def query(held: Held, wanted: schemas.QueryRequest) -> schemas.QueryAnswer:
    """Ask the graph in Cypher, read-only."""
    with held.querying(), held.graph.reading() as store:
        table = store.query(wanted.cypher, row_limit=wanted.limit, timeout_s=wanted.timeout)
    catalog = held.catalogs.now()
    rows = [[plain(value) for value in row.values()] for row in table.to_pylist()]
    found: dict[str, schemas.Item] = {}
    for row in rows:
        for value in row:
            for id_ in ids_in(value):
                if id_ not in found and len(found) < MAX_LIST and (known := catalog.find(id_)) is not None:
                    found[id_] = items_of([known])[0]
    return schemas.QueryAnswer(columns=table.column_names, rows=rows, truncated=is_truncated(table), items=found)


@api.get("/recipes", tags=["graph"])
def recipes(held: Held) -> list[schemas.Recipe]:
    """Queries to begin with, from docs/cypher.md: those whose labels the graph has."""
    with held.graph.reading() as store:
        labels = set(store.labels())
    return [
        schemas.Recipe(**recipe)
        for recipe in known_recipes()
        if labels.issuperset(label for names in _LABELS.findall(recipe["cypher"]) for label in names.split("|"))
    ]
