"""Study files: the examples, what a variant comes to, and errors that name the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.study.config import load_study
from ingest.errors import Graph2ImageError
from ingest.readers.tablespec import load_spec
from model.generation.variants import Variant

EXAMPLES = Path(__file__).parents[3] / "examples"
BASE = 'base = "mini"\n'


def written(folder: Path, content: str) -> Path:
    path = folder / "study.toml"
    path.write_text(BASE + content)
    return path


def test_the_spec_of_semart_is_valid() -> None:
    assert load_spec(EXAMPLES / "semart.toml").split.column == "SPLIT"


@pytest.mark.parametrize("path", sorted((EXAMPLES / "studies").glob("*.toml")), ids=lambda path: path.stem)
def test_the_example_studies_are_whole(path: Path) -> None:
    study = load_study(path)
    name, size = path.stem.split("-")
    assert {variant.training.preset for variant in study.variants} == {size}
    assert len(study.variants) >= {"main": 3, "components": 9, "sampling": 4, "controllability": 11}[name]
    names = {variant.name for variant in study.variants}
    assert study.comparisons
    assert all(names.issuperset(pair) for pair in study.comparisons)


def test_there_are_all_studies_at_both_sizes() -> None:
    found = {path.stem for path in (EXAMPLES / "studies").glob("*.toml")}
    names = ("main", "components", "sampling", "controllability")
    assert found == {f"{name}-{size}" for name in names for size in ("sd15", "mini")}


def test_a_variant_changes_the_base_key_by_key(tmp_path: Path) -> None:
    study = load_study(
        written(
            tmp_path,
            """
            [training.optimization]
            steps = 7
            [sampling]
            k = 3
            [[variant]]
            name = "a"
            [[variant]]
            name = "b"
            training.graph_encoder.max_neighbors = 0
            sampling.mode = "random"
            generation = { neighbors = "mixed", share = 0.25 }
            [[sweep]]
            name = "scale"
            key = "generation.graph_guidance_scale"
            values = [0, 2.5]
            """,
        )
    )
    first, second, *swept = study.variants
    assert (first.training.optimization.steps, first.training.graph_encoder.max_neighbors) == (7, 5)
    assert (second.training.optimization.steps, second.training.graph_encoder.max_neighbors) == (7, 0)
    assert second.sampling == {"k": 3, "mode": "random"}
    assert second.generation.variant == Variant("mix", 1.5, (0.25, 0.75))
    assert [(one.name, one.generation.variant) for one in swept] == [
        ("scale 0", Variant("graph", 0.0)),
        ("scale 2.5", Variant("graph", 2.5)),
    ]
    assert study.comparisons == (("a", "b"), ("a", "scale 0"), ("a", "scale 2.5"))
    assert "generation.graph_guidance_scale = 2.5" in swept[1].changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there is no variant"),
        ("[[variant]]\nname = 'a'\n[[variant]]\nname = 'a'", "two variants are called 'a'"),
        ("[[variant]]\nname = 'a'\ntraning.steps = 1", r"variant 1\.traning: unknown key"),
        ("metrics = ['sharpness']\n[[variant]]\nname = 'a'", r"metrics 1: Input should be 'style'"),
        ("[[variant]]\nname = 'a'\n[[comparison]]\nvariant = 'a'\nbaseline = 'b'", "comparison 1: baseline: .* 'b'"),
        (
            "[[variant]]\nname = 'a'\ntraining.optimization.stepz = 1",
            r"variant 1 \('a'\): training: optimization\.stepz",
        ),
        ("[[variant]]\nname = 'a'\nsampling.mode = 'best'", r"variant 1 \('a'\): sampling: mode"),
        ("[[variant]]\nname = 'a'\ngeneration.scale = 2", r"variant 1 \('a'\): generation: scale: unknown key"),
        ("[[variant]]\nname = 'a'\ngeneration.scheduler = 'x'", r"generation: there is no scheduler 'x'"),
        ("[[variant]]\nname = 'a'\ntraining.preset = 'sd15'", r"training\.preset"),
        ("[[sweep]]\nname = 's'\nkey = 'generation.x'\nvalues = [1, 2]", r"sweep 1, generation\.x = 1 .*unknown key"),
        ("training_seeds = [1, 1]\n[[variant]]\nname = 'a'", "training_seeds"),
        ("items = 1\n[[variant]]\nname = 'a'", "items"),
    ],
)
def test_what_is_wrong_is_named_before_anything_runs(tmp_path: Path, content: str, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(Graph2ImageError, match=message) as error:
        load_study(path)
    assert str(path) in error.value.message


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="there is no study file"):
        load_study(tmp_path / "none.toml")
    (tmp_path / "study.toml").write_text('base = "other.toml"\n[[variant]]\nname = "a"')
    with pytest.raises(Graph2ImageError, match=r"there is no configuration file .*other\.toml"):
        load_study(tmp_path / "study.toml")
