from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel

from model.networks.graph_qformer import GraphQFormer
from model.networks.neighbor_detail import DETAILS, detail_shape, latent_detail


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


@settings(max_examples=20)
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


def inputs(neighbors: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(50, (2, 9), generator=generator), torch.randn(2, neighbors, 7, generator=generator)


def test_no_mask_means_all(qformer: GraphQFormer) -> None:
    ids, neighbors = inputs()
    assert torch.equal(qformer(ids, neighbors), qformer(ids, neighbors, torch.ones(2, 4)))


@settings(max_examples=20)
@given(order=st.permutations(range(4)))
def test_neighbors_have_no_order(qformer: GraphQFormer, order: list[int]) -> None:
    ids, neighbors = inputs()
    torch.testing.assert_close(qformer(ids, neighbors[:, order]), qformer(ids, neighbors), atol=1e-5, rtol=1e-5)


weights_of_neighbors = st.lists(st.sampled_from([0.0, 1e-30, 0.01, 0.5, 1.0, 2.0]), min_size=4, max_size=4)


@settings(max_examples=30)
@given(weights=st.lists(weights_of_neighbors, min_size=2, max_size=2), factor=st.sampled_from([0.01, 3.0]))
def test_weights(qformer: GraphQFormer, weights: list[list[float]], factor: float) -> None:
    """Weight 0 is as if absent, only proportions count, and nothing is ever NaN."""
    ids, neighbors = inputs()
    neighbor_weights = torch.tensor(weights, dtype=torch.float64)
    tokens = qformer(ids, neighbors, neighbor_weights=neighbor_weights)
    assert tokens.isfinite().all()
    scaled = qformer(ids, neighbors, neighbor_weights=neighbor_weights * factor)
    torch.testing.assert_close(tokens, scaled, atol=1e-5, rtol=1e-5)
    masked = qformer(ids, neighbors, neighbor_weights > 0)
    if all(weight in (0.0, 1.0) for row in weights for weight in row):
        torch.testing.assert_close(tokens, masked, atol=1e-5, rtol=1e-5)
    for sample, row in enumerate(neighbor_weights):
        kept = row > 0
        if kept.any():
            one = slice(sample, sample + 1)
            alone = qformer(ids[one], neighbors[one, kept], neighbor_weights=row[None, kept])
            torch.testing.assert_close(tokens[sample], alone[0], atol=1e-5, rtol=1e-5)
        else:
            assert not tokens[sample].any()


def test_equal_weights_are_none(qformer: GraphQFormer) -> None:
    ids, neighbors = inputs()
    for weight in (1, 0.25):
        tokens = qformer(ids, neighbors, neighbor_weights=torch.full((2, 4), weight))
        torch.testing.assert_close(tokens, qformer(ids, neighbors), atol=1e-5, rtol=1e-5)


def test_a_whole_weight_is_so_many_copies(qformer: GraphQFormer) -> None:
    ids, neighbors = inputs(2)
    copies = neighbors[:, [0, 0, 0, 1]]
    weighted = qformer(ids, neighbors, neighbor_weights=torch.tensor([[3.0, 1.0]] * 2))
    torch.testing.assert_close(weighted, qformer(ids, copies), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_small_weights_in_short_formats(dtype: torch.dtype) -> None:
    qformer = GraphQFormer.from_text_encoder(text_encoder(), neighbor_dim=7).eval().to(dtype)
    ids, neighbors = inputs(2)
    tokens = qformer(ids, neighbors.to(dtype), neighbor_weights=torch.tensor([[1e-9, 1e-9], [0.0, 0.0]]))
    assert tokens.dtype == dtype
    assert tokens[0].isfinite().all()
    torch.testing.assert_close(tokens[0], qformer(ids, neighbors.to(dtype))[0], atol=2e-2, rtol=2e-2)
    assert not tokens[1].any()


def test_relation_types_start_without_effect_and_learn() -> None:
    source = text_encoder()
    torch.manual_seed(2)
    plain = GraphQFormer.from_text_encoder(source, neighbor_dim=7).eval()
    typed = GraphQFormer.from_text_encoder(source, neighbor_dim=7, relation_types=["CREATED_BY", "IN_GENRE"]).eval()
    assert typed.config.relation_types == ["CREATED_BY", "IN_GENRE"]
    missing, unexpected = typed.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["relation_embedding.weight"], [])
    ids, neighbors = inputs()
    types = torch.tensor([[0, 1, 2, 1], [2, 2, 0, 0]])
    assert torch.equal(typed(ids, neighbors, neighbor_types=types), plain(ids, neighbors))

    optimizer = torch.optim.AdamW(typed.parameters(), lr=0.1)
    typed(ids, neighbors, neighbor_types=types)[..., 0].square().sum().backward()
    optimizer.step()
    assert not typed.relation_embedding.weight[0].any()
    assert typed.relation_embedding.weight[1:].all(dim=1).all()
    without = typed(ids, neighbors)
    assert torch.equal(typed(ids, neighbors, neighbor_types=torch.zeros_like(types)), without)
    assert not torch.allclose(typed(ids, neighbors, neighbor_types=types), without, atol=1e-3)


def test_texts_only_and_images_and_texts() -> None:
    ids, images = inputs()
    texts = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]])
    by_texts = GraphQFormer.from_text_encoder(text_encoder(), None, neighbor_text_dim=5).eval()
    assert by_texts.neighbor_projection is None
    tokens = by_texts(ids, None, mask, neighbor_text_embeds=texts)
    torch.testing.assert_close(tokens[:1], by_texts(ids[:1], neighbor_text_embeds=texts[:1, :2]), atol=1e-5, rtol=1e-5)
    assert not tokens[1].any()

    by_both = GraphQFormer.from_text_encoder(text_encoder(), 7, neighbor_text_dim=5).eval()
    tokens = by_both(ids, images, mask, neighbor_text_embeds=texts)
    alone = by_both(ids[:1], images[:1, :2], neighbor_text_embeds=texts[:1, :2])
    torch.testing.assert_close(tokens[:1], alone, atol=1e-5, rtol=1e-5)
    for changed in ({"images": -images}, {"texts": -texts}):
        other = by_both(ids, changed.get("images", images), mask, neighbor_text_embeds=changed.get("texts", texts))
        assert not torch.allclose(other[0], tokens[0], atol=1e-3)


