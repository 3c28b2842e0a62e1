"""All that a data root holds, read whole and compared with the digests that it was published with."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from tqdm.auto import tqdm

from ingest.datasets.integrity import FOLDER_LIST, NAME_DIGITS, DamagedError, file_sha256
from ingest.datasets.root import DataRoot
from ingest.datasets.rows import file_problem
from ingest.datasets.schemas import GENERATED_SCHEMA, IMAGE_SCHEMA, ITEM_SCHEMA

_PUBLISHED_NAME = re.compile(rf"[0-9a-f]{{{NAME_DIGITS}}}\.parquet")
_SCHEMAS = {"images": IMAGE_SCHEMA, "generated": GENERATED_SCHEMA}
#: Kinds of folders that have a list of their files.
_LISTED_FOLDERS = ("autoencoders", "classifiers", "comparisons", "encoders", "models")
_IMAGE = re.compile(r"images/files/[0-9a-f]{2}/([0-9a-f]{64})\.\w+")


@dataclass(frozen=True)
class Damage:
    """One file that is not as it was published.

    Attributes
    ----------
    name
        Path under the data root.
    problem
        What is wrong with it, such as "is missing".
    """

    name: str
    problem: str


@dataclass(frozen=True)
class Inspection:
    """What was compared, and what of it is damaged, sorted by name."""

    files: int
    bytes: int
    damage: tuple[Damage, ...]


def find_damage(data: DataRoot) -> Inspection:
    """Compare every published file with its digest, and look for those that should be there.

    A file that no digest is kept of (logs, images of a training's progress, the embedded graph) is not looked at.
    """
    sizes = dict(_files(data))
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = pool.map(lambda name: _damage(data, name), sizes)
        for damage in tqdm(found, "Verify", len(sizes), unit="file", disable=None):
            if damage is not None:
                problems[damage.name] = damage.problem
    for look in (_lost_lists, _lost_folder_lists, _lost_images, _lost_generated):
        for damage in look(data, sizes, frozenset(problems)):
            problems.setdefault(damage.name, damage.problem)
    return Inspection(len(sizes), sum(sizes.values()), tuple(Damage(name, problems[name]) for name in sorted(problems)))


def _files(data: DataRoot) -> Iterator[tuple[str, int]]:
    """Name and size of every file that can be compared with a digest."""
    root = data.path()
    if not data.fs.exists(root):
        return
    for path, info in data.fs.find(root, detail=True).items():
        name = path[len(root) :].strip("/")
        parts = name.split("/")
        if any(part.startswith(".") or part.endswith(".tmp") for part in parts):
            continue
        known = _PUBLISHED_NAME.fullmatch(parts[-1]) or _IMAGE.fullmatch(name) or name.endswith(".json")
        if known and len(parts) > 1:
            yield name, int(info["size"] or 0)


def _damage(data: DataRoot, name: str) -> Damage | None:
    path = data.path(name)
    try:
        if name.endswith(f"/{FOLDER_LIST}"):
            data.check_folder(posixpath.dirname(name))
        elif name.endswith(".json"):
            data.read_json(name)
        elif (image := _IMAGE.fullmatch(name)) is not None:
            with data.fs.open(path, "rb") as stream:
                return None if file_sha256(stream) == image[1] else Damage(name, "has changed since it was stored")
        elif (problem := file_problem(data.fs, path)) is not None:
            return Damage(name, problem)
    except DamagedError as error:
        return Damage(error.path.removeprefix(f"{data.path()}/"), error.problem)
    except FileNotFoundError:
        return None  # replaced meanwhile
    except OSError as error:
        return Damage(name, f"cannot be read: {error.strerror or error}")
    return None


def _lost_lists(data: DataRoot, present: Collection[str], _: Collection[str]) -> Iterator[Damage]:
    """Lists of a dataset's files that are missing, and files that a list has."""
    for name in data.names():
        try:
            snapshot = data.snapshot(name)
        except DamagedError as error:
            yield Damage(f"{name}/{posixpath.basename(error.path)}", error.problem)
            continue
        listed = snapshot.files if snapshot else data.lost_files(name)
        for file in listed:
            if f"{name}/{file}" not in present:
                yield Damage(f"{name}/{file}", "is missing")
        source = name.removeprefix("items/")
        if source != name and snapshot and f"parts/{source}.json" not in present:
            yield Damage(f"parts/{source}.json", "is missing")


def _lost_folder_lists(data: DataRoot, _: Collection[str], __: Collection[str]) -> Iterator[Damage]:
    """Lists that folders with weights should have: the folder was damaged, or its publishing was cut off."""
    for kind in _LISTED_FOLDERS:
        with suppress(FileNotFoundError):
            for folder in data.fs.ls(data.path(kind), detail=False):
                name = f"{kind}/{posixpath.basename(folder)}"
                visible = not posixpath.basename(folder).startswith(".") and data.fs.isdir(folder)
                if visible and not data.exists(f"{name}/{FOLDER_LIST}"):
                    yield Damage(f"{name}/{FOLDER_LIST}", "is missing")


def _lost_images(data: DataRoot, present: Collection[str], damaged: Collection[str]) -> Iterator[Damage]:
    """Images that have a row and no file, or that an item has and no row."""
    stored = pa.array([], pa.string())
    for rows in _whole(data, "images", ["image_hash", "path"], damaged):
        stored = pa.concat_arrays([stored, *rows["image_hash"].chunks])
        yield from (Damage(path, "is missing") for path in rows["path"].to_pylist() if path not in present)
    for name in data.names("items"):
        for rows in _whole(data, name, ["image_hash"], damaged):
            hashes = pc.unique(rows["image_hash"]).drop_null()
            lost = hashes.filter(pc.invert(pc.is_in(hashes, value_set=stored)))
            if len(lost):
                yield Damage("images", f"has no rows of images that {name} refers to, such as {lost[0]}")


def _lost_generated(data: DataRoot, _: Collection[str], damaged: Collection[str]) -> Iterator[Damage]:
    """Generated images that have a row, and whose file is missing or another."""
    for rows in _whole(data, "generated", ["image_path", "image_sha256"], damaged):
        for row in rows.to_pylist():
            path, digest_then = row["image_path"], row["image_sha256"]
            try:
                if digest_then is not None:
                    data.read_bytes(path, digest_then)
                elif not data.exists(path):
                    yield Damage(path, "is missing")
            except DamagedError as error:
                yield Damage(path, error.problem)


def _whole(data: DataRoot, name: str, columns: Sequence[str], damaged: Collection[str]) -> Iterator[pa.Table]:
    """Rows of the undamaged files of a dataset."""
    try:
        files = list(data.dataset(name, _SCHEMAS.get(name, ITEM_SCHEMA)).by_file())
    except DamagedError:  # of its list
        return
    for rows in files:
        if rows.files[0].removeprefix(f"{data.path()}/") not in damaged and data.fs.exists(rows.files[0]):
            yield rows.to_table(columns)
