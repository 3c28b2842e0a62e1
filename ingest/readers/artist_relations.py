"""What the sources of artworks say of the artists themselves."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from ingest.batches import BatchBuilder
from ingest.readers.artists import Attributed
from ingest.readers.markup import visible_text
from ingest.records import squeeze


@lru_cache(maxsize=1 << 16)
def listed_names(value: str) -> tuple[str, ...]:
    """The entities of a list with commas, each once, as a browser shows their names."""
    return tuple(dict.fromkeys(name for part in (visible_text(value) or "").split(",") if (name := squeeze(part))))


def relate_artist(
    batch: BatchBuilder,
    artist: Attributed,
    influences: Sequence[Attributed],
    influenced: Sequence[Attributed],
    teachers: Sequence[Attributed],
    pupils: Sequence[Attributed],
    friends: Sequence[Attributed],
) -> None:
    """Relate an artist to others.

    Friendship has no direction: the relation leads from the artist whose key is the lesser.
    """
    related = [("INFLUENCED_BY", artist, other) for other in influences]
    related += [("INFLUENCED_BY", other, artist) for other in influenced]
    related += [("TAUGHT_BY", artist, other) for other in teachers]
    related += [("TAUGHT_BY", other, artist) for other in pupils]
    related += [
        ("FRIEND_OF", artist, other) if artist.key < other.key else ("FRIEND_OF", other, artist) for other in friends
    ]
    for relation, one, other in related:
        if one.key != other.key:
            batch.entity_names.setdefault(("Artist", one.key), one.name)
            batch.entity_names.setdefault(("Artist", other.key), other.name)
            batch.entity_relations[relation, "Artist", one.key, "Artist", other.key] = None


def relate_artist_to(batch: BatchBuilder, artist: Attributed, relation: str, label: str, names: str) -> None:
    """Relate an artist to the entities in a list with commas."""
    for name in listed_names(names):
        batch.entity_names.setdefault(("Artist", artist.key), artist.name)
        batch.entity_relations[relation, "Artist", artist.key, label, name] = None
