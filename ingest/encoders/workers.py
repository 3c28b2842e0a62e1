"""Training on a processor: the parts of a step side by side, each on cores of its own.

torch splits each operation among all cores and waits for the slowest, hundreds of times a step. Where another process
has one of the cores, every one of those waits is for a thread that is not running: a step takes ten times as long.
Here a step is a fixed number of parts (micro-batches), each of which one worker computes from start to end; it waits
once, for all of them. The gradients are added in the order of the parts, so neither the number of workers nor which
one is done first changes a bit of the result, as long as each has one thread.

The number of threads, of all workers together, is torch's own: the number of cores, or `OMP_NUM_THREADS`.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

T = TypeVar("T")
R = TypeVar("R")
Module = TypeVar("Module", bound=nn.Module)

#: Parts that a step is made of. More would keep more cores busy, but each has costs of its own: with small models a
#: third of a part of 8 samples.
PARTS = 2
#: Up to so many tokens attention is computed by matrix products and a softmax.
_SHORT = 256


class Workers:
    """Threads that compute the parts of a step: a context, entered for a step or for all of them.

    Inside it torch computes with as many threads as each worker has, in the calling thread too.
    """

    def __init__(self, parts: int = PARTS) -> None:
        self.parts = parts
        self._threads = self._each = self._count = 0
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self._threads = torch.get_num_threads()
        count = min(self.parts, self._threads)
        each = self._threads // count
        if (count, each) != (self._count, self._each):
            self._count, self._each = count, each
            self._pool = ThreadPoolExecutor(count, "worker", torch.set_num_threads, (each,)) if count > 1 else None
        torch.set_num_threads(each)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.set_num_threads(self._threads)

    def map(self, function: Callable[[T], R], arguments: Sequence[T]) -> Iterator[R]:
        """Results in the order of the arguments; no more of them wait than there are workers."""
        if self._pool is None:
            yield from map(function, arguments)
            return
        running: deque[Future[R]] = deque()
        for argument in arguments:
            if len(running) > self._count:
                yield running.popleft().result()
            running.append(self._pool.submit(function, argument))
        while running:
            yield running.popleft().result()

    def backward(self, loss: Callable[[T], Tensor], parts: Sequence[T], weights: Sequence[nn.Parameter]) -> Tensor:
        """Give `weights` the gradients of the sum of `loss` over `parts`, as `backward` of that sum would.

        Returns the sum, without gradients. A weight that no part uses has no gradient.
        """

        def compute(part: T) -> tuple[Tensor, Sequence[Tensor | None]]:
            value = loss(part)
            return value.detach(), torch.autograd.grad(value, weights, allow_unused=True)

        return add_gradients(self.map(compute, parts), weights)


def add_gradients(parts: Iterator[tuple[Tensor, Sequence[Tensor | None]]], weights: Sequence[nn.Parameter]) -> Tensor:
    """Set the weights' gradients to the sum of those of the parts, in their order; returns the sum of their losses."""
    total = torch.zeros(())
    for weight in weights:
        weight.grad = None
    for loss, gradients in parts:
        total = total + loss
        for weight, gradient in zip(weights, gradients, strict=True):
            if gradient is None:
                continue
            if weight.grad is None:
                # In the weight's memory format, as fused optimizers walk both in memory order.
                weight.grad = torch.empty_like(weight).copy_(gradient)
            else:
                weight.grad.add_(gradient)
    return total


def replicas(model: Module, count: int = PARTS) -> list[Module]:
    """The model, and copies that share its weights but have buffers of their own, such as batch statistics."""
    return [model, *(copy.deepcopy(model, {id(p): p for p in model.parameters()}) for _ in range(count - 1))]


@torch.no_grad()
def average_buffers(models: Sequence[nn.Module]) -> None:
    """Leave in the first of some replicas the mean of what each part has gathered in its buffers."""
    for values in zip(*(model.buffers() for model in models), strict=True):
        if values[0].is_floating_point():
            values[0].copy_(torch.stack(values).mean(0))


def short_attention(device: torch.device, tokens: int) -> AbstractContextManager[None]:
    """A context in which attention over `tokens` tokens is trained by the fastest kernel of the device.

    On a processor, backward through torch's flash kernel takes six times as long as the products written out, where
    sequences are short; where they are long, only it keeps the memory bounded. A GPU chooses for itself.
    """
    if device.type == "cpu" and tokens <= _SHORT:
        kernel: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
        return kernel
    return nullcontext()
