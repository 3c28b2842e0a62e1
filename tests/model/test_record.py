"""The record of a model: read with clear errors, whatever happened to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from records import model_record, write_record

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.record import model_ids, read_model_record


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    return DataRoot(str(tmp_path))


def test_what_is_written_is_read(data: DataRoot) -> None:
    record = model_record("m-1", neighbors_metadata={"graph_version": "f00d", "settings": {"mode": "ppr"}})
    write_record(data, record)
    assert read_model_record(data, "m-1") == record
    assert model_ids(data) == ["m-1"]
    assert record.graph_version == "f00d"
    assert (record.neighbor_use.images, record.neighbor_use.texts) == (True, False)


def test_all_of_the_configuration_is_kept(data: DataRoot) -> None:
    record = model_record("m-1", graph_encoder={"tokens_per_neighbor": 4})
    write_record(data, record)
    kept = read_model_record(data, "m-1").model_dump(mode="json")["config"]
    assert kept["graph_encoder"]["tokens_per_neighbor"] == 4


@pytest.mark.parametrize("model_id", ["nope", "..", "../models/m-1", ""])
def test_no_such_model(data: DataRoot, model_id: str) -> None:
    with pytest.raises(Graph2ImageError, match="there is no model") as error:
        read_model_record(data, model_id)
    assert "train" in str(error.value.hint)
    write_record(data, model_record("m-1"))
    with pytest.raises(Graph2ImageError, match="Models there: m-1"):
        read_model_record(data, model_id)


@pytest.mark.parametrize(
    ("content", "reason", "remedy"),
    [
        (b"", "no JSON any more", "verify"),
        (b'{"model_id": "m-', "no JSON any more", "verify"),
        (b"\xff\x00", "no JSON any more", "verify"),
        (b"[]", "not a model's record", "Train the model again"),
        (b'{"model_id": "m-1", "neighbors": "abc"}', "config: ", "Train the model again"),
    ],
    ids=["empty", "cut", "bytes", "list", "foreign"],
)
def test_damaged_and_foreign_records(data: DataRoot, content: bytes, reason: str, remedy: str) -> None:
    data.write_bytes("models/m-1/model.json", content)
    with pytest.raises(Graph2ImageError, match=reason) as error:
        read_model_record(data, "m-1")
    assert "models/m-1/model.json" in error.value.message
    assert remedy in str(error.value.hint)


def test_a_folder_that_was_renamed(data: DataRoot) -> None:
    data.write_json("models/other/model.json", model_record("m-1").model_dump(mode="json"))
    with pytest.raises(Graph2ImageError, match="of another model, 'm-1'"):
        read_model_record(data, "other")
