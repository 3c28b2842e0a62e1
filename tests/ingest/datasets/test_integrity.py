"""Damage to what was published is an error that names the file, whatever the damage; never other rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ingest.datasets.integrity import DamagedError, sha256
from ingest.datasets.root import DataRoot

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("value", pa.list_(pa.float32(), 4))])
TABLE = pa.table({"key": [f"key {n}" for n in range(300)], "value": [[n, n / 3, 0.5, -n] for n in range(300)]}, SCHEMA)

Damage = Callable[[Path, random.Random], None]


def cut(file: Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(1, file.stat().st_size)])


def emptied(file: Path, _: random.Random) -> None:
    file.write_bytes(b"")


def deleted(file: Path, _: random.Random) -> None:
    file.unlink()


def flipped(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def replaced(file: Path, rng: random.Random) -> None:
    file.write_bytes(rng.randbytes(file.stat().st_size))


DAMAGES = [cut, emptied, deleted, flipped, replaced]


def files(data: DataRoot, folder: str) -> list[Path]:
    return sorted(path for path in Path(data.path(folder)).iterdir() if path.stat().st_size)


def outcome(read: Callable[[], pa.Table]) -> pa.Table | DamagedError:
    try:
        return read()
    except DamagedError as error:
        return error


@pytest.fixture
def data(tmp_path: Path) -> DataRoot:
    """A dataset of two generations that is replaced as a whole, and a folder of a model."""
    data = DataRoot(str(tmp_path / "data"))
    data.publish("items/shop", [TABLE.slice(0, 10)], SCHEMA)
    data.publish("items/shop", [TABLE.slice(0, 150), TABLE.slice(150)], SCHEMA, {"made by": "a test"})
    data.write_bytes("models/m/weights", bytes(range(256)) * 20)
    data.write_bytes("models/m/part/config.json", b'{"sizes": [1, 2, 3]}')
    listed = {name: sha256(data.read_bytes(f"models/m/{name}")) for name in ("weights", "part/config.json")}
    data.write_folder_list("models/m", listed)
    data.write_json("models/m/model.json", {"model_id": "m", "loss": 0.25})
    return data


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("damage", DAMAGES)
def test_rows_are_those_published_or_an_error_names_the_file(data: DataRoot, damage: Damage, seed: int) -> None:
    rng = random.Random(seed)
    snapshot = data.snapshot("items/shop")
    assert snapshot is not None
    file = rng.choice([Path(data.path("items/shop", name)) for name in snapshot.files])
    damage(file, rng)
    readings: list[Callable[[], pa.Table]] = [
        lambda: data.read("items/shop"),
        lambda: data.read("items/shop", schema=SCHEMA),
        lambda: pa.Table.from_batches(data.dataset("items/shop", SCHEMA).to_batches(batch_size=7)),
        lambda: pa.concat_tables(part.to_table() for part in data.dataset("items/shop").by_file()),
        lambda: pa.concat_tables(data.read_file("items/shop", name) for name in snapshot.files),
        lambda: data.dataset("items/shop").to_table(filter=pc.field("key") != ""),
    ]
    for read in readings:
        found = outcome(read)
        if isinstance(found, DamagedError):
            assert found.path == str(file)
            assert "graph2image verify" in str(found)
        else:
            assert found.equals(TABLE)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_list_of_files_is_missed(data: DataRoot, damage: Damage) -> None:
    file = Path(data.path("items/shop/_snapshot.json"))
    for seed in range(20):
        content = file.read_bytes()
        damage(file, random.Random(seed))
        found = outcome(lambda: data.read("items/shop"))
        if isinstance(found, DamagedError):
            assert found.path == str(file)
        else:
            assert damage is flipped  # in the white space, or in the name of the digest
            assert found.equals(TABLE)
        file.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_folder_is_named(data: DataRoot, damage: Damage) -> None:
    data.check_folder("models/m")
    for name in ("weights", "part/config.json"):
        file = Path(data.path("models/m", name))
        content = file.read_bytes()
        damage(file, random.Random(1))
        with pytest.raises(DamagedError, match=r"is missing|has changed") as error:
            data.check_folder("models/m")
        assert error.value.path == str(file)
        file.write_bytes(content)
    data.check_folder("models/m")


def test_a_json_file_of_others_is_only_parsed(data: DataRoot) -> None:
    assert data.read_json("models/m/part/config.json") == {"sizes": [1, 2, 3]}
    assert data.read_json("models/m/model.json") == {"model_id": "m", "loss": 0.25}
    Path(data.path("models/m/part/config.json")).write_bytes(b'{"sizes": [1')
    with pytest.raises(DamagedError, match=r"part/config\.json is no JSON"):
        data.read_json("models/m/part/config.json")
    text = Path(data.path("models/m/model.json"))
    text.write_bytes(text.read_bytes().replace(b"0.25", b"0.35"))
    with pytest.raises(DamagedError, match=r"model\.json has changed"):
        data.read_json("models/m/model.json")
