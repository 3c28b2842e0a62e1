from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from webserver import Replies, Reply, WebServer, serve

from ingest.datasets.root import DataRoot
from ingest.images import fetch, fetch_log
from ingest.images.fetch import FetchSettings, HttpImages
from ingest.images.http import Response, cleaned_head
from ingest.images.sources import ImageProblemError
from ingest.images.store import ImageStore, StoredImage, content_hash
from ingest.records import RejectReason

Picture = Callable[..., bytes]


@pytest.fixture
def web() -> Iterator[WebServer]:
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "BACKOFF_SECONDS", 0.01)


def _settings(**changes: Any) -> FetchSettings:
    return FetchSettings(allowed_private_hosts=("127.0.0.1",), **changes)


def _acquire(data: DataRoot, refs: Sequence[str], **changes: Any) -> list[StoredImage | ImageProblemError | None]:
    """One run: get images, record those that can be had."""
    with closing(HttpImages(data, _settings(**changes))) as source:
        store = ImageStore(data, source)
        with ThreadPoolExecutor(source.concurrency) as pool:
            outcomes = list(pool.map(lambda ref: store.acquire([ref]), refs))
        for outcome in outcomes:
            if isinstance(outcome, StoredImage):
                store.record(outcome)
        store.flush()
    return outcomes


def _reasons(outcomes: Sequence[StoredImage | ImageProblemError | None]) -> list[str | None]:
    return [outcome.reason.value if isinstance(outcome, ImageProblemError) else None for outcome in outcomes]


def _one(data: DataRoot, ref: str, **changes: Any) -> str | None:
    """Why one image cannot be had; None if it can."""
    return _reasons(_acquire(data, [ref], **changes))[0]


# -- what is stored ----------------------------------------------------------------------------------------------------


def test_pictures_are_fetched_and_stored(data: DataRoot, web: WebServer, picture: Picture) -> None:
    before = datetime.datetime.now(datetime.UTC)
    web.replies = {f"/{i}.jpg": Reply(picture(i), headers=(("Content-Type", "text/html"),)) for i in range(20)}
    urls = [f"{web.url}/{i}.jpg" for i in range(20)]
    outcomes = _acquire(data, urls)
    assert _reasons(outcomes) == [None] * 20
    rows = {row["source_url"]: row for row in data.read("images").to_pylist()}
    for number, url in enumerate(urls):
        assert data.read_bytes(rows[url]["path"]) == picture(number)
        assert rows[url]["image_hash"] == content_hash(picture(number))
        assert before <= rows[url]["fetched_at"] <= datetime.datetime.now(datetime.UTC)
    log = {row["url"]: row for row in data.read("fetches").to_pylist()}
    assert {url: row["image_hash"] for url, row in log.items()} == {u: r["image_hash"] for u, r in rows.items()}
    assert web.headers["/0.jpg"]["user-agent"].startswith("graph2image/")
    assert web.headers["/0.jpg"]["accept-encoding"] == "identity"


def test_connections_are_kept(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {f"/{i}.jpg": Reply(picture(i)) for i in range(30)}
    _acquire(data, [f"{web.url}/{i}.jpg" for i in (*range(30), *range(100, 130))], per_host=3)
    assert web.connections <= 3


def test_a_server_that_closes_every_connection(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {f"/{i}.jpg": Reply(picture(i), headers=(("Connection", "close"),)) for i in range(10)}
    assert _reasons(_acquire(data, [f"{web.url}/{i}.jpg" for i in range(10)], per_host=2)) == [None] * 10
    assert web.connections == 10


def test_chunks(data: DataRoot, picture: Picture) -> None:
    content = picture(1)
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:700], content[700:])) + b"0\r\n\r\n"
    with _raw_server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body) as url:
        [outcome] = _acquire(data, [url])
    assert isinstance(outcome, StoredImage)
    assert outcome.image_hash == content_hash(content)


