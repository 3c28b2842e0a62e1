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
from typing import Any

import fsspec
import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError
from ingest.images.loading import decode_image
from ingest.images.sources import (
    MAX_IMAGE_BYTES,
    ImageProblemError,
    ImageSource,
    open_image_source,
)
from ingest.images.store import (
    MAX_IMAGE_PIXELS,
    ImageInfo,
    ImageStore,
    StoredImage,
    inspect_image,
    to_eight_bits,
)

Picture = Callable[..., bytes]


def _encoded(image: Image.Image, name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, name, **options)
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


@pytest.mark.parametrize("scheme", ["http", "HTTPS"])
def test_a_source_of_files_goes_by_the_file_name_of_a_url(source: ImageSource, scheme: str) -> None:
    assert source.read(f"{scheme}://images.example/I/deeper/a.jpg?size=1#top") == FILES["a.jpg"]
    assert source.read(f"{scheme}://images.example/deep%2f%C3%BC%20b.jpg") == FILES["deep/ü b.jpg"]
    for url, reason in (
        ("images.example/none.jpg", "image_missing"),
        ("images.example/", "image_missing"),
        ("[", "image_missing"),
        ("images.example/..%2fsecret.jpg", "image_unsafe_path"),
    ):
        with pytest.raises(ImageProblemError) as caught:
            source.read(f"{scheme}://{url}")
        assert caught.value.reason == reason


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


NFC, NFD = "D\u00fcrer/\u00c9t\u00e9.jpg", "Du\u0308rer/E\u0301te\u0301.jpg"
AS_CP437, AS_CP1252 = (NFC.encode().decode(code_page) for code_page in ("cp437", "cp1252"))


def _zipped(path: Path, raw: bytes, *, flag: bool = False, extra: bytes = b"") -> Path:
    """A zip with one member, whose name is these bytes, with or without the flag for UTF-8."""
    stand_in = "x" * len(raw)
    member = zipfile.ZipInfo(stand_in)
    member.extra = extra
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"content")
    content = bytearray(path.read_bytes().replace(stand_in.encode(), raw))
    if flag:
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(signature) + offset + 1] |= 0x08
    path.write_bytes(content)
    return path


def _unicode_path(raw: bytes, name: str) -> bytes:
    field = b"\1" + struct.pack("<I", zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


@pytest.mark.parametrize("ref", [NFC, NFD])
@pytest.mark.parametrize(
    ("raw", "options"),
    [
        (NFC.encode(), {"flag": True}),
        (NFD.encode(), {"flag": True}),
        (NFC.encode(), {}),  # Info-ZIP, and Python 2
        (NFD.encode(), {}),  # macOS
        (NFC.encode("cp1252"), {}),
        (NFC.encode("cp850"), {}),
        (b"D#U00fcrer/#U00c9t#U00e9.jpg", {}),
        (b"D_rer_t_.jpg", {"extra": _unicode_path(b"D_rer_t_.jpg", "other")}),
        (b"D\x81rer\\\x90t\x82.jpg", {}),
        (b"D?rer/?t?\xff.jpg", {"extra": _unicode_path(b"D?rer/?t?\xff.jpg", NFC)}),
    ],
)
def test_names_in_the_spellings_of_zip_packers(tmp_path: Path, raw: bytes, options: dict[str, Any], ref: str) -> None:
    source = open_image_source(_zipped(tmp_path / "a.zip", raw, **options))
    if raw.startswith(b"D_"):  # no name beyond ASCII: nothing else is looked at
        assert source.read("D_rer_t_.jpg") == b"content"
        return
    assert source.read(ref) == b"content"


@pytest.mark.parametrize("ref", [NFC, NFD, AS_CP437, AS_CP1252])
@pytest.mark.parametrize("name", [NFC, NFD, "D\udcfcrer/\udcc9t\udce9.jpg", AS_CP437, "D#U00fcrer/#U00c9t#U00e9.jpg"])
def test_names_in_other_spellings_in_tars_and_folders(tmp_path: Path, name: str, ref: str) -> None:
    path = tmp_path / "folder" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"content")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(path, name)
    for place in ("folder", "a.tar"):
        source = open_image_source(tmp_path / place)
        assert source.read(ref) == b"content"
        assert source.url(ref).startswith(("file://", "tar://"))


