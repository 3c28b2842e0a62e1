from __future__ import annotations

import contextlib
import io
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ingest.errors import Graph2ImageError
from ingest.images import (
    MAX_IMAGE_BYTES,
    ImageProblemError,
    ImageSource,
    inspect_image,
    open_image_source,
)

Picture = Callable[..., bytes]


def _encoded(image: Image.Image, name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)  # type: ignore[arg-type]
    return stream.getvalue()


# -- sources -----------------------------------------------------------------------------------------------------------

FILES = {"a.jpg": b"picture a", "deep/ü b.jpg": b"picture b", "empty.jpg": b""}


def _folder(root: Path) -> Path:
    for name, content in FILES.items():
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "secret.jpg").write_bytes(b"secret")
    (root / "folder" / "link.jpg").symlink_to(root / "secret.jpg")
    (root / "folder" / "loop.jpg").symlink_to(root / "folder" / "loop.jpg")
    os.mkfifo(root / "folder" / "pipe.jpg")
    return root / "folder"


def _tar(root: Path) -> Path:
    with tarfile.open(root / "a.tar", "w") as tar:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, kind in (
            ("link.jpg", tarfile.SYMTYPE),
            ("loop.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type = kind
            member.linkname = "/etc/passwd"
            tar.addfile(member)
        escape = tarfile.TarInfo("../secret.jpg")
        escape.size = 6
        tar.addfile(escape, io.BytesIO(b"secret"))
    return root / "a.tar"


def _zip(root: Path) -> Path:
    with zipfile.ZipFile(root / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        for name, mode in (("link.jpg", 0o120777), ("loop.jpg", 0o120777), ("pipe.jpg", 0o010644)):
            member = zipfile.ZipInfo(name)
            member.external_attr = mode << 16
            archive.writestr(member, "/etc/passwd")
        archive.writestr("../secret.jpg", b"secret")
    return root / "a.zip"


@pytest.fixture(params=[_folder, _tar, _zip])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ImageSource]:
    opened = open_image_source(request.param(tmp_path))
    yield opened
    opened.close()


def test_sources_read_what_they_hold(source: ImageSource) -> None:
    for name, content in FILES.items():
        assert source.read(name) == content
        assert source.read(f"./{name}") == content
        with fsspec.open(source.url(name)) as stream:
            assert stream.read() == content


@pytest.mark.parametrize("ref", ["none.jpg", "deep", "a.jpg/b.jpg", "x" * 5000, "deep/"])
def test_what_is_not_there_is_missing(source: ImageSource, ref: str) -> None:
    with pytest.raises(ImageProblemError) as caught:
        source.read(ref)
    assert caught.value.reason == "image_missing"


@pytest.mark.parametrize(
    "ref", ["../secret.jpg", "/etc/passwd", "deep/../../secret.jpg", "..", ".", "a.jpg\0", "..\\secret.jpg", "link.jpg"]
)
def test_nothing_leads_out(source: ImageSource, ref: str) -> None:
    with pytest.raises(ImageProblemError) as caught:
        source.read(ref)
    assert caught.value.reason == "image_unsafe_path"


@pytest.mark.parametrize("ref", ["loop.jpg", "pipe.jpg"])
def test_special_files_are_not_opened(source: ImageSource, ref: str) -> None:
    with pytest.raises(ImageProblemError) as caught:
        source.read(ref)
    assert caught.value.reason in ("image_unsafe_path", "image_missing")


def test_sizes_are_bounded(tmp_path: Path) -> None:
    size = MAX_IMAGE_BYTES + 1
    with (tmp_path / "big.jpg").open("wb") as stream:
        stream.truncate(size)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "big.jpg", "big.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(tmp_path / "big.jpg", "big.jpg")
    for place in (tmp_path, tmp_path / "a.zip", tmp_path / "a.tar"):
        with pytest.raises(ImageProblemError) as caught:
            open_image_source(place).read("big.jpg")
        assert caught.value.reason == "image_too_large"


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"x" * 100_000)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        content[at : at + 4] = struct.pack("<I", 10)
    path.write_bytes(content)
    with pytest.raises(ImageProblemError) as caught:
        open_image_source(path).read("a.jpg")
    assert caught.value.reason == "image_corrupt"


def test_damaged_archives(tmp_path: Path) -> None:
    tar = _tar(tmp_path).read_bytes()
    (tmp_path / "cut.tar").write_bytes(tar[: tar.index(b"picture a") + 4])
    with pytest.raises(Graph2ImageError, match="unexpected end of data"):
        open_image_source(tmp_path / "cut.tar")
    zipped = bytearray(_zip(tmp_path).read_bytes())
    zipped[zipped.index(b"a.jpg") + 6] ^= 0xFF
    (tmp_path / "bad.zip").write_bytes(zipped)
    with pytest.raises(ImageProblemError) as caught:
        open_image_source(tmp_path / "bad.zip").read("a.jpg")
    assert caught.value.reason == "image_corrupt"


def test_what_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_bytes(b"no archive" * 100)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "text.tar", "x")
    for name, message in (("none", "No such file"), ("text.tar", "as a folder"), ("a.tar.gz", "decompress it")):
        with pytest.raises(Graph2ImageError, match=message):
            open_image_source(tmp_path / name)


