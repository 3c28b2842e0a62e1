"""InstructG2I's layout: read with its quirks, written so that it can be read back and trained on."""

from __future__ import annotations

import io
import json
import shutil
import string
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from flat import items, rejects
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ingest.datasets.root import DataRoot
from ingest.datasets.schemas import IMAGE_SCHEMA, ITEM_SCHEMA, NEIGHBOR_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.images.decoding import FORMATS
from ingest.images.store import content_hash, image_path
from ingest.readers.instructg2i import read_instructg2i
from ingest.records import RejectReason
from ingest.writers.instructg2i import MARKER, ExportReport, export_instructg2i, file_stem

PNG = b"\x89PNG"


def lay_out(root: Path, split: str, rows: list[Any], pictures: tuple[str, ...] = ()) -> Path:
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in lines))
    for picture in pictures:
        (folder / picture).write_bytes(PNG)
    return root


def row(center: Any, text: Any = "A text", neighbors: Any = ()) -> dict[str, Any]:
    return {"center": center, "text": text, "neighbors": list(neighbors) if isinstance(neighbors, tuple) else neighbors}


# -- reading ---------------------------------------------------------------------------------------------------------


def test_rows_become_items_with_ranked_neighbors(tmp_path: Path) -> None:
    lay_out(tmp_path, "train", [row("1.jpg", " The Way ", ("2.jpg", "3.png", "4.jpg")), row("2.jpg")], ("4.jpg",))
    lay_out(tmp_path, "test", [row("3.png", "", ("2.jpg", "5.jpg"))], ("5.jpg",))
    found = items(read_instructg2i(tmp_path))
    assert list(found) == [f"instructg2i:{number}" for number in (1, 2, 3, 4, 5)]
    first = found["instructg2i:1"]
    assert (first["label"], first["title"], first["text"], first["row"]) == ("Item", "The Way", "The Way", 1)
    assert first["edges"] == {
        ("NEIGHBOR", None): [("instructg2i:2", 1.0), ("instructg2i:3", 0.5), ("instructg2i:4", 1 / 3)]
    }
    assert first["image_refs"] == ["train/1.jpg", "test/1.jpg"]
    assert found["instructg2i:3"]["image_refs"] == ["test/3.png", "train/3.png"]
    assert found["instructg2i:3"]["text"] is None
    assert [item["source_split"] for item in found.values()] == ["train", "train", "test", "train", "train"]


def test_pictures_that_are_nobodys_center_are_items_if_they_are_there(tmp_path: Path) -> None:
    lay_out(tmp_path, "test", [row("1.jpg", neighbors=("here.jpg", "gone.jpg", "here.jpg"))], ("1.jpg", "here.jpg"))
    batches = list(read_instructg2i(tmp_path))
    found = items(batches)
    assert list(found) == ["instructg2i:1", "instructg2i:here"]
    assert found["instructg2i:here"]["text"] is None
    assert found["instructg2i:here"]["image_refs"] == ["test/here.jpg"]
    assert [target for target, _ in found["instructg2i:1"]["edges"]["NEIGHBOR", None]] == [
        "instructg2i:here",
        "instructg2i:gone",
    ]
    assert {batch.file for batch in batches} == {"test/metadata.jsonl"}


@pytest.mark.parametrize(
    ("keys", "given_keys"),
    [(("center_image", "neighbor_image"), {}), (("pic", "near"), {"center_key": "pic", "neighbors_key": "near"})],
)
def test_keys_vary(tmp_path: Path, keys: tuple[str, str], given_keys: dict[str, str]) -> None:
    lay_out(tmp_path, "train", ["no json", {keys[0]: "a.jpg", "caption": "A", keys[1]: ["b.jpg"]}])
    found = items(read_instructg2i(tmp_path, text_key="caption", **given_keys))
    assert found["instructg2i:a"]["text"] == "A"
    assert found["instructg2i:a"]["edges"] == {("NEIGHBOR", None): [("instructg2i:b", 1.0)]}


def test_unknown_keys_are_an_error_that_names_those_there_are(tmp_path: Path) -> None:
    lay_out(tmp_path, "train", [{"picture": "a.jpg"}])
    with pytest.raises(Graph2ImageError, match="no row has the key center or center_image") as caught:
        list(read_instructg2i(tmp_path))
    assert "picture" in str(caught.value.hint)
    with pytest.raises(Graph2ImageError, match="no row has the key near"):
        list(read_instructg2i(tmp_path, center_key="picture", neighbors_key="near"))


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "..\\a.jpg", "x/../../a.jpg", "a\0.jpg"])
def test_names_that_lead_out_are_rejected(tmp_path: Path, name: str) -> None:
    lay_out(tmp_path, "train", [row("fine.jpg"), row(name), row("b.jpg", neighbors=("fine.jpg", name))])
    batches = list(read_instructg2i(tmp_path))
    assert list(items(batches)) == ["instructg2i:fine"]
    assert [(r.file, r.row, r.reason) for r in rejects(batches)] == [
        ("train/metadata.jsonl", 2, RejectReason.IMAGE_UNSAFE_PATH),
        ("train/metadata.jsonl", 3, RejectReason.IMAGE_UNSAFE_PATH),
    ]


