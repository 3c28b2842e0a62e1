"""Pictures: where they are found, whether they are pictures, and how they are stored.

A picture is read as bytes, hashed, decoded once to check it, and stored as received under its content hash. Sources are
given by name only, never unpacked, so an archive cannot write anywhere; a name that leads out of its folder or
archive is refused.

Two pictures are near-duplicates when their 256-bit perceptual hashes (pHash: the low frequencies of a DCT of the gray
picture, each against their median) differ in few bits; see `ingest.splits`.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import tarfile
import threading
import warnings
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import imagehash
import pyarrow as pa
from PIL import Image

from ingest.datasets import IMAGE_SCHEMA, DataRoot
from ingest.errors import Graph2ImageError
from ingest.records import ItemRecord, Record, RejectReason

#: Larger files and larger pictures are refused: a few KB can expand to gigabytes.
MAX_IMAGE_BYTES = 64 << 20
MAX_IMAGE_PIXELS = 100_000_000

#: Only these decoders are tried (others start programs, or fetch), with the suffix that their files are stored under.
FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}

#: What files of these formats start with.
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")

#: New pictures per file of the `images` dataset: what a killed run has to decode again at most.
IMAGE_BATCH = 2048

#: Frequencies per side that the perceptual hash keeps, one bit each.
PERCEPTUAL_HASH_SIZE = 16
PERCEPTUAL_HASH_BYTES = PERCEPTUAL_HASH_SIZE**2 // 8

# Pillow warns of oddities (broken EXIF data, large pictures); what matters of them, `inspect_image` refuses.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageProblemError(Exception):
    """A picture cannot be had; becomes a reject with this reason."""

    def __init__(self, reason: RejectReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class ImageSource(Protocol):
    """Where pictures are read from. `read` may be called from several threads."""

    def read(self, ref: str) -> bytes:
        """The file `ref` (a relative path with `/`), at most `MAX_IMAGE_BYTES`; raises ImageProblemError."""
        ...

    def url(self, ref: str) -> str:
        """A picture that `read` gives, as a URL that fsspec opens."""
        ...

    def close(self) -> None: ...


def open_image_source(path: Path) -> ImageSource:
    """The pictures in a folder, a tar file or a zip file.

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
        raise Graph2ImageError(f"cannot read the pictures in {path}: {error.strerror or error}") from error


def _relative(ref: str) -> str:
    """`ref` in plain form (no `./`, no `//`); raises ImageProblemError when it leads out."""
    path = PurePosixPath(ref)
    if path.is_absolute() or ".." in path.parts or "\\" in ref or "\0" in ref or not path.parts:
        raise ImageProblemError(RejectReason.IMAGE_UNSAFE_PATH, f"{ref!r} leads out of the place of the pictures")
    return str(path)


def _missing(ref: str) -> ImageProblemError:
    return ImageProblemError(RejectReason.IMAGE_MISSING, f"there is no file {ref!r}")


def _check_size(ref: str, size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, f"{ref!r} has {size} bytes (limit {MAX_IMAGE_BYTES})")


class FolderImages:
    """Pictures in a folder, at any depth."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def read(self, ref: str) -> bytes:
        relative = _relative(ref)
        try:
            path = (self._folder / relative).resolve(strict=True)
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

    def url(self, ref: str) -> str:
        return f"file://{self._folder / _relative(ref)}"

    def close(self) -> None:
        pass


class TarImages:
    """Pictures in an uncompressed tar file, read in place by offset."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive.resolve()
        self._members: dict[str, tuple[str, int, int] | None] = {}
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and member.sparse is None
                if not member.isdir():
                    place = (member.name, member.offset_data, member.size) if plain else None
                    self._members[str(PurePosixPath(member.name))] = place
                tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
        self._file = archive.open("rb")

    def read(self, ref: str) -> bytes:
        relative = _relative(ref)
        if relative not in self._members:
            raise _missing(ref)
        place = self._members[relative]
        if place is None:
            raise ImageProblemError(RejectReason.IMAGE_UNSAFE_PATH, f"{ref!r} is a link or a special file")
        _, offset, size = place
        _check_size(ref, size)
        content = os.pread(self._file.fileno(), size, offset)
        if len(content) < size:
            raise ImageProblemError(RejectReason.IMAGE_TRUNCATED, f"{ref!r}: the archive ends within it")
        return content

    def url(self, ref: str) -> str:
        place = self._members[_relative(ref)]
        assert place is not None
        return f"tar://{place[0]}::file://{self._archive}"

    def close(self) -> None:
        self._file.close()


