"""Whether what is read is what was published.

Every published file has a digest somewhere that its own bytes cannot reach:

- Parquet files are named by the start of their SHA-256, and each page has a checksum that is checked when it is read;
- images are named by their SHA-256;
- a JSON file of ours holds the SHA-256 of the rest of it;
- a folder of several files (a model, an encoder) has `_files.json`, with the SHA-256 of each.
"""

from __future__ import annotations

import hashlib
from typing import Any, BinaryIO

import orjson

from ingest.errors import Graph2ImageError

#: Hex digits of a Parquet file's SHA-256 that are its name.
NAME_DIGITS = 20

#: Lists the files of a folder with their digests.
FOLDER_LIST = "_files.json"

#: Key of the digest in a JSON file of ours.
_SEAL = "sha256"

_CHUNK = 1 << 20


class DamagedError(Graph2ImageError):
    """A published file that is missing, cut short or changed.

    Parameters
    ----------
    path
        The file.
    problem
        What is wrong with it, such as "is missing".
    """

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path} {problem}",
            "`graph2image verify` lists all damage and what each file can be made from again; --repair does it.",
        )
        self.path, self.problem = path, problem


def sha256(content: bytes) -> str:
    """SHA-256 of `content`, in hex."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(stream: BinaryIO) -> str:
    """SHA-256 of an open binary file from where it stands, in hex, without reading it into memory."""
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


def sealed(value: dict[str, Any]) -> bytes:
    """JSON of `value` with the digest that `unsealed` checks."""
    seal = sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))
    return orjson.dumps(value | {_SEAL: seal}, option=orjson.OPT_INDENT_2)


def unsealed(path: str, content: bytes) -> Any:
    """The value of a JSON file. One without a digest, as others write them, is only parsed.

    Raises
    ------
    DamagedError
        If it is no JSON, or has changed since it was written.
    """
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DamagedError(path, f"is no JSON any more: {error}") from error
    if isinstance(value, dict) and _SEAL in value:
        seal = value.pop(_SEAL)
        if seal != sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)):
            raise DamagedError(path, "has changed since it was written")
    return value
