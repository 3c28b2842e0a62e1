"""What the HTTP API takes and answers; its OpenAPI description is made from these."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.explorer.jobs import MAX_IMAGES
from graphstore.projection.settings import Direction
from graphstore.sampling.settings import Mode

ItemId = Annotated[str, Field(min_length=1, max_length=4096, description="Id of an item, such as `art500k:…`.")]
Id = Annotated[str, Field(min_length=1, max_length=4096, description="Id of an item or entity.")]
_Scale = Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Answer(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class _Request(_Answer):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Error(_Answer):
    """What went wrong, and what to do about it."""

    message: str
    hint: str | None = None


class Status(_Answer):
    """What there is, and what this server may do."""

    graph_version: str
    items: int
    encoder: str | None
    models: list[str]
    allows_optout: bool


class Item(_Answer):
    """An item, as a thumbnail needs it. `score` is that of the search that found it."""

    id: str
    label: str
    source: str
    split: str
    title: str | None
    image_hash: str | None
    score: float | None = None


class ItemPage(_Answer):
    """Some items; `next` is what to ask for after them, and `total` how many there are."""

    items: list[Item]
    next: str | None
    total: int


class Facets(_Answer):
    """Of each facet, its values and how many items have them, among those that the other facets leave."""

    label: dict[str, int]
    source: dict[str, int]
    split: dict[str, int]
    image: dict[str, int]


class Related(_Answer):
    """An entity that an item is related to."""

    type: str
    id: str
    label: str
    name: str


class ItemDetail(Item):
    """An item with its text, all its properties, and the entities that it is related to."""

    text: str | None
    properties: dict[str, Any]
    entities: list[Related]
    generated: list[str] = Field(description="Generated images that were made for it or from it, at most 200.")


class Entity(_Answer):
    id: str
    label: str
    name: str


class SamplingRequest(_Request):
    """Sample the neighbors of an item; see docs/sampling.md."""

    item_id: ItemId
    mode: Mode = "semantic-ppr"
    k: int = Field(default=5, ge=1, le=100, description="Neighbors, at most.")
    pool: int | None = Field(default=None, ge=1, le=2000, description="Candidates of the walk; by default twice `k`.")
    query: Literal["text", "image"] = "text"
    any_item: bool = Field(default=False, description="Whether items without an image may be neighbors.")
    via: list[str] | None = Field(default=None, min_length=1, max_length=100)
    relation_weights: dict[str, float] = Field(default={}, max_length=100)
    directions: dict[str, Direction] = Field(default={}, max_length=100)
    epsilon: float = Field(default=1e-5, ge=1e-7, le=1, allow_inf_nan=False)


class SampledNeighbor(_Answer):
    """A neighbor, best first: `ppr` and `similarity` as far as they were computed, and the path to it in words."""

    item_id: str
    label: str
    title: str | None
    image_hash: str | None
    ppr: float | None
    similarity: float | None
    via: str
    reason: str


class Node(_Answer):
    id: str
    kind: Literal["item", "neighbor", "entity"]
    label: str
    title: str | None
    image_hash: str | None


class Edge(_Answer):
    from_id: str
    to_id: str
    type: str


class Sampled(_Answer):
    """The neighbors of an item; and the graph between them."""

    item_id: str
    split: str
    neighbors: list[SampledNeighbor]
    notes: list[str]
    nodes: list[Node]
    edges: list[Edge]
    relation_types: list[str]


class MixRequest(_Request):
    """Two entities whose works take the place of the item's neighbors; an image per share of the first."""

    first: Id
    second: Id
    shares: list[_Share] = Field(min_length=1, max_length=MAX_IMAGES)


class GenerateRequest(_Request):
    """Make images of an item: one per graph scale, or one per share of a mixture."""

    item_id: ItemId
    model_id: str | None = Field(default=None, max_length=200, description="By default the newest.")
    prompt: str | None = Field(default=None, max_length=10_000, description="Instead of the item's text.")
    neighbors: list[ItemId] | None = Field(
        default=None, max_length=100, description="Instead of those sampled, best first; an empty list is text only."
    )
    mix: MixRequest | None = None
    graph_scales: list[_Scale] = Field(default=[1.5], min_length=1, max_length=MAX_IMAGES)
    guidance_scale: _Scale | None = None
    steps: int | None = Field(default=None, ge=1, le=200)
    seed: int = Field(default=0, ge=0, lt=2**53)
    fast: bool = False


class MadeImage(_Answer):
    """A finished image, and the command line that makes the same one."""

    generated_id: str
    graph_scale: float
    share: float | None
    command: str


class JobStatus(_Answer):
    """How far a job is: `position` jobs are before it; `image` of `total` is at `step` of `steps`."""

    job_id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    created_at: datetime
    position: int
    image: int
    total: int
    step: int
    steps: int
    previews: int = Field(description="How many previews there were; a new one is at `/api/jobs/{job_id}/preview`.")
    images: list[MadeImage]
    notes: list[str]
    message: str | None
    hint: str | None


class Lineage(_Answer):
    """What a generated image was made from, as the graph has it."""

    generated_id: str
    variant: str | None
    seed: int | None
    settings: dict[str, Any]
    item: dict[str, Any] | None
    model: dict[str, Any] | None
    snapshot: dict[str, Any] | None
    conditioned_on: list[dict[str, Any]]


class Touched(_Answer):
    """What an item or entity is in: items, generated images, and models. Long lists are cut; the counts are whole."""

    id: str
    name: str
    has_page: bool = Field(description="Whether it is an item that can be shown.")
    is_withdrawn: bool
    items: list[str]
    generated: list[str]
    models: list[str]
    item_count: int
    generated_count: int


class OptOutRequest(_Request):
    """Withdraw an item or entity. `confirm` repeats its id."""

    id: Id
    confirm: Id
    reason: str | None = Field(default=None, max_length=2000)


class Estimate(_Answer):
    mean: float | None
    se: float | None


class VariantFigures(_Answer):
    """Means of an evaluation's variant, with standard errors."""

    variant: str
    n: int
    similarity: Estimate
    palette_distance: Estimate
    copy_rate: Estimate
    accuracy: dict[str, Estimate]


class Evaluation(_Answer):
    evaluation_id: str
    split: str
    n: int
    variants: list[VariantFigures]


class Model(_Answer):
    """A published model: what it was trained on, how it did, and what the registry says of it."""

    model_id: str
    preset: str
    trained_items: int
    encoder: str
    neighbors: str
    graph_version: str | None
    image_size: int | None
    loss: float
    loss_curve: list[tuple[int, float]]
    parameters: int
    device: str
    seconds: float
    evaluations: list[Evaluation]
    trouble: str | None = None
    status: str = Field(default="candidate", description="As in the registry: `candidate`, `promoted` …")
    stale: bool = Field(default=False, description="Whether it was trained on items that were withdrawn since.")
    images: int = Field(default=0, description="Images that it has made.")


class QueryRequest(_Request):
    """Ask the graph in Cypher; docs/cypher.md says what queries may do."""

    cypher: str = Field(min_length=1, max_length=20_000)
    limit: int = Field(default=500, ge=1, le=10_000)
    timeout: float = Field(default=10.0, ge=0.1, le=30.0)


class QueryAnswer(_Answer):
    """Rows of a query; values that are nodes or ids of items are listed in `items`, by id."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool
    items: dict[str, Item]


class Recipe(_Answer):
    title: str
    group: str
    cypher: str
