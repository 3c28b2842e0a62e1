"""Node ids as numbers: a hash that is the same everywhere, and the number of each id among millions.

Both read the buffers of Arrow's strings, so neither makes a Python object per id. The hash is SipHash-1-3 of
J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", INDOCRYPT 2012.
"""

from __future__ import annotations

import secrets
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from ingest.errors import Graph2ImageError

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Offsets: TypeAlias = npt.NDArray[np.int32] | npt.NDArray[np.int64]
_Words: TypeAlias = npt.NDArray[np.uint64]
_Indices: TypeAlias = npt.NDArray[np.int32]


def hash_ids(ids: pa.Array) -> npt.NDArray[np.uint32]:
    """`(len(ids),)` uint32, the lower half of each id's hash; equal in every process and on every machine."""
    offsets, content = _buffers(ids)
    return _hashes(offsets, content, np.zeros(2, np.uint64)).astype(np.uint32)


class NodeIndex:
    """The number of each id: its position in `ids`.

    An open-addressing table of 8 bytes a slot, at least two slots an id. An entry is found by its hash and then
    compared byte by byte, so the answer is exact; the hash's key is drawn at random, so no file can be made to collide.

    Raises
    ------
    Graph2ImageError
        If an id occurs twice.
    """

    def __init__(self, ids: pa.Array) -> None:
        self._key = np.array([secrets.randbits(64), secrets.randbits(64)], dtype=np.uint64)
        self._offsets, self._content = _buffers(ids)
        self._slots = np.full(1 << max(1, (2 * len(ids)).bit_length()), _EMPTY, dtype=np.uint64)
        repeated = _fill(self._slots, self._offsets, self._content, self._key)
        if repeated >= 0:
            raise Graph2ImageError(f"the graph has a node {ids[repeated].as_py()!r} twice")

    def find(self, ids: pa.Array | pa.ChunkedArray) -> _Indices:
        """`(len(ids),)` int32, the number of each of `ids`; -1 for an id that is unknown."""
        if isinstance(ids, pa.ChunkedArray):
            parts = [self.find(chunk) for chunk in ids.chunks]
            return np.concatenate([np.empty(0, np.int32), *parts])
        offsets, content = _buffers(ids)
        return _find(self._slots, self._offsets, self._content, offsets, content, self._key)


def _buffers(ids: pa.Array) -> tuple[_Offsets, _Bytes]:
    """Offsets `(len(ids) + 1,)` and bytes of strings."""
    if ids.type not in (pa.string(), pa.large_string()):
        ids = ids.cast(pa.large_string())
    width = np.dtype(np.int32 if ids.type == pa.string() else np.int64)
    if len(ids) == 0:
        return np.zeros(1, width), np.empty(0, np.uint8)
    _, offsets, content = ids.buffers()
    found = np.frombuffer(offsets, width, count=len(ids) + 1, offset=ids.offset * width.itemsize)
    return found, np.frombuffer(content, np.uint8) if content is not None else np.empty(0, np.uint8)


#: A slot is the upper half of the hash and the number of the node. No node has this number.
_EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_LOWER = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_32 = np.uint64(32)


@njit(nogil=True, cache=True)
def _rotated(x: Any, bits: int) -> Any:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@njit(nogil=True, cache=True)
def _round(a: Any, b: Any, c: Any, d: Any) -> Any:
    a += b
    b = _rotated(b, 13) ^ a
    a = _rotated(a, 32)
    c += d
    d = _rotated(d, 16) ^ c
    a += d
    d = _rotated(d, 21) ^ a
    c += b
    b = _rotated(b, 17) ^ c
    c = _rotated(c, 32)
    return a, b, c, d


@njit(nogil=True, cache=True)
def _siphash(content: _Bytes, start: int, end: int, key: _Words) -> Any:
    a = key[0] ^ np.uint64(0x736F6D6570736575)
    b = key[1] ^ np.uint64(0x646F72616E646F6D)
    c = key[0] ^ np.uint64(0x6C7967656E657261)
    d = key[1] ^ np.uint64(0x7465646279746573)
    word, filled = np.uint64(0), np.uint64(0)
    for i in range(start, end):
        word |= np.uint64(content[i]) << filled
        filled += np.uint64(8)
        if filled == np.uint64(64):
            d ^= word
            a, b, c, d = _round(a, b, c, d)
            a ^= word
            word, filled = np.uint64(0), np.uint64(0)
    word |= np.uint64((end - start) & 0xFF) << np.uint64(56)
    d ^= word
    a, b, c, d = _round(a, b, c, d)
    a ^= word
    c ^= np.uint64(0xFF)
    for _ in range(3):
        a, b, c, d = _round(a, b, c, d)
    return a ^ b ^ c ^ d


@njit(nogil=True, cache=True)
def _hashes(offsets: _Offsets, content: _Bytes, key: _Words) -> _Words:
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(hashes)):
        hashes[i] = _siphash(content, offsets[i], offsets[i + 1], key)
    return hashes


@njit(nogil=True, cache=True)
def _equal(one: _Bytes, start: int, end: int, other: _Bytes, other_start: int, other_end: int) -> bool:
    if end - start != other_end - other_start:
        return False
    for i in range(end - start):  # noqa: SIM110  # a loop that numba compiles
        if one[start + i] != other[other_start + i]:
            return False
    return True


@njit(nogil=True, cache=True)
def _fill(slots: _Words, offsets: _Offsets, content: _Bytes, key: _Words) -> int:
    """Put every id into its slot; returns the number of an id that occurred before, or -1."""
    mask = np.uint64(len(slots) - 1)
    for i in range(len(offsets) - 1):
        h = _siphash(content, offsets[i], offsets[i + 1], key)
        slot = h & mask
        while slots[slot] != _EMPTY:
            j = np.int64(slots[slot] & _LOWER)
            if slots[slot] >> _32 == h >> _32 and _equal(
                content, offsets[i], offsets[i + 1], content, offsets[j], offsets[j + 1]
            ):
                return i
            slot = (slot + _ONE) & mask
        slots[slot] = ((h >> _32) << _32) | np.uint64(i)
    return -1


@njit(nogil=True, cache=True)
def _find(
    slots: _Words, offsets: _Offsets, content: _Bytes, wanted_offsets: _Offsets, wanted: _Bytes, key: _Words
) -> _Indices:
    mask = np.uint64(len(slots) - 1)
    numbers = np.full(len(wanted_offsets) - 1, -1, np.int32)
    # Hashed first, so that the processor can wait for many slots at once.
    hashes = _hashes(wanted_offsets, wanted, key)
    for i in range(len(numbers)):
        start, end = wanted_offsets[i], wanted_offsets[i + 1]
        h = hashes[i]
        slot = h & mask
        while slots[slot] != _EMPTY:
            j = np.int64(slots[slot] & _LOWER)
            if slots[slot] >> _32 == h >> _32 and _equal(wanted, start, end, content, offsets[j], offsets[j + 1]):
                numbers[i] = j
                break
            slot = (slot + _ONE) & mask
    return numbers
