"""Model cards: the README of a model's folder, written from its record."""

from __future__ import annotations

from importlib import resources

import jinja2

from model.record import ModelRecord

_CONTENT = {"images": "their images", "texts": "their texts", "both": "their images and texts"}
_CALLS = {
    "images": "neighbors=[first, second]",
    "texts": "neighbor_text_embeds=embeds",
    "both": "neighbor_embeds=embeds, neighbor_text_embeds=text_embeds",
}
#: Settings of the neighbor sampler that say what a neighbor is.
_SAMPLER = ("mode", "query", "k", "pool", "damping_factor", "via", "relation_weights", "neighbor_splits")


def model_card(record: ModelRecord, *, curves: str, samples: str | None) -> str:
    """The model card, in Markdown.

    Parameters
    ----------
    record
        The model's record.
    curves, samples
        File names of the images beside it.
    """
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - Markdown, not HTML
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(
        resources.files("model.training").joinpath("model_card.md.j2").read_text(encoding="utf-8")
    )
    settings = record.neighbors_metadata.settings or {}
    content = record.config.graph_encoder.neighbor_content
    splits = [split for split in settings.get("neighbor_splits", ("train",)) if split != "train"]
    return template.render(
        record.model_dump(mode="json"),
        content=_CONTENT[content],
        call=_CALLS[content],
        base_model=record.config.base_model,
        graph_version=record.graph_version or "not recorded",
        sampler={name: settings[name] for name in _SAMPLER if settings.get(name) not in (None, {}, [])},
        neighbor_splits=f", but those of {' and '.join(splits)} may be neighbors of others" if splits else "",
        millions=lambda count: f"{count / 1e6:,.1f} million",
        curves=curves,
        samples=samples,
    )
