"""The settings of a sampler: what is out of range, or not a number, is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from graphstore.projection.settings import DEFAULT_WALK, WalkSettings
from graphstore.sampling.settings import SamplerSettings

NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 10**9, "pool": 10**9},
        {"k": NAN},
        {"pool": 3},
        {"seed": 2**64},
        {"seed": -1},
        {"image_required": False},
        {"mode": "best"},
        {"damping_factor": 1.0},
        {"damping_factor": NAN},
        {"entity_exponent": NAN},
        {"epsilon": 0.0},
        {"epsilon": 1e9},
        {"neighbor_splits": ()},
        {"relation_weights": {"CREATED_BY": NAN}},
        {"relation_weights": {"CREATED_BY": -1.0}},
        {"relation_weights": {"CREATED_BY": INFINITE}},
        {"relation_weights": {"CREATED_BY": 1e300}},
        {"relation_weights": {"CREATED_BY": 1e-300}},
        {"neighbor_splits": ("training",)},
        {"query": "sound"},
        {"via": ()},
        {"directions": {"CREATED_BY": "sideways"}},
        {"epsilon": NAN},
        {"unknown": 1},
    ],
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SamplerSettings(**{"encoder": "test", **wrong})


@pytest.mark.parametrize("mode", ["semantic", "semantic-ppr"])
def test_comparing_images_needs_an_encoder(mode: Any) -> None:
    with pytest.raises(ValidationError, match="needs an encoder"):
        SamplerSettings(mode=mode)


def test_limits_are_allowed() -> None:
    SamplerSettings(encoder="test", k=1_000, pool=2_000, epsilon=1e-12, seed=2**63 - 1)
    SamplerSettings(mode="random", k=1, pool=1, epsilon=1, image_required=False)
    WalkSettings(relation_weights={"A": 0, "B": 1e-6, "C": 1e6}, damping_factor=0.99, entity_exponent=-2)


def test_settings_do_not_change_and_are_walk_settings() -> None:
    settings = SamplerSettings(mode="ppr")
    with pytest.raises(ValidationError, match="frozen"):
        settings.k = 6  # type: ignore[misc]
    assert {name: getattr(settings, name) for name in WalkSettings.model_fields} == dict(DEFAULT_WALK)
