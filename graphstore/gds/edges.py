"""The edges of `projection`, with their weights, as Cypher that a Neo4j server computes from what it holds.

The factors are those of `projection`'s notes: a relation's own weight and its type's; the size of an entity to a power;
one scale per type. Weights are float64 here and float32 there, so they agree to 1.2e-7, relative.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from graphstore.projection.projection import check_types
from graphstore.projection.settings import DEFAULT_WALK, Direction, WalkSettings
from graphstore.store import GraphStore
from ingest.datasets.names import check_identifier

#: The ends of a relation in the order in which a walk follows it.
_ENDS: dict[Direction, str] = {"both": "[[a, b], [b, a]]", "forward": "[[a, b]]", "backward": "[[b, a]]"}


@dataclass(frozen=True)
class GdsEdges:
    """What is projected, as Cypher.

    Attributes
    ----------
    nodes
        Reads source and eligible: all nodes of the graph, and 1 for those that may be somebody's neighbor, else 0.
    edges
        Reads source, target, weight.
    types
        The relation types that the edges are of.
    parameters
        Of both.
    """

    nodes: str
    edges: str
    types: tuple[str, ...]
    parameters: dict[str, Any]


def edges_of(
    store: GraphStore, walk: WalkSettings = DEFAULT_WALK, *, unreadable_images: Collection[str] = ()
) -> GdsEdges:
    """The edges that `projection.project` gives for the same walk; the types' scales are computed on the server.

    Parameters
    ----------
    unreadable_images
        Hashes of images that count as none, as for `projection.without_images`.

    Raises
    ------
    Graph2ImageError
        If a relation type is named that the graph does not have.
    """
    factors, directions = walk.relation_weights, walk.directions
    items, entities = (store.labels_of_kind(kind) for kind in ("item", "entity"))
    relations = [key for key in store.relation_types() if {key[1], key[2]} <= {*items, *entities}]
    check_types({type_ for type_, _, _ in relations}, walk)
    walked = [key for key in relations if factors.get(key[0], 1.0) > 0 and (walk.via is None or key[0] in walk.via)]
    parts = _edges(walked, items, {type_: _ENDS[directions.get(type_, "both")] for type_, _, _ in walked})
    parameters: dict[str, Any] = {
        "splits": list(walk.neighbor_splits),
        "unreadable": list(unreadable_images),
        "exponent": float(walk.entity_exponent),
        "scales": {},
    }
    if parts:
        parameters["scales"] = {
            type_: factors.get(type_, 1.0) / mean for type_, mean in _means(store, parts, parameters).items()
        }
    weighted = [f"{part} RETURN source, target, weight * $scales.`{type_}` AS weight" for type_, part in parts]
    return GdsEdges(
        nodes=" UNION ALL ".join(_nodes(label, walk, is_item=label in items) for label in [*items, *entities]),
        edges=" UNION ALL ".join(weighted),
        types=tuple(sorted({type_ for type_, _ in parts})),
        parameters=parameters,
    )


def is_present(node: str) -> str:
    """Whether a node is not opted out."""
    return f"coalesce({node}.opted_out, false) = false"


def _is_reachable(item: str) -> str:
    return f"coalesce({item}.split IN $splits, false)"


def _nodes(label: str, walk: WalkSettings, *, is_item: bool) -> str:
    eligible = "0"
    if is_item:
        has_image = "n.image_hash IS NOT NULL AND NOT n.image_hash IN $unreadable"
        condition = f"{_is_reachable('n')} AND {has_image}" if walk.image_required else _is_reachable("n")
        eligible = f"CASE WHEN {condition} THEN 1 ELSE 0 END"
    match = f"MATCH (n:`{check_identifier(label, 'label')}`) WHERE {is_present('n')}"
    return f"{match} RETURN n AS source, {eligible} AS eligible"


def _edges(
    relations: Collection[tuple[str, str, str]], items: Collection[str], ends_of: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Relation types, and clauses that yield source, target, weight; is_item: whether the source is an item; inside:
    whether it is reachable, that is, not a source-only node.
    """
    parts: list[tuple[str, str]] = []
    shared: dict[tuple[str, str], set[str]] = {}
    for type_, start, end in relations:
        for name in (type_, start, end):
            check_identifier(name, "name")
        if (start in items) != (end in items):
            item, entity = (start, end) if start in items else (end, start)
            shared.setdefault((type_, entity), set()).add(item)
            continue
        is_item = start in items
        # Nothing leads to a source-only node.
        reached, inside = (f"WHERE {_is_reachable('target')}", _is_reachable("source")) if is_item else ("", "true")
        parts.append(
            (
                type_,
                f"MATCH (a:`{start}`)-[r:`{type_}`]->(b:`{end}`) "
                f"WHERE a <> b AND r.weight > 0 AND {is_present('a')} AND {is_present('b')} "
                f"UNWIND {ends_of[type_]} AS ends "
                f"WITH ends[0] AS source, ends[1] AS target, r.weight AS weight {reached} "
                f"WITH source, target, weight, {str(is_item).lower()} AS is_item, {inside} AS inside",
            )
        )
    for (type_, entity), labels in shared.items():
        links = (
            f"MATCH (e)-[r:`{type_}`]-(i:{'|'.join(f'`{label}`' for label in sorted(labels))}) "
            f"WHERE r.weight > 0 AND {is_present('i')}"
        )
        parts.append(
            (
                type_,
                f"MATCH (e:`{entity}`) WHERE {is_present('e')} "
                f"CALL (e) {{ {links} AND {_is_reachable('i')} RETURN count(r) AS size }} {links} "
                # An entity that only source-only nodes have is no entity of the graph: its size counts as 1.
                "WITH e, startNode(r) AS a, endNode(r) AS b, "
                f"r.weight * CASE size WHEN 0 THEN 1.0 ELSE toFloat(size) ^ $exponent END AS weight, "
                f"{_is_reachable('i')} AS inside "
                f"UNWIND {ends_of[type_]} AS ends "
                "WITH e, ends[0] AS source, ends[1] AS target, weight, inside WHERE inside OR target = e "
                "WITH source, target, weight, source <> e AS is_item, inside OR source = e AS inside",
            )
        )
    return parts


def _means(store: GraphStore, parts: Collection[tuple[str, str]], parameters: Mapping[str, Any]) -> dict[str, float]:
    """Per type, what an item's edges weigh together on average, without scale; an entity's if no item has any."""
    read = [f"{part} WHERE inside RETURN '{type_}' AS type, source, weight, is_item" for type_, part in parts]
    rows = store.read(
        f"CALL () {{ {' UNION ALL '.join(read)} }} "
        "RETURN type, is_item, sum(weight) / count(DISTINCT source) AS mean ORDER BY is_item",
        parameters,
    ).to_pylist()
    means = dict.fromkeys({type_ for type_, _ in parts}, 1.0)
    return means | {row["type"]: row["mean"] for row in rows}