# -- what the answer means ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "reason", "requests"),
    [
        (Reply(status=404), "image_missing", 1),
        (Reply(status=410), "image_missing", 1),
        (Reply(status=401), "image_refused", 1),
        (Reply(status=403), "image_refused", 1),
        (Reply(status=451), "image_refused", 1),
        (Reply(status=400), "image_refused", 1),
        (Reply(status=304), "image_refused", 1),
        (Reply(status=300), "image_refused", 1),
        (Reply(status=204), "image_empty", 1),
        (Reply(b""), "image_empty", 1),
        (Reply(b"<html>a page"), "image_not_an_image", 1),
        (Reply(status=500), "image_unreachable", 3),
        (Reply(status=503), "image_unreachable", 3),
        (Reply(status=429), "image_unreachable", 3),
        (Reply(b"x" * 100, headers=(("Content-Length", "1000"), ("Connection", "close"))), "image_unreachable", 3),
        (Reply(b"x", headers=(("Content-Length", "many"),)), "image_unreachable", 3),
        (Reply(b"x" * 3000), "image_too_large", 1),
        (Reply(b"x", headers=(("Content-Length", "100000000000"),)), "image_too_large", 1),
        (Reply(b"x", headers=(("Content-Encoding", "br"),)), "image_refused", 1),
        (Reply(delay=60), "image_unreachable", 3),
        (Reply(b"xx", drip=0.4), "image_unreachable", 3),
    ],
)
def test_answers(data: DataRoot, web: WebServer, reply: Reply, reason: str, requests: int) -> None:
    web.replies["/a.jpg"] = reply
    timeout_s = 0.5 if reply.delay or reply.drip else 60  # an answer in time is in time on a busy machine, too
    assert _one(data, f"{web.url}/a.jpg", max_bytes=2000, timeout_s=timeout_s, attempts=3) == reason
    assert web.requests["/a.jpg"] == requests
    [row] = data.read("fetches").to_pylist()
    assert (row["image_hash"], row["reason"]) == (None, reason)
    # What may pass is tried again by the next run, the rest is not.
    assert _one(data, f"{web.url}/a.jpg", max_bytes=2000, timeout_s=timeout_s, attempts=3) == reason
    assert web.requests["/a.jpg"] == (2 * requests if reason == "image_unreachable" else 1)


@pytest.mark.parametrize("encoding", ["none", "utf-8", "binary", "identity", "UTF-8", "gzip", "image/jpeg", "8bit", ""])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "AVIF", "WEBP"])
def test_the_bytes_decide_how_they_are_packed(
    data: DataRoot, web: WebServer, picture: Picture, encoding: str, name: str
) -> None:
    stream = io.BytesIO()
    Image.open(io.BytesIO(picture(1))).save(stream, name)
    web.replies["/a.jpg"] = Reply(stream.getvalue(), headers=(("Content-Encoding", encoding),))
    assert _one(data, f"{web.url}/a.jpg") is None


ODD_LINES = [
    b"X-A : b",
    b"X-A\t: b",
    b"no colon",
    b": no name",
    b"Sp ace: b",
    b"X-(A): b",
    b"X-\xc3\xa9: b",
    b"X-A: b\x00c\x01",
    b"X-A: \xff\xfe",
    b"X-A: b\r\n folded",
    b"no colon\r\n folded",
    b"Transfer-Encoding: identity",
    b"Content-Type : text/html",
    b"Set-Cookie:",
]


@pytest.mark.parametrize("line", ODD_LINES)
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_odd_header_lines(data: DataRoot, picture: Picture, line: bytes, end: bytes) -> None:
    content = picture(1)
    length = b"Content-Length : %d" % len(content)
    for lines in ([line, length], [length, line]):
        head = end.join([b"HTTP/1.1 200 OK", *(part.replace(b"\r\n", end) for part in lines), b"", b""])
        with _raw_server(head + content) as url:
            assert _one(data, url, attempts=1) is None, lines


def test_informational_heads(data: DataRoot, picture: Picture) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink : </a.css>\r\n\r\n"
    with _raw_server(early + b"HTTP/1.1 200 OK\r\nX-A : b\r\n\r\n" + picture(1)) as url:
        assert _one(data, url, attempts=1) is None


@given(st.lists(st.sampled_from([b"A: b", b"A : b", b" c", b"no", b": d", b"Content-Length : 1"]), max_size=6))
@settings(max_examples=100, derandomize=True)
def test_a_cleaned_head_is_one_that_stays(lines: list[bytes]) -> None:
    cleaned = cleaned_head(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]))
    assert cleaned_head(cleaned) == cleaned
    assert all(line[:1].isalpha() and b":" in line for line in cleaned.split(b"\r\n")[1:-2])


