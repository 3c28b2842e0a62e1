"""From source files to published datasets: what every source has in common.

Files stream through in batches, whose images are acquired by a pool of threads some rows ahead; ids, entities and
relations are settled by `ingest.collect`, groups, splits and names by `ingest.publish`. Published is at the end and all
at once: a run that was killed has published nothing but images, and the next one ends where an undisturbed one
would have.

An item belongs to the file that brought it last: a file with new content updates its own rows and takes over the ids
that other files have; rows that it no longer has are kept, and counted as gone, unless they are to be pruned. Within
one run the first row of an id counts and the others are duplicates.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from ingest.batches import Batch
from ingest.collect import ROW_BITS, Acquired, Collector
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot, digest
from ingest.datasets.schemas import ITEM_SCHEMA
from ingest.errors import Graph2ImageError
from ingest.ids import IdIndex
from ingest.images.sources import ImageProblemError, ImageSource
from ingest.images.store import ImageStore, StoredImage
from ingest.parts import (
    ItemImages,
    Part,
    SourceFile,
    gone_rows,
    is_whole,
    item_ids,
    read_parts,
    unreachable_images,
    without,
)
from ingest.publish import publish_source
from ingest.readers.files import explain_read_errors
from ingest.records import RejectReason
from ingest.splits import SplitFractions

logger = logging.getLogger(__name__)

#: Rows whose images are acquired ahead, per image that can be acquired at once.
IMAGES_AHEAD = 8

#: Rows without their image that are looked at to tell where the images might be.
MISSING_EXAMPLES = 100

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class InputFile:
    """A file (or several that belong together) to ingest.

    Attributes
    ----------
    name
        What it is known by from one run to the next, and called in the rejects.
    paths
        What `batches` reads, to tell whether it is the same as before.
    settings
        What else the batches depend on; serializable as JSON.
    """

    name: str
    paths: Sequence[Path]
    batches: Callable[[], Iterable[Batch]]
    settings: object = None


@dataclass(frozen=True)
class MostImagesMissing:
    """Most of the images that a run looked for could not be had: probably they are elsewhere.

    Attributes
    ----------
    wanted, missing
        Rows that name an image, and those among them whose image could not be had.
    example, problem
        A path or URL that was looked for, and what was wrong with it.
    found_in
        Where files of the same names are instead.
    """

    wanted: int
    missing: int
    example: str
    problem: str
    found_in: str | None


@dataclass(frozen=True)
class IngestReport:
    """Counts of one ingest: `rows_read == items + duplicates + auxiliary_rows + sum(rejected.values())`.

    Attributes
    ----------
    files, files_unchanged
        Files given, and those among them that are as they were and were not read again.
    items
        Rows of the files that are items.
    duplicates
        Rows whose id an earlier row has; they are listed with the rejects, but not counted in `rejected`.
    auxiliary_rows
        Rows that describe what others refer to, as in a file of authors, and are not meant to be items.
    rejected
        Other rows that are no items, by reason code.
    gone
        Items that a file had and has no longer.
    pruned
        Whether those were removed; they are kept otherwise.
    items_total, entities, relations
        What the source has now, from all files.
    images_new
        Images that were not stored before.
    missing_images
        Items whose row names an image, but which have none, by reason code; see `missing-images/<source>`.
    shared_images
        Images that very many unrelated items have, by hash, with their number: they are reported, and group no items.
    images_kept
        Items whose image could not be had again, and that keep the one that they had.
    most_images_missing
        What is known of it if most images could not be had.
    changed
        False when everything was there already.
    """

    source: str
    files: int
    files_unchanged: int
    rows_read: int
    items: int
    duplicates: int
    auxiliary_rows: int
    rejected: dict[str, int]
    gone: int
    pruned: bool
    items_total: int
    entities: int
    relations: int
    images_new: int
    missing_images: dict[str, int]
    shared_images: dict[str, int]
    images_kept: int
    most_images_missing: MostImagesMissing | None
    changed: bool


def ingest(
    data: DataRoot,
    source: str,
    files: Sequence[InputFile],
    item_columns: pa.Schema,
    *,
    images: ImageSource | None = None,
    fractions: SplitFractions = SplitFractions(),  # noqa: B008 (frozen)
    strict: bool = False,
    prune: bool = False,
    require_images: bool = False,
) -> IngestReport:
    """Read files, store their images, and publish items, entities, relations and rejects of their source.

    An item whose image cannot be had is kept, with the image that it had before or else without one, and listed in
    `missing-images/<source>`; the next run with images looks for it again.

    Parameters
    ----------
    item_columns
        Arrow schema of the items' own columns.
    images
        Where images are; None to acquire none: items keep those that they have.
    fractions
        Shares of the held-out splits, for rows that do not name theirs.
    strict
        Fail at the first reject or duplicate instead of recording it.
    prune
        Remove the items that their file has no longer.
    require_images
        Reject the rows whose image cannot be had.

    Raises
    ------
    Graph2ImageError
        If a file cannot be read, the disk is full, or with `strict` at the first reject. What was published before is
        then untouched.
    TransientError
        If another process does not end writing the data root; one is waited for.
    """
    twice = [name for name, count in Counter(file.name for file in files).items() if count > 1]
    if twice:
        raise Graph2ImageError(
            f"two files are named {twice[0]}: one would replace the other", "Rename one of them, or ingest only one."
        )
    with writer_lock(data, "ingest"):
        run = _Run(
            data, source, item_columns, images, fractions, strict=strict, prune=prune, require_images=require_images
        )
        run.acquire_unrequested(files)
        unchanged = sum(run.take(file) for file in files)
        run.finish()
        parts = [run.parts[file.name] for file in files]
        rejected = sum((Counter(part.current.rejected) for part in parts), Counter[str]())
        missing_images = sum((Counter(part.current.missing_images) for part in parts), Counter[str]())
        logger.info("%s: publishing", source)
        published = publish_source(data, source, run.parts, pa.schema([*ITEM_SCHEMA, *item_columns]), fractions)
    changed = published.changed or run.images.new > 0
    logger.info("%s: %s", source, "published" if changed else "unchanged")
    return IngestReport(
        source=source,
        files=len(files),
        files_unchanged=unchanged,
        rows_read=sum(part.current.rows_read for part in parts),
        items=sum(part.current.items for part in parts),
        duplicates=sum(part.current.duplicates for part in parts),
        auxiliary_rows=sum(part.current.auxiliary_rows for part in parts),
        rejected=dict(sorted(rejected.items())),
        gone=run.gone,
        pruned=prune,
        items_total=published.items,
        entities=published.entities,
        relations=published.relations,
        images_new=run.images.new,
        missing_images=dict(sorted(missing_images.items())),
        shared_images=published.shared_images,
        images_kept=run.images_kept,
        most_images_missing=run.most_images_missing(),
        changed=changed,
    )


class _Run:
    """One ingest, file after file."""

    def __init__(
        self,
        data: DataRoot,
        source: str,
        item_columns: pa.Schema,
        images: ImageSource | None,
        fractions: SplitFractions,
        *,
        strict: bool,
        prune: bool,
        require_images: bool,
    ) -> None:
        self.parts = read_parts(data, source)
        self.gone = 0
        self.images = ImageStore(data, images)
        self.images_kept = 0
        self._data = data
        self._source = source
        self._item_columns = item_columns
        self._image_source = images
        self._fractions = fractions
        self._strict = strict
        self._prune = prune
        self._require_images = require_images
        self._earlier_images = ItemImages(
            data, source, [part for file in self.parts.values() for part in file.parts()], self.images.is_stored
        )
        #: What acquiring images gave: rows that name one, problems by reason, and some of the rows concerned.
        self._wanted = 0
        self._problems: Counter[RejectReason] = Counter()
        self._examples: list[tuple[list[str], ImageProblemError]] = []
        self._seen = IdIndex()
        self._names: list[str] = []

    def acquire_unrequested(self, files: Sequence[InputFile]) -> None:
        """Begin with the images that an earlier run did not come to ask for: those before must not hide them again."""
        source = self._image_source
        if source is None:
            return
        parts = [self.parts[file.name].current for file in files if file.name in self.parts]
        refs = (ref for part in parts for ref in unreachable_images(self._data, self._source, part))
        unrequested = ([ref] for ref in refs if not source.was_requested(ref))
        with closing(map_ordered(self.images.acquire, unrequested, source.concurrency)) as outcomes:
            deque(outcomes, maxlen=0)

    def take(self, file: InputFile) -> bool:
        """Ingest a file; returns whether it is the one that was ingested before and need not be read again."""
        fingerprint = self._fingerprint(file)
        self._follow_renaming(file.name, fingerprint)
        self._names.append(file.name)
        before = self.parts.get(file.name)
        same = before is not None and before.current.fingerprint == fingerprint
        damaged = before is not None and same and not is_whole(self._data, self._source, before.current)
        if damaged:
            logger.warning("%s: published rows of %s are missing", self._source, file.name)
            same = False
        # Images may have changed when the file has not, and `strict` is about its rows.
        if before and same and self._image_source is None and not self._strict and self._keep(before.current):
            logger.info("%s: %s is unchanged", self._source, file.name)
            return True
        logger.info("%s: reading %s", self._source, file.name)
        taken = self._ids_of_others(file.name) if same else None
        collector = Collector(
            self._data,
            self._source,
            self._names,
            self._seen,
            taken,
            self._item_columns,
            self._fractions,
            self._earlier_images,
            strict=self._strict,
            require_images=self._require_images,
        )
        with ExitStack() as stack:
            stack.enter_context(closing(collector))
            rows = stack.enter_context(tqdm(desc=file.name, unit=" rows", disable=None))
            for batch, acquired in self._with_images(file.batches()):
                self._count(batch, acquired)
                accepted = collector.add(batch, acquired)
                for index in accepted.nonzero()[0].tolist() if acquired else ():
                    if isinstance(image := acquired[index], StoredImage):
                        self.images.record(image)
                rows.update(batch.items.num_rows + len(batch.rejects))
            part = collector.finish(file.name, fingerprint)
            self.images_kept += collector.images_kept
        # What the same file had before is what it has now: damage to it loses nothing.
        older = () if before is None else before.gone if damaged else before.parts()
        self.parts[file.name] = SourceFile(part, older)
        return False

    def _keep(self, part: Part) -> bool:
        """Take the items of a part as seen, unless an earlier file of this run has brought one of them."""
        ids = list(item_ids(self._data, self._source, part))
        if any((self._seen.find(shard) >= 0).any() for shard in ids):
            return False
        for shard in ids:
            self._seen.add(shard, np.full(len(shard), len(self._names) - 1 << ROW_BITS))
        return True

    def finish(self) -> None:
        """Leave every item to one file: what this run has read comes before all that was there."""
        self.images.flush()
        for name, file in self.parts.items():
            current = file.current
            if name not in self._names:
                current = without(self._data, self._source, current, self._seen)
            gone = [rest for old in file.gone if (rest := gone_rows(self._data, self._source, old, self._seen))]
            if name in self._names:
                self.gone += sum(part.items for part in gone)
            self.parts[name] = SourceFile(current, () if self._prune and name in self._names else tuple(gone))

    def _count(self, batch: Batch, acquired: Sequence[Acquired]) -> None:
        for index, outcome in enumerate(acquired):
            self._wanted += outcome is not None
            if isinstance(outcome, ImageProblemError):
                self._problems[outcome.reason] += 1
                if len(self._examples) < MISSING_EXAMPLES:
                    self._examples.append((batch.items["image_refs"][index].as_py(), outcome))

    def most_images_missing(self) -> MostImagesMissing | None:
        """What is known of the missing images, if most are."""
        missing = self._problems.total()
        if self._image_source is None or 2 * missing <= self._wanted:
            return None
        most_frequent, _ = self._problems.most_common(1)[0]
        examples = [(refs, problem) for refs, problem in self._examples if problem.reason == most_frequent]
        refs, problem = (examples or self._examples)[0]
        found_in = None
        if most_frequent == RejectReason.IMAGE_MISSING:
            found_in = self._image_source.elsewhere([ref for refs, _ in examples for ref in refs])
        return MostImagesMissing(
            self._wanted, missing, self._image_source.looked_for(refs[0]), problem.reason.value, found_in
        )

    def _with_images(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, list[Acquired]]]:
        """Each batch with what acquiring the images of its items gave; nothing if none are acquired."""
        if self._image_source is None:
            yield from ((batch, []) for batch in batches)
            return
        waiting: deque[tuple[Batch, int]] = deque()

        def references() -> Iterator[list[str]]:
            for batch in batches:
                waiting.append((batch, batch.items.num_rows))
                yield from (refs or [] for refs in batch.items["image_refs"].to_pylist())

        acquired: list[Acquired] = []
        with closing(map_ordered(self.images.acquire, references(), self._image_source.concurrency)) as outcomes:
            for outcome in outcomes:
                acquired.append(outcome)
                while waiting and len(acquired) >= waiting[0][1]:
                    batch, count = waiting.popleft()
                    yield batch, acquired[:count]
                    del acquired[:count]
        for batch, _ in waiting:  # they have no items
            yield batch, []

    def _fingerprint(self, file: InputFile) -> str:
        hashes = []
        for path in file.paths:
            with explain_read_errors(path), path.open("rb") as stream:
                hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
        return digest(hashes, file.settings, self._item_columns.names, self._require_images, version("graph2image"))

    def _follow_renaming(self, name: str, fingerprint: str) -> None:
        """A file that has only another name now is the same file."""
        if name in self.parts:
            return
        for old, file in self.parts.items():
            if file.current.fingerprint == fingerprint and old not in self._names:
                renamed = replace(file, current=replace(file.current, file=name))
                self.parts = {
                    name if key == old else key: renamed if key == old else f for key, f in self.parts.items()
                }
                return

    def _ids_of_others(self, name: str) -> IdIndex:
        index = IdIndex()
        for other, file in self.parts.items():
            if other != name and other not in self._names:
                for part in file.parts():
                    for ids in item_ids(self._data, self._source, part):
                        index.add(ids, np.zeros(len(ids), np.int64))
        return index


def map_ordered(function: Callable[[T], R], items: Iterable[T], threads: int) -> Generator[R]:
    """Apply `function` in threads, a bounded number of items ahead; yields the results in order."""
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ingest")
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > IMAGES_AHEAD * threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        # Not waiting: a request under way ends when its source is closed, which may be what comes next.
        pool.shutdown(wait=False, cancel_futures=True)
