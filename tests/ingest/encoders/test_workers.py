"""Steps whose parts are computed side by side: the same gradients, whatever the number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from threading import current_thread

import pytest
import torch
from torch import Tensor, nn

from ingest.encoders.workers import Workers, average_buffers, replicas


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many threads torch has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).to(
        memory_format=torch.channels_last
    )


def test_gradients_are_those_of_the_sum(threads: int) -> None:
    model, unused = network(), nn.Parameter(torch.ones(2))
    weights = [*model.parameters(), unused]
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))

    def loss(part: Tensor) -> Tensor:
        return torch.as_tensor(model(part).square().sum())

    loss(images).backward()  # type: ignore[no-untyped-call]
    expected = [weight.grad for weight in weights]
    with Workers() as workers:
        assert torch.get_num_threads() == max(1, threads // workers.parts)
        total = workers.backward(loss, images.chunk(workers.parts), weights)
    assert torch.get_num_threads() == threads
    torch.testing.assert_close(total, loss(images).detach())
    assert unused.grad is None
    for weight, gradient in zip(weights[:-1], expected, strict=False):
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-4)
        assert weight.grad.stride() == weight.stride()


def test_results_are_in_order_and_computed_side_by_side(threads: int) -> None:
    with Workers(2) as workers:
        results = list(workers.map(lambda value: (value, current_thread().name), range(20)))
    assert [value for value, _ in results] == list(range(20))
    assert all(name.startswith("worker") == (threads > 1) for _, name in results)


def test_an_error_in_a_part_is_the_steps(threads: int) -> None:
    def fail(part: int) -> Tensor:
        raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 0"), Workers() as workers:
        workers.backward(fail, [0, 1], [])
    assert torch.get_num_threads() == threads


def test_replicas_share_weights_and_gather_statistics_of_their_own() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    parts = replicas(model, 2)
    assert parts[0] is model
    assert all(mine is its for mine, its in zip(model.parameters(), parts[1].parameters(), strict=True))
    values = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    for part, chunk in zip(parts, values.chunk(2), strict=True):
        part(chunk)
    means = [part[1].running_mean.clone() for part in parts]
    assert not torch.equal(*means)
    average_buffers(parts)
    torch.testing.assert_close(model[1].running_mean, (means[0] + means[1]) / 2)
    assert model[1].num_batches_tracked == 1