def test_a_body_without_length_is_bounded(data: DataRoot) -> None:
    with _raw_server(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000) as url:
        assert _one(data, url, max_bytes=2000) == "image_too_large"


def test_a_compressed_bomb_is_not_unpacked(data: DataRoot, web: WebServer) -> None:
    bomb = gzip.compress(b"\0" * (20 << 20))
    web.replies["/a.png"] = Reply(bomb, headers=(("Content-Encoding", "gzip"), ("Content-Type", "image/png")))
    assert _one(data, f"{web.url}/a.png") == "image_refused"


def test_what_comes_unasked_is_not_the_next_answer(data: DataRoot, picture: Picture) -> None:
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(p), p) for p in (picture(1), picture(2))]
    with _raw_server(b"".join(answers)) as url:
        for number in range(3):
            [outcome] = _acquire(data, [f"{url}/{number}.jpg"])
            assert isinstance(outcome, StoredImage)
            assert outcome.image_hash == content_hash(picture(1))


@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"HTTP/9 what", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000, b"\0" * 99],
    ids=["nothing", "blank", "version", "long", "zeros"],
)
def test_what_is_no_http(data: DataRoot, answer: bytes) -> None:
    with _raw_server(answer) as url:
        assert _one(data, url, attempts=2) == "image_unreachable"


@pytest.mark.slow
def test_it_is_tried_again(data: DataRoot, web: WebServer, picture: Picture) -> None:
    good = Reply(picture(1))
    web.replies["/a.jpg"] = [Reply(b"busy" * 50_000, 500), Reply(status=503), Reply(delay=60), good]
    assert _one(data, f"{web.url}/a.jpg", timeout_s=3) is None
    assert web.requests["/a.jpg"] == 4


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after(data: DataRoot, web: WebServer, picture: Picture, status: int) -> None:
    date = format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2), usegmt=True)
    web.replies = {
        "/seconds.jpg": [Reply(status=status, headers=(("Retry-After", "1"),)), Reply(picture(1))],
        "/never.jpg": [Reply(status=status, headers=(("Retry-After", "soon"),)), Reply(picture(2))],
    }
    assert _one(data, f"{web.url}/seconds.jpg") is None
    assert _one(data, f"{web.url}/never.jpg") is None
    assert web.gaps("/seconds.jpg")[0] >= 0.95
    web.replies["/date.jpg"] = [Reply(status=status, headers=(("Retry-After", date),)), Reply(picture(3))]
    assert _one(data, f"{web.url}/date.jpg") is None
    parsed = [fetch._retry_after(Response(429, [(b"retry-after", v)], None)) for v in (date.encode(), b"9" * 50)]
    assert parsed[0] is not None
    assert parsed == [pytest.approx(0, abs=2), fetch.MAX_RETRY_AFTER_SECONDS]


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (["noai"], True),
        (["NoImageAI"], True),
        (["noindex, noimageai"], True),
        (["noindex", "noai"], True),
        (["graph2image: noai, noimageai"], True),
        (["otherbot: nofollow, noai"], True),
        (["unavailable_after: 25 Jun 2099 15:00:00 GMT, noai"], True),
        (["noindex"], False),
        (["noindex, nofollow", "all"], False),
        ([""], False),
    ],
)
def test_robots_header(data: DataRoot, web: WebServer, picture: Picture, values: list[str], refused: bool) -> None:
    web.replies["/a.jpg"] = Reply(picture(1), headers=tuple(("X-Robots-Tag", value) for value in values))
    for _ in range(2):
        assert _one(data, f"{web.url}/a.jpg") == ("image_opted_out" if refused else None)
    assert web.requests["/a.jpg"] == 1
    files = [path for path in Path(data.path()).rglob("*") if path.suffix == ".jpg"]
    assert len(files) == (not refused)


# -- redirects and addresses -------------------------------------------------------------------------------------------


def _to(location: str, status: int = 302) -> Reply:
    return Reply(b"elsewhere", status, (("Location", location),))


