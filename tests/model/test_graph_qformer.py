from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from model.graph_qformer import GraphQFormer


def text_encoder(layers: int = 3) -> CLIPTextModel:
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=50,
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=3,
        max_position_embeddings=9,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config).eval()


@pytest.fixture(scope="module")
def qformer() -> GraphQFormer:
    return GraphQFormer.from_text_encoder(text_encoder(), neighbor_dim=7, tokens_per_neighbor=2).eval()


def test_starts_as_the_text_encoder() -> None:
    source = text_encoder()
    qformer = GraphQFormer.from_text_encoder(source, neighbor_dim=7).eval()
    for layer in qformer.layers:
        if layer.cross_attn is not None:  # what the neighbors add; without it the two are one function
            torch.nn.init.zeros_(layer.cross_attn.out_proj.weight)
            torch.nn.init.zeros_(layer.cross_attn.out_proj.bias)
    ids = torch.randint(50, (2, 9))
    torch.testing.assert_close(qformer(ids, torch.randn(2, 3, 7)), source(ids).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_cross_attention_every_second_layer(qformer: GraphQFormer) -> None:
    assert [layer.cross_attn is not None for layer in qformer.layers] == [True, False, True]


@settings(max_examples=20, deadline=None)
@given(mask=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=2, max_size=2))
def test_masked_neighbors_do_not_count(qformer: GraphQFormer, mask: list[list[bool]]) -> None:
    generator = torch.Generator().manual_seed(0)
    ids, neighbors = torch.randint(50, (2, 9), generator=generator), torch.randn(2, 4, 7, generator=generator)
    neighbor_mask = torch.tensor(mask)
    other = torch.where(neighbor_mask[..., None], neighbors, torch.full_like(neighbors, 9.0))
    tokens = qformer(ids, neighbors, neighbor_mask)
    torch.testing.assert_close(tokens, qformer(ids, other, neighbor_mask))
    for sample, kept in enumerate(neighbor_mask):
        if kept.any():
            alone = qformer(ids[sample : sample + 1], neighbors[sample : sample + 1, kept])
            torch.testing.assert_close(tokens[sample], alone[0], atol=1e-5, rtol=1e-5)
        else:
            assert not tokens[sample].any()


def test_no_neighbor_slots_at_all(qformer: GraphQFormer) -> None:
    tokens = qformer(torch.zeros(2, 9, dtype=torch.int64), torch.zeros(2, 0, 7))
    assert tokens.shape == (2, 9, 24)
    assert not tokens.any()


def test_gradients_are_finite_beside_a_sample_without_neighbors() -> None:
    qformer = GraphQFormer.from_text_encoder(text_encoder(), neighbor_dim=7)
    mask = torch.tensor([[True, True], [False, False]])
    qformer(torch.zeros(2, 9, dtype=torch.int64), torch.randn(2, 2, 7), mask).square().sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in qformer.parameters())


def test_save_and_load(qformer: GraphQFormer, tmp_path: Path) -> None:
    qformer.save_pretrained(tmp_path)
    loaded = GraphQFormer.from_pretrained(tmp_path)
    ids, neighbors = torch.randint(50, (1, 9)), torch.randn(1, 4, 7)
    assert torch.equal(loaded(ids, neighbors), qformer(ids, neighbors))


@pytest.mark.skipif("GRAPH2IMAGE_SHARED" not in os.environ, reason="needs the reference implementation's outputs")
def test_matches_the_reference_implementation() -> None:
    folder = Path(os.environ["GRAPH2IMAGE_SHARED"]) / "reference"
    expected = load_file(folder / "reference.safetensors")
    theirs = torch.load(folder / "checkpoint/gnn/ckpt.pt", weights_only=True)
    projection = torch.load(folder / "checkpoint/image_proj_model/ckpt.pt", weights_only=True)
    renamed = {
        name.removeprefix("text_model.")
        .replace("encoder.layers", "layers")
        .replace("crossattention", "cross_attn")
        .replace("embeddings.", ""): value
        for name, value in theirs.items()
    }
    qformer = GraphQFormer(
        neighbor_dim=24,
        tokens_per_neighbor=4,
        cross_attention_freq=2,
        vocab_size=514,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
    )
    qformer.load_state_dict(renamed | {f"neighbor_projection.{name}": value for name, value in projection.items()})
    for suffix in ("", "_b"):
        tokens = qformer(
            expected["input_ids"], expected[f"neighbor_embeds{suffix}"], expected[f"neighbor_mask{suffix}"]
        )
        torch.testing.assert_close(tokens, expected[f"graph_tokens{suffix}"], atol=1e-4, rtol=0)
