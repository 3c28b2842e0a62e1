"""Text files of one row per line, plain, `.gz` or `.zst`, read in blocks of whole lines with bounded memory.

A block is parsed by a plain function, in this process or in several; batches come in the order of the file. What is
wrong with a file is a reject like what is wrong with a row: a line that is too long, or an archive cut off in the
middle, whose rows before the cut are kept.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ingest.batches import Batch
from ingest.errors import Graph2ImageError
from ingest.readers.files import READ_BYTES, Content, explain_read_errors
from ingest.records import RejectReason, RejectRecord

#: Bytes that are parsed at a time.
BLOCK_BYTES = 4 << 20

#: A longer line is no row of any of these formats.
MAX_LINE_BYTES = 16 << 20

#: Blocks that are read ahead of the parsing, per worker.
BLOCKS_AHEAD = 2


class Lines(Sequence[bytes]):
    """The lines of a text, split when one is asked for."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @cached_property
    def _lines(self) -> list[bytes]:
        return self.content.split(b"\n")

    @cached_property
    def ends(self) -> npt.NDArray[np.int64]:
        """Positions of the newlines, which are between the lines."""
        return np.flatnonzero(np.frombuffer(self.content, np.uint8) == ord("\n"))

    @property
    def blank(self) -> int:
        """How many of the lines are blank, which no row is."""
        characters = np.frombuffer(self.content + b"\n", np.uint8)
        firsts = characters[np.concatenate([[0], self.ends + 1])]
        maybe = np.flatnonzero(firsts <= ord(" "))
        bounds = np.concatenate([[-1], self.ends, [len(self.content)]])
        return sum(not self.content[bounds[at] + 1 : bounds[at + 1]].strip() for at in maybe.tolist())

    def __len__(self) -> int:
        return len(self.ends) + 1

    def __getitem__(self, position: Any) -> Any:
        return self._lines[position]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._lines)


@dataclass(frozen=True)
class Block:
    """Consecutive lines of a file, without their ends.

    Attributes
    ----------
    first_row
        Number of the first line, counted from 1.
    lines
        A blank line is not a row.
    rejects
        What could not even be read: its place in `lines` is blank.
    """

    file: str
    first_row: int
    lines: Lines
    rejects: tuple[RejectRecord, ...] = ()


def read_batches(
    path: Path, parse: Callable[[Block], Batch], workers: int = 1, *, in_threads: bool = False
) -> Iterator[Batch]:
    """Parse a file block by block.

    Parameters
    ----------
    parse
        Makes a batch of a block; a plain function, or a partial of one, as it may be pickled.
    workers
        How many blocks are parsed at once; with 1 it is done here. Several are processes, so a script that is the main
        module needs its `if __name__ == "__main__":`.
    in_threads
        Threads instead of processes, for a `parse` that spends its time in Arrow.

    Raises
    ------
    Graph2ImageError
        If the file cannot be opened, is empty or holds no text.
    """
    blocks = read_blocks(path)
    if workers <= 1:
        for block in blocks:
            yield _parsed(parse, block)
        return
    waiting: deque[Future[Batch]] = deque()
    pool: Executor
    if in_threads:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="parse")
    else:  # spawned, not forked: there are threads in this process
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        for block in blocks:
            waiting.append(pool.submit(_parsed, parse, block))
            if len(waiting) > BLOCKS_AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _parsed(parse: Callable[[Block], Batch], block: Block) -> Batch:
    """The batch of a block, in which every row has become something."""
    batch = parse(block)
    rows = len(block.lines) - block.lines.blank - batch.header_lines
    if rows != (found := batch.items.num_rows + batch.auxiliary_rows + len(batch.rejects)):
        raise RuntimeError(f"{block.file}: {rows} rows from line {block.first_row} on, but {found} came out")
    return replace(batch, rejects=[*batch.rejects, *block.rejects]) if block.rejects else batch


def first_lines(path: Path, count: int) -> list[bytes]:
    """Up to `count` lines from the start of a file that are not blank, to tell what it is.

    Raises
    ------
    Graph2ImageError
        As `read_batches`.
    """
    lines: list[bytes] = []
    for block in read_blocks(path, 1 << 16):
        lines += [line for line in block.lines if line.strip()]
        if len(lines) >= count:
            break
    return lines[:count]


def read_blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The lines of a file, `block_bytes` of them or a little more at a time; errors as in `read_batches`."""
    with explain_read_errors(path), closing(Content(path, min(block_bytes, READ_BYTES))) as content:
        start = content.read()
        if not start and content.damage is None:
            raise Graph2ImageError(f"{path} is empty")
        row = 1
        pieces, size = [start], len(start)
        while not content.at_end:
            piece = content.read()
            pieces.append(piece)
            size += len(piece)
            if size < block_bytes:
                continue
            # A newline is looked for in what is new; nearly always there is one.
            if b"\n" not in piece:
                if size <= MAX_LINE_BYTES:
                    continue
                pieces = [b"".join(pieces)]
            *whole, last = pieces
            end = last.rfind(b"\n")
            if end >= 0:
                lines = Lines(b"".join([*whole, last[:end]]))
                yield Block(path.name, row, lines)
                row += len(lines)
                pieces = [last[end + 1 :]]
            else:
                detail = f"the line is over {MAX_LINE_BYTES} bytes"
                reject = RejectRecord(path.name, row, RejectReason.LINE_TOO_LONG, detail, last[:4096])
                yield Block(path.name, row, Lines(b""), (reject,))
                row += 1
                pieces = [content.skip_line()]
            size = len(pieces[0])
        rest = b"".join(pieces)
        # The last line need not have an end; but one that the damage cut off is no line.
        end = rest.rfind(b"\n") + 1 if content.is_cut else len(rest)
        if end:
            lines = Lines(rest[:end].removesuffix(b"\n"))
            yield Block(path.name, row, lines)
            row += len(lines)
        if content.damage is not None:
            reject = RejectRecord(path.name, row, RejectReason.FILE_DAMAGED, content.damage, rest[end : end + 4096])
            yield Block(path.name, row, Lines(b""), (reject,))
