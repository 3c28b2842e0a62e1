"""Neighbors' detail, from training to generation: what a model was trained on is what it is given later."""

from __future__ import annotations

import pytest
import torch
from tiny_data import CONFIG, NEIGHBORS, TinyData

from ingest.images.loading import image_paths, open_image
from model.generation.generate import generate
from model.generation.requests import GenerationRequest, GenerationSettings
from model.generation.variants import Variant
from model.neighbors import Neighbor
from model.pipeline import Graph2ImagePipeline
from model.training.train import train


@pytest.mark.slow
def test_detail_is_trained_published_and_given(tiny: TinyData) -> None:
    options = 'max_neighbors = 3\nneighbor_detail = "latents"\nstandardize = true'
    tiny.config_path.write_text(CONFIG.replace("max_neighbors = 3", options))
    report = train(tiny.root, tiny.config, NEIGHBORS)
    assert report.steps == 6
    pipeline = Graph2ImagePipeline.from_pretrained(tiny.root.path("models", report.model_id))
    pipeline.set_progress_bar_config(disable=True)

    paths, hashes = image_paths(tiny.root), tiny.image_hashes[4:7]
    images = [open_image(tiny.root, paths[image_hash]) for image_hash in hashes]
    detail = pipeline.encode_detail(images)
    assert tuple(detail.shape[1:]) == pipeline.graph_encoder.detail_shape
    # The training's standardization is by the same numbers, so those of its images are about 0 with variance 1.
    projection = pipeline.graph_encoder.detail_projection
    assert ((detail - projection.mean) / projection.std).abs().mean() < 2

    start = torch.randn(1, *pipeline._latent_shape(None, None), generator=torch.Generator().manual_seed(0))
    arguments = {"latents": start, "num_inference_steps": 2, "output_type": "latent"}
    given = pipeline("a thing", images, **arguments).images
    embeds = pipeline.encode_neighbors(images)[None]
    computed = pipeline("a thing", neighbor_embeds=embeds, neighbor_detail=detail[None], **arguments).images
    torch.testing.assert_close(given, computed)
    other = pipeline("a thing", neighbor_embeds=embeds, neighbor_detail=-detail[None], **arguments).images
    assert not torch.equal(other, given)
    with pytest.raises(ValueError, match=r"needs neighbor_detail.*encode_detail"):
        pipeline("a thing", neighbor_embeds=embeds, **arguments)
    with pytest.raises(ValueError, match=r"neighbor_detail is \(1, 2, .*expected \(1, 3"):
        pipeline("a thing", neighbor_embeds=embeds, neighbor_detail=detail[None, :2], **arguments)

    sets = tuple(tuple(Neighbor(tiny.item_ids[at], tiny.image_hashes[at]) for at in some) for some in ((4, 5), (6,)))
    request = GenerationRequest(tiny.item_ids[0], tiny.texts[0], Variant.mix(1.5, (2, 1)), sets)
    settings = GenerationSettings(num_inference_steps=2, device="cpu")
    assert generate(tiny.root, report.model_id, [request], settings).new == 1
