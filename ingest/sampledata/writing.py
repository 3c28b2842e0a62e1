"""How sample data gets onto disk: whole files only, painted by several processes, never over somebody else's."""

from __future__ import annotations

import errno
import filecmp
import gzip
import hashlib
import io
import logging
import multiprocessing
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, cast

import numpy as np
import orjson
from PIL import Image
from tqdm.auto import tqdm

from ingest.errors import Graph2ImageError
from ingest.sampledata.palettes import Floats

log = logging.getLogger(__name__)
Job = TypeVar("Job")


@dataclass(frozen=True)
class SampleReport:
    """What was written.

    Attributes
    ----------
    items
        Distinct works, products or books listed.
    rows
        Rows or lines in the main file; duplicates count.
    images
        Image files written, broken ones included.
    defects
        How often each deliberate defect occurs, by name.
    changed
        False when the folder held exactly this data already.
    """

    folder: Path
    items: int
    rows: int
    images: int
    defects: Mapping[str, int]
    changed: bool


class Named(Protocol):
    """A member of a cast: an artist, a brand, an author."""

    @property
    def name(self) -> str: ...


def check_request(items: int, seed: int, cast: Sequence[Named], words_of_style: float) -> None:
    """Raise `Graph2ImageError` unless there is something to make, and somebody to make it."""
    if items < 1 or seed < 0:
        raise Graph2ImageError(
            f"cannot make {items} items from seed {seed}", "Ask for one item or more, and seed 0 or more."
        )
    if not 0 <= words_of_style <= 1:
        raise Graph2ImageError(
            f"words of style in {words_of_style} of the titles are not possible", "Give a share from 0 to 1."
        )
    names = Counter(member.name for member in cast)
    if not names:
        raise Graph2ImageError("cannot make items without artists, brands or authors", "Give one or more of them.")
    if len(names) < len(cast):
        name, count = names.most_common(1)[0]
        raise Graph2ImageError(f"{count} artists, brands or authors are called {name}", "Give names that differ.")


def seed_of_cast(seed: int, cast: Sequence[Named], usual: Sequence[Named]) -> int:
    """The seed itself for the usual cast; for another one a seed that depends on all of its members too.

    So equal seeds share neither ids nor compositions between casts, and the main files of two casts differ even where
    they name nobody.
    """
    if tuple(cast) == tuple(usual):
        return seed
    members = orjson.dumps(list(cast), default=lambda function: function.__qualname__)
    return int.from_bytes(hashlib.sha256(b"%d %b" % (seed, members)).digest()[:7])


@contextmanager
def explain_write_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a folder that cannot be written into an error for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Graph2ImageError(
                f"no space left while writing sample data to {folder}",
                "Free some space and run the same command again.",
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise Graph2ImageError(f"cannot write sample data to {folder}: {error.strerror}") from error
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: the file is there whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def drafted(path: Path, lines: Iterable[bytes], *, what: str) -> Iterator[Path]:
    """Gzip `lines` (each with its end) into a file beside `path`, under a temporary name.

    The caller renames it once everything else is there; if not, it is removed. Equal lines give equal bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with (
            draft.open("wb") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as archive,
            # Compressed a good piece at a time: a call per line would cost as much as the compression.
            io.BufferedWriter(cast(io.RawIOBase, archive), 1 << 18) as stream,
        ):
            for line in tqdm(lines, desc=what, unit="row", disable=None):
                stream.write(line)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def jpeg(color: Floats, quality: int = 94) -> bytes:
    """Encode sRGB in [0, 1], shape (height, width, 3)."""
    buffer = io.BytesIO()
    image = Image.fromarray((np.clip(color, 0, 1) * 255 + 0.5).astype(np.uint8))
    image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def already_there(folder: Path, main_file: str, content: bytes | Path, images: Sequence[str]) -> bool:
    """Whether `folder` holds this very data; the main file is written last, so it vouches for the rest.

    Parameters
    ----------
    content
        Of the main file; or a draft of it.

    Raises
    ------
    Graph2ImageError
        If the main file is there with other content: it may be a real data set.
    """
    path = folder / main_file
    if not path.exists():
        return False
    same = filecmp.cmp(path, content, shallow=False) if isinstance(content, Path) else path.read_bytes() == content
    if not same:
        raise Graph2ImageError(
            f"{path} exists and is not this sample data", "Choose an empty folder, or remove that one first."
        )
    return all((folder / image).exists() for image in images)


def paint_all(paint: Callable[[Job], None], jobs: Sequence[Job], *, workers: int | None, what: str) -> None:
    """Run `paint` on every job in `workers` processes (None: one per core)."""
    # A worker takes most of a second to start: too long for a handful of images.
    count = min(workers or os.cpu_count() or 1, max(1, len(jobs) // 25))
    bar = {"total": len(jobs), "desc": what, "unit": "image", "disable": None}
    if count <= 1:
        for job in tqdm(jobs, **bar):
            paint(job)
        return
    # Spawned, not forked: the caller may have threads (a flow runner, a torch that was used).
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        for _ in tqdm(pool.map(paint, jobs, chunksize=16), **bar):
            pass
