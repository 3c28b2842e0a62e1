from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import Graph2ImageError
from model.config import load_train_config, preset_names


def test_every_preset_is_valid() -> None:
    assert "mini" in preset_names()
    for name in preset_names():
        assert load_train_config(name).preset == name


def test_a_file_changes_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "mini"\nseed = 7\n[optimization]\nsteps = 11\n[unet]\nblock_out_channels = [64]\n')
    config, preset = load_train_config(path), load_train_config("mini")
    assert (config.seed, config.optimization.steps, config.unet.block_out_channels) == (7, 11, (64,))
    assert config.optimization.learning_rate == preset.optimization.learning_rate
    assert config.autoencoder == preset.autoencoder


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[optimization]\nstep = 3", r"optimization\.step: unknown key"),
        ("colour = 3", "colour: unknown key"),
        ('[optimization]\nsteps = "many"', r"optimization\.steps: .*integer"),
        ("optimization = 3", "optimization: "),
        ("[optimization]\ntext_dropout = 0.9", "add up to more than 1"),
        ('[diffusion]\nprediction_type = "epsilon"', "zero terminal SNR"),
        ("image_size = 60", "image_size: .*multiple of 8"),
        ("seed = = 3", "cannot read"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'preset = "mini"\n{content}\n')
    with pytest.raises(Graph2ImageError, match=message) as error:
        load_train_config(path)
    assert str(path) in str(error.value)


def test_missing_file_and_unknown_preset(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="no configuration file") as error:
        load_train_config(tmp_path / "nope.toml")
    assert "mini" in str(error.value.hint)
    path = tmp_path / "mine.toml"
    path.write_text('preset = "huge"')
    with pytest.raises(Graph2ImageError, match="preset is 'huge'"):
        load_train_config(path)


def test_the_example_is_valid() -> None:
    config = load_train_config(Path(__file__).parents[2] / "examples" / "fashion-train.toml")
    assert config.preset == "mini"
