from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import Graph2ImageError
from ingest.readers.tablespec import Template, load_spec
from ingest.records import canonical_name

GOOD = """
source = "shop"
[table]
file = "things.csv"
[image]
folder = "images"
path = "{id}.jpg"
[item]
label = "Thing"
id = "{id}"
title = "{title}"
[item.columns]
year = "int"
born = { type = "int", column = "year of birth" }
[[entity]]
label = "Color"
relation = "HAS_COLOR"
value = "{color}"
pattern = '^\\w+'
[split]
test = 0.2
"""


def _load(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    load_spec(path)


def test_good_spec(tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(GOOD)
    spec = load_spec(path)
    assert (spec.split.val, spec.split.test) == (0.1, 0.2)
    assert spec.columns_used() == {
        "id": "item.id",
        "title": "item.title",
        "year": "item.columns.year",
        "year of birth": "item.columns.born",
        "color": "entity 1 (Color).value",
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('label = "Thing"\n', "", "item.label: is missing"),
        ('label = "Thing"', 'label = "My Thing"', "item.label: String should match"),
        ('label = "Thing"', 'label = "Thing"\ncolour = "x"', "item.colour: unknown key"),
        ('"{id}"', '"id"', "item.id: 'id' names no column; did you mean \"{id}\"?"),
        ('"{id}"', '"{id"', "item.id: '{id' has a brace without a column name"),
        ('"{id}"', "7", "item.id: expected a template"),
        ('year = "int"', 'year = "integer"', "item.columns.year.type: Input should be 'string', 'int'"),
        ('year = "int"', 'Split = "int"', "the name 'Split' is taken"),
        ('year = "int"', 'Born = "int"', "the name 'born' is taken"),
        ('folder = "images"', "", 'image: name either a "folder" or an "archive"'),
        ('folder = "images"', 'folder = "a"\narchive = "b"', 'image: name either a "folder" or an "archive"'),
        ("test = 0.2", "test = 1.5", "split.test: Input should be less than 1"),
        ("test = 0.2", "test = 0.9", "split: val and test together leave nothing"),
        ("test = 0.2", 'test = 0.2\ncolumn = "part"', 'split: either a "column" or fractions'),
        ("^\\w+", "(", "entity 1.pattern: '(' is no regular expression"),
        ('label = "Color"', 'label = "Thing"', "label 'Thing' is given to items and to entities"),
        ('label = "Color"', 'label = "THING"', "'Thing' cannot be told from the label 'THING'"),
        ('label = "Color"', 'label = "model"', "'model' cannot be a label: graph2image uses that name itself"),
        ('label = "Thing"', 'label = "OptOut"', "'OptOut' cannot be a label: graph2image uses that name itself"),
        ('relation = "HAS_COLOR"', 'relation = "trained_on"', "graph2image uses that name itself"),
        ('relation = "HAS_COLOR"', 'relation = "color"', "relation type 'color' cannot be told from the label 'Color'"),
        ('source = "shop"', 'source = "../shop"', "source: String should match"),
        ("[item]", "[item", "is not valid TOML"),
    ],
)
def test_bad_spec_names_the_key(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(Graph2ImageError, match=re.escape(message)) as caught:
        _load(tmp_path, GOOD.replace(old, new))
    assert "spec.toml" in caught.value.message


def test_absent_and_undecodable_spec(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="No such file"):
        load_spec(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Graph2ImageError, match="not UTF-8"):
        load_spec(tmp_path / "binary.toml")


def test_template_values() -> None:
    row = {"color": "Navy  Blue", "kind": "Shirt", "none": "", "tags": ["a", " ", None, "b"], "price": 3}
    assert Template.parse("{color} {kind}").render(row) == "Navy Blue Shirt"
    assert list(Template.parse("{color} {kind}").values(row)) == ["Navy Blue Shirt"]
    assert list(Template.parse("{color} {none}").values(row)) == []
    assert list(Template.parse("{tags}").values(row)) == ["a", "b"]
    assert list(Template.parse("<{tags}>").values(row)) == ["<a>", "<b>"]
    assert list(Template.parse("{color}").values(row, " ")) == ["Navy", "Blue"]
    assert Template.parse("{{{price}}}").render(row) == "{3}"


@given(st.text(), st.text(min_size=1).filter(lambda name: not set(name) & set("{}")), st.text())
def test_a_template_can_only_name_columns(before: str, column: str, value: str) -> None:
    """Whatever a column is called, and whatever its value is, it is looked up and put in, never interpreted."""
    escaped = before.replace("{", "{{").replace("}", "}}")
    template = Template.parse(f"{escaped}{{{column}}}")
    assert template.columns == (column,)
    assert template.render({column: value}) == " ".join(f"{before}{value}".split())


@given(st.text())
def test_canonical_name_is_stable(name: str) -> None:
    assert canonical_name(f"  {name}\t") == canonical_name(name)
    assert canonical_name(name.upper().lower()) == canonical_name(name.upper())
