"""The record of a trained model: what it was trained on, and how that went. It is `models/<model_id>/model.json`."""

from __future__ import annotations

import posixpath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError, explain_validation
from ingest.images.loading import Fit
from model.neighbors import NeighborUse

RECORD_FILE = "model.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class RecordedGraphEncoder(_Part):
    """What the record's readers need to know of `model.training.config.GraphEncoderConfig`."""

    max_neighbors: int = Field(ge=0)
    neighbor_content: Literal["images", "texts", "both"]
    neighbor_weights: bool


class RecordedConfig(_Part):
    """The training configuration, of which the record keeps all; these are the keys that its readers rely on.

    `base_model` is the pretrained model that the training started from.
    """

    preset: str
    seed: int
    image_size: int
    image_fit: Fit = "crop"
    base_model: str | None = None
    graph_encoder: RecordedGraphEncoder


class RecordedSampling(_Part):
    """How the neighbors were sampled, as their dataset says: the settings of the sampler, and of which graph."""

    settings: dict[str, Any] | None = None
    graph_version: str | None = None


class ModelRecord(BaseModel):
    """What `model.json` keeps.

    Parameters
    ----------
    config
        The training configuration.
    encoder
        Encoder of the neighbors' embeddings.
    vae_id
        The autoencoder.
    neighbors, neighbors_metadata
        Name of the neighbors dataset, and how that was sampled.
    items, items_digest, sources
        Training items: how many, a digest of all that training saw of them, and how many of each source.
    left_out, without_neighbors
        Sampled items that took no part, and training items without any neighbor.
    withdrawn
        Ids of the items that the neighbors dataset has and training did not see, as they were withdrawn by then.
    relation_types
        Relation types that the model was told of.
    network, network_parameters, graph_parameters, trained_parameters
        Class of the denoising network; parameters of it, of the Graph-QFormer, and how many of both were trained.
    epochs
        How often each item was seen.
    device, precision
        What it was trained on, and in which precision.
    loss, loss_curve
        Mean loss of the last steps, None if there were none; points `(step, mean loss of the steps since the point
        before)`.
    seconds
        Of the run that finished the training.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    model_id: str
    config: RecordedConfig
    encoder: str
    vae_id: str
    neighbors: str
    neighbors_metadata: RecordedSampling
    items: int
    items_digest: str
    sources: dict[str, int]
    left_out: int
    withdrawn: tuple[str, ...] = ()
    without_neighbors: int
    relation_types: tuple[str, ...]
    network: str
    network_parameters: int
    graph_parameters: int
    trained_parameters: int
    prediction_type: str
    epochs: float
    device: str
    precision: str
    loss: float | None
    loss_curve: tuple[tuple[int, float], ...]
    seconds: float

    @property
    def graph_version(self) -> str | None:
        """Version of the graph that the neighbors were sampled from; None if that is not recorded."""
        return self.neighbors_metadata.graph_version

    @property
    def neighbor_use(self) -> NeighborUse:
        """What the model looks at in its neighbors."""
        encoder = self.config.graph_encoder
        return NeighborUse(
            max_neighbors=encoder.max_neighbors,
            images=encoder.max_neighbors > 0 and encoder.neighbor_content != "texts",
            texts=encoder.max_neighbors > 0 and encoder.neighbor_content != "images",
            weights=encoder.neighbor_weights,
            relation_types=self.relation_types,
        )


def model_ids(data: DataRoot) -> list[str]:
    """Ids of the published models, sorted."""
    return data.complete_folders("models", RECORD_FILE)


def has_model(data: DataRoot, model_id: str) -> bool:
    """Whether a model is published: its record is the last of its files."""
    return posixpath.basename(model_id) == model_id and data.exists(f"models/{model_id}/{RECORD_FILE}")


def read_model_record(data: DataRoot, model_id: str) -> ModelRecord:
    """Read the record of a published model.

    Raises
    ------
    Graph2ImageError
        If there is no such model, or its record is damaged, of another model or of another version of this program.
    """
    if not has_model(data, model_id):
        there = model_ids(data)
        raise Graph2ImageError(
            f"there is no model {model_id!r} under {data.url}",
            f"Models there: {', '.join(there)}." if there else "Run `graph2image train CONFIG` first.",
        )
    name = f"models/{model_id}/{RECORD_FILE}"
    value = data.read_json(name)
    with explain_validation(
        f"{data.path(name)} is not a model's record as this version writes it",
        f"Train the model again, after moving {data.path('models', model_id)} away.",
    ):
        record = ModelRecord.model_validate(value)
    if record.model_id != model_id:
        raise Graph2ImageError(
            f"{data.path(name)} is the record of another model, {record.model_id!r}",
            "A model's folder keeps its name: call it so again.",
        )
    return record
