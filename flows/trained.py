"""What the graph is told of the published models: from their records to the registry and lineage."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC

from graphstore.registry import TrainedModel
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.record import RECORD_FILE, model_ids, read_model_record

log = logging.getLogger(__name__)


def trained_models(data: DataRoot, only: Sequence[str] | None = None) -> list[TrainedModel]:
    """What the graph is told of the published models, or of some. Of one whose record is damaged it is the id only."""
    found = []
    for model_id in model_ids(data) if only is None else only:
        created_at = data.fs.modified(data.path("models", model_id, RECORD_FILE)).astimezone(UTC).replace(tzinfo=None)
        try:
            record = read_model_record(data, model_id)
        except Graph2ImageError as error:
            log.warning("%s", error.message)
            found.append(TrainedModel(model_id, "unknown", created_at, None, None))
            continue
        found.append(
            TrainedModel(
                model_id,
                record.config.preset,
                created_at,
                record.graph_version,
                record.neighbors,
                record.withdrawn,
            )
        )
    return found