def test_bad_rows_are_rejected_and_the_others_kept(tmp_path: Path) -> None:
    lay_out(tmp_path, "train", [row("a.jpg"), "{", row(""), row(None), "[]", row("b.jpg", 3, 7)])
    batches = list(read_instructg2i(tmp_path))
    assert list(items(batches)) == ["instructg2i:a", "instructg2i:b"]
    assert [(r.row, r.reason) for r in rejects(batches)] == [
        (2, RejectReason.MALFORMED_ROW),
        (3, RejectReason.MISSING_ID),
        (4, RejectReason.MISSING_ID),
        (5, RejectReason.MALFORMED_ROW),
    ]


def test_a_folder_of_something_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metadata.jsonl").touch()
    with pytest.raises(Graph2ImageError, match="not in InstructG2I's layout"):
        list(read_instructg2i(tmp_path))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60)
@given(st.lists(st.fixed_dictionaries({}, optional=dict.fromkeys(("center", "text", "neighbors"), json_values))))
def test_no_value_breaks_the_reader(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    lay_out(tmp_path, "train", [row("first.jpg"), *rows])
    batches = list(read_instructg2i(tmp_path))
    read = sum(len(batch.items) for batch in batches)
    assert read + len(rejects(batches)) == len(rows) + 1


# -- writing ---------------------------------------------------------------------------------------------------------

NEIGHBORS = "neighbors/0123456789abcdef"


def picture(number: int, image_format: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 2 * number, 3 * number)).save(stream, image_format)
    return stream.getvalue()


class Gallery:
    """A small data root: items `art:0`, `art:1`, … with images, texts and neighbors."""

    def __init__(self, data: DataRoot) -> None:
        self.data = data
        self.items: list[dict[str, Any]] = []
        images: list[dict[str, Any]] = []
        for number in range(9):
            image_format = ("PNG", "JPEG", "WEBP")[number % 3]
            content = picture(number, image_format)
            path = image_path(content_hash(content), FORMATS[image_format])
            data.write_bytes(path, content)
            images.append(
                dict.fromkeys(IMAGE_SCHEMA.names)
                | {"image_hash": content_hash(content), "path": path, "width": 4, "height": 4}
                | {"format": image_format, "perceptual_hash": "0" * 64}
            )
            self.items.append(
                dict.fromkeys(ITEM_SCHEMA.names)
                | {"item_id": f"art:{number}", "label": "Art", "text": f"Work {number}"}
                | {"image_hash": content_hash(content), "split": ("train", "train", "val", "test")[number % 4]}
                | {"group_id": f"art:{number}", "opted_out": False}
            )
        data.append("images", pa.Table.from_pylist(images, IMAGE_SCHEMA), IMAGE_SCHEMA)
        self.neighbors = {n: [(n + step) % 9 for step in (5, 1, 3)][: n % 4] for n in range(9)}

    def publish(self) -> None:
        self.data.publish("items/art", [pa.Table.from_pylist(self.items, ITEM_SCHEMA)], ITEM_SCHEMA)
        rows = [
            {
                "item_id": f"art:{number}",
                "split": self.items[number]["split"],
                "neighbors": [{"item_id": f"art:{other}"} for other in others],
            }
            for number, others in self.neighbors.items()
        ]
        # Two files, as larger datasets have.
        tables = [pa.Table.from_pylist(part, NEIGHBOR_SCHEMA) for part in (rows[:5], rows[5:])]
        self.data.publish(NEIGHBORS, tables, NEIGHBOR_SCHEMA)

    def export(self, folder: Path, **options: Any) -> ExportReport:
        self.publish()
        return export_instructg2i(self.data, folder, NEIGHBORS, **options)


@pytest.fixture
def gallery(data: DataRoot) -> Gallery:
    return Gallery(data)


