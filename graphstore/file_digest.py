"""The digest of an embedded store's file, in a small file beside it: bytes that have changed inside it are noticed.

A database is written in place, so its digest says something only while nobody writes. Whoever opens it for writing
takes the digest away, and puts a new one at its end, when all is in the file and nobody else can have begun: a file
whose writer was killed has none, and is never taken for damaged.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from ingest.datasets.integrity import DamagedError, file_sha256, sealed, unsealed

log = logging.getLogger(__name__)

#: Ends the name of the file with the digest.
SUFFIX = ".sha256"


@dataclass(frozen=True)
class FileDigest:
    """What the file of a store was like when its last writer ended.

    Attributes
    ----------
    size, mtime_ns
        Bytes, and the time of the last change: while both are the same, the file is not read to open it.
    digest
        SHA-256, in hex.
    """

    size: int
    mtime_ns: int
    digest: str

    def is_recent(self, path: str) -> bool:
        """Whether the file has the same size and time, so that no program has written to it since."""
        status = Path(path).stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)


def read(path: str) -> FileDigest | None:
    """The digest of the store's file at `path`; None if there is none, or if that is damaged itself."""
    try:
        return FileDigest(**unsealed(path + SUFFIX, Path(path + SUFFIX).read_bytes()))
    except FileNotFoundError:
        return None
    except (DamagedError, TypeError):
        log.warning("%s is damaged: the bytes of %s cannot be compared", path + SUFFIX, path)
        return None


def take(path: str) -> FileDigest | None:
    """Remove the digest, since the caller is about to write to the file; returns what it was."""
    before = read(path)
    Path(path + SUFFIX).unlink(missing_ok=True)
    return before


def put(path: str, before: FileDigest | None) -> None:
    """Keep the digest of the file as it is now; the caller holds its lock, and has written all there is to write.

    Parameters
    ----------
    before
        What `take` has given: it stays, if the file was not written to. So damage is not taken for what was written.

    Raises
    ------
    OSError
        If there is no space for it.
    """
    if before is None or not before.is_recent(path):
        status = Path(path).stat()
        with Path(path).open("rb") as stream:
            before = FileDigest(status.st_size, status.st_mtime_ns, file_sha256(stream))
    unfinished = Path(f"{path}{SUFFIX}.tmp")
    unfinished.write_bytes(sealed(asdict(before)))
    unfinished.replace(path + SUFFIX)


def check(path: str) -> None:
    """Raise if a program other than a store's has written to the file; it is read only if its size or time tells so.

    Raises
    ------
    DamagedError
        If so.
    """
    expected = read(path)
    if expected is not None and not expected.is_recent(path) and (problem := find_problem(path)) is not None:
        raise DamagedError(path, problem)


def find_problem(path: str) -> str | None:
    """Compare the file with its digest, and say what is wrong; None if nothing is, or if nothing is known.

    Nothing is known of a file without a digest, and of one that somebody has begun to write to meanwhile.
    """
    expected = read(path)
    if expected is None:
        return None
    try:
        with Path(path).open("rb") as stream:
            found = file_sha256(stream)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if found == expected.digest or read(path) != expected:
        return None
    return "has changed since it was last written to by this program"
