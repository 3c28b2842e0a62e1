"""Where an image comes from: what the graph store has of it, and what its own file says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.settings import Settings
from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from PIL import Image

    from model.generation.png import ImageRecord


def trace(settings: Settings, image: str) -> dict[str, Any]:
    """Tell what the image with this id, or in this file, was made from.

    Returns
    -------
    dict
        Of an id, as `graphstore.lineage.lineage`. Of a file: `says`, the record in it (None if only a watermark is
        left); `watermark`, the text in its pixels; `graph`, what the graph store has of that id; `agrees`, whether the
        two tell the same of item, model, seed and neighbors; `notes`.

    Raises
    ------
    Graph2ImageError
        If there is no such file or image, or the file has neither record nor watermark.
    """
    file = Path(image)
    if file.is_file():
        return _trace_file(settings, file)
    if file.suffix or len(file.parts) > 1:
        raise Graph2ImageError(f"there is no file {image}")
    from graphstore.lineage import lineage

    with settings.open_store(read_only=True) as store:
        return lineage(store, image)


def _trace_file(settings: Settings, file: Path) -> dict[str, Any]:
    from model.generation.png import no_record, open_generated, parse_record

    image, text = open_generated(file)
    notes: list[str] = []
    watermark = _watermark(image, notes)
    if text is None:
        if watermark is None:
            raise no_record(file)
        notes.append("the file has no record of graph2image any more")
        return {"file": str(file), "says": None, "watermark": watermark, "graph": None, "notes": notes}
    record = parse_record(file, text)
    told: dict[str, Any] = {"file": str(file), "says": record.model_dump(), "watermark": watermark}
    if watermark is None and record.settings.get("watermark"):
        notes.append("the watermark that the record tells of cannot be read in the pixels")
    told["graph"], told["agrees"] = _in_graph(settings, record, notes)
    return told | {"notes": notes}


def _watermark(image: Image.Image, notes: list[str]) -> str | None:
    from model.generation.watermark import read_watermark

    try:
        return read_watermark(image)
    except Graph2ImageError as error:
        notes.append(f"the pixels were not searched for a watermark: {error.message}")
        return None


def _in_graph(settings: Settings, record: ImageRecord, notes: list[str]) -> tuple[dict[str, Any] | None, bool | None]:
    """What the graph store has of the image, and whether it agrees with the record."""
    from graphstore.lineage import lineage

    try:
        with settings.open_store(read_only=True) as store:
            told = lineage(store, record.generated_id)
    except Graph2ImageError as error:
        notes.append(f"not compared with the graph: {error.message}")
        return None, None
    weights: dict[str, float] = {}
    for neighbor in record.neighbors:
        weights[neighbor.item_id] = weights.get(neighbor.item_id, 0.0) + neighbor.weight
    known = {neighbor["id"]: neighbor["weight"] for neighbor in told["conditioned_on"]}
    same = {
        "item": (told["item"] or {}).get("id") == record.item_id,
        "model": (told["model"] or {}).get("id") == record.model_id,
        "seed": told["seed"] == record.seed,
        "neighbors": known.keys() == weights.keys()
        and all(abs(weights[item] - known[item]) <= 1e-5 * max(1.0, abs(known[item])) for item in known),
    }
    differing = [name for name, equal in same.items() if not equal]
    if differing:
        notes.append(f"the file and the graph differ in: {', '.join(differing)}")
    return told, not differing