class ZipImages:
    """Pictures in a zip file."""

    def __init__(self, archive: Path) -> None:
        self._archive = archive.resolve()
        self._zip = zipfile.ZipFile(archive)
        self._members = {str(PurePosixPath(m.filename)): m for m in self._zip.infolist() if not m.is_dir()}
        self._lock = threading.Lock()

    def read(self, ref: str) -> bytes:
        relative = _relative(ref)
        member = self._members.get(relative)
        if member is None:
            raise _missing(ref)
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
        return f"zip://{self._members[_relative(ref)].filename}::file://{self._archive}"

    def close(self) -> None:
        self._zip.close()


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What decoding found: size in pixels, format as PIL names it, perceptual hash as 64 hex digits."""

    width: int
    height: int
    format: str
    perceptual_hash: str


def content_hash(content: bytes) -> str:
    """The name of a picture everywhere: SHA-256 of its bytes, in hex."""
    return hashlib.sha256(content).hexdigest()


def inspect_image(content: bytes) -> ImageInfo:
    """Decode a picture once, to the end.

    Raises
    ------
    ImageProblemError
        If it is empty, no picture of a known format, too large, cut short, or cannot be decoded.
    """
    if not content:
        raise ImageProblemError(RejectReason.IMAGE_EMPTY, "the file has no bytes")
    try:
        image = Image.open(io.BytesIO(content), formats=tuple(FORMATS))
    except Image.DecompressionBombError as error:
        raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, str(error)) from error
    except Exception as error:  # decoders raise anything on hostile bytes
        if content.startswith(MAGIC):
            raise ImageProblemError(RejectReason.IMAGE_CORRUPT, "the header is damaged or cut short") from error
        raise ImageProblemError(
            RejectReason.IMAGE_NOT_AN_IMAGE, f"not an image: it starts with {content[:16]!r}"
        ) from error
    with image:
        width, height = image.size
        if width * height > MAX_IMAGE_PIXELS:
            raise ImageProblemError(RejectReason.IMAGE_TOO_LARGE, f"{width} x {height} pixels")
        name = str(image.format)
        try:
            # JPEG decodes at a smaller scale (still reading every byte), which is enough for the hash.
            image.draft("RGB", (256, 256))
            image.load()
            perceptual_hash = str(imagehash.phash(_gray(image), hash_size=PERCEPTUAL_HASH_SIZE))
        except Exception as error:
            cut = isinstance(error, EOFError | struct.error) or "truncated" in str(error)
            reason = RejectReason.IMAGE_TRUNCATED if cut else RejectReason.IMAGE_CORRUPT
            raise ImageProblemError(reason, f"{name}: {error}") from error
    return ImageInfo(width, height, name, perceptual_hash)


def _gray(image: Image.Image) -> Image.Image:
    """The picture in gray, on white where it is transparent."""
    if image.has_transparency_data:
        colors = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colors).convert("L")
    return image.convert("L")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """The picture of an item. `info` is None if it was stored before."""

    image_hash: str
    ref: str
    perceptual_hash: bytes
    info: ImageInfo | None


class ImageStore:
    """Stores pictures under their content hash, and appends the new ones to the `images` dataset.

    Parameters
    ----------
    source
        Where pictures are read from; None when the records have none.
    """

    def __init__(self, data: DataRoot, source: ImageSource | None) -> None:
        self.new = 0
        self._data = data
        self._source = source
        self._known: dict[str, bytes] = {}
        self._rows: list[dict[str, object]] = []
        if source is not None:
            columns = ["image_hash", "perceptual_hash"]
            for batch in data.dataset("images", IMAGE_SCHEMA).to_batches(columns=columns):
                hashes, perceptual = (column.to_pylist() for column in batch.columns)
                self._known.update(zip(hashes, map(bytes.fromhex, perceptual), strict=True))

    def acquire(self, record: Record) -> StoredImage | ImageProblemError | None:
        """The picture of a record, stored; None if the record has none. Runs in a thread."""
        if self._source is None or not isinstance(record, ItemRecord) or not record.image_refs:
            return None
        try:
            ref, content = self._read(self._source, record.image_refs)
            image_hash = content_hash(content)
            if image_hash in self._known:
                return StoredImage(image_hash, ref, self._known[image_hash], None)
            info = inspect_image(content)
        except ImageProblemError as problem:
            return problem
        path = image_path(image_hash, info.format)
        if not self._data.exists(path):
            self._data.write_bytes(path, content)
        return StoredImage(image_hash, ref, bytes.fromhex(info.perceptual_hash), info)

    @staticmethod
    def _read(source: ImageSource, refs: tuple[str, ...]) -> tuple[str, bytes]:
        missing = None
        for ref in refs:
            try:
                return ref, source.read(ref)
            except ImageProblemError as problem:
                if problem.reason != RejectReason.IMAGE_MISSING:
                    raise
                missing = missing or problem
        assert missing is not None
        raise missing

    def record(self, picture: StoredImage) -> None:
        """Enter the picture of an accepted item in the `images` dataset, if it is new."""
        if self._source is None or picture.info is None or picture.image_hash in self._known:
            return
        self._known[picture.image_hash] = picture.perceptual_hash
        self.new += 1
        self._rows.append(
            {
                "image_hash": picture.image_hash,
                "path": image_path(picture.image_hash, picture.info.format),
                "width": picture.info.width,
                "height": picture.info.height,
                "format": picture.info.format,
                "perceptual_hash": picture.info.perceptual_hash,
                "source_url": self._source.url(picture.ref),
                "fetched_at": None,
            }
        )
        if len(self._rows) >= IMAGE_BATCH:
            self.flush()

    def flush(self) -> None:
        """Append what `record` has entered since the last flush."""
        if self._rows:
            self._data.append("images", pa.Table.from_pylist(self._rows, IMAGE_SCHEMA), IMAGE_SCHEMA)
            self._rows.clear()


def image_path(image_hash: str, image_format: str) -> str:
    """Where the bytes of a picture are under the data root."""
    return f"images/files/{image_hash[:2]}/{image_hash}.{FORMATS[image_format]}"