def test_names_are_compared_exactly_first(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in (NFC, NFD, "caf\u00e9", "cafe\u0301 ", "a\u030a\u0323", "a\u0323\u030a "):
            archive.writestr(name, name)
    source = open_image_source(tmp_path / "a.zip")
    assert [source.read(name).decode() for name in (NFC, NFD, "cafe\u0301")] == [NFC, NFD, "caf\u00e9"]


def test_other_spellings_do_not_lead_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("..\\\u00fc.jpg", b"secret")
    source = open_image_source(tmp_path / "a.zip")
    for ref in ("../\u00fc.jpg", "..\\\u00fc.jpg", "#U002e#U002e/u\u0308.jpg"):
        with pytest.raises(ImageProblemError):
            source.read(ref)


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


# -- images ----------------------------------------------------------------------------------------------------------


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
    image = Image.open(io.BytesIO(picture(1))).convert("L" if mode == "I;16" else mode).convert(mode)
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


def test_hashes_are_those_of_imagehash(picture: Picture) -> None:
    for seed in range(10):
        gray = Image.open(io.BytesIO(picture(seed, size=100))).convert("L")
        assert inspect_image(_encoded(gray, "PNG")).perceptual_hash == str(imagehash.phash(gray, hash_size=16))
    # Of no image at all the last digits would decide.
    for level in (0, 90, 255):
        bits = int(inspect_image(_encoded(Image.new("L", (50, 70), level), "PNG")).perceptual_hash, 16)
        assert bits.bit_count() <= 1


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


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(side: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of one bit per pixel that claims `side` pixels per side."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = [_chunk(b"IHDR", header), *extra, _chunk(b"IDAT", zlib.compress(rows)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_decompression_bombs() -> None:
    for side in (int(MAX_IMAGE_PIXELS**0.5) + 1, 11_000, 60_000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ImageProblemError) as caught:
                inspect_image(_png(side, b"\0" * 1000))
        assert caught.value.reason == "image_too_large"
    # A small file of many pixels, but not too many; and one whose text would be large, which is not unpacked.
    assert inspect_image(_png(8000, (b"\0" * 1001) * 8000)).width == 8000
    text = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (80 << 20)))
    assert inspect_image(_png(8, b"\0\0" * 8, text)).width == 8


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 200), (200, 7)])
@pytest.mark.parametrize("name", ["GIF", "PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_sizes_that_stand_for_no_image(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageProblemError) as caught:
        inspect_image(_encoded(Image.new("RGB", size), name))
    assert caught.value.reason == "image_too_small"


# -- images that are odd, but images -------------------------------------------------------------------------------


def _bits_apart(one: ImageInfo, other: ImageInfo) -> int:
    return (int(one.perceptual_hash, 16) ^ int(other.perceptual_hash, 16)).bit_count()


@pytest.fixture
def wide(picture: Picture) -> Image.Image:
    """An image of 96 x 64 pixels."""
    return Image.open(io.BytesIO(picture(1))).convert("RGB").crop((0, 0, 96, 64))


def test_the_first_frame_is_what_counts(wide: Image.Image, picture: Picture) -> None:
    others = [Image.open(io.BytesIO(picture(seed))).convert("RGB").crop((0, 0, 96, 64)) for seed in (2, 3)]
    for name in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        options = {} if name in ("GIF", "PNG", "TIFF") else {"quality": 95}
        alone = inspect_image(_encoded(wide, name, **options))
        several = inspect_image(_encoded(wide, name, save_all=True, append_images=others, **options))
        assert (several.width, several.height, several.format) == (96, 64, name)
        assert _bits_apart(alone, several) <= 8
    mpo = inspect_image(_encoded(wide, "MPO", save_all=True, append_images=others, quality=95))
    assert mpo == inspect_image(_encoded(wide, "JPEG", quality=95))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_seen_upright(wide: Image.Image, name: str, orientation: int) -> None:
    turns = [None, None, *(Image.Transpose[turn] for turn in TURNED_BACK)]
    turn = turns[orientation]
    lying = wide if turn is None else wide.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} | ({"quality": 95} if name in ("JPEG", "WEBP", "AVIF") else {})
    info = inspect_image(_encoded(lying, name, **options))
    assert (info.width, info.height) == (96, 64)
    assert _bits_apart(info, inspect_image(_encoded(wide, "PNG"))) <= 16


#: How a camera that was turned stores an image, for orientations 2 to 8.
TURNED_BACK = (
    "FLIP_LEFT_RIGHT",
    "ROTATE_180",
    "FLIP_TOP_BOTTOM",
    "TRANSPOSE",
    "ROTATE_90",
    "TRANSVERSE",
    "ROTATE_270",
)


def test_sixteen_bits_and_more(picture: Picture) -> None:
    gray = np.asarray(Image.open(io.BytesIO(picture(1))).convert("L"))
    expected = inspect_image(_encoded(Image.fromarray(gray), "PNG"))
    deep: dict[str, Any] = {
        "PNG": gray.astype(np.uint16) * 257,
        "TIFF": gray.astype(np.int32) * 257,
        "TIFF wide": gray.astype(np.int32) * 70_000,
        "TIFF float": gray.astype(np.float32) / 255,
        "TIFF negative": gray.astype(np.float32) - 300,
    }
    for name, values in deep.items():
        content = _encoded(Image.fromarray(values), name.split()[0])
        assert _bits_apart(inspect_image(content), expected) <= 8, name
        eight = np.asarray(to_eight_bits(Image.open(io.BytesIO(content))))
        assert eight.dtype == np.uint8
        assert np.ptp(eight) > 150, name
    for odd in (np.full((96, 96), np.nan, np.float32), np.zeros((96, 96), np.float32)):
        inspect_image(_encoded(Image.fromarray(odd), "TIFF"))


def test_sixteen_bits_per_color(wide: Image.Image) -> None:
    values = np.asarray(wide)
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in values)
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", 96, 64, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")
    assert inspect_image(content) == inspect_image(_encoded(wide, "PNG"))


