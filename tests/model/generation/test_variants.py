from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.generation.variants import TEXT, TOP_NEIGHBOR, Variant

VARIANTS = [
    TEXT,
    Variant("graph", 1.0),
    Variant("graph", 1.5),
    Variant("shuffled", 1.5),
    Variant.mix(1.5, (1, 0)),
    Variant.mix(1.5, (7, 3)),
    Variant.mix(1.5, (0, 1)),
    TOP_NEIGHBOR,
]


def test_labels_and_order() -> None:
    backwards = VARIANTS[::-1]
    labels = [variant.label for variant in sorted(backwards, key=lambda variant: variant.sort_key)]
    assert labels == [
        "text", "graph-1", "graph-1.5", "shuffled", "mix-100-0", "mix-70-30", "mix-0-100", "top-neighbor",
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=5).filter(lambda parts: sum(parts) > 1e-3), st.floats(0, 20))
def test_a_mixture_splits_its_scale(parts: list[float], scale: float) -> None:
    variant = Variant.mix(scale, parts)
    assert sum(variant.graph_guidance_scales) == pytest.approx(scale)
    assert len(variant.graph_guidance_scales) == len(parts)
    assert Variant.of_row(variant.columns()) == variant


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.label)
def test_a_row_has_the_fields(variant: Variant) -> None:
    assert Variant.of_row(variant.columns()) == variant


def test_a_row_of_an_earlier_version_has_no_variant() -> None:
    assert Variant.of_row({"variant": "graph-1.5", "kind": None}) is None


@pytest.mark.parametrize(
    "fields",
    [
        ("drawing",),
        ("text", 1.0, (1.0,)),
        ("mix", 1.0),
        ("mix", 1.0, (0.5, 0.2)),
        ("mix", 1.0, (1.5, -0.5)),
        ("graph", float("nan")),
    ],
    ids=str,
)
def test_fields_that_do_not_fit_together(fields: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"variant|shares|scale"):
        Variant(*fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("parts", [(), (0.0, 0.0), (-1.0, 2.0), (float("inf"), 1.0)])
def test_parts_that_are_no_mixture(parts: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="parts of a mixture"):
        Variant.mix(1.5, parts)
