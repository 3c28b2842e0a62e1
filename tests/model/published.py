"""A tiny random model, published in a data root as training publishes one."""

from __future__ import annotations

from typing import Any

import torch
from records import model_record
from tiny_data import DIM, ENCODER, NEIGHBORS, TinyData, tiny_pipeline

from ingest.datasets.root import DataRoot
from model.networks.graph_qformer import GraphQFormer
from model.record import RECORD_FILE
from model.storage import publish_folder

MODEL = "tiny-1"


def publish_model(
    data: TinyData,
    *,
    neighbors: str = NEIGHBORS,
    sampler: dict[str, Any] | None = None,
    neighbor_weights: bool = False,
    max_neighbors: int = 3,
    **encoder_options: Any,
) -> str:
    """`encoder_options` are of `GraphQFormer.from_text_encoder`; `sampler` are settings that the neighbors came by."""
    pipeline = tiny_pipeline()
    torch.manual_seed(1)
    encoder = GraphQFormer.from_text_encoder(
        pipeline.text_encoder, tokens_per_neighbor=2, **{"neighbor_dim": DIM, **encoder_options}
    )
    if encoder.relation_embedding is not None:  # zero at the start, where a mistake would not show
        torch.nn.init.normal_(encoder.relation_embedding.weight)
    pipeline.register_modules(graph_encoder=encoder.eval())
    pipeline.register_to_config(max_neighbors=max_neighbors)
    neighbor_content = "images" if encoder.config.neighbor_text_dim is None else "both"
    if encoder.config.neighbor_dim is None:
        neighbor_content = "texts"
    record = model_record(
        MODEL,
        encoder=ENCODER,
        neighbors=neighbors,
        neighbors_metadata={} if sampler is None else {"settings": sampler},
        relation_types=encoder_options.get("relation_types", ()),
        graph_encoder={
            "max_neighbors": max_neighbors,
            "neighbor_weights": neighbor_weights,
            "neighbor_content": neighbor_content,
        },
    )

    def write(folder: Any) -> None:
        pipeline.save_pretrained(folder)
        DataRoot(str(folder)).write_json(RECORD_FILE, record.model_dump(mode="json"))

    publish_folder(data.root, f"models/{MODEL}", write, marker=RECORD_FILE)
    return MODEL
