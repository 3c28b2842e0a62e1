"""Where images are read from: a folder, a tar file, a zip file. (By HTTP: `ingest.images.fetch`.)

Archives are read in place, never unpacked, so one cannot write anywhere; a name that leads out of its folder or archive
is refused. Metadata often names images by their address on the web; of such a reference these sources take the file
name, so that whoever has the images already needs no network.
"""

from __future__ import annotations

import os
import stat
import tarfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ingest.errors import Graph2ImageError
from ingest.images.names import SpelledNames, spellings, zip_spellings
from ingest.records import RejectReason

#: Larger files are refused.
MAX_IMAGE_BYTES = 64 << 20

#: Reading files waits for the disk now and then, and decoding releases the interpreter's lock.
FILE_CONCURRENCY = min(16, os.cpu_count() or 1)


#: Files and parent folders that are searched for images that are not where they should be.
FILES_SEARCHED = 200_000
PARENTS_SEARCHED = 3


class ImageProblemError(Exception):
    """An image cannot be had, and why."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class ImageSource(Protocol):
    """Where images are read from. All methods may be called from several threads.

    `known`, `learn` and `fetched_at` are for sources that are costly to ask twice; as they are here, they suit files.

    Attributes
    ----------
    concurrency
        How many threads that read and decode at the same time are useful.
    """

    concurrency: int

    def read(self, ref: str) -> bytes:
        """The image that `ref` names (a relative path with `/`, or a URL), not checked in any way but its size.

        Raises
        ------
        ImageProblemError
            If it cannot be had.
        """
        ...

    def url(self, ref: str) -> str:
        """An image that `read` gives, as a URL that fsspec opens."""
        ...

    def close(self) -> None: ...

    def known(self, ref: str) -> str | None:
        """Content hash of the image that `read` gave before; None if it must be read.

        Raises
        ------
        ImageProblemError
            If it is known that the image cannot be had.
        """
        return None

    def learn(self, ref: str, outcome: str | ImageProblemError) -> None:
        """Take note what became of the bytes that `read` gave: stored under this content hash, or refused."""
        return

    def fetched_at(self, ref: str) -> datetime | None:
        """When the image came over a network, if it did."""
        return None

    def was_requested(self, ref: str) -> bool:
        """Whether `read` has ever asked for `ref`; False if an earlier run gave up before."""
        return True

    def looked_for(self, ref: str) -> str:
        """The path or URL at which `read` looks for `ref`, for people to read."""
        ...

    def elsewhere(self, refs: Sequence[str]) -> str | None:
        """Where files with the names of `refs` are, which `read` does not find; None if that is not known."""
        return None


def open_image_source(path: Path) -> ImageSource:
    """The images in a folder, a tar file or a zip file.

    Raises
    ------
    Graph2ImageError
        If there is nothing at `path`, or neither a folder nor such an archive.
    """
    if path.is_dir():
        return FolderImages(path)
    try:
        if zipfile.is_zipfile(path):
            return ZipImages(path)
        return TarImages(path)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise Graph2ImageError(
            f"cannot read {path} as a folder, a tar or a zip archive: {error}",
            "The members of a compressed tar cannot be read in any order: decompress it to a .tar first."
            if path.suffix in (".gz", ".tgz", ".bz2", ".xz", ".zst")
            else None,
        ) from error
    except OSError as error:
        raise Graph2ImageError(f"cannot read the images in {path}: {error.strerror or error}") from error


def _name(ref: str) -> str:
    """The path that `ref` is; of a URL, the file name."""
    if ref[:8].lower().startswith(("http://", "https://")):
        return unquote(_url_path(ref).rpartition("/")[2])
    return ref


def _relative(ref: str) -> str:
    """The path that `ref` names, in plain form (no `./`, no `//`); raises ImageProblemError when it leads out."""
    name = _name(ref)
    if ref and not name:
        raise ImageProblemError(RejectReason.IMAGE_MISSING, f"the URL {ref!r} has no file name")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or not path.parts:
        raise ImageProblemError(RejectReason.IMAGE_UNSAFE_PATH, f"{ref!r} leads out of the place of the images")
    return str(path)


def _url_path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""


def _by_file_name(refs: Sequence[str]) -> dict[str, PurePosixPath]:
    """The paths that `refs` name, by their last part."""
    paths: dict[str, PurePosixPath] = {}
    for ref in refs:
        with suppress(ImageProblemError):
            path = PurePosixPath(_relative(ref))
            paths.setdefault(path.name, path)
    return paths


def _root(folder: Path, path: PurePosixPath) -> Path:
    """The folder that `path` is relative to if its file is in `folder`; `folder` itself if their ends differ."""
    parents = path.parts[:-1]
    if parents and folder.parts[-len(parents) :] == parents:
        return Path(*folder.parts[: -len(parents)])
    return folder


def _folder_in_archive(archive: Path, members: Iterable[str], refs: Sequence[str]) -> str | None:
    names = _by_file_name(refs)
    paths = (PurePosixPath(member) for member in members)
    found = Counter(_root(Path(path.parent), names[path.name]) for path in paths if path.name in names)
    return f"{archive}, under {found.most_common(1)[0][0]}/" if found else None


def _is_spelled(name: str) -> bool:
    """Whether the name of a file may be meant as another one."""
    return not name.isascii() or "\\" in name or "#U" in name or "#L" in name


def _missing(ref: str) -> ImageProblemError:
    return ImageProblemError(RejectReason.IMAGE_MISSING, f"there is no file {ref!r}")


def _check_size(ref: str, size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, f"{ref!r} has {size} bytes (limit {MAX_IMAGE_BYTES})")


class FolderImages(ImageSource):
    """Images in a folder, at any depth."""

    concurrency = FILE_CONCURRENCY

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._listings: dict[Path, SpelledNames[None]] = {}

    def read(self, ref: str) -> bytes:
        relative = _relative(ref)
        try:
            path = self._path(relative).resolve(strict=True)
            if not path.is_relative_to(self._folder):
                raise ImageProblemError(RejectReason.IMAGE_UNSAFE_PATH, f"{ref!r} is a link that leads out")
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise _missing(ref)
            _check_size(ref, status.st_size)
            return path.read_bytes()
        except FileNotFoundError:
            raise _missing(ref) from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
            raise ImageProblemError(RejectReason.IMAGE_MISSING, f"cannot read {ref!r}: {error}") from error

    def _path(self, relative: str) -> Path:
        """The file that is meant, whose name may be spelled in another way."""
        path = self._folder / relative
        if relative.isascii() or path.exists():
            return path
        path = self._folder
        for part in PurePosixPath(relative).parts:
            if path not in self._listings:
                names = dict.fromkeys(entry.name for entry in (path.iterdir() if path.is_dir() else ()))
                listing = SpelledNames(names)
                for name in names:
                    if _is_spelled(name):
                        listing.add(name, spellings(name))
                self._listings[path] = listing
            path /= self._listings[path].find(part) or part
        return path

    def url(self, ref: str) -> str:
        return f"file://{self._path(_relative(ref))}"

    def looked_for(self, ref: str) -> str:
        return str(self._folder / _name(ref))

    def elsewhere(self, refs: Sequence[str]) -> str | None:
        names = _by_file_name(refs)
        for parent in self._folder.parents[:PARENTS_SEARCHED]:
            if any((parent / path).is_file() for path in names.values()):
                return str(parent)
        found: Counter[Path] = Counter()
        searched = 0
        for folder, _, files in os.walk(self._folder):
            found.update(_root(Path(folder), names[file]) for file in files if file in names)
            searched += len(files)
            if searched > FILES_SEARCHED or found.total() >= len(names):
                break
        return str(found.most_common(1)[0][0]) if found else None

    def close(self) -> None:
        pass


class TarImages(ImageSource):
    """Images in an uncompressed tar file, read in place by offset."""

    concurrency = FILE_CONCURRENCY

    def __init__(self, archive: Path) -> None:
        self._archive = archive.resolve()
        self._members: dict[str, tuple[str, int, int] | None] = {}
        self._names = SpelledNames(self._members)
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and member.sparse is None
                if not member.isdir():
                    place = (member.name, member.offset_data, member.size) if plain else None
                    name = str(PurePosixPath(member.name))
                    self._members[name] = place
                    if _is_spelled(name):
                        self._names.add(name, spellings(name))
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
        self._file = archive.open("rb")

    def read(self, ref: str) -> bytes:
        name = self._names.find(_relative(ref))
        if name is None:
            raise _missing(ref)
        place = self._members[name]
        if place is None:
            raise ImageProblemError(RejectReason.IMAGE_UNSAFE_PATH, f"{ref!r} is a link or a special file")
        _, offset, size = place
        _check_size(ref, size)
        content = os.pread(self._file.fileno(), size, offset)
        if len(content) < size:
            raise ImageProblemError(RejectReason.IMAGE_TRUNCATED, f"{ref!r}: the archive ends within it")
        return content

    def url(self, ref: str) -> str:
        name = self._names.find(_relative(ref))
        place = None if name is None else self._members[name]
        assert place is not None
        return f"tar://{place[0]}::file://{self._archive}"

    def looked_for(self, ref: str) -> str:
        return f"{_name(ref)} in {self._archive}"

    def elsewhere(self, refs: Sequence[str]) -> str | None:
        return _folder_in_archive(self._archive, self._members, refs)

    def close(self) -> None:
        self._file.close()


class ZipImages(ImageSource):
    """Images in a zip file."""

    concurrency = FILE_CONCURRENCY

    def __init__(self, archive: Path) -> None:
        self._archive = archive.resolve()
        self._zip = zipfile.ZipFile(archive)
        self._members = {str(PurePosixPath(m.filename)): m for m in self._zip.infolist() if not m.is_dir()}
        self._names = SpelledNames(self._members)
        for name, member in self._members.items():
            if _is_spelled(name):
                self._names.add(name, zip_spellings(member))
        self._lock = threading.Lock()

    def read(self, ref: str) -> bytes:
        name = self._names.find(_relative(ref))
        if name is None:
            raise _missing(ref)
        member = self._members[name]
        mode = member.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise ImageProblemError(RejectReason.IMAGE_UNSAFE_PATH, f"{ref!r} is a link or a special file")
        _check_size(ref, member.file_size)
        try:
            with self._lock, self._zip.open(member) as stream:
                content = stream.read(MAX_IMAGE_BYTES + 1)  # the size in the header may be a lie
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise ImageProblemError(RejectReason.IMAGE_CORRUPT, f"{ref!r} cannot be unpacked: {error}") from error
        _check_size(ref, len(content))
        return content

    def url(self, ref: str) -> str:
        name = self._names.find(_relative(ref))
        assert name is not None
        return f"zip://{self._members[name].filename}::file://{self._archive}"

    def looked_for(self, ref: str) -> str:
        return f"{_name(ref)} in {self._archive}"

    def elsewhere(self, refs: Sequence[str]) -> str | None:
        return _folder_in_archive(self._archive, self._members, refs)

    def close(self) -> None:
        self._zip.close()
