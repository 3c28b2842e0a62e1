"""What generated images are compared with: images that there are, and what the model's autoencoder makes of them.

They explain the figures of the generated ones. How often the judge is right about *true* images is the most that it
can say of any; what a pass through the autoencoder costs them, no generator behind it can get back; *another work with
the same style and subject* meets the request without being the true one; and copying *the top neighbor's image* has the
style without making anything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from diffusers.models.modeling_utils import ModelMixin

from ingest.datasets.root import DataRoot
from ingest.encoders.vectors import choose_device
from ingest.errors import Graph2ImageError
from model.evaluation.judge import TrainingItems
from model.evaluation.palette import Pixels
from model.evaluation.roles import Entities, Question
from model.networks.autoencoder import AUTOENCODERS
from model.networks.latents import encode_images
from model.storage import local_folder, quiet_libraries

#: Images that pass through the autoencoder at a time.
_BATCH = 16


def load_autoencoder(data: DataRoot, model_id: str) -> ModelMixin:
    """The autoencoder of a published model.

    Raises
    ------
    Graph2ImageError
        If the model's files are damaged, or its autoencoder is none that a model can have.
    """
    try:
        _, name = data.read_json(f"models/{model_id}/model_index.json")["vae"]
        with local_folder(data, f"models/{model_id}") as folder, quiet_libraries():
            vae = AUTOENCODERS[name].from_pretrained(folder / "vae", use_safetensors=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise Graph2ImageError(
            f"cannot load the autoencoder of {model_id}: {reason}", "Train or fetch the model again."
        ) from error
    return vae.requires_grad_(False).eval().to(choose_device(None))


@torch.no_grad()
def decoded(vae: ModelMixin, squares: Pixels) -> Pixels:
    """`(n, size, size, 3)` images after a pass through the autoencoder."""
    found = [np.zeros((0, *squares.shape[1:]), np.uint8)]
    for first in range(0, len(squares), _BATCH):
        latents = encode_images(vae, squares[first : first + _BATCH]).to(vae.device, vae.dtype)
        sample = vae.decode(latents).sample.float().cpu().clamp(-1, 1)
        found.append(((sample + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(found)


def same_entities(
    items: TrainingItems, questions: Collection[Question], item_ids: Sequence[str], entities: Entities
) -> dict[str, int]:
    """For each of some items, the index of a training item with the same style and subject, if there is one.

    It is drawn among all that share an entity of every question, by a generator with a fixed seed.
    """
    having: dict[str, dict[str, set[int]]] = {question.label: {} for question in questions}
    place = {item: index for index, item in enumerate(items.item_ids)}
    for question in questions:
        for item, own in items.entities.get(question.label, {}).items():
            for entity in own:
                having[question.label].setdefault(entity, set()).add(place[item])
    found, generator = {}, np.random.default_rng(0)
    for item_id in item_ids:
        possible = [
            set().union(
                *(having[q.label].get(e, ()) for e in entities.get(q.label, {}).get(item_id, ()) if e in q.classes)
            )
            for q in questions
        ]
        if alike := sorted(set.intersection(*possible)) if possible else []:
            found[item_id] = int(generator.choice(alike))
    return found
