"""Training a damaged encoder or model again (`verify --repair --retrain`), kept only if it comes out the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows import stages
from flows.settings import Settings
from ingest.datasets.integrity import FOLDER_LIST, file_sha256
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot
from ingest.encoders.identity import is_padded
from ingest.encoders.mini_config import MiniClipConfig
from ingest.errors import Graph2ImageError

log = logging.getLogger(__name__)

#: Where damaged folders wait until they are replaced; nothing looks there.
_ASIDE = ".damaged"
_WEIGHTS = ".safetensors"


def retrain_encoder(settings: Settings, encoder: str) -> None:
    """Train an encoder again by its record.

    Raises
    ------
    Graph2ImageError
        If its record is lost, it was not trained here, or it comes out differently; then all is as it was.
    """
    data = settings.data_root
    if not data.exists(f"encoders/{encoder}/encoder.json"):
        raise Graph2ImageError(f"the record of {encoder} is lost")
    record = data.read_json(f"encoders/{encoder}/encoder.json")
    if "config" not in record:
        raise Graph2ImageError(f"{encoder} was not trained here: it is {record.get('origin')}")
    config = MiniClipConfig.model_validate(record["config"])
    _retrain(data, f"encoders/{encoder}", lambda: stages.embed(settings, config, pad=is_padded(encoder)).embed.encoder)


def retrain_model(settings: Settings, model_id: str) -> None:
    """Train a model again by its record, on the same samples.

    Raises
    ------
    Graph2ImageError
        If its record or an input is lost, or it comes out differently; then all is as it was.
    """
    from model.record import read_model_record
    from model.training.config import TrainConfig

    record = read_model_record(settings.data_root, model_id)
    config = TrainConfig.model_validate(record.config.model_dump(mode="json"))
    _retrain(
        settings.data_root,
        f"models/{model_id}",
        lambda: stages.train(settings, config, record.neighbors, record.encoder).model_id,
    )


def interrupted(data: DataRoot) -> list[str]:
    """Folders that a run which was killed has moved away."""
    found = []
    for kind in ("encoders", "models"):
        aside = data.path(_ASIDE, kind)
        paths = data.fs.ls(aside, detail=False) if data.fs.isdir(aside) else []
        found += [f"{kind}/{path.rpartition('/')[2]}" for path in paths]
    return found


def put_back(data: DataRoot) -> None:
    """Put the folders back that a run which was killed had moved away: all is as it was before that run."""
    if not data.exists(_ASIDE):
        return
    with writer_lock(data, "ingest"):
        for folder in interrupted(data):
            log.warning("%s is put back: training it again was interrupted", folder)
            if data.fs.isdir(data.path(folder)):  # what that run has published and not compared
                data.fs.rm(data.path(folder), recursive=True)
            data.fs.mv(data.path(_ASIDE, folder), data.path(folder), recursive=True)
        data.fs.rm(data.path(_ASIDE), recursive=True)


def _retrain(data: DataRoot, folder: str, train: Callable[[], str]) -> None:
    """Replace `folder` by what `train` publishes under the same name, if its weights are the same."""
    kind, _, name = folder.partition("/")
    with _aside(data, folder) as damaged:
        expected = _digests(data, damaged)
        made = train()
        if made != name:
            raise Graph2ImageError(
                f"what it was trained on or by has changed since: what is trained now is {kind}/{made}"
            )
        found = _digests(data, folder)
        different = sorted(file for file in found if found[file] != expected.get(file, found[file]))
        if different:
            raise Graph2ImageError(
                f"trained again, {', '.join(different)} differs from what was published, as on another machine or with "
                "another version of a library"
            )
        if unknown := sorted(set(found) - set(expected)):
            log.warning("Of %s in %s the former digest is not known", ", ".join(unknown), folder)


@contextmanager
def _aside(data: DataRoot, folder: str) -> Iterator[str]:
    """Move `folder` away, and remove it in the end; after an exception it is where it was."""
    damaged = f"{_ASIDE}/{folder}"
    data.fs.makedirs(data.path(damaged).rpartition("/")[0], exist_ok=True)
    data.fs.mv(data.path(folder), data.path(damaged), recursive=True)
    try:
        yield damaged
    except BaseException:
        if data.exists(folder):
            data.fs.rm(data.path(folder), recursive=True)
        data.fs.mv(data.path(damaged), data.path(folder), recursive=True)
        raise
    finally:
        if data.exists(_ASIDE):
            data.fs.rm(data.path(_ASIDE), recursive=True)


def _digests(data: DataRoot, folder: str) -> dict[str, str]:
    """SHA-256 of the weights in `folder`, as its list says; without a list, of those that are there."""
    try:
        files = data.read_json(f"{folder}/{FOLDER_LIST}")["files"]
        return {file: digest for file, digest in files.items() if file.endswith(_WEIGHTS)}
    except (Graph2ImageError, FileNotFoundError, KeyError, TypeError):
        digests = {}
        for path in data.fs.find(data.path(folder)):
            if path.endswith(_WEIGHTS):
                with data.fs.open(path, "rb") as stream:
                    digests[path.removeprefix(f"{data.path(folder)}/")] = file_sha256(stream)
        return digests