def test_graph_tokens_of_another_size() -> None:
    qformer = GraphQFormer.from_text_encoder(text_encoder(), neighbor_dim=7, output_dim=40)
    ids, neighbors = inputs()
    tokens = qformer(ids, neighbors, torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]]))
    assert tokens.shape == (2, 9, 40)
    assert qformer.token_size == 40
    assert not tokens[1].any()  # whatever the map's bias is
    assert qformer(ids, neighbors[:, :0]).shape == (2, 9, 40)


def test_the_first_layers_alone() -> None:
    source = text_encoder()
    qformer = GraphQFormer.from_text_encoder(source, 7, num_hidden_layers=2, cross_attention_freq=5)
    assert [layer.cross_attn is not None for layer in qformer.layers] == [True, False]
    assert torch.equal(qformer.layers[1].mlp.fc1.weight, source.encoder.layers[1].mlp.fc1.weight)
    with pytest.raises(ValueError, match="num_hidden_layers is 4, the text encoder has 3"):
        GraphQFormer.from_text_encoder(source, 7, num_hidden_layers=4)


def test_gradient_checkpointing_changes_nothing() -> None:
    ids, neighbors = inputs()
    gradients = []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        qformer = GraphQFormer.from_text_encoder(text_encoder(), neighbor_dim=7)
        if checkpointed:
            qformer.enable_gradient_checkpointing()
        qformer(ids, neighbors).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in qformer.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"neighbor_dim": None}, "both None"),
        ({"neighbor_dim": 7, "tokens_per_neighbor": 0}, "at least 1"),
        ({"neighbor_dim": 7, "cross_attention_freq": 0}, "at least 1"),
    ],
)
def test_settings_that_make_no_model(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GraphQFormer(**settings_, vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)


def test_inputs_of_another_model(qformer: GraphQFormer) -> None:
    ids, neighbors = inputs()
    with pytest.raises(ValueError, match="needs neighbor_embeds"):
        qformer(ids)
    with pytest.raises(ValueError, match="takes no neighbor_text_embeds"):
        qformer(ids, neighbors, neighbor_text_embeds=neighbors)
    with pytest.raises(ValueError, match="made without relation_types"):
        qformer(ids, neighbors, neighbor_types=torch.zeros(2, 4, dtype=torch.int64))


def test_standardized_neighbors() -> None:
    """Where they are on a sphere, and how spread out, makes no difference; what tells them apart does."""
    torch.manual_seed(0)
    ids, embeds = torch.randint(50, (2, 9)), torch.randn(2, 3, 7)
    model = GraphQFormer.from_text_encoder(text_encoder(), 7, standardize_neighbors=True).eval()
    projection = model.neighbor_projection
    assert projection is not None
    projection.set_statistics(embeds.flatten(0, 1))
    before = model(ids, embeds)
    moved = 0.05 * embeds + 3.0
    projection.set_statistics(moved.flatten(0, 1))
    torch.testing.assert_close(model(ids, moved), before, atol=1e-3, rtol=0)
    assert not torch.allclose(model(ids, moved.flip(0)), before, atol=1e-2)
    copy = GraphQFormer.from_config(model.config).eval()
    copy.load_state_dict(model.state_dict())  # the statistics are among the weights
    torch.testing.assert_close(copy(ids, moved), before, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", DETAILS)
def test_detail_of_neighbors(kind: str) -> None:
    """Detail has a say, that of an absent neighbor has none, and without detail the model is what it was."""
    model = GraphQFormer.from_text_encoder(text_encoder(), 7, neighbor_detail=kind, latent_channels=3).eval()
    generator = torch.Generator().manual_seed(0)
    ids, embeds = torch.randint(50, (2, 9), generator=generator), torch.randn(2, 3, 7, generator=generator)
    detail = latent_detail(kind, torch.randn(6, 3, 8, 8, generator=generator)).unflatten(0, (2, 3))
    assert tuple(detail.shape[2:]) == model.detail_shape
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    seen = model(ids, embeds, mask, neighbor_detail=detail)
    absent, present = detail.clone(), detail.clone()
    absent[:, 2] += 1.0
    present[:, 1] *= -1.0
    torch.testing.assert_close(model(ids, embeds, mask, neighbor_detail=absent), seen)
    assert not torch.allclose(model(ids, embeds, mask, neighbor_detail=present)[0], seen[0], atol=1e-4)
    assert not seen[1].any()
    weights = mask.float()
    torch.testing.assert_close(model(ids, embeds, neighbor_detail=absent, neighbor_weights=weights), seen)
    with pytest.raises(ValueError, match="needs neighbor_detail"):
        model(ids, embeds)
    plain = GraphQFormer.from_text_encoder(text_encoder(), 7)
    assert not [name for name in plain.state_dict() if "detail" in name]
    with pytest.raises(ValueError, match="takes no neighbor_detail"):
        plain(ids, embeds, neighbor_detail=detail)


def test_what_detail_is() -> None:
    latents = torch.zeros(1, 2, 8, 8)
    latents[0, 0, :4] = 2.0  # the upper half, of the first channel
    torch.testing.assert_close(latent_detail("statistics", latents), torch.tensor([[[1.0, 0.0, 1.0, 0.0]]]))
    grid = latent_detail("latents", latents)
    assert grid[0, :, 0].tolist() == [2.0] * 8 + [0.0] * 8
    assert not grid[..., 1].any()
    with pytest.raises(ValueError, match="expected one of statistics, latents"):
        detail_shape("outline", 4)