# -- pictures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("PNG", "I;16"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
        ("BMP", "RGB"),
        ("TIFF", "RGB"),
    ],
)
def test_formats(picture: Picture, name: str, mode: str) -> None:
    image = Image.open(io.BytesIO(picture(1)))
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
    info = inspect_image(_encoded(image, name))
    assert (info.width, info.height, info.format) == (96, 96, name)
    assert len(bytes.fromhex(info.perceptual_hash)) == 32


def test_near_duplicates_have_near_hashes(picture: Picture) -> None:
    def distance(a: bytes, b: bytes) -> int:
        one, other = (int(inspect_image(x).perceptual_hash, 16) for x in (a, b))
        return (one ^ other).bit_count()

    for seed in range(10):
        original = picture(seed, size=600)
        assert distance(original, picture(seed, size=600, quality=60)) <= 8
        assert distance(original, picture(seed, size=420, quality=80)) <= 8
        assert distance(original, picture(seed + 100, size=600)) > 60


def test_bad_pictures(picture: Picture) -> None:
    jpeg = picture(1)
    png = _encoded(Image.open(io.BytesIO(jpeg)), "PNG")
    middle = len(png) // 2
    cases = {
        "image_empty": [b""],
        "image_not_an_image": [b"<html>404</html>", b"\0" * 100, jpeg[:2], b"%!PS-Adobe-3.0 EPSF-3.0\n", jpeg[40:]],
        "image_truncated": [jpeg[:-50], jpeg[: len(jpeg) // 2], png[:middle]],
        "image_corrupt": [
            jpeg[:200],
            png[:middle] + bytes(x ^ 0x55 for x in png[middle : middle + 20]) + png[middle + 20 :],
        ],
    }
    for reason, contents in cases.items():
        for content in contents:
            with pytest.raises(ImageProblemError) as caught:
                inspect_image(content)
            assert caught.value.reason == reason, content[:20]


def test_decompression_bomb() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    for side in (11_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ImageProblemError) as caught:
                inspect_image(bomb)
        assert caught.value.reason == "image_too_large"


def test_transparent_pictures_are_seen_on_white(picture: Picture) -> None:
    shape = np.zeros((96, 96, 4), np.uint8)
    shape[20:60, 30:80, 3] = 255
    shape[..., :3][shape[..., 3] == 0] = np.random.default_rng(0).integers(0, 256, (96 * 96 - 2000, 3))
    flat = np.full((96, 96, 3), 255, np.uint8)
    flat[20:60, 30:80] = 0
    hashes = [inspect_image(_encoded(Image.fromarray(a), "PNG")).perceptual_hash for a in (shape, flat)]
    assert hashes[0] == hashes[1]


@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"II*\0", b"BM"]),
)
def test_any_bytes_are_a_picture_or_a_problem(content: bytes, magic: bytes) -> None:
    with contextlib.suppress(ImageProblemError):
        inspect_image(magic + content)
