from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import Graph2ImageError
from model.training.config import load_train_config, preset_names

UNET = """block_out_channels = [32]
down_block_types = ["CrossAttnDownBlock2D"]
up_block_types = ["CrossAttnUpBlock2D"]
layers_per_block = 1
attention_heads = 2
"""
TRANSFORMER = "patch_size = 2\nnum_layers = 2\nnum_attention_heads = 2\nattention_head_dim = 8"


def test_every_preset_is_valid() -> None:
    assert preset_names() == ["foundation", "mini", "sd15", "sdxl"]
    for name in preset_names():
        assert load_train_config(name).preset == name


def test_a_file_changes_its_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "mini"\nseed = 7\n[optimization]\nsteps = 11\n[unet]\nblock_out_channels = [64]\n')
    config, preset = load_train_config(path), load_train_config("mini")
    assert config.unet is not None
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
        ("[optimization]\nsteps = 3\ncoarse_steps = 4", "coarse_steps is 4, of 3 steps"),
        ("image_size = 72\n[optimization]\ncoarse_steps = 4", "coarse_steps needs an image_size"),
        ("image_size = 60", "image_size: .*multiple of 8"),
        ("seed = = 3", "cannot read"),
        ('[graph_encoder]\nneighbor_content = "sounds"', r"graph_encoder\.neighbor_content: .*'images'"),
        ('[graph_encoder]\nneighbor_detail = "latents"\nkind = "projection"', "needs a Graph-QFormer that looks"),
        ('[graph_encoder]\nneighbor_detail = "latents"\nneighbor_content = "texts"', "looks at neighbors' images"),
        ('[optimization]\nschedule = "linear"', r"optimization\.schedule: .*'cosine'"),
        ('[optimization]\noptimizer = "sgd"', r"optimization\.optimizer: .*'adamw'"),
        ("[optimization]\ngradient_accumulation = 0", r"optimization\.gradient_accumulation: .*greater"),
        ("[optimization]\nema_decay = 1.0", r"optimization\.ema_decay: .*less than 1"),
        ('[optimization]\ntrainable = "lora"', "needs a base model"),
        ('base_model = "x"\n[autoencoder]\nchannels = 16', r"autoencoder\.latent_channels: is missing"),
        ('base_model = "x"\n[unet]\n' + UNET, r"brings its own parts: leave out \[unet\]"),
        ("[transformer]\npatch_size = 2", r"transformer\.num_layers: is missing"),
        ("[transformer]\n" + TRANSFORMER + "\n[unet]\n" + UNET, r"one of \[unet\] and \[transformer\]"),
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
    config = load_train_config(Path(__file__).parents[3] / "examples" / "fashion-train.toml")
    assert config.preset == "mini"


def test_the_papers_numbers() -> None:
    config = load_train_config("sd15")
    encoder, optimization = config.graph_encoder, config.optimization
    assert config.base_model is not None
    assert "stable-diffusion-v1-5" in config.base_model
    assert (config.image_size, encoder.max_neighbors, encoder.tokens_per_neighbor) == (256, 5, 4)
    assert (encoder.cross_attention_freq, encoder.num_hidden_layers, encoder.neighbor_content) == (2, 12, "images")
    assert not encoder.neighbor_weights
    assert not encoder.relation_types
    assert (optimization.learning_rate, optimization.schedule, optimization.weight_decay) == (1e-5, "constant", 0.01)
    assert (optimization.batch_size, optimization.gradient_accumulation, optimization.trainable) == (16, 4, "full")
    assert (optimization.samples(0), optimization.snr_gamma, optimization.ema_decay) == (64, 0, 0)


def test_a_base_model_or_another_network_takes_the_place_of_the_presets(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "mini"\nbase_model = "somewhere"\n[optimization]\ntrainable = "lora"')
    config = load_train_config(path)
    assert (config.base_model, config.unet, config.autoencoder, config.diffusion) == ("somewhere", None, None, None)
    path.write_text(f'preset = "mini"\n[transformer]\n{TRANSFORMER}')
    config = load_train_config(path)
    assert config.unet is None
    assert config.transformer is not None
    assert config.autoencoder == load_train_config("mini").autoencoder
    path.write_text(f'preset = "sd15"\n[unet]\n{UNET}')
    with pytest.raises(Graph2ImageError, match=r"without a base model, \[autoencoder\] and \[diffusion\]"):
        load_train_config(path)
