"""ART500K's label files as they really are."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from flat import entity_names, entity_relations, items, rejects
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.batches import Batch
from ingest.errors import Graph2ImageError
from ingest.readers.art500k import COLUMNS, ITEM_COLUMNS, ROWS_AT_A_TIME, TOP_FOLDERS, read_art500k
from ingest.records import RejectReason
from ingest.sampledata import paint_art500k

PATH = "Artists1/Drawing/A Wooded Landscape Near Beekhuizen##ZQEta-4yNy0K_A.jpg"
ID = "art500k:ZQEta-4yNy0K_A"
ROW = {
    "author_name": "Jan Painter",
    "painting_name": "A Wooded  Landscape Near Beekhuizen##ZQEta-4yNy0K_A",
    "Genre": "landscape, , forest",
    "Style": "Realism",
    "Nationality": "Dutch,Flemish",
    "Art Movement": "Romanticism",
    "Painting School": "Dutch School",
    "Field": "drawing",
    "Date": "ca. 1610-1614",
    "Influenced by": "Old Master,",
    "Media": "chalk, paper",
    "Influenced on": "Young Painter,Jan Painter",
    "Tag": "trees",
    "Pupils": "Young Painter,The Cycle of 5 Paintings",
    "Series": "Views",
    "Teachers": "Monet",
    "Friends and Co-workers": "A Friend,after Jan Painter,Artists2/X/Water Lilies.jpg",
    "Art institution": "Louvre, Paris, France,Tate, London, UK,",
    "Period": "Early period",
    "Theme": "Home",
    "Path": PATH,
}


def _line(**changes: str) -> str:
    row = {**ROW, **changes}
    return "|".join(row.get(column, "") for column in COLUMNS)


def _read(tmp_path: Path, *lines: str) -> list[Batch]:
    (tmp_path / "label_list.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return list(read_art500k(tmp_path / "label_list.csv"))


def _item(tmp_path: Path, line: str) -> dict[str, Any]:
    batches = _read(tmp_path, line)
    assert not rejects(batches)
    (item,) = items(batches).values()
    return item


def _artists(item: dict[str, Any]) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = item["edges"].get(("CREATED_BY", "Artist"), [])
    return found


def test_whole_row(tmp_path: Path) -> None:
    batches = _read(tmp_path, _line())
    item = items(batches)[ID]
    assert item["title"] == item["text"] == "A Wooded Landscape Near Beekhuizen"
    assert item["label"] == "Artwork"
    assert item["edges"] == {
        ("CREATED_BY", "Artist"): [("jan painter", None)],
        ("IN_GENRE", "Genre"): ["landscape", "forest"],
        ("HAS_STYLE", "Style"): ["Realism"],
        ("IN_MOVEMENT", "Movement"): ["Romanticism"],
        ("OF_SCHOOL", "School"): ["Dutch School"],
        ("IN_MEDIUM", "Medium"): ["chalk", "paper"],
        ("HAS_TAG", "Tag"): ["trees"],
        ("IN_SERIES", "Series"): ["Views"],
        ("OF_PERIOD", "Period"): ["Early period"],
        ("ON_THEME", "Theme"): ["Home"],
        ("HELD_BY", "Institution"): ["Louvre, Paris, France", "Tate, London, UK"],
    }
    assert {name: item[name] for name in ITEM_COLUMNS.names} == {
        "author": "Jan Painter",
        "attribution": None,
        "field": "drawing",
        "date": "ca. 1610-1614",
        "year_from": 1610,
        "year_to": 1614,
        "media": "chalk, paper",
        "location": None,
        "original_title": None,
        "dimensions": None,
    }
    artist = ("Artist", "jan painter")
    assert entity_relations(batches) == {
        ("INFLUENCED_BY", *artist, "Artist", "old master"),
        ("INFLUENCED_BY", "Artist", "young painter", *artist),
        ("TAUGHT_BY", *artist, "Artist", "claude monet"),
        ("TAUGHT_BY", "Artist", "young painter", *artist),
        ("FRIEND_OF", "Artist", "a friend", *artist),
        ("HAS_NATIONALITY", *artist, "Nationality", "Dutch"),
        ("HAS_NATIONALITY", *artist, "Nationality", "Flemish"),
    }
    assert entity_names(batches) == {
        ("Artist", "jan painter"): "Jan Painter",
        ("Artist", "old master"): "Old Master",
        ("Artist", "young painter"): "Young Painter",
        ("Artist", "claude monet"): "Claude Monet",
        ("Artist", "a friend"): "A Friend",
    }


def test_an_empty_row_has_no_entities(tmp_path: Path) -> None:
    item = _item(tmp_path, "|" * (len(COLUMNS) - 1) + PATH)
    assert not item["edges"]
    assert all(item[name] is None for name in ITEM_COLUMNS.names)


def test_pipe_in_author(tmp_path: Path) -> None:
    name = "Rembrandt (Rembrandt van Rijn)"
    item = _item(tmp_path, _line(author_name=f"{name}|{name}"))
    assert _artists(item) == [("rembrandt", None)]
    assert item["author"] == f"{name}|{name}"
    assert item["title"] == "A Wooded Landscape Near Beekhuizen"


def test_names_are_what_a_browser_shows(tmp_path: Path) -> None:
    line = _line(
        author_name="<a href='/x'>Andr&eacute; &amp; Marie Dupont</a>",
        Genre="<b>still life</b>, sea &amp; sky",
        Media="<br>",
    )
    item = _item(tmp_path, line)
    assert item["edges"]["IN_GENRE", "Genre"] == ["still life", "sea & sky"]
    assert ("IN_MEDIUM", "Medium") not in item["edges"]
    assert _artists(item) == [("andre marie dupont", None)]


@pytest.mark.parametrize(
    ("author", "artists", "attribution"),
    [
        ("NoAuthor", [], None),
        ("after Rembrandt van Rijn", [("rembrandt", "after")], "after"),
        ("Anna B.|Circle of C. Démon", [("anna b", None), ("c demon", "circle of")], "circle of"),
        ("Rubens & workshop", [("peter paul rubens", "and workshop")], "and workshop"),
    ],
)
def test_attributions(
    tmp_path: Path, author: str, artists: list[tuple[str, str | None]], attribution: str | None
) -> None:
    batches = _read(tmp_path, _line(author_name=author))
    item = items(batches)[ID]
    assert _artists(item) == artists
    assert (item["author"], item["attribution"]) == (author, attribution)
    # Whose teachers and friends the row names is not known.
    assert not entity_relations(batches)


def test_artists_are_called_as_they_are_most_often(tmp_path: Path) -> None:
    authors = ["Dagny Eklof", "Dagny Eklöf", "EKLÖF, Dagny", "after Dagny Eklof"]
    batches = _read(tmp_path, *(_line(author_name=a, Path=f"Medium/Oil/x##{i}.jpg") for i, a in enumerate(authors)))
    assert {key for item in items(batches).values() for key, _ in _artists(item)} == {"dagny eklof"}
    assert entity_names(batches)["Artist", "dagny eklof"] == "Dagny Eklof"


def test_swapped_field_and_path(tmp_path: Path) -> None:
    item = _item(tmp_path, _line(Field=PATH, Path="drawing"))
    assert item["image_refs"][0] == PATH
    assert item["field"] == "drawing"


def test_of_a_row_with_too_few_fields_only_the_ends_are_taken(tmp_path: Path) -> None:
    batches = _read(tmp_path, f"Jan Painter|A Title##ZQ|landscape|1610|Old Master|{PATH}")
    item = items(batches)[ID]
    assert item["title"] == "A Title"
    assert item["edges"] == {("CREATED_BY", "Artist"): [("jan painter", None)]}
    assert item["date"] is None
    assert not entity_relations(batches)


def test_other_top_folders_are_tried_after_the_one_listed(tmp_path: Path) -> None:
    refs = _item(tmp_path, _line())["image_refs"]
    assert refs[0] == PATH
    assert {ref.split("/")[0] for ref in refs} == set(TOP_FOLDERS)
    assert len(refs) == 4
    assert _item(tmp_path, _line(Path="Elsewhere/x.jpg"))["image_refs"] == ["Elsewhere/x.jpg"]


def test_case_of_the_top_folder(tmp_path: Path) -> None:
    refs = _item(tmp_path, _line(Path="art movement/Baroque/x.JPG"))["image_refs"]
    assert refs[:2] == ["art movement/Baroque/x.JPG", "Art Movement/Baroque/x.JPG"]
    assert len(refs) == 5


def test_id_without_suffix_depends_on_the_path_alone(tmp_path: Path) -> None:
    one = _item(tmp_path, _line(Path="Medium/Oil/x.jpg"))["item_id"]
    assert one.startswith("art500k:path-")
    assert one == _item(tmp_path, _line(Path="Medium/Oil/x.jpg", Genre="", author_name="B"))["item_id"]
    assert one != _item(tmp_path, _line(Path="Medium/Oil/y.jpg"))["item_id"]
    assert _item(tmp_path, _line(Path="Medium/Oil/x## y.jpg"))["item_id"].startswith("art500k:path-")


def test_titles(tmp_path: Path) -> None:
    assert _item(tmp_path, _line(painting_name=""))["title"] == "A Wooded Landscape Near Beekhuizen"
    assert _item(tmp_path, _line(painting_name="", Path="Medium/Oil/Sea  piece.jpg"))["title"] == "Sea piece"
    assert _item(tmp_path, _line(painting_name="No ## id"))["title"] == "No ## id"
    assert _item(tmp_path, _line(painting_name="Another##id"))["title"] == "Another"


def test_blanks_within_a_path_are_part_of_it(tmp_path: Path) -> None:
    assert _item(tmp_path, _line(Path=" Medium/Oil/a  b.jpg ") + "\r")["image_refs"][0] == "Medium/Oil/a  b.jpg"


def test_rejects(tmp_path: Path) -> None:
    good, bad = _line(), [_line(Path="nothing here"), _line(painting_name="caf\xe9"), _line(Genre="a\0b")]
    content = [good, "a|b|c", "", *bad, "", _line(Path="Medium/Oil/y##2.jpg")]
    (tmp_path / "label_list.csv").write_bytes("\r\n".join(content).encode("latin-1"))
    batches = list(read_art500k(tmp_path / "label_list.csv"))
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [
        (2, RejectReason.MALFORMED_ROW),
        (4, RejectReason.IMAGE_MISSING),
        (5, RejectReason.BAD_ENCODING),
        (6, RejectReason.MALFORMED_ROW),
    ]
    assert [item["row"] for item in items(batches).values()] == [1, 8]
    assert batches[0].raw_rows[0] == good.encode("latin-1") + b"\r"


def test_names_from_head_info(tmp_path: Path) -> None:
    names = list(COLUMNS)
    names[3], names[4], names[-1] = names[4], names[3], "Unknown"
    (tmp_path / "head_info.csv").write_text(str(names))
    item = _item(tmp_path, _line())
    assert item["edges"]["IN_GENRE", "Genre"] == ["Realism"]
    assert item["image_refs"][0] == PATH


@pytest.mark.parametrize(
    "content",
    ["", "hello", "__import__('os').getcwd()", "[1, 2]", "['Path']", "5", "[" * 9999, str(list(reversed(COLUMNS)))],
)
def test_bad_head_info(tmp_path: Path, content: str) -> None:
    (tmp_path / "head_info.csv").write_text(content)
    with pytest.raises(Graph2ImageError, match="head_info"):
        _read(tmp_path, _line())


def test_absent_label_file(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="No such file"):
        next(read_art500k(tmp_path / "label_list.csv"))


def test_sample_gallery(tmp_path: Path) -> None:
    """Rows beyond one round through the columns, gzipped, by two processes: the same as by one."""
    report = paint_art500k(tmp_path, items=2 * ROWS_AT_A_TIME + 100, images=False)
    batches = list(read_art500k(tmp_path / "label_list.csv"))
    assert not rejects(batches)
    rows = [row for batch in batches for row in batch.items.to_pylist()]
    assert len(rows) == report.rows
    assert len({row["item_id"] for row in rows}) == report.items
    assert sum(row["author"] in (None, "NoAuthor") for row in rows) >= report.defects["unknown_author"]
    roles = Counter(role for batch in batches for edge in batch.edges if edge.roles for role in edge.roles.to_pylist())
    assert roles.total() - roles[None] >= report.defects["attribution"]
    zipped = tmp_path / "label_list.csv.gz"
    zipped.write_bytes(gzip.compress((tmp_path / "label_list.csv").read_bytes()))
    parallel = list(read_art500k(zipped, workers=2))
    assert [batch.items for batch in parallel] == [batch.items for batch in batches]
    assert [batch.edges for batch in parallel] == [batch.edges for batch in batches]
    assert [batch.entity_relations for batch in parallel] == [batch.entity_relations for batch in batches]


TOY_HEADER = "ID\tFILE \tAUTHOR\tBORN-DIED\tTITLE\tDATE\tTECHNIQUE\tLOCATION\tFORM\tTYPE\tSCHOOL\tTIMELINE\tURL"
TOY_ROW = (
    "17\taachen.jpg\tCÉZANNE, Paul\t(b. 1839, Aix, d. 1906, Aix)\tThe  Card Players\tc. 1890\tOil on canvas, 47 x 56 cm"
    "\tMusée d'Orsay, Paris\tpainting\tgenre\tFrench\t1851-1900\thttp://example.org/x.html"
)


def _toy(tmp_path: Path, *rows: str, encoding: str = "latin-1") -> list[Batch]:
    path = tmp_path / "toy_dataset_label.csv"
    path.write_bytes("\r\n".join((TOY_HEADER, *rows)).encode(encoding))
    return list(read_art500k(path))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_toy_set(tmp_path: Path, encoding: str) -> None:
    batches = _toy(tmp_path, TOY_ROW, encoding=encoding)
    assert not rejects(batches)
    item = items(batches)["art500k:17"]
    assert (item["row"], item["title"], item["text"]) == (2, "The Card Players", "The Card Players")
    assert item["image_refs"] == ["17.jpg"]
    assert (item["author"], item["attribution"]) == ("CÉZANNE, Paul", None)
    assert (item["field"], item["date"], item["year_from"], item["year_to"]) == ("painting", "c. 1890", 1890, 1890)
    assert item["edges"] == {
        ("CREATED_BY", "Artist"): [("paul cezanne", None)],
        ("IN_GENRE", "Genre"): ["genre"],
        ("OF_SCHOOL", "School"): ["French"],
        ("IN_MEDIUM", "Medium"): ["Oil on canvas"],
        ("HELD_BY", "Institution"): ["Musée d'Orsay, Paris"],
    }
    assert entity_names(batches) == {("Artist", "paul cezanne"): "Paul Cézanne"}


def test_toy_date_from_the_timeline(tmp_path: Path) -> None:
    item = items(_toy(tmp_path, TOY_ROW.replace("c. 1890", "-")))["art500k:17"]
    assert (item["date"], item["year_from"], item["year_to"]) == ("-", 1851, 1900)


def test_toy_rejects(tmp_path: Path) -> None:
    rows = [TOY_ROW.replace("17\t", " \t"), "", "18\ta", TOY_ROW, TOY_ROW.replace("genre", "gen\0re")]
    batches = _toy(tmp_path, *rows)
    assert [(reject.row, reject.reason) for reject in rejects(batches)] == [
        (2, RejectReason.MISSING_ID),
        (4, RejectReason.MALFORMED_ROW),
        (6, RejectReason.MALFORMED_ROW),
    ]
    assert [item["row"] for item in items(batches).values()] == [5]


FIELDS = st.one_of(
    st.text(max_size=12), st.sampled_from([PATH, "Medium/x.png", "/.jpg", "a##b", "after A|B", "1610", ","])
)


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(st.binary(max_size=80), st.lists(FIELDS, max_size=30).map(lambda f: "|".join(f).encode())),
        min_size=1,
        max_size=8,
    ),
    st.booleans(),
)
def test_any_lines_are_items_or_rejects(tmp_path: Path, lines: list[bytes], toy: bool) -> None:
    path = tmp_path / "any.csv"
    content = b"\n".join(lines)
    content = TOY_HEADER.encode() + b"\n" + content.replace(b"|", b"\t") if toy else b"a|b|A/a.jpg\n" + content
    path.write_bytes(content)
    batches = list(read_art500k(path))
    rows = sum(bool(line.strip()) for line in content.split(b"\n")) - toy
    assert sum(len(batch.items) for batch in batches) + len(rejects(batches)) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("['author_name', 'painting_name', 'image_url']\n", "holds the column names of ART500K's label list"),
        ("artist,Nationality,Influencedby,PaintingSchool\nMonet,French,,\n", "holds PainterPalette's artists"),
        ('{"asin": "B01", "title": "A mug"}\n', "holds Amazon product metadata"),
        ("id,title\n1,Hat\n\x1b[31m\n", "does not hold ART500K's label list: it starts with 'id,title'"),
        ("\x1b[31mred|x\n", "it starts with '\ufffd[31mred|x'"),
        ("\n \n", "no row that can be read"),
    ],
)
def test_files_that_are_no_label_list(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "any.csv"
    path.write_text(content)
    with pytest.raises(Graph2ImageError) as caught:
        list(read_art500k(path))
    assert message in caught.value.message


@pytest.mark.parametrize("toy", [True, False])
def test_bad_lines_may_stand_before_all_others(tmp_path: Path, toy: bool) -> None:
    good = TOY_HEADER.encode() + b"\n" + b"\t".join([b"7"] * len(TOY_HEADER.split("\t"))) if toy else b"a|b|A/a.jpg"
    path = tmp_path / "any.csv"
    path.write_bytes(b"bad\n" * 300 + good)
    batches = list(read_art500k(path))
    assert sum(len(batch.items) for batch in batches) == 1
    assert [reject.row for reject in rejects(batches)] == list(range(1, 301))


def test_titles_are_what_a_browser_shows(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text("a|The <i>Pond</i> &amp;amp; the Bridge##x1|A/b##x1.jpg\n")
    (batch,) = read_art500k(path)
    assert batch.items["title"].to_pylist() == ["The Pond & the Bridge"]
