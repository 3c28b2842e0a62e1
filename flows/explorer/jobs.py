"""Images that are made for requests: a queue, of which one job at a time is made on the device.

The model is loaded with the first job, kept for the next ones, and let go when none has come for a while. A job can be
looked at while it runs, and cancelled. What is made is what the command line makes of the same request.
"""

from __future__ import annotations

import io
import logging
import secrets
import shlex
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from flows import requests, stages
from flows.explorer.graph import Graph
from flows.settings import Settings
from ingest.errors import Graph2ImageError, TransientError, first_line
from model.generation.generate import LoadedPipeline, Step, generate
from model.generation.requests import GenerationRequest

log = logging.getLogger(__name__)

State = Literal["queued", "running", "done", "failed", "cancelled"]

#: Jobs that may wait, and images of one job.
MAX_QUEUED, MAX_IMAGES = 32, 16
#: Finished jobs that can still be asked for.
_REMEMBERED = 200
#: Seconds without a job after which the model is let go.
IDLE_SECONDS = 300.0
#: Seconds between two previews of an image.
_PREVIEW_SECONDS = 0.4
_PREVIEW_SIZE = 256


class _CancelledError(Exception):
    """A job was cancelled while it ran."""


@dataclass(frozen=True)
class Mix:
    """Two entities whose works condition images, and the shares of the first."""

    first: str
    second: str
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Order:
    """What a job is to make: an image for each graph scale, or for each share of a mixture at the first scale.

    Attributes
    ----------
    prompt, neighbors
        Instead of the item's text, and of its neighbors; None for its own.
    steps, guidance_scale
        None for the model's own defaults.
    """

    item_id: str
    model_id: str
    graph_scales: tuple[float, ...] = (requests.CONTROL_SCALE,)
    prompt: str | None = None
    neighbors: tuple[str, ...] | None = None
    mix: Mix | None = None
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    fast: bool = False

    @property
    def images(self) -> int:
        return len(self.graph_scales) if self.mix is None else len(self.mix.shares)


@dataclass(frozen=True)
class MadeImage:
    """An image of a job: its id, what it was made at, and the command that makes the same one."""

    generated_id: str
    graph_scale: float
    share: float | None
    command: str


@dataclass
class Job:
    """A request for images, and how far it is."""

    job_id: str
    order: Order
    state: State = "queued"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    image: int = 0
    step: int = 0
    steps: int = 0
    preview: bytes | None = None
    previews: int = 0
    images: tuple[MadeImage, ...] = ()
    notes: tuple[str, ...] = ()
    message: str | None = None
    hint: str | None = None
    is_cancelled: bool = False


