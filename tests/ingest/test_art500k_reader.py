from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import Graph2ImageError
from ingest.readers.art500k import COLUMNS, TOP_FOLDERS, parse_authors, read_art500k
from ingest.records import EntityLink, EntityRelation, ItemRecord, RejectRecord

PATH = "Artists1/Drawing/A Wooded Landscape Near Beekhuizen##ZQEtaY4yNy0KdA.jpg"
ROW = {
    "author_name": "Jan Painter",
    "painting_name": "A Wooded  Landscape Near Beekhuizen##ZQEtaY4yNy0KdA",
    "Genre": "landscape, , forest",
    "Style": "Realism",
    "Art Movement": "Romanticism",
    "Field": "drawing",
    "Date": "ca. 1610-1614",
    "Influenced by": "Old Master,",
    "Influenced on": "Young Painter",
    "Teachers": "Old Master",
    "Pupils": "Young Painter",
    "Path": PATH,
}


def _line(**changes: str) -> str:
    row = {**ROW, **{name.replace("_", " ") if name in ("Art_Movement",) else name: v for name, v in changes.items()}}
    return "|".join(row.get(column, "") for column in COLUMNS)


def _read(tmp_path: Path, *lines: str) -> list[ItemRecord | RejectRecord]:
    (tmp_path / "label_list.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return list(read_art500k(tmp_path / "label_list.csv"))


def _item(tmp_path: Path, line: str) -> ItemRecord:
    (record,) = _read(tmp_path, line)
    assert isinstance(record, ItemRecord)
    return record


def test_whole_row(tmp_path: Path) -> None:
    record = _item(tmp_path, _line())
    assert record.item_id == "art500k:ZQEtaY4yNy0KdA"
    assert record.title == record.text == "A Wooded Landscape Near Beekhuizen"
    assert record.label == "Artwork"
    assert record.entities == (
        EntityLink("Artist", "Jan Painter", "CREATED_BY"),
        EntityLink("Genre", "landscape", "IN_GENRE"),
        EntityLink("Genre", "forest", "IN_GENRE"),
        EntityLink("Style", "Realism", "HAS_STYLE"),
        EntityLink("Movement", "Romanticism", "IN_MOVEMENT"),
    )
    assert set(record.entity_relations) == {
        EntityRelation("INFLUENCED_BY", "Artist", "Jan Painter", "Artist", "Old Master"),
        EntityRelation("INFLUENCED_BY", "Artist", "Young Painter", "Artist", "Jan Painter"),
        EntityRelation("TAUGHT_BY", "Artist", "Jan Painter", "Artist", "Old Master"),
        EntityRelation("TAUGHT_BY", "Artist", "Young Painter", "Artist", "Jan Painter"),
    }
    assert record.columns["date"] == "ca. 1610-1614"
    assert record.columns["attribution"] is None
    assert record.columns["location"] is None


def test_pipe_in_author(tmp_path: Path) -> None:
    name = "Rembrandt (Rembrandt van Rijn)"
    record = _item(tmp_path, _line(author_name=f"{name}|{name}"))
    assert [e.name for e in record.entities if e.label == "Artist"] == ["Rembrandt"]
    assert record.columns["author"] == f"{name}|{name}"
    assert record.title == "A Wooded Landscape Near Beekhuizen"


def test_swapped_field_and_path(tmp_path: Path) -> None:
    record = _item(tmp_path, _line(Field=PATH, Path="drawing"))
    assert record.image_refs[0] == PATH
    assert record.columns["field"] == "drawing"


def test_other_top_folders_are_tried_after_the_one_listed(tmp_path: Path) -> None:
    record = _item(tmp_path, _line())
    assert record.image_refs[0] == PATH
    assert {ref.split("/")[0] for ref in record.image_refs} == set(TOP_FOLDERS)
    assert len(record.image_refs) == 4
    assert _item(tmp_path, _line(Path="Elsewhere/x.jpg")).image_refs == ("Elsewhere/x.jpg",)


def test_id_without_suffix_depends_on_the_path_alone(tmp_path: Path) -> None:
    one = _item(tmp_path, _line(Path="Medium/Oil/x.jpg"))
    assert one.item_id.startswith("art500k:path-")
    assert one.item_id == _item(tmp_path, _line(Path="Medium/Oil/x.jpg", Genre="", author_name="B")).item_id
    assert one.item_id != _item(tmp_path, _line(Path="Medium/Oil/y.jpg")).item_id


def test_untitled_row_is_called_by_its_file(tmp_path: Path) -> None:
    assert _item(tmp_path, _line(painting_name="")).title == "A Wooded Landscape Near Beekhuizen"


@pytest.mark.parametrize(
    ("author", "artists", "attribution"),
    [
        ("", (), None),
        ("NoAuthor", (), None),
        ("after Rembrandt van Rijn", ("Rembrandt van Rijn",), "after"),
        ("Attributed to Anna B.", ("Anna B.",), "attributed to"),
        ("Circle of X (1600-1650)", ("X",), "circle of"),
        ("A|B", ("A", "B"), None),
        ("(Group 47)", ("(Group 47)",), None),
        ("Afterman", ("Afterman",), None),
    ],
)
def test_authors(author: str, artists: tuple[str, ...], attribution: str | None) -> None:
    assert parse_authors(author) == (artists, attribution)


def test_rejects(tmp_path: Path) -> None:
    good = _line()
    content = [good, "a|b|c", "", _line(Path="nothing here"), _line(painting_name="caf\xe9")]
    (tmp_path / "label_list.csv").write_bytes("\r\n".join(content).encode("latin-1"))
    records = list(read_art500k(tmp_path / "label_list.csv"))
    outcome = [(r.row, r.reason.value if isinstance(r, RejectRecord) else "item") for r in records]
    assert outcome == [(1, "item"), (2, "malformed_row"), (4, "image_missing"), (5, "bad_encoding")]


def test_names_from_head_info(tmp_path: Path) -> None:
    names = list(COLUMNS)
    names[3], names[4], names[-1] = names[4], names[3], "Unknown"
    (tmp_path / "head_info.csv").write_text(str(names))
    record = _item(tmp_path, _line())
    assert [e.name for e in record.entities if e.label == "Genre"] == ["Realism"]
    assert record.image_refs[0] == PATH


@pytest.mark.parametrize("content", ["", "hello", "__import__('os').getcwd()", "[1, 2]", "['Path']", "5", "[" * 9999])
def test_bad_head_info(tmp_path: Path, content: str) -> None:
    (tmp_path / "head_info.csv").write_text(content)
    with pytest.raises(Graph2ImageError, match="head_info"):
        _read(tmp_path, _line())


def test_absent_label_file(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="No such file"):
        next(read_art500k(tmp_path / "label_list.csv"))