def test_redirects(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {
        "/a.jpg": _to("b.jpg", 301),
        "/b.jpg": _to(f"{web.url}/deep/c.jpg?x=ü", 307),
        "/deep/c.jpg?x=%C3%BC": _to("../d.jpg", 308),
        "/d.jpg": Reply(picture(1)),
        "/gone.jpg": _to("/nothing.jpg"),
        "/nowhere.jpg": Reply(status=302),
        "/loop.jpg": _to("/loop.jpg"),
        "/script.jpg": _to("javascript:alert(1)"),
        "/file.jpg": _to("file:///etc/passwd"),
        "/invalid.jpg": _to("http://[oops/"),
    }
    names = ("a", "gone", "nowhere", "loop", "script", "file", "invalid")
    assert _reasons(_acquire(data, [f"{web.url}/{name}.jpg" for name in names])) == [
        None,
        "image_missing",
        "image_refused",
        "image_refused",
        "image_unsafe_address",
        "image_unsafe_address",
        "image_unsafe_address",
    ]
    assert web.requests["/loop.jpg"] == 6
    assert _one(data, f"{web.url}/a.jpg?", max_redirects=2) == "image_missing"
    web.replies["/a.jpg?again"] = _to("/b.jpg")
    assert _one(data, f"{web.url}/a.jpg?again", max_redirects=2) == "image_refused"


def test_a_redirect_to_a_private_address(data: DataRoot, web: WebServer) -> None:
    targets = ["localhost", "0x7f.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1"]
    web.replies = {f"/{i}": _to(f"http://{target}:{web.port}/secret") for i, target in enumerate(targets)}
    outcomes = _acquire(data, [f"{web.url}/{i}" for i in range(len(targets))])
    assert _reasons(outcomes) == ["image_unsafe_address"] * len(targets)
    assert not web.requests["/secret"]


def test_private_addresses_are_allowed_by_name_only(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies["/a.jpg"] = Reply(picture(1))
    url = f"http://localhost:{web.port}/a.jpg"
    for allowed, reason in (
        ((), "image_unsafe_address"),
        (("127.0.0.1",), "image_unsafe_address"),
        ((f"localhost:{web.port + 1}",), "image_unsafe_address"),
        ((f"LOCALHOST:{web.port}",), None),
        (("localhost",), None),
    ):
        # What was refused is no longer when the setting changes.
        with closing(HttpImages(data, FetchSettings(allowed_private_hosts=allowed))) as source:
            assert _reasons([ImageStore(data, source).acquire([url])]) == [reason]


def _resolve_as(monkeypatch: pytest.MonkeyPatch, *answers: Sequence[str]) -> list[str]:
    """Let every name have the addresses of `answers`, the last ones from then on; returns the names asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        addresses = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_names_of_private_addresses(data: DataRoot, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve_as(monkeypatch, ["127.0.0.1"])
    assert _one(data, f"http://pictures.example:{web.port}/a.jpg") == "image_unsafe_address"
    _resolve_as(monkeypatch, ["93.184.216.34", "127.0.0.1"])
    assert _one(data, f"http://pictures.example:{web.port}/a.jpg") == "image_unsafe_address"
    assert not web.requests


def test_a_name_is_resolved_once_per_connection(
    data: DataRoot, web: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers with a public address first and a private one then does not get us there."""
    asked = _resolve_as(monkeypatch, ["203.0.113.1"], ["127.0.0.1"])
    monkeypatch.setattr("ingest.images.addresses.is_public", lambda address: not address.is_loopback)
    reason = _one(data, f"http://pictures.example:{web.port}/a.jpg", timeout_s=0.2, attempts=1)
    assert (reason, asked, web.connections) == ("image_unreachable", ["pictures.example"], 0)
    assert _one(data, f"http://pictures.example:{web.port}/a.jpg") == "image_unsafe_address"
    assert web.connections == 0


@pytest.mark.parametrize(
    "ref",
    [
        "",
        "a.jpg",
        "/etc/passwd",
        "file:///etc/passwd",
        "ftp://host.example/a.jpg",
        "//host.example/a.jpg",
        "http://",
        "http:///a.jpg",
        "http://[::1/a.jpg",
        "http://host.example:99999/a.jpg",
        "http://ho st.example/a.jpg",
        "http://127.0.0.2/a.jpg",
        "http://user:pass@10.0.0.1/a.jpg",
        "data:image/png;base64,AAAA",
    ],
)
def test_bad_urls(data: DataRoot, ref: str) -> None:
    assert _one(data, ref) == "image_unsafe_address"


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "http://127.0.0.1:1/", "http://10.0.0.1@"]))
@settings(max_examples=30)
def test_any_text_is_a_url_or_a_problem(text: str, start: str) -> None:
    source = HttpImages(DataRoot("memory://bad-urls"), FetchSettings(attempts=1, timeout_s=0.2))
    with pytest.MonkeyPatch.context() as patch, closing(source):
        _resolve_as(patch, ["127.0.0.1"])
        with pytest.raises(ImageProblemError) as caught:
            source.read(start + text)
    assert caught.value.reason in (RejectReason.IMAGE_UNSAFE_ADDRESS, RejectReason.IMAGE_UNREACHABLE)


