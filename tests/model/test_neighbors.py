from __future__ import annotations

import pytest

from model.neighbors import Neighbor, NeighborUse, neighbor_features


def test_weight_and_relation_of_neighbors() -> None:
    walked = [
        {"ppr": 0.2, "via": "CREATED_BY artist:a"},
        {"ppr": 0.1, "via": "CO_VIEWED"},
        {"ppr": 0.05, "via": "IN_GENRE genre:x > CREATED_BY artist:a"},
        {"ppr": 0.05, "via": "indirect"},
    ]
    weights, types = neighbor_features(walked, ["CO_VIEWED", "CREATED_BY"])
    assert weights == pytest.approx([1.0, 0.5, 0.25, 0.25])
    assert types == [2, 1, 0, 0]
    unwalked = [{"ppr": None, "via": "semantic"}, {"ppr": None, "via": "semantic"}]
    assert neighbor_features(unwalked, ["CO_VIEWED"]) == ([1.0, 1.0], [0, 0])
    assert neighbor_features([], ["CO_VIEWED"]) == ([], [])


def test_a_model_of_images_is_not_shown_neighbors_without_one() -> None:
    neighbors = (Neighbor("a", None, text="an a"), Neighbor("b", "f00", text="a b"), Neighbor("c", "f01", text="a c"))
    by_image = NeighborUse(1, images=True, texts=False, weights=False, relation_types=())
    assert by_image.seen(neighbors) == (Neighbor("b", "f00"),)
    by_text = NeighborUse(2, images=False, texts=True, weights=False, relation_types=())
    assert [neighbor.item_id for neighbor in by_text.seen(neighbors)] == ["a", "b"]
