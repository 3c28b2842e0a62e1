"""PainterPalette.csv: artists and what is known of them."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest
from flat import entity_names, entity_relations, items, rejects
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batches import Batch
from ingest.errors import Graph2ImageError
from ingest.readers.painterpalette import read_painterpalette
from ingest.records import RejectReason

COLUMNS = (
    "artist", "Nationality", "movement", "PaintingSchool", "Influencedby", "Influencedon", "Pupils", "Teachers",
    "FriendsandCoworkers",
)  # fmt: skip


def _read(tmp_path: Path, *rows: dict[str, str]) -> list[Batch]:
    with (tmp_path / "PainterPalette.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return list(read_painterpalette(tmp_path / "PainterPalette.csv"))


def test_artists_and_their_relations(tmp_path: Path) -> None:
    batches = _read(
        tmp_path,
        {
            "artist": "Vincent  van Gogh",
            "Nationality": "Dutch,French",
            "movement": "Post-Impressionism",
            "PaintingSchool": "École de Paris,St Ives School",
            "Influencedby": "Anna Bé,Museo del Prado, Madrid, Spain,winter,",
            "Influencedon": "Carl D.,",
            "Teachers": "Anna Be,Artists2/X/Water Lilies.jpg,",
            "Pupils": "Carl D.,van Gogh",
            "FriendsandCoworkers": "Carl D.,Anna Bé",
        },
        {"artist": "Anna Bé", "FriendsandCoworkers": "Vincent van Gogh"},
        {"artist": "D., Carl"},
    )
    assert not items(batches)
    assert not rejects(batches)
    gogh, anna, carl = ("Artist", "vincent van gogh"), ("Artist", "anna be"), ("Artist", "carl d")
    assert entity_relations(batches) == {
        ("IN_MOVEMENT", *gogh, "Movement", "Post-Impressionism"),
        ("HAS_NATIONALITY", *gogh, "Nationality", "Dutch"),
        ("HAS_NATIONALITY", *gogh, "Nationality", "French"),
        ("OF_SCHOOL", *gogh, "School", "École de Paris"),
        ("OF_SCHOOL", *gogh, "School", "St Ives School"),
        ("INFLUENCED_BY", *gogh, *anna),
        ("INFLUENCED_BY", *carl, *gogh),
        ("TAUGHT_BY", *gogh, *anna),
        ("TAUGHT_BY", *carl, *gogh),
        ("FRIEND_OF", *carl, *gogh),
        ("FRIEND_OF", *anna, *gogh),
    }
    assert entity_names(batches) == {gogh: "Vincent van Gogh", anna: "Anna Bé", carl: "Carl D."}


def test_rejects(tmp_path: Path) -> None:
    path = tmp_path / "PainterPalette.csv"
    rows = [
        ",".join(COLUMNS),
        "Anna" + "," * 8,
        "unknown" + "," * 8,
        "",
        "a,b",
        '"An\nna"' + "," * 8,
        "Zo\xeb" + "," * 8,
    ]
    path.write_bytes("\r\n".join(rows).encode("latin-1"))
    batches = list(read_painterpalette(path))
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [
        (3, RejectReason.MISSING_ID),
        (5, RejectReason.MALFORMED_ROW),
        (8, RejectReason.BAD_ENCODING),
    ]
    assert set(entity_names(batches)) == {("Artist", "anna"), ("Artist", "an na")}


@pytest.mark.parametrize(("content", "message"), [("", "is empty"), ("artist,movement\n", "lacks the columns")])
def test_another_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(Graph2ImageError, match=message):
        list(read_painterpalette(tmp_path / "x.csv"))


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="No such file"):
        list(read_painterpalette(tmp_path / "x.csv"))


@pytest.mark.skipif(
    "GRAPH2IMAGE_SHARED" not in os.environ, reason="GRAPH2IMAGE_SHARED does not name the folder of the data"
)
def test_the_real_file() -> None:
    batches = list(read_painterpalette(Path(os.environ["GRAPH2IMAGE_SHARED"], "data/art/PainterPalette.csv")))
    assert not rejects(batches)
    assert len(entity_names(batches)) == 10_292
    relations = entity_relations(batches)
    assert Counter(relation[0] for relation in relations) == {
        "IN_MOVEMENT": 3201,
        "HAS_NATIONALITY": 2857,
        "OF_SCHOOL": 1211,
        "INFLUENCED_BY": 808,
        "FRIEND_OF": 303,
        "TAUGHT_BY": 221,
    }
    assert ("INFLUENCED_BY", "Artist", "egon schiele", "Artist", "gustav klimt") in relations


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(f"{','.join(COLUMNS)}\n".encode() + content)
    for batch in read_painterpalette(path):
        assert not len(batch.items)
