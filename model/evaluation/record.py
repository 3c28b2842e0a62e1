"""The record of an evaluation: which images it requested, and of what. Nothing that is generated elsewhere changes it.

It is `evaluations/<model_id>/<evaluation_id>/evaluation.json`, and its id is the digest of the rest of it: another
split, other neighbors, settings or items are another evaluation beside it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from ingest.datasets.root import DataRoot, digest
from ingest.errors import Graph2ImageError, explain_validation
from model.evaluation.roles import Role
from model.generation.variants import Variant


class RequestedImage(BaseModel):
    """A generated image that an evaluation has asked for: of which item, in which variant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generated_id: str
    item_id: str
    variant: Variant


class EvaluationRecord(BaseModel):
    """What is compared.

    Parameters
    ----------
    split
        Of the items.
    neighbors
        Name of the neighbors dataset that the items' neighbors are from; None: sampled from the graph as it was.
    settings
        Settings that all images share.
    images
        The generated images that are judged, in the order in which they were requested.
    labels
        Entity labels that the judge is asked for, by role; where there is none, that which the figures suggest.
    mixtures
        Further images, which were requested to be shown: items between two entities.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model_id: str
    split: str
    neighbors: str | None
    settings: dict[str, Any]
    images: tuple[RequestedImage, ...]
    labels: dict[Role, str] = {}
    mixtures: tuple[RequestedImage, ...] = ()

    @property
    def evaluation_id(self) -> str:
        """Digest of what is compared."""
        return digest(self.model_dump(mode="json"))

    @property
    def folder(self) -> str:
        """The evaluation's folder under the data root."""
        return f"evaluations/{self.model_id}/{self.evaluation_id}"


def write_evaluation(data: DataRoot, record: EvaluationRecord) -> None:
    """Keep the record."""
    data.write_json(f"{record.folder}/evaluation.json", record.model_dump(mode="json"))


def read_evaluation(data: DataRoot, model_id: str, evaluation_id: str) -> EvaluationRecord:
    """Read the record of an evaluation.

    Raises
    ------
    Graph2ImageError
        If there is none, or it is damaged or of another version of this program.
    """
    folder = f"evaluations/{model_id}/{evaluation_id}"
    name = f"{folder}/evaluation.json"
    if posixpath.normpath(folder) != folder or not data.exists(name):
        there = evaluation_ids(data, model_id)
        raise Graph2ImageError(
            f"model {model_id} has no evaluation {evaluation_id!r} under {data.url}",
            f"Its evaluations: {', '.join(there)}." if there else "Run `graph2image evaluate` first.",
        )
    value = data.read_json(name)
    with explain_validation(
        f"{data.path(name)} is not the record of an evaluation as this version writes it",
        "Run `graph2image evaluate` again.",
    ):
        return EvaluationRecord.model_validate(value)


def evaluation_ids(data: DataRoot, model_id: str) -> Sequence[str]:
    """Ids of a model's evaluations, sorted."""
    return data.complete_folders(f"evaluations/{model_id}", "evaluation.json")