class Jobs:
    """The queue, and the thread that works on it."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self._settings, self._graph = settings, graph
        self._pipeline = LoadedPipeline()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: list[Job] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def add(self, order: Order) -> Job:
        """Queue a job.

        Raises
        ------
        Graph2ImageError
            If it asks for too many images, or too many jobs wait.
        """
        if not 1 <= order.images <= MAX_IMAGES:
            raise Graph2ImageError(f"a job makes from 1 to {MAX_IMAGES} images, not {order.images}")
        with self._changed:
            if len(self._queue) >= MAX_QUEUED:
                raise TransientError(f"{MAX_QUEUED} jobs are waiting already", "Try again when some are done.")
            job = Job(secrets.token_urlsafe(12), order)
            self._jobs[job.job_id] = job
            self._queue.append(job)
            finished = [name for name, one in self._jobs.items() if one.state not in ("queued", "running")]
            for name in finished[: max(0, len(finished) - _REMEMBERED)]:
                del self._jobs[name]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="explorer-jobs", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return job

    def find(self, job_id: str) -> Job | None:
        """A job by its id, if it is remembered."""
        with self._changed:
            return self._jobs.get(job_id)

    def position(self, job: Job) -> int:
        """How many jobs are made before it; 0 for one that is not waiting."""
        with self._changed:
            if job not in self._queue:
                return 0
            return self._queue.index(job) + any(one.state == "running" for one in self._jobs.values())

    def cancel(self, job: Job) -> None:
        """Take a job from the queue, or end it after its present step."""
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
                job.state = "cancelled"
            job.is_cancelled = True

    def close(self) -> None:
        """End what runs, and start nothing more."""
        with self._changed:
            self._is_closed = True
            for job in self._jobs.values():
                job.is_cancelled = True
            self._queue.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=10)

    # -- working -------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._queue or self._is_closed, IDLE_SECONDS):
                    self._pipeline.release()
                    self._changed.wait_for(lambda: self._queue or self._is_closed)
                if self._is_closed:
                    return
                job = self._queue.pop(0)
                job.state = "running"
            try:
                self._make(job)
                state: State = "done"
            except _CancelledError:
                state = "cancelled"
            except Graph2ImageError as error:
                job.message, job.hint, state = error.message, error.hint, "failed"
            except Exception as error:  # whatever a model can raise must not end the thread
                log.exception("a job failed")
                job.message, job.hint, state = f"unexpected error: {first_line(error)[:200]}", None, "failed"
            with self._changed:
                job.preview = None
                job.state = state

    def _make(self, job: Job) -> None:
        order, settings = job.order, self._settings
        generation = stages.generation_settings(
            settings,
            order.model_id,
            fast=order.fast,
            seed=order.seed,
            num_inference_steps=order.steps,
            guidance_scale=order.guidance_scale,
            batch_size=1,
        )
        with self._graph.reading():  # so that nobody writes to the store, which is opened here by other ways
            wanted, made_at = self._requests(order)
        last = 0.0

        def on_step(step: Step) -> None:
            nonlocal last
            job.image, job.step, job.steps = step.first, step.number, step.steps
            now = time.monotonic()
            if now - last > _PREVIEW_SECONDS and step.number < step.steps:
                job.preview, last = _preview(step.preview), now
                job.previews += 1
            if job.is_cancelled:
                raise _CancelledError

        if job.is_cancelled:
            raise _CancelledError
        try:
            report = generate(
                settings.data_root, order.model_id, wanted.requests, generation, on_step=on_step, load=self._pipeline
            )
        finally:  # also of those that were finished before it was cancelled
            lineage_note = self._record_lineage(order.model_id)
        job.notes = wanted.notes + lineage_note
        job.images = tuple(
            MadeImage(generated_id, scale, share, command_line(settings, order, scale, share))
            for generated_id, (scale, share) in zip(report.generated_ids, made_at, strict=True)
        )

    def _requests(self, order: Order) -> tuple[requests.Wanted, list[tuple[float, float | None]]]:
        """Requests for all images of an order, and the scale and share of each."""
        made: list[GenerationRequest] = []
        notes: dict[str, None] = {}
        made_at: list[tuple[float, float | None]] = []
        ids = [order.item_id]
        if order.mix is not None:
            scale = order.graph_scales[0]
            for share in order.mix.shares:
                shares = {order.mix.first: share, order.mix.second: _rest(share)}
                wanted = requests.mixtures(self._settings, order.model_id, ids, shares, scale, prompt=order.prompt)
                made += wanted.requests
                made_at.append((scale, share))
            return requests.Wanted(tuple(made)), made_at
        for scale in order.graph_scales:
            wanted = requests.for_items(
                self._settings, order.model_id, ids, scale, prompt=order.prompt, chosen=order.neighbors
            )
            made += wanted.requests
            notes |= dict.fromkeys(wanted.notes)
            made_at.append((scale, None))
        return requests.Wanted(tuple(made), tuple(notes)), made_at

    def _record_lineage(self, model_id: str) -> tuple[str, ...]:
        """Bring what was made into the graph; that it could not be is a note, since the next command does it."""
        try:
            with self._graph.released():
                stages.record_lineage(self._settings, [model_id])
        except Graph2ImageError as error:
            log.warning("lineage is not in the graph yet: %s", error.message)
            return (f"the lineage is not in the graph yet: {error.message}; the next `generate` brings it there",)
        return ()


def command_line(settings: Settings, order: Order, scale: float, share: float | None) -> str:
    """The command that makes the same image."""
    words = ["graph2image", "generate", order.item_id, "--model", order.model_id]
    if order.mix is not None and share is not None:
        words += [
            "--mix",
            f"{order.mix.first}={_digits(share)}",
            "--mix",
            f"{order.mix.second}={_digits(_rest(share))}",
        ]
    words += ["--graph-scale", _digits(scale)]
    if order.guidance_scale is not None:
        words += ["--scale", _digits(order.guidance_scale)]
    if order.steps is not None:
        words += ["--steps", str(order.steps)]
    words += ["--seed", str(order.seed)]
    if order.fast:
        words.append("--fast")
    if order.prompt is not None:
        words.append(f"--prompt={order.prompt}")
    words += [f"--neighbor={neighbor}" for neighbor in order.neighbors or ()]
    words += ["--data", settings.data]
    if settings.store is not None:
        words += ["--store", settings.store]
    return shlex.join(words)


def _rest(share: float) -> float:
    """The share of the second of two entities, as few digits as the first has."""
    return round(1 - share, 9)


def _digits(number: float) -> str:
    """All digits that a number has."""
    return repr(number).removesuffix(".0")


def _preview(decode: Callable[[], list[Any]]) -> bytes:
    image = decode()[0]
    image.thumbnail((_PREVIEW_SIZE, _PREVIEW_SIZE))
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=70, method=0)
    return buffer.getvalue()
