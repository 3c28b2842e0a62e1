"""Several files of one source, and the same files again with other content: who has which row then."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.ingestion import Amazon
from ingest.parts import read_parts
from ingest.pipeline import IngestReport
from ingest.sources import find_files, ingest_source


class Files:
    """Metadata files with a product per row: its id, its title, and the one it was viewed with."""

    def __init__(self, root: Any) -> None:
        self.root = root
        root.mkdir()
        self.data = DataRoot(str(root / "data"))

    def write(self, name: str, *rows: str) -> None:
        """Each row is `id:title` or `id:title:viewed`."""
        lines = []
        for row in rows:
            asin, title, *viewed = row.split(":")
            category = [f"Category of {title}"]
            lines.append(orjson.dumps({"asin": asin, "title": title, "also_view": viewed, "category": category}))
        (self.root / name).write_bytes(b"\n".join(lines) + b"\n")

    def ingest(self, *names: str, prune: bool = False, strict: bool = False) -> IngestReport:
        files = tuple(str(self.root / name) for name in names)
        return ingest_source(self.data, Amazon(files=files, prune=prune, strict=strict))

    def titles(self) -> dict[str, str]:
        rows = self.data.read("items/amazon", ["item_id", "title"]).to_pylist()
        titles = {row["item_id"].removeprefix("amazon:"): row["title"] for row in rows}
        assert len(titles) == len(rows)
        return titles

    def views(self) -> set[tuple[str, str]]:
        rows = self.data.read("relations/amazon").to_pylist()
        ends = [(r["from_id"], r["to_id"]) for r in rows if r["type"] == "CO_VIEWED"]
        assert len(set(ends)) == len(ends)
        return {(a.removeprefix("amazon:"), b.removeprefix("amazon:")) for a, b in ends}

    def categories(self) -> set[str]:
        rows = self.data.read("entities/amazon").to_pylist()
        return {row["name"].removeprefix("Category of ") for row in rows}

    def state(self) -> dict[str, object]:
        return {name: self.data.snapshot(name) for name in self.data.names()}


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path / "shop")


def test_a_later_file_leaves_the_items_of_others_alone(files: Files) -> None:
    files.write("a.json", "1:one:3", "2:two")
    files.write("b.json", "3:three:1")
    assert (files.ingest("a.json").items_total, files.ingest("b.json").items_total) == (2, 3)
    assert files.titles() == {"1": "one", "2": "two", "3": "three"}
    assert files.views() == {("1", "3"), ("3", "1")}
    at_once = Files(files.root / "at-once")
    at_once.write("a.json", "1:one:3", "2:two")
    at_once.write("b.json", "3:three:1")
    at_once.ingest("a.json", "b.json")
    assert at_once.state() == files.state()


def test_within_a_run_the_first_row_of_an_id_counts(files: Files) -> None:
    files.write("a.json", "1:one", "1:again")
    files.write("b.json", "1:elsewhere", "2:two")
    report = files.ingest("a.json", "b.json")
    assert (report.rows_read, report.items, report.duplicates) == (4, 2, 2)
    details = files.data.read("rejects/amazon").to_pylist()
    assert [(row["file"], row["row"], row["detail"]) for row in details] == [
        ("a.json", 2, "the id amazon:1 is that of row 1 already"),
        ("b.json", 1, "the id amazon:1 is that of row 1 of a.json already"),
    ]
    state = files.state()
    again = files.ingest("a.json", "b.json")
    assert again == dataclasses.replace(report, changed=False, files_unchanged=2)
    assert files.state() == state


def test_a_changed_file_updates_its_rows_and_keeps_those_it_has_no_longer(files: Files) -> None:
    files.write("a.json", "1:one:2", "2:two:1", "3:three:1")
    files.ingest("a.json")
    files.write("a.json", "1:one:3", "2:zwei", "4:four")
    report = files.ingest("a.json")
    assert (report.items, report.gone, report.pruned, report.items_total) == (3, 1, False, 4)
    assert files.titles() == {"1": "one", "2": "zwei", "3": "three", "4": "four"}
    assert files.views() == {("1", "3"), ("3", "1")}
    assert files.categories() == {"one", "zwei", "three", "four"}
    assert files.ingest("a.json").gone == 1
    pruned = files.ingest("a.json", prune=True)
    assert (pruned.gone, pruned.pruned, pruned.items_total, pruned.changed) == (1, True, 3, True)
    assert files.titles() == {"1": "one", "2": "zwei", "4": "four"}
    assert files.categories() == {"one", "zwei", "four"}
    assert files.views() == {("1", "3")}
    assert not files.ingest("a.json", prune=True).changed


def test_a_row_that_comes_back_is_not_gone(files: Files) -> None:
    files.write("a.json", "1:one", "2:two")
    files.ingest("a.json")
    state = files.state()
    files.write("a.json", "1:one")
    assert files.ingest("a.json").gone == 1
    files.write("a.json", "1:one", "2:two")
    assert files.ingest("a.json").gone == 0
    assert files.state() == state


def test_a_file_with_new_content_takes_ids_over(files: Files) -> None:
    files.write("a.json", "1:one:2", "2:two")
    files.write("b.json", "2:zwei", "3:drei")
    files.ingest("a.json")
    files.ingest("b.json")
    assert files.titles() == {"1": "one", "2": "zwei", "3": "drei"}
    assert files.categories() == {"one", "zwei", "drei"}
    state = files.state()
    # As they are, neither takes anything back.
    assert not files.ingest("a.json").changed
    assert not files.ingest("b.json").changed
    assert files.state() == state
    files.write("a.json", "1:one:2", "2:deux")
    assert files.ingest("a.json").items_total == 3
    assert files.titles() == {"1": "one", "2": "deux", "3": "drei"}


def test_an_earlier_file_of_a_run_comes_before_one_that_is_as_before(files: Files) -> None:
    files.write("a.json", "1:one")
    files.write("b.json", "2:zwei", "3:drei")
    files.ingest("a.json", "b.json")
    files.write("a.json", "1:one", "2:two")
    report = files.ingest("a.json", "b.json")
    assert (report.items, report.duplicates, report.rows_read) == (3, 1, 4)
    assert files.titles() == {"1": "one", "2": "two", "3": "drei"}


def test_a_renamed_file_is_the_same_file(files: Files) -> None:
    files.write("a.json", "1:one", "2:two")
    first = files.ingest("a.json")
    (files.root / "a.json").rename(files.root / "b.json")
    report = files.ingest("b.json")
    assert report == dataclasses.replace(first, changed=False, files_unchanged=1)
    assert list(read_parts(files.data, "amazon")) == ["b.json"]
    files.write("b.json", "1:one")
    assert files.ingest("b.json").gone == 1


def test_strict_reads_a_file_again_that_is_as_before(files: Files) -> None:
    files.write("a.json", "1:one", "1:again")
    files.ingest("a.json")
    with pytest.raises(Graph2ImageError, match=r"a.json, row 2: .* \(duplicate_id\)"):
        files.ingest("a.json", strict=True)


def test_files_that_cannot_be_told_apart(files: Files) -> None:
    files.write("a.json", "1:one")
    (files.root / "other").mkdir()
    (files.root / "other" / "a.json").write_bytes((files.root / "a.json").read_bytes())
    with pytest.raises(Graph2ImageError, match=r"two files are named a\.json"):
        files.ingest("a.json", "other/a.json")


def test_files_are_found_by_pattern(files: Files) -> None:
    for name in ("meta_B.json", "meta_A.json", "other.json"):
        files.write(name, "1:one")
    found = find_files([f"{files.root}/meta_*.json", files.root / "other.json", files.root / "meta_A.json"])
    assert [path.name for path in found] == ["meta_A.json", "meta_B.json", "other.json"]
    with pytest.raises(Graph2ImageError, match=r"there is no file .*absent"):
        find_files([f"{files.root}/absent*.json"])
    with pytest.raises(Graph2ImageError, match="is a folder"):
        find_files([files.root])


_ROWS = st.lists(st.builds("{}:{}:{}".format, st.integers(1, 5), st.sampled_from("xyz"), st.integers(1, 5)), max_size=5)
_RUNS = st.lists(st.tuples(st.sampled_from(["a.json", "b.json"]), _ROWS, st.booleans()), min_size=1, max_size=5)


@pytest.mark.slow
@settings(max_examples=60)
@given(_RUNS)
def test_any_history_of_files(tmp_path_factory, runs) -> None:
    """Against a model in a few lines: the last run that had an id says what the item is."""
    files = Files(tmp_path_factory.mktemp("history") / "shop")
    content: dict[str, list[str]] = {}
    owner: dict[str, tuple[str, str, str]] = {}
    for name, rows, prune in runs:
        if not rows:
            continue
        files.write(name, *rows)
        report = files.ingest(name, prune=prune)
        first = {}
        for row in rows:
            asin, title, viewed = row.split(":")
            first.setdefault(asin, (name, title, viewed))
        renamed = next((old for old, same in content.items() if same == rows), None) if name not in content else None
        if renamed:  # the same content under another name is the same file
            del content[renamed]
            owner = {asin: (name, *row[1:]) if row[0] == renamed else row for asin, row in owner.items()}
        elif content.get(name) != rows:
            owner.update(first)
        content[name] = rows
        if prune:
            owner = {asin: row for asin, row in owner.items() if row[0] != name or asin in first}
        assert report.rows_read == len(rows) == report.items + report.duplicates
        assert report.items_total == len(owner)
        assert files.titles() == {asin: title for asin, (_, title, _) in owner.items()}
        assert files.views() == {(asin, viewed) for asin, (_, _, viewed) in owner.items() if asin != viewed}
        assert files.categories() == {title for _, title, _ in owner.values()}
        assert not files.ingest(name, prune=prune).changed


def test_parts_of_another_version_are_refused(tmp_path: Path) -> None:
    data = DataRoot(str(tmp_path / "data"))
    data.write_json("parts/shop.json", {"a.csv": {"current": {"file": "a.csv", "descriptions": 1}, "gone": []}})
    with pytest.raises(Graph2ImageError, match=r"parts/shop\.json was written by another version"):
        read_parts(data, "shop")
