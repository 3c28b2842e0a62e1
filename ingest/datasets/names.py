"""Names in the graph: what a label, a relation type or a property may be called.

A spec is checked against these before anything is read, a load before anything is written. Labels and relation types
share one case-insensitive name space, because an embedded store keeps both as tables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.errors import Graph2ImageError

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

# Labels that graph2image keeps for itself.
GENERATED_IMAGE = "GeneratedImage"
MODEL = "Model"
SNAPSHOT = "Snapshot"
LOADED_SOURCE = "LoadedSource"
OPT_OUT = "OptOut"
PROMOTION = "Promotion"
#: What a store without a catalog keeps of its own.
GRAPH_SCHEMA = "GraphSchema"
WRITE_LOCK = "WriteLock"

# Relation types that it keeps for itself.
CONDITIONED_ON = "CONDITIONED_ON"
GENERATED_FOR = "GENERATED_FOR"
GENERATED_BY = "GENERATED_BY"
TRAINED_ON = "TRAINED_ON"
PROMOTED = "PROMOTED"
REPLACED_BY = "REPLACED_BY"

RESERVED_NAMES = frozenset(
    name.lower()
    for name in (
        *(GENERATED_IMAGE, MODEL, SNAPSHOT, LOADED_SOURCE, OPT_OUT, PROMOTION, GRAPH_SCHEMA, WRITE_LOCK),
        *(CONDITIONED_ON, GENERATED_FOR, GENERATED_BY, TRAINED_ON, PROMOTED, REPLACED_BY),
        *("id", "label"),
    )
)


def check_identifier(name: str, what: str) -> str:
    """Return `name` if it may be written into Cypher as a label, relation type or property.

    Raises
    ------
    Graph2ImageError
        If it has anything but ASCII letters, digits and underscores, or does not start with a letter.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise Graph2ImageError(
            f"{name!r} cannot be a {what}", "Use letters, digits and underscores, starting with a letter."
        )
    return name


def check_user_name(name: str, what: str) -> str:
    """As `check_identifier`, and refuse the names that graph2image keeps for itself."""
    if check_identifier(name, what).lower() in RESERVED_NAMES:
        raise Graph2ImageError(f"{name!r} cannot be a {what}: graph2image uses that name itself")
    return name


def check_new_name(name: str, what: str, uses: Mapping[str, str]) -> None:
    """Raise if label or relation type `name` cannot be told from another in use, upper and lower case being one.

    Parameters
    ----------
    what
        `label` or `relation type`.
    uses
        The names in use, and which of the two each is.
    """
    check_identifier(name, what)
    for other, used_as in uses.items():
        if other.lower() == name.lower() and (other, used_as) != (name, what):
            raise Graph2ImageError(
                f"{what} {name!r} cannot be told from the {used_as} {other!r}",
                "Rename one of the two: upper and lower case are not told apart.",
            )


@dataclass(frozen=True)
class GraphNames:
    """The names that a source brings to the graph: labels of items and of entities, and relation types."""

    items: frozenset[str]
    entities: frozenset[str]
    relation_types: frozenset[str] = frozenset()

    def check(self, uses: Mapping[str, str] | None = None) -> None:
        """Check the names against each other and against those in use.

        Parameters
        ----------
        uses
            Names that are in the graph already, and whether each is a `label` or a `relation type`.

        Raises
        ------
        Graph2ImageError
            If one cannot be used, is one that graph2image uses itself, or cannot be told from another.
        """
        if both := sorted(self.items & self.entities):
            raise Graph2ImageError(
                f"label {both[0]!r} is given to items and to entities", "Give one of them another label."
            )
        known = dict(uses or {})
        for what, names in (("label", self.items | self.entities), ("relation type", self.relation_types)):
            for name in sorted(names):
                check_new_name(check_user_name(name, what), what, known)
                known[name] = what
