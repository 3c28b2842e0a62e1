"""Records of models, as training writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingest.datasets.root import DataRoot
from model.networks.autoencoder import MiniAutoencoder
from model.record import ModelRecord


def model_record(model_id: str, **changes: Any) -> ModelRecord:
    """A whole record; `graph_encoder` are changes of that part of its configuration, the others of fields."""
    graph_encoder = {"max_neighbors": 3, "neighbor_content": "images", "neighbor_weights": False}
    graph_encoder |= changes.pop("graph_encoder", {})
    values: dict[str, Any] = {
        "model_id": model_id,
        "config": {"preset": "mini", "seed": 7, "image_size": 32, "graph_encoder": graph_encoder},
        "encoder": "tiny",
        "vae_id": "v",
        "neighbors": "abc",
        "neighbors_metadata": {},
        "items": 9,
        "items_digest": "d",
        "sources": {"toy": 9},
        "left_out": 0,
        "without_neighbors": 0,
        "relation_types": [],
        "network": "UNet2DConditionModel",
        "network_parameters": 10,
        "graph_parameters": 10,
        "trained_parameters": 20,
        "prediction_type": "v_prediction",
        "epochs": 1.0,
        "device": "CPU",
        "precision": "fp32",
        "loss": 0.25,
        "loss_curve": [[6, 1.0], [12, 0.5], [18, 0.25]],
        "seconds": 1.0,
    }
    return ModelRecord.model_validate(values | changes)


def write_autoencoder(data: DataRoot, model_id: str) -> None:
    """An untrained autoencoder, where a published model of a local data root has its own."""
    MiniAutoencoder(channels=16, latent_channels=4, blocks=1).save_pretrained(
        Path(data.path("models", model_id, "vae"))
    )
    data.write_json(f"models/{model_id}/model_index.json", {"vae": ["model.networks.autoencoder", "MiniAutoencoder"]})


def write_record(data: DataRoot, record: ModelRecord) -> None:
    data.write_json(f"models/{record.model_id}/model.json", record.model_dump(mode="json"))
