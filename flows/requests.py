"""Which images to ask a model for: named items, items of a split, the controls of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flows.samples import item_samples, split_samples, with_neighbors
from flows.settings import Settings
from flows.stages import withdrawn_items
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from model.generation.mixing import EntityWorks, mixed
from model.generation.requests import GenerationRequest, Sample
from model.generation.variants import TEXT, Variant
from model.record import read_model_record

#: Graph guidance scales that an evaluation compares; text only is scale 0.
SCALES = (1.0, 1.5, 2.0)
#: The scale of the controls (shuffled neighbors) and of the mixtures.
CONTROL_SCALE = 1.5
#: Shares of the first of two mixed entities.
MIX_SHARES = (1.0, 0.7, 0.5, 0.3, 0.0)


@dataclass(frozen=True)
class Wanted:
    """Requests, and notes on what of them will be otherwise than asked for."""

    requests: tuple[GenerationRequest, ...]
    notes: tuple[str, ...] = ()


def plain(samples: Sequence[Sample], scale: float = CONTROL_SCALE) -> list[GenerationRequest]:
    """One image per item, from its text and its neighbors."""
    return [GenerationRequest(s.item_id, s.text, Variant("graph", scale), (s.neighbors,)) for s in samples]


def controls(samples: Sequence[Sample]) -> list[GenerationRequest]:
    """For each item: text only, text and graph at several scales, and text with another item's neighbors.

    The neighbors are shuffled by giving each item those of the next one in the list; with fewer than two items there is
    nothing to shuffle.
    """
    requests = [GenerationRequest(s.item_id, s.text, TEXT) for s in samples]
    for scale in SCALES:
        requests += plain(samples, scale)
    if len(samples) > 1:
        shuffled = Variant("shuffled", CONTROL_SCALE)
        for sample, other in zip(samples, [*samples[1:], samples[0]], strict=True):
            requests.append(GenerationRequest(sample.item_id, sample.text, shuffled, (other.neighbors,)))
    return requests


def for_split(
    settings: Settings,
    model_id: str,
    split: str,
    limit: int,
    scale: float = CONTROL_SCALE,
    neighbors: str | None = None,
) -> Wanted:
    """Requests for `limit` items of `split`; raises as `split_samples` does."""
    return _wanted(split_samples(settings, model_id, split, limit, neighbors), scale, required=False)


def for_items(
    settings: Settings,
    model_id: str,
    item_ids: Sequence[str],
    scale: float = CONTROL_SCALE,
    neighbors: str | None = None,
    *,
    prompt: str | None = None,
    chosen: Sequence[str] | None = None,
) -> Wanted:
    """Requests for the named items.

    Parameters
    ----------
    neighbors
        Name of a neighbors dataset; see `item_samples`.
    prompt
        Instead of the items' texts.
    chosen
        Ids of the items that are neighbors instead of those sampled; see `with_neighbors`.

    Raises
    ------
    Graph2ImageError
        If an item has neither text nor neighbors; and as `item_samples` and `with_neighbors`.
    """
    samples = _told(item_samples(settings, model_id, item_ids, neighbors), prompt)
    if chosen is not None:
        samples = [with_neighbors(settings, model_id, sample, chosen) for sample in samples]
    return _wanted(samples, scale, required=True)


def mixtures(
    settings: Settings,
    model_id: str,
    item_ids: Sequence[str],
    shares: Mapping[str, float],
    scale: float = CONTROL_SCALE,
    *,
    prompt: str | None = None,
) -> Wanted:
    """Requests for the named items that are conditioned on works of entities, in these shares.

    The works are chosen by the item's text, whatever the prompt.

    Raises
    ------
    Graph2ImageError
        As `model.generation.mixing.mixed`; and as `item_samples`.
    """
    works = entity_works(settings, model_id)
    made = mixed(works, item_samples(settings, model_id, item_ids), shares, scale)
    return Wanted(tuple(made if prompt is None else (replace(request, text=prompt) for request in made)))


def entity_works(settings: Settings, model_id: str) -> EntityWorks:
    """The works that a model's images can be mixed from."""
    data = DataRoot(settings.data)
    return EntityWorks(data, read_model_record(data, model_id).encoder, withdrawn_items(settings))


def _told(samples: Sequence[Sample], prompt: str | None) -> Sequence[Sample]:
    """The samples with `prompt` as their text, if it is given."""
    return samples if prompt is None else [replace(sample, text=prompt) for sample in samples]


def _wanted(samples: Sequence[Sample], scale: float, *, required: bool) -> Wanted:
    """A request per item; an item with nothing to make an image from is an error if it is `required`."""
    empty = [sample for sample in samples if not sample.text.strip() and not (sample.neighbors and scale)]
    if empty and required:
        raise Graph2ImageError(
            f"{empty[0].item_id!r} has no text, and no neighbors that count: there is nothing to make an image from"
        )
    made = [sample for sample in samples if sample not in empty]
    noted = {
        "left out, with neither text nor neighbors": empty,
        "no neighbors: made from the text only": [sample for sample in made if scale and not sample.neighbors],
        "no text: made from the neighbors only": [sample for sample in made if not sample.text.strip()],
    }
    notes = tuple(_note(what, [sample.item_id for sample in found]) for what, found in noted.items() if found)
    return Wanted(tuple(plain(made, scale)), notes)


def _note(what: str, item_ids: Sequence[str]) -> str:
    more = f" and {len(item_ids) - 3} more" if len(item_ids) > 3 else ""
    return f"{', '.join(item_ids[:3])}{more}: {what}"
