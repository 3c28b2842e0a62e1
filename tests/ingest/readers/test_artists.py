"""Who an author value means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.readers.artists import (
    MASTERS,
    Attributed,
    artist_key,
    listed_artists,
    parse_artists,
    usual_names,
)
from ingest.records import canonical_name

CASES: dict[str, list[tuple[str, str | None]]] = {
    "Anna Painter": [("Anna Painter", None)],
    "  Anna \t Painter ": [("Anna Painter", None)],
    "Rembrandt (Rembrandt van Rijn)|Rembrandt (Rembrandt van Rijn)": [("Rembrandt", None)],
    "Sanzio (Raphael)": [("Raphael", None)],
    "Anna B.|Carl D.": [("Anna B.", None), ("Carl D.", None)],
    "Anna B.; Carl D.": [("Anna B.", None), ("Carl D.", None)],
    "Anna B.|after Anna B.": [("Anna B.", None)],
    "X Y (1600-1650)": [("X Y", None)],
    "X Y (c. 1600 - after 1650)": [("X Y", None)],
    "X Y, 1600–1650": [("X Y", None)],
    "X Y, b. 1930": [("X Y", None)],
    "X Y, born 1930-": [("X Y", None)],
    "Jan van de Velde (II)": [("Jan van de Velde II", None)],
    "(Group Ten)": [("Group Ten", None)],
    "Afterman": [("Afterman", None)],
    "Schooling Ofer": [("Schooling Ofer", None)],
    # attributions before the name
    "after Rembrandt van Rijn": [("Rembrandt", "after")],
    "After: Anna B.": [("Anna B.", "after")],
    "Attributed to Anna B.": [("Anna B.", "attributed to")],
    "attr. to Anna B.": [("Anna B.", "attributed to")],
    "Circle of X Y (1600-1650)": [("X Y", "circle of")],
    "followers of X Y": [("X Y", "follower of")],
    "School of X Y": [("X Y", "school of")],
    "Studio of X Y": [("X Y", "studio of")],
    "Workshop of Peter Paul Rubens": [("Peter Paul Rubens", "workshop of")],
    "in the manner of X Y": [("X Y", "manner of")],
    "style of X Y": [("X Y", "style of")],
    "copy after X Y": [("X Y", "copy after")],
    "Imitator of X Y": [("X Y", "imitator of")],
    "possibly X Y": [("X Y", "possibly")],
    "Probably by X Y": [("X Y", "probably")],
    "by X Y": [("X Y", None)],
    "possibly after X Y": [("X Y", "possibly")],
    # and behind it
    "Rembrandt, follower of": [("Rembrandt", "follower of")],
    "Rembrandt (attributed)": [("Rembrandt", "attributed to")],
    "Rembrandt (attributed to)": [("Rembrandt", "attributed to")],
    "Rembrandt (after)": [("Rembrandt", "after")],
    "Rembrandt (?)": [("Rembrandt", "possibly")],
    "Rembrandt?": [("Rembrandt", "possibly")],
    "Rubens & workshop": [("Peter Paul Rubens", "and workshop")],
    "Rubens and his studio": [("Peter Paul Rubens", "and studio")],
    "Rubens, and assistants": [("Peter Paul Rubens", "and assistants")],
    "RUBENS, Peter Paul, and workshop": [("Peter Paul Rubens", "and workshop")],
    "Gilbert & George": [("Gilbert & George", None)],
    # Last, First
    "Cézanne, Paul": [("Paul Cézanne", None)],
    "GOGH, Vincent van": [("Vincent van Gogh", None)],
    "VAN GOGH, VINCENT": [("Vincent van Gogh", None)],
    "van der Weyden, Rogier": [("Rogier van der Weyden", None)],
    "TOULOUSE-LAUTREC, Henri de": [("Henri de Toulouse-Lautrec", None)],
    "AACHEN, Hans von": [("Hans von Aachen", None)],
    "BRUEGEL, Pieter the Elder": [("Pieter Bruegel the Elder", None)],
    "Jan Brueghel, the Elder": [("Jan Brueghel the Elder", None)],
    "Joseph Richardson, Sr.": [("Joseph Richardson Sr.", None)],
    "Max Ernst, Hans Arp": [("Max Ernst, Hans Arp", None)],
    "Painter, Paul, Mary": [("Painter, Paul, Mary", None)],
    "Painter, Inc.": [("Painter, Inc.", None)],
    "Painter, Floor 3": [("Painter, Floor 3", None)],
    "REMBRANDT Harmenszoon van Rijn": [("Rembrandt", None)],
    "J. M. W. Turner": [("J.M.W. Turner", None)],
    # nobody
    "": [],
    "|": [],
    "NoAuthor": [],
    "unknown": [],
    "Anonymous": [],
    "Unknown Japanese artist": [],
    "UNKNOWN MASTER, French": [],
    "Artist, Unknown": [],
    "after unknown": [],
    "N/A": [],
    "()": [],
    "?": [],
    "-": [],
    "X" * 2000: [],
}


@pytest.mark.parametrize(("author", "artists"), CASES.items())
def test_authors(author: str, artists: list[tuple[str, str | None]]) -> None:
    assert [(artist.name, artist.role) for artist in parse_artists(author)] == artists


@pytest.mark.parametrize(
    "names",
    [
        ("Paul Cézanne", "PAUL CEZANNE", "paul ce\u0301zanne", "Cezanne, Paul", "Cézanne", "paul-cézanne"),
        ("J.M.W. Turner", "J. M. W. Turner", "JMW Turner", "Joseph Mallord William Turner"),
        ("Leonardo", "LEONARDO da Vinci", "da Vinci, Leonardo"),
        ("Georgia O'Keeffe", "Georgia O’Keeffe", "O'KEEFFE, Georgia"),
        ("Leyla Sarıkaya", "Leyla Sarikaya"),
        ("Dagny Eklöf", "Dagny Eklof"),
        ("Asger Jørn", "ASGER JORN"),
        ("山田 太郎", "山田　太郎"),
    ],
)
def test_spellings_of_one_artist(names: tuple[str, ...]) -> None:
    assert len({artist.key for name in names for artist in parse_artists(name)}) == 1


def test_masters_are_told_apart() -> None:
    spellings = [{artist_key(name) for name in (master, *others)} for master, others in MASTERS.items()]
    assert len(set().union(*spellings)) == sum(map(len, spellings))
    for master, others in MASTERS.items():
        for name in (master, *others):
            assert parse_artists(name) == (Attributed(artist_key(master), master, None),)


def test_lists() -> None:
    names = "Claude Monet, Robert De Niro, Sr.,,Manet,manet,81 x 160 cm,Artists2/X/Y.jpg,Unknown,"
    assert [artist.name for artist in listed_artists(names)] == ["Claude Monet", "Robert De Niro Sr.", "Édouard Manet"]
    assert listed_artists("Jr.,") == (Attributed("jr", "Jr.", None),)


def test_the_usual_name_is_the_most_frequent_and_then_the_least() -> None:
    def named(name: str) -> Attributed:
        return parse_artists(name)[0]

    counted = [(named("Anna Bé"), 1), (named("Anna Be"), 2), (named("Anna Bé"), 1), (named("Carl"), 1)]
    assert usual_names(counted) == {"anna be": "Anna Be", "carl": "Carl"}


PIECES = st.sampled_from([
    "after ", "attributed to ", ", follower of", "(", ")", "?", "|", ";", ",", " ", "van", "GOGH", "é", "1606", "-",
    "Jr.", " and workshop", "by ", "the Elder", "Rembrandt", ".", "unknown",
])  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=10).map("".join)))
def test_any_value_names_artists_or_nobody(author: str) -> None:
    artists = (*parse_artists(author), *listed_artists(author))
    for artist in artists:
        assert artist.key
        assert artist.name
        # What the pipeline makes of a key is unique to it.
        assert canonical_name(artist.key) == artist.key.replace(" ", "-")
    assert len({artist.key for artist in parse_artists(author)}) == len(parse_artists(author))


@given(st.text(max_size=30))
def test_a_key_is_its_own_key(name: str) -> None:
    assert artist_key(artist_key(name)) == artist_key(name)
