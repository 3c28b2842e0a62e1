"""The training loop itself, on arrays and networks made here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import HIDDEN, POOLED, STRUCTURES, Structure, graph_encoder, parts

from ingest.datasets.root import DataRoot
from ingest.encoders.resuming import Checkpoints, State
from ingest.errors import Graph2ImageError
from model.training.arrays import TrainingArrays
from model.training.build import build_scheduler, choose_trainable
from model.training.config import OptimizationConfig, load_train_config
from model.training.optimization import (
    explain_out_of_memory,
    learning_rate_factor,
    loss_weights,
    make_accelerator,
)
from model.training.trainer import Trainer

BASE = load_train_config("mini")
ITEMS, NEIGHBORS, DIM, LENGTH = 12, 3, 10, 12


def settings(**changes: Any) -> OptimizationConfig:
    defaults = {"steps": 4, "batch_size": 4, "warmup_steps": 1, "checkpoint_every": 1, "precision": "fp32"}
    return OptimizationConfig.model_validate(BASE.optimization.model_dump() | defaults | changes)


def arrays(structure: Structure = "sd15", *, everything: bool = False) -> TrainingArrays:
    draw = torch.Generator().manual_seed(0)
    hidden = HIDDEN + 24 if structure == "sdxl" else HIDDEN
    return TrainingArrays(
        item_ids=np.array([f"toy:{index}" for index in range(ITEMS)], "S"),
        latents=torch.randn(ITEMS, 4, 4, 4, generator=draw).half(),
        latent_index=torch.arange(ITEMS),
        coarse_latents=torch.randn(ITEMS, 4, 2, 2, generator=draw).half(),
        text_index=torch.arange(ITEMS) % 5,
        input_ids=torch.randint(514, (5, LENGTH), generator=draw, dtype=torch.int32),
        text_hidden=torch.randn(5, LENGTH, hidden, generator=draw).half(),
        text_pooled=torch.randn(5, POOLED, generator=draw) if structure == "sdxl" else None,
        neighbor_counts=torch.arange(ITEMS) % (NEIGHBORS + 1),
        neighbor_index=torch.randint(7, (ITEMS, NEIGHBORS), generator=draw),
        embeddings=torch.cat([torch.randn(7, DIM, generator=draw), torch.zeros(1, DIM)]),
        neighbor_text_index=torch.randint(5, (ITEMS, NEIGHBORS), generator=draw) if everything else None,
        text_summary=torch.cat([torch.randn(5, HIDDEN, generator=draw), torch.zeros(1, HIDDEN)])
        if everything
        else None,
        neighbor_weights=torch.rand(ITEMS, NEIGHBORS, generator=draw) + 0.1 if everything else None,
        neighbor_types=torch.randint(3, (ITEMS, NEIGHBORS), generator=draw, dtype=torch.int16) if everything else None,
    )


def trainer(structure: Structure = "sd15", *, everything: bool = False, **changes: Any) -> Trainer:
    found, config = parts(structure), settings(**changes)
    options: dict[str, Any] = {"output_dim": HIDDEN + 24 if structure == "sdxl" else HIDDEN}
    if everything:
        options |= {"neighbor_text_dim": HIDDEN, "relation_types": ("a", "b")}
    encoder = graph_encoder(found["text_encoder"], DIM, **options)
    choose_trainable(found["unet"], encoder, BASE.model_copy(update={"optimization": config}))
    return Trainer(found["unet"], encoder, DDIMScheduler.from_config(found["scheduler"].config), config, 0)


def run(tmp_path: Path, made: Trainer, data: TrainingArrays, kept: int = 9, **hooks: Any) -> int:
    return made.run(data, Checkpoints(DataRoot(str(tmp_path)), "training/x", kept), **hooks)


def all_weights(made: Trainer) -> dict[str, torch.Tensor]:
    modules = {"network": made.network, "graph": made.graph_encoder}
    return {f"{key}.{n}": p for key, module in modules.items() for n, p in module.state_dict().items()}


class StopError(Exception):
    pass


@pytest.mark.parametrize("trainable", ["full", "lora", "graph"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_is_trained_where_it_is_said(structure: Structure, trainable: str, tmp_path: Path) -> None:
    made = trainer(structure, trainable=trainable, ema_decay=0, learning_rate=1e-2)
    before = {name: value.clone() for name, value in all_weights(made).items()}
    assert run(tmp_path, made, arrays(structure)) == 4
    after = all_weights(made)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("graph.layers") for name in changed)
    assert any(name.startswith("graph.neighbor_projection") for name in changed)
    assert "graph.token_embedding.weight" not in changed
    of_network = {name for name in changed if name.startswith("network")}
    if trainable == "graph":
        assert not of_network
    elif trainable == "lora":
        assert of_network
        assert all("lora_" in name for name in of_network)
    else:
        assert len(of_network) > 0.9 * sum(name.startswith("network") for name in before)
    assert torch.isfinite(made.losses).all()


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["full", "lora", "graph"])
@pytest.mark.parametrize("ema_decay", [0.9, 0])
def test_stopped_and_resumed_ends_with_the_same_weights(trainable: str, ema_decay: float, tmp_path: Path) -> None:
    options = {"trainable": trainable, "ema_decay": ema_decay, "everything": True, "steps": 6}
    data = arrays(everything=True)
    whole = trainer(**options)
    run(tmp_path / "whole", whole, data)
    whole.finish()

    stopped = trainer(**options)

    def stop() -> None:
        if stopped.step == 3:
            raise StopError

    with pytest.raises(StopError):
        run(tmp_path / "stopped", stopped, data, on_checkpoint=stop)
    resumed = trainer(**options)
    assert run(tmp_path / "stopped", resumed, data) == 3
    resumed.finish()
    ours, theirs = all_weights(resumed), all_weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(resumed.losses, whole.losses)


def test_samples_between_steps_change_nothing(tmp_path: Path) -> None:
    data = arrays()
    plain, watched = trainer(), trainer(sample_every=1)

    def look() -> None:
        with watched.averaged():
            torch.rand(3)

    run(tmp_path / "a", plain, data)
    run(tmp_path / "b", watched, data, on_sample=look)
    assert all(torch.equal(value, all_weights(watched)[name]) for name, value in all_weights(plain).items())


def test_accumulation_equals_one_big_batch(tmp_path: Path) -> None:
    data = arrays(everything=True)
    big = trainer(everything=True, batch_size=8, gradient_accumulation=1)
    small = trainer(everything=True, batch_size=2, gradient_accumulation=4)
    run(tmp_path / "big", big, data)
    run(tmp_path / "small", small, data)
    torch.testing.assert_close(small.losses, big.losses, rtol=1e-4, atol=1e-5)
    # Adam's first steps are of the gradient's sign: where it is nearly nothing, rounding decides.
    differences = [(value - all_weights(big)[name]).abs().mean() for name, value in all_weights(small).items()]
    assert max(differences) < 0.02 * big.config.learning_rate * big.config.steps


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_micro_batches_are_the_whole_step(batch_size: int, accumulation: int, step: int) -> None:
    data = arrays()
    key = batch_size, accumulation
    made = TRAINERS.setdefault(key, None) or trainer(batch_size=batch_size, gradient_accumulation=accumulation)
    TRAINERS[key] = made
    micro_batches = made.micro_batches(data, step)
    sizes = [len(part.timesteps) for part in micro_batches]
    assert sum(sizes) == batch_size * accumulation
    assert max(sizes) <= min(sizes) + 1 <= batch_size + 1
    timesteps = torch.cat([part.timesteps for part in micro_batches]).sort().values
    strata = timesteps * batch_size * accumulation // 1000
    assert strata.tolist() == list(range(batch_size * accumulation))
    seen = torch.cat([part.batch.latents for part in micro_batches])
    expected = data.latents[data.indices(0, step * batch_size * accumulation, batch_size * accumulation)]
    assert sorted(map(str, seen.flatten(1).tolist())) == sorted(map(str, expected.flatten(1).tolist()))


def test_the_first_steps_see_four_times_the_samples_at_half_the_side() -> None:
    made, data = trainer(coarse_steps=2, batch_size=2, gradient_accumulation=2), arrays()
    seen = [torch.cat([part.batch.latents for part in made.micro_batches(data, step)]) for step in range(4)]
    assert [tuple(latents.shape) for latents in seen] == [(16, 4, 2, 2)] * 2 + [(4, 4, 4, 4)] * 2
    assert data.coarse_latents is not None
    order = data.indices(0, 0, 40)
    for step, (first, last) in enumerate([(0, 16), (16, 32), (32, 36), (36, 40)]):
        expected = (data.coarse_latents if step < 2 else data.latents)[order[first:last]]
        assert sorted(map(str, seen[step].flatten(1).tolist())) == sorted(map(str, expected.flatten(1).tolist()))


def test_stopped_between_the_sizes_and_resumed_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = arrays()
    whole, stopped, resumed = (trainer(coarse_steps=2) for _ in range(3))
    run(tmp_path / "whole", whole, data)
    for _ in range(2):
        stopped.train_step(data)
    checkpoints = Checkpoints(DataRoot(str(tmp_path / "stopped")), "training/x", 9)
    checkpoints.save(stopped.step, stopped.state())
    assert run(tmp_path / "stopped", resumed, data) == 2
    assert torch.equal(resumed.losses, whole.losses)
    expected = all_weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in all_weights(resumed).items())


TRAINERS: dict[tuple[int, int], Trainer | None] = {}


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_two_threads_give_the_weights_of_one(trainable: str, tmp_path: Path) -> None:
    data = arrays(everything=True)
    alone, together = (trainer(everything=True, trainable=trainable, batch_size=5) for _ in range(2))
    run(tmp_path / "alone", alone, data)
    torch.set_num_threads(2)
    try:
        run(tmp_path / "together", together, data)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    weights = all_weights(alone)
    assert all(torch.equal(value, weights[name]) for name, value in all_weights(together).items())
    assert torch.equal(alone.losses, together.losses)


def test_dropout_reaches_every_branch() -> None:
    made, data = trainer(text_dropout=0.2, graph_dropout=0.2, joint_dropout=0.2, batch_size=200), arrays()
    parts = made.micro_batches(data, 0)
    indices = torch.cat([data.indices(0, 0, 200)[number :: len(parts)] for number in range(len(parts))])
    texts = torch.cat([(part.batch.input_ids == data.input_ids[0]).all(dim=1) for part in parts])
    without_text = texts[data.text_index[indices] > 0]
    without_graph = torch.cat([~part.batch.neighbors.neighbor_mask.any(dim=1) for part in parts])
    assert 0.3 < without_text.float().mean() < 0.5
    assert 0.3 < without_graph[data.neighbor_counts[indices] > 0].float().mean() < 0.5
    counted = (data.text_index[indices] > 0) & (data.neighbor_counts[indices] > 0)
    branches = set(zip(texts[counted].tolist(), without_graph[counted].tolist(), strict=True))
    assert branches == {(False, False), (True, False), (False, True), (True, True)}


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    data = arrays()
    plain, frugal = trainer(), trainer(gradient_checkpointing=True)
    assert frugal.graph_encoder.gradient_checkpointing
    run(tmp_path / "a", plain, data)
    run(tmp_path / "b", frugal, data)
    torch.testing.assert_close(frugal.losses, plain.losses, rtol=1e-5, atol=1e-6)


def test_learning_rate() -> None:
    factors = [learning_rate_factor(step, 10, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == 1.0
    assert factors[54] == pytest.approx(0.5, abs=0.02)
    assert factors[-1] < 0.001
    assert learning_rate_factor(0, 0, 1) == 1.0
    constant = [learning_rate_factor(step, 10, 100, "constant") for step in range(100)]
    assert constant[:10] == factors[:10]
    assert set(constant[10:]) == {1.0}


def test_loss_weights() -> None:
    assert BASE.diffusion is not None
    scheduler = build_scheduler(BASE.diffusion)
    v = loss_weights(scheduler.alphas_cumprod, "v_prediction", 5.0)
    assert v.shape == (1000,)
    assert v[-1] == pytest.approx(1.0)  # also where there is no signal at all
    assert v.max() <= 1.0
    assert loss_weights(torch.tensor([0.5]), "epsilon", 5.0) == pytest.approx(1.0)
    assert loss_weights(torch.tensor([10 / 11]), "epsilon", 5.0) == pytest.approx(0.5)
    assert (loss_weights(scheduler.alphas_cumprod, "epsilon", 0.0) == 1).all()


def test_a_loss_that_is_not_finite_names_step_and_items(tmp_path: Path) -> None:
    data = arrays()
    data.latents[7] = math.nan
    made = trainer()
    with pytest.raises(Graph2ImageError, match=r"loss is nan at step [012]; its items: .*toy:7") as error:
        run(tmp_path, made, data)
    assert "learning_rate" in str(error.value.hint)
    for path in tmp_path.rglob("*.safetensors"):  # what was written before is sound
        state = Checkpoints(DataRoot(str(tmp_path)), "training/x", 1).load_newest()
        assert state is not None, path
        assert all(torch.isfinite(value).all() for name, value in state.tensors.items() if name != "losses")


def test_only_some_checkpoints_are_kept_and_a_torn_one_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(DataRoot(str(tmp_path)), "training/x", 2)
    for step in range(1, 5):
        checkpoints.save(step, State({"a": torch.full((3,), float(step))}, {"step": step}))
    folder = tmp_path / "training" / "x"
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint-00000003.safetensors",
        "checkpoint-00000004.safetensors",
    ]
    newest = folder / "checkpoint-00000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    state = checkpoints.load_newest()
    assert state is not None
    assert (state.numbers["step"], state.tensors["a"].tolist()) == (3, [3.0] * 3)
    assert "checkpoint-00000004" in caplog.text
    (folder / "checkpoint-00000003.safetensors").write_bytes(b"damaged")
    with pytest.raises(Graph2ImageError, match=r"cannot resume from .*checkpoint-00000004") as error:
        checkpoints.load_newest()
    assert "Delete" in str(error.value.hint)
    assert Checkpoints(DataRoot(str(tmp_path)), "training/other", 2).load_newest() is None


def test_checkpoints_on_another_filesystem() -> None:
    checkpoints = Checkpoints(DataRoot("memory://checkpoints"), "training/x", 1)
    for step in (1, 2):
        checkpoints.save(step, State({"a": torch.ones(2) * step}, {"step": step}))
    state = checkpoints.load_newest()
    assert state is not None
    assert state.numbers["step"] == 2
    assert len(checkpoints.data.fs.glob(checkpoints.data.path("training", "x", "*"))) == 1


def test_a_checkpoint_of_another_training(tmp_path: Path) -> None:
    run(tmp_path, trainer(), arrays())
    with pytest.raises(Graph2ImageError, match="of another training"):
        run(tmp_path, trainer(trainable="graph", steps=5), arrays())


def test_out_of_memory_says_what_to_lower() -> None:
    config = settings(batch_size=8, gradient_checkpointing=False)
    message = "out of memory: 8 samples of 256 pixels"
    with pytest.raises(Graph2ImageError, match=message) as error, explain_out_of_memory(config, 256):
        torch.empty(1 << 60)
    hint = str(error.value.hint)
    assert hint.index("batch_size") < hint.index("gradient_checkpointing") < hint.index("lora")
    frugal = settings(batch_size=1, gradient_checkpointing=True, trainable="graph", optimizer="adamw-8bit", ema_decay=0)
    with pytest.raises(Graph2ImageError) as error, explain_out_of_memory(frugal, 256):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert error.value.hint == "In this order: lower image_size."
    with pytest.raises(RuntimeError, match="something else"), explain_out_of_memory(config, 256):
        raise RuntimeError("something else")


def test_8_bits_without_bitsandbytes_or_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("the error is about a machine without a GPU")
    with pytest.raises(Graph2ImageError, match="adamw-8bit"):
        trainer(optimizer="adamw-8bit")


def test_unknown_trackers(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="no tracker 'nope'") as error:
        make_accelerator(settings(trackers=["nope"]), tmp_path)
    assert "tensorboard" in str(error.value.hint)