def test_credentials_are_neither_sent_nor_kept(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {
        "/a.jpg": _to(f"http://me:secret@127.0.0.1:{web.port}/b.jpg"),
        "/b.jpg": Reply(picture(1)),
        "/c.jpg": Reply(status=403),
    }
    urls = [f"http://me:secret@127.0.0.1:{web.port}/{name}.jpg" for name in "ac"]
    outcomes = _acquire(data, [*urls, "http://me:secret@[/a.jpg"])
    assert _reasons(outcomes) == [None, "image_refused", "image_unsafe_address"]
    assert not any("authorization" in headers for headers in web.headers.values())
    rows = data.read("fetches").to_pylist() + data.read("images").to_pylist()
    assert len(rows) == 4
    assert "secret" not in str(rows)
    _acquire(data, urls)
    assert web.requests["/b.jpg"] == 1


# -- many at a time ----------------------------------------------------------------------------------------------------


def test_what_several_items_want_at_once_is_requested_once(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {"/a.jpg": Reply(picture(1), delay=0.2), "/b.jpg": Reply(status=404, delay=0.2)}
    urls = [f"{web.url}/{name}.jpg" for name in "ab"] * 20
    assert _reasons(_acquire(data, urls)) == [None, "image_missing"] * 20
    assert web.requests == {"/a.jpg": 1, "/b.jpg": 1}
    assert len(data.read("fetches")) == 2
    assert len(data.read("images")) == 1


def test_requests_per_host_are_limited(data: DataRoot, web: WebServer, picture: Picture) -> None:
    replies: Replies = {f"/{i}.jpg": Reply(picture(i), delay=0.2) for i in range(30)}
    urls = [f"{web.url}/{i}.jpg" for i in range(30)]
    with serve() as other:
        web.replies = other.replies = replies
        _acquire(data, urls + [f"{other.url}/{i}.jpg" for i in range(30)], per_host=5)
        assert 1 < web.busiest <= 5
        assert 1 < other.busiest <= 5


def test_requests_are_limited_in_all(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {f"/{i}.jpg": Reply(picture(i), delay=0.02) for i in range(20)}
    with closing(HttpImages(data, _settings(concurrency=3))) as source, ThreadPoolExecutor(10) as pool:
        list(pool.map(source.read, [f"{web.url}/{i}.jpg" for i in range(20)]))
    assert web.busiest <= 3


def test_requests_per_second_are_limited(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {f"/{i}.jpg": Reply(picture(i)) for i in range(10)}
    start = time.monotonic()
    _acquire(data, [f"{web.url}/{i}.jpg" for i in range(10)], per_host_rate=20)
    assert time.monotonic() - start >= 0.45


def test_a_dead_host_is_given_up(data: DataRoot, web: WebServer, picture: Picture) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        dead = unused.getsockname()[1]
    web.replies["/a.jpg"] = Reply(picture(1))
    urls = [f"http://127.0.0.1:{dead}/{i}.jpg" for i in range(200)]
    outcomes = _acquire(data, [*urls, f"{web.url}/a.jpg"])
    assert _reasons(outcomes) == ["image_unreachable"] * 200 + [None]
    given_up = [o for o in outcomes if isinstance(o, ImageProblemError) and "given up" in o.detail]
    assert len(given_up) > 150


def test_images_that_break_off_say_nothing_of_their_host(data: DataRoot, web: WebServer, picture: Picture) -> None:
    cut = Reply(b"x" * 100, headers=(("Content-Length", "1000"), ("Connection", "close")))
    web.replies = {f"/{i}.jpg": cut if i < 40 else Reply(picture(i)) for i in range(140)}
    outcomes = _acquire(data, [f"{web.url}/{i}.jpg" for i in range(140)], attempts=2)
    assert _reasons(outcomes) == ["image_unreachable"] * 40 + [None] * 100


def test_slow_images_say_nothing_of_their_host(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {f"/{i}.jpg": Reply(delay=60) if i < 30 else Reply(picture(i)) for i in range(40)}
    outcomes = _acquire(data, [f"{web.url}/{i}.jpg" for i in range(30)], attempts=1, timeout_s=0.3)
    outcomes += _acquire(data, [f"{web.url}/{i}.jpg" for i in range(30, 40)], attempts=1)
    assert _reasons(outcomes) == ["image_unreachable"] * 30 + [None] * 10


def test_what_was_not_asked_for_is_known(data: DataRoot) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{unused.getsockname()[1]}/{i}.jpg" for i in range(100)]
    outcomes = _acquire(data, urls, attempts=1, per_host=1)
    given_up = [isinstance(o, ImageProblemError) and "given up" in o.detail for o in outcomes]
    assert sum(given_up) == 80
    with closing(HttpImages(data, _settings())) as source:
        assert [source.was_requested(url) for url in urls] == [not given for given in given_up]


def test_closing_breaks_off(data: DataRoot, web: WebServer) -> None:
    web.replies["/a.jpg"] = Reply(delay=300)
    source = HttpImages(data, _settings())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(source.read, f"{web.url}/a.jpg")
        while not web.requests:
            time.sleep(0.01)
        source.close()
        assert isinstance(waiting.exception(timeout=120), CancelledError)
        with pytest.raises(CancelledError):
            source.read(f"{web.url}/b.jpg")


# -- re-runs -----------------------------------------------------------------------------------------------------------


def test_a_second_run_makes_no_request(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies = {f"/{i}.jpg": Reply(picture(i)) for i in range(5)}
    web.replies["/page.jpg"] = Reply(b"<html>")
    urls = [f"{web.url}/{name}.jpg" for name in (*range(5), "page", "gone")]
    first = _acquire(data, urls)
    before = data.read("images").to_pylist(), data.read("fetches").to_pylist()
    web.requests.clear()
    second = _acquire(data, urls)
    assert not web.requests
    assert _reasons(first) == _reasons(second) == [None] * 5 + ["image_not_an_image", "image_missing"]
    assert [o.detail for o in first if isinstance(o, ImageProblemError)] == [
        o.detail for o in second if isinstance(o, ImageProblemError)
    ]
    assert (data.read("images").to_pylist(), data.read("fetches").to_pylist()) == before


def test_a_picture_that_was_deleted_by_hand_is_fetched_again(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies["/a.jpg"] = Reply(picture(1))
    _acquire(data, [f"{web.url}/a.jpg"])
    [row] = data.read("images").to_pylist()
    Path(data.path(row["path"])).unlink()
    assert _one(data, f"{web.url}/a.jpg") is None
    assert data.read_bytes(row["path"]) == picture(1)
    assert web.requests["/a.jpg"] == 2
    assert data.read("images").to_pylist() == [row]


def test_a_picture_whose_row_was_lost_needs_no_request(data: DataRoot, web: WebServer, picture: Picture) -> None:
    web.replies["/a.jpg"] = Reply(picture(1))
    _acquire(data, [f"{web.url}/a.jpg"])
    rows = data.read("images").to_pylist()
    for file in Path(data.path("images")).glob("**/*"):  # a row and its listing; without one of them it is damage
        if file.is_file() and "files" not in file.parts:
            file.unlink()
    assert _one(data, f"{web.url}/a.jpg") is None
    assert data.read("images").to_pylist() == rows
    assert web.requests["/a.jpg"] == 1


@pytest.mark.parametrize("validator", [("ETag", '"v1"'), ("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")])
def test_refresh_asks_whether_it_has_changed(
    data: DataRoot, web: WebServer, picture: Picture, validator: tuple[str, str]
) -> None:
    condition = {"ETag": "if-none-match", "Last-Modified": "if-modified-since"}[validator[0]]

    def reply(headers: dict[str, str]) -> Reply:
        return Reply(status=304) if headers.get(condition) == validator[1] else Reply(picture(1), headers=(validator,))

    web.replies = {"/a.jpg": reply, "/b.jpg": Reply(status=404)}
    urls = [f"{web.url}/{name}.jpg" for name in "ab"]
    first = _acquire(data, urls)
    assert condition not in web.headers["/a.jpg"]
    rows = data.read("images").to_pylist()
    web.replies["/b.jpg"] = Reply(picture(2))
    second = _acquire(data, urls, refresh=True)
    assert web.headers["/a.jpg"][condition] == validator[1]
    assert (_reasons(first), _reasons(second)) == ([None, "image_missing"], [None, None])
    assert rows[0] in data.read("images").to_pylist()
    # Changed by now; and then out of order, which does not lose the image.
    web.replies["/a.jpg"] = Reply(picture(3), headers=(("ETag", '"v2"'),))
    [third] = _acquire(data, urls[:1], refresh=True)
    web.replies["/a.jpg"] = Reply(status=500)
    [fourth] = _acquire(data, urls[:1], refresh=True)
    [fifth] = _acquire(data, urls[:1])
    assert isinstance(third, StoredImage)
    assert third.image_hash == content_hash(picture(3))
    assert all(isinstance(s, StoredImage) and s.image_hash == third.image_hash for s in (fourth, fifth))


def test_the_ledger_is_written_now_and_then(
    data: DataRoot, web: WebServer, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_log, "FLUSH_ROWS", 4)
    web.replies = {f"/{i}.jpg": Reply(picture(i)) for i in range(10)}
    with closing(HttpImages(data, _settings())) as source:
        store = ImageStore(data, source)
        for number in range(10):
            store.acquire([f"{web.url}/{number}.jpg"])
        assert len(data.read("fetches")) == 8
    assert len(data.read("fetches")) == 10


RUN = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
import test_fetch
from ingest.datasets.root import DataRoot
from ingest.images import fetch_log, store
fetch_log.FLUSH_ROWS = 5
store.IMAGE_BATCH = 7
test_fetch._acquire(DataRoot(sys.argv[2]), sys.argv[3:], concurrency=4)
"""


@pytest.mark.slow
def test_a_killed_run_is_continued(data: DataRoot, web: WebServer, picture: Picture, tmp_path: Path) -> None:
    web.replies = {f"/{i}.jpg": Reply(picture(i), delay=0.01) for i in range(40)}
    urls = [f"{web.url}/{i}.jpg" for i in range(41)]
    here = str(Path(__file__).parent)
    for kill_at in (5, 25):
        web.requests.clear()
        process = subprocess.Popen([sys.executable, "-c", RUN, here, data.url, *urls])
        while web.requests.total() < kill_at and process.poll() is None:
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    web.requests.clear()
    _acquire(data, urls)
    # At most what was under way, and what the log did not have yet, twice.
    assert web.requests.total() <= 40 - 15
    undisturbed = DataRoot(str(tmp_path / "undisturbed"))
    _acquire(undisturbed, urls)
    tables = []
    for root_of in (data, undisturbed):
        rows = root_of.read("images").drop_columns(["fetched_at"]).to_pylist()
        tables.append(sorted(rows, key=lambda row: str(row["image_hash"])))
        files = Path(root_of.path("images/files")).rglob("*.jpg")
        assert sorted(content_hash(file.read_bytes()) for file in files) == [row["image_hash"] for row in tables[-1]]
    assert tables[0] == tables[1]
    web.requests.clear()
    _acquire(data, urls)
    assert not web.requests


# -- TLS ---------------------------------------------------------------------------------------------------------------


def test_the_host_is_verified_by_name(
    data: DataRoot, web: WebServer, picture: Picture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    certificate = _certificate(tmp_path, "pictures.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _resolve_as(monkeypatch, ["127.0.0.1"])
    content = picture(1)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)
    allowed = FetchSettings(allowed_private_hosts=("pictures.example", "other.example"), attempts=1)
    with _raw_server(answer, certificate) as url, closing(HttpImages(data, allowed)) as source:
        port = url.rpartition(":")[2]
        assert source.read(f"https://pictures.example:{port}") == content
        with pytest.raises(ImageProblemError, match="not valid for 'other\\.example'"):
            source.read(f"https://other.example:{port}")


def _certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))])
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


@contextlib.contextmanager
def _raw_server(answer: bytes, certificate: Path | None = None) -> Iterator[str]:
    """A server that sends these bytes to whoever connects, and closes."""
    import threading

    listener = socket.create_server(("127.0.0.1", 0))
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

    def run() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                stream = context.wrap_socket(connection, server_side=True) if context else connection
                with stream:
                    stream.recv(10_000)
                    stream.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