def test_palette_with_transparency(wide: Image.Image) -> None:
    flat = wide.quantize(16)
    content = _encoded(flat, "PNG", transparency=bytes(range(0, 256, 16)))
    assert inspect_image(content).width == 96
    assert inspect_image(_encoded(flat, "GIF", transparency=3)).width == 96
    deep = _encoded(Image.fromarray(np.asarray(wide.convert("L")).astype(np.uint16) * 257), "PNG")
    see_through = deep[:33] + _chunk(b"tRNS", b"\x12\x12") + deep[33:]
    assert _bits_apart(inspect_image(see_through), inspect_image(deep)) <= 8


def _with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


def test_broken_metadata_does_not_matter(picture: Picture, wide: Image.Image) -> None:
    jpeg = picture(1)
    expected = inspect_image(jpeg)
    segments = [
        (0xE1, b"Exif\0\0" + b"garbage"),
        (0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        (0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x09\0\0\0\0"),
        (0xE1, b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="\xff'),
        (0xE2, b"ICC_PROFILE\0\x01\x09broken"),
        (0xED, b"garbage"),
    ]
    for marker, content in segments:
        assert inspect_image(_with_segment(jpeg, marker, content)) == expected, content
    png = _encoded(wide, "PNG")
    for chunk in (
        _chunk(b"eXIf", b"garbage"),
        _chunk(b"iCCP", b"name\0\0garbage"),
        _chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\nnot hex\n")),
        _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<broken"),
    ):
        assert inspect_image(png[:33] + chunk + png[33:]) == inspect_image(png), chunk


def _iccp(profile: bytes) -> bytes:
    return _chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def test_large_metadata_does_not_matter(picture: Picture, wide: Image.Image) -> None:
    """More than Pillow reads of texts and profiles; also behind the pixels, and with a checksum that is wrong."""
    large = b"x" * (3 << 20)
    xmp = b"XML:com.adobe.xmp\0"
    png = _encoded(wide, "PNG")
    end = png.rindex(b"IEND") - 4
    for chunk in (
        _chunk(b"tEXt", b"Comment\0" + large),
        _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(large)),
        _chunk(b"iTXt", xmp + b"\0\0\0\0" + large),
        _chunk(b"iTXt", xmp + b"\1\0\0\0" + zlib.compress(large)),
        _iccp(large),
        _chunk(b"eXIf", b"MM\0*" + large),
        _chunk(b"caBX", large),
        _chunk(b"zTXt", b"A\0\0" + zlib.compress(b"x" * 900_000)) * 100,
        _chunk(b"tEXt", b"Comment\0text")[:-1] + b"!",
        _chunk(b"zTXt", b"Comment\0\7unknown"),
    ):
        for content in (png[:33] + chunk + png[33:], png[:end] + chunk + png[end:]):
            assert inspect_image(content) == inspect_image(png), chunk[:40]
            assert decode_image(content).tobytes() == wide.tobytes()
    jpeg = picture(1)
    profile = b"".join(
        b"\xff\xe2" + struct.pack(">H", 65_533) + b"ICC_PROFILE\0" + bytes([i, 80]) + b"x" * 65_517
        for i in range(1, 81)
    )
    comments = (b"\xff\xfe" + struct.pack(">H", 65_533) + b"x" * 65_531) * 50
    for segments in (profile, comments, profile + comments, b"\xff\xe2\x00\x08MPF\0II"):
        assert inspect_image(jpeg[:2] + segments + jpeg[2:]) == inspect_image(jpeg), segments[:40]
    for name, options in (
        ("WEBP", {"quality": 90}),
        ("AVIF", {"quality": 90}),
        ("TIFF", {}),
        ("JPEG", {"quality": 90}),
    ):
        plain = inspect_image(_encoded(wide, name, **options))
        assert inspect_image(_encoded(wide, name, xmp=large[:65_000], **options)) == plain
        assert inspect_image(_encoded(wide, name, icc_profile=large, **options)) == plain


def test_the_orientation_of_a_file_with_large_metadata_is_kept(wide: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    png = _encoded(wide, "PNG", exif=exif)
    content = png[:33] + _chunk(b"tEXt", b"Comment\0" + b"x" * (3 << 20)) + png[33:]
    assert (inspect_image(content).width, inspect_image(content).height) == (64, 96)


def test_jpegs_of_all_kinds(picture: Picture, wide: Image.Image) -> None:
    jpeg = picture(1)
    plain = inspect_image(_encoded(wide, "JPEG"))
    assert inspect_image(jpeg + b"<!-- served by a proxy -->" * 100) == inspect_image(jpeg)
    for kind in (_encoded(wide, "JPEG", progressive=True), _encoded(wide.convert("CMYK"), "JPEG")):
        assert _bits_apart(inspect_image(kind), plain) <= 8


def test_a_page_is_no_picture() -> None:
    for content in (
        b"<!DOCTYPE html><img src=a.jpg>",
        b"\n<svg xmlns='http://www.w3.org/2000/svg'/>",
        b'{"error":404}',
    ):
        with pytest.raises(ImageProblemError) as caught:
            inspect_image(content)
        assert caught.value.reason == "image_not_an_image"


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


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path, picture: Picture) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in (1, 2):
        (folder / f"{seed}.jpg").write_bytes(picture(seed))
    (folder / "page.jpg").write_bytes(b"<html>")
    return folder


def _acquired(store: ImageStore, *refs: str) -> StoredImage:
    stored = store.acquire(refs)
    assert isinstance(stored, StoredImage)
    return stored


def test_pictures_are_stored_once(data: DataRoot, pictures: Path, picture: Picture) -> None:
    store = ImageStore(data, open_image_source(pictures))
    assert store.acquire([]) is None
    assert ImageStore(data, None).acquire(["1.jpg"]) is None
    first = _acquired(store, "1.jpg")
    store.record(first)
    store.record(_acquired(store, "none.jpg", "1.jpg"))
    store.flush()
    assert store.new == 1
    [row] = data.read("images").to_pylist()
    assert data.read_bytes(row["path"]) == picture(1)
    assert row["image_hash"] == first.image_hash
    assert (row["width"], row["height"], row["format"]) == (96, 96, "JPEG")
    assert row["source_url"].endswith("/1.jpg")
    assert row["fetched_at"] is None
    again = ImageStore(data, open_image_source(pictures))
    assert _acquired(again, "1.jpg").info is None


def test_the_next_place_counts_only_if_there_is_nothing_at_the_first(data: DataRoot, pictures: Path) -> None:
    store = ImageStore(data, open_image_source(pictures))
    assert _acquired(store, "none.jpg", "2.jpg", "1.jpg").ref == "2.jpg"
    for refs, reason in (
        (["page.jpg", "1.jpg"], "image_not_an_image"),
        (["none.jpg", "../1.jpg", "1.jpg"], "image_unsafe_path"),
        (["none.jpg", "neither.jpg"], "image_missing"),
    ):
        problem = store.acquire(refs)
        assert isinstance(problem, ImageProblemError)
        assert problem.reason == reason
        if reason == "image_missing":
            assert "none.jpg" in problem.detail


def test_a_picture_that_was_deleted_by_hand_is_restored(data: DataRoot, pictures: Path, picture: Picture) -> None:
    store = ImageStore(data, open_image_source(pictures))
    store.record(_acquired(store, "1.jpg"))
    store.flush()
    path = data.read("images")["path"][0].as_py()
    Path(data.path(path)).unlink()
    again = ImageStore(data, open_image_source(pictures))
    again.record(_acquired(again, "1.jpg"))
    again.flush()
    assert data.read_bytes(path) == picture(1)
    assert again.new == 0
    assert len(data.read("images")) == 1
