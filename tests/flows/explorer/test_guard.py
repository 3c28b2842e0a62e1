"""Who the explorer answers, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from flows.explorer import guard
from flows.explorer.app import make_app
from flows.explorer.guard import Access
from flows.explorer.pages import PAGES
from flows.explorer.serve import serve
from flows.settings import Settings
from ingest.errors import Graph2ImageError

TOKEN = b"a token of some length"


def client(folder: Path, access: Access | None = None, url: str = "http://127.0.0.1:8765") -> TestClient:
    """A client of an explorer without any data."""
    app = make_app(Settings(data=str(folder)), access or Access.of("127.0.0.1"))
    return TestClient(app, base_url=url, follow_redirects=False, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8765", 200), ("LOCALHOST", 200), ("[::1]:8765", 200), ("evil.example", 421), ("10.0.0.1", 421),
     ("127.0.0.1.evil.example:8765", 421), ("", 421)],
)  # fmt: skip
def test_only_its_own_names_are_answered(tmp_path: Path, host: str, status: int) -> None:
    assert client(tmp_path).get("/api", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
    ],
)
def test_other_sites_reach_no_data(tmp_path: Path, headers: dict[str, str]) -> None:
    asking = client(tmp_path)
    for method, path in (("GET", "/api/recipes"), ("POST", "/api/query"), ("DELETE", "/api/jobs/x")):
        assert asking.request(method, path, headers=headers).status_code == 403


def test_a_link_from_another_site_leads_to_a_page(tmp_path: Path) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client(tmp_path).get("/cypher", headers=link).status_code == 200
    frame = link | {"sec-fetch-dest": "iframe"}
    assert client(tmp_path).get("/cypher", headers=frame).status_code == 403


def test_a_token_lets_in_and_nothing_else_does(tmp_path: Path) -> None:
    asking = client(tmp_path, Access.of("0.0.0.0", TOKEN), url="http://192.0.2.7:8765")
    assert asking.get("/api/openapi.json").status_code == 401
    assert asking.get("/images/96/" + "0" * 64).status_code == 401
    assert asking.get("/").headers["location"] == "/signin"
    for wrong in ("", "Bearer", "Bearer x", "Basic " + TOKEN.decode(), "Bearer é"):
        assert asking.get("/api/openapi.json", headers={"authorization": wrong.encode()}).status_code == 401
    bearer = {"authorization": f"Bearer {TOKEN.decode()}"}
    assert asking.get("/api/openapi.json", headers=bearer).status_code == 200
    assert asking.get("/api/openapi.json", headers=bearer | {"host": "rebound.example"}).status_code == 421
    assert asking.post("/signin", data={"token": "wrong"}).status_code == 401
    signed_in = asking.post("/signin", data={"token": TOKEN.decode()})
    assert signed_in.status_code == 303
    cookie = signed_in.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN.decode() not in cookie
    assert asking.get("/api/openapi.json").status_code == 200  # with the cookie


def test_another_address_needs_a_token(tmp_path: Path) -> None:
    def start(host: str, token_file: Path | None = None) -> None:
        serve(
            Settings(data=str(tmp_path)), host=host, port=0, token_file=token_file, allows_optout=False, started=print
        )

    with pytest.raises(Graph2ImageError, match="needs a token"):
        start("0.0.0.0")
    with pytest.raises(Graph2ImageError, match="cannot read the token"):
        start("0.0.0.0", tmp_path / "none")
    (tmp_path / "short").write_text("short\n")
    with pytest.raises(Graph2ImageError, match="at least 16 characters"):
        start("127.0.0.1", tmp_path / "short")


@pytest.mark.parametrize(
    "path",
    ["/static/../guard.py", "/static/%2e%2e/guard.py", "/static/..%2f..%2fpyproject.toml", "/static//etc/passwd",
     "/images/96/../../../../etc/passwd", "/images/96/%2e%2e%2f%2e%2e%2fitems", "/images/97/" + "0" * 64,
     "/images/generated/..%2f..%2fmodel.json", "/images/generated/0123456789abcdeg.png"],
)  # fmt: skip
def test_paths_reach_no_file(tmp_path: Path, path: str) -> None:
    answer = client(tmp_path).get(path)
    assert answer.status_code in (400, 404)
    assert b"def " not in answer.content


def test_every_answer_has_the_headers(tmp_path: Path) -> None:
    asking = client(tmp_path)
    for path in (*PAGES, "/nothing", "/static/common.js", "/static/none.js", "/api/status", "/api/openapi.json"):
        answer = asking.get(path)
        for name, value in guard.HEADERS.items():
            assert answer.headers[name] == value, path
        assert "unsafe" not in answer.headers["content-security-policy"]
    refused = asking.get("/", headers={"host": "evil.example"})
    assert refused.headers["x-frame-options"] == "DENY"


def test_bodies_and_rates_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = client(tmp_path)
    large = b"x" * (guard.MAX_BODY + 1)
    assert asking.post("/api/query", content=large).status_code == 413
    assert asking.post("/api/query", content=iter([large[:1000]] * 70)).status_code == 413  # of unknown length
    assert asking.post("/api/search/image", content=b"x" * (guard.MAX_UPLOAD + 1)).status_code == 413
    monkeypatch.setattr(guard, "BURST", 3)
    monkeypatch.setattr(guard, "PER_SECOND", 0.0)
    asking = client(tmp_path)
    assert [asking.get("/healthz").status_code for _ in range(5)] == [200, 200, 200, 429, 429]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    asking = client(tmp_path)
    answer = asking.get("/api/items")
    assert answer.status_code == 503
    assert "there is no graph store" in answer.json()["message"]
    assert "graph2image ingest" in answer.json()["hint"]
    assert asking.get("/").status_code == 200
    page = asking.get("/<script>")
    assert page.status_code == 404
    assert "<script>" not in page.text.replace('<script type="module"', "")