def exported(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_round_trip(gallery: Gallery, tmp_path: Path) -> None:
    report = gallery.export(tmp_path / "out")
    assert report.rows == {"train": 5, "val": 2, "test": 2}
    assert report.skipped == {}
    assert report.neighbors_skipped == 0
    assert report.changed
    batches = list(read_instructg2i(tmp_path / "out"))
    found = items(batches)
    assert not rejects(batches)
    assert found.keys() == {f"instructg2i:art_{number}" for number in range(9)}
    for number, others in gallery.neighbors.items():
        item = found[f"instructg2i:art_{number}"]
        assert item["text"] == f"Work {number}"
        assert item["source_split"] == gallery.items[number]["split"]
        targets = [target for target, _ in item["edges"].get(("NEIGHBOR", None), [])]
        assert targets == [f"instructg2i:art_{other}" for other in others]


def test_the_reference_implementation_finds_every_picture_in_the_folder_of_the_row(
    gallery: Gallery, tmp_path: Path
) -> None:
    report = gallery.export(tmp_path / "out")
    seen = 0
    for split in ("train", "val", "test"):
        named = set()
        for line in (tmp_path / "out" / split / "metadata.jsonl").read_text().splitlines():
            values = json.loads(line)
            assert values.keys() == {"center", "text", "neighbors"}
            named |= {values["center"], *values["neighbors"]}
        for name in named:
            with Image.open(tmp_path / "out" / split / name) as image:
                assert image.convert("RGB").size == (4, 4)
        seen += len(named)
    assert report.images == seen
    assert (tmp_path / "out" / "train" / "art_1.jpg").samefile(
        gallery.data.path(image_path(content_hash(picture(1, "JPEG")), "jpg"))
    )


def test_a_second_export_changes_nothing_and_says_so(gallery: Gallery, tmp_path: Path) -> None:
    gallery.export(tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not gallery.export(tmp_path / "out").changed
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_a_copy_counts_as_much_as_a_link(gallery: Gallery, tmp_path: Path) -> None:
    gallery.export(tmp_path / "out")
    shutil.copytree(tmp_path / "out", tmp_path / "copy")
    assert not gallery.export(tmp_path / "copy").changed
    (tmp_path / "copy" / "train" / "art_0.png").write_bytes(b"spoiled")
    (tmp_path / "copy" / "train" / ".killed.tmp").write_bytes(b"half")
    assert gallery.export(tmp_path / "copy").changed
    assert exported(tmp_path / "copy") == exported(tmp_path / "out")


def test_items_without_picture_or_text_have_no_row(gallery: Gallery, tmp_path: Path) -> None:
    gallery.items[0]["image_hash"] = None
    gallery.items[1]["text"] = None
    gallery.items[2]["text"] = " "
    gallery.publish()
    gallery.neighbors[3] = [0, 1, 99]
    report = gallery.export(tmp_path / "out")
    assert report.skipped == {"no_image": 1, "no_text": 2}
    # 0 has no image and 99 is unknown, but 1 has one.
    assert report.neighbors_skipped == sum(
        other in (0, 99) for number in range(3, 9) for other in gallery.neighbors[number]
    )
    rows = [json.loads(line) for line in (tmp_path / "out" / "test" / "metadata.jsonl").read_text().splitlines()]
    assert rows[0] == {"center": "art_3.png", "text": "Work 3", "neighbors": ["art_1.jpg"]}


@pytest.mark.parametrize("marked", [True, False])
def test_withdrawn_items_appear_nowhere_and_vanish_from_an_earlier_export(
    gallery: Gallery, tmp_path: Path, marked: bool
) -> None:
    gallery.export(tmp_path / "out")
    gallery.items[4]["opted_out"] = marked
    report = gallery.export(tmp_path / "out", withdrawn=() if marked else ["art:4"])
    assert report.changed
    assert report.skipped == {"opted_out": 1}
    assert report.neighbors_skipped > 0
    assert not any(b"art_4" in content or "art_4" in name for name, content in exported(tmp_path / "out").items())


def test_folders_with_other_data_are_refused(gallery: Gallery, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "theirs", "train", [row("a.jpg")])
    before = exported(folder)
    with pytest.raises(Graph2ImageError, match="has other data in it"):
        gallery.export(folder)
    assert exported(folder) == before
    gallery.export(tmp_path / "ours")
    gallery.data.publish("neighbors/other", [gallery.data.read(NEIGHBORS)], NEIGHBOR_SCHEMA)
    with pytest.raises(Graph2ImageError, match="holds an export of neighbors/0123"):
        export_instructg2i(gallery.data, tmp_path / "ours", "neighbors/other")
    (tmp_path / "ours" / MARKER).write_text("broken")
    with pytest.raises(Graph2ImageError, match="something else"):
        gallery.export(tmp_path / "ours")


def test_what_cannot_be_exported_is_an_error(gallery: Gallery, tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="there is no dataset"):
        export_instructg2i(gallery.data, tmp_path / "out", "neighbors/none")
    gallery.data.fs.rm(gallery.data.path("images/files"), recursive=True)
    with pytest.raises(Graph2ImageError, match="any more"):
        gallery.export(tmp_path / "out")
    gallery.items = [item | {"image_hash": None} for item in gallery.items]
    with pytest.raises(Graph2ImageError, match="nothing to export"):
        gallery.export(tmp_path / "out")


ids = st.text(min_size=1) | st.text(alphabet=string.ascii_letters + ":_~%/.\\- é", min_size=1, max_size=400)


@given(ids, ids)
def test_file_names_are_safe_and_unique(one: str, other: str) -> None:
    stem = file_stem(one)
    assert stem.isascii()
    assert len(stem) < 240
    assert not set(stem) & set('/\\:*?"<>|%# ')
    assert (stem == file_stem(other)) is (one == other)


def test_plain_ids_stay_legible() -> None:
    assert file_stem("goodreads:27036533") == "goodreads_27036533"
    assert file_stem("art500k:a_b") == "art500k_a~5fb"
