"""Addresses of Neo4j servers; and that no password shows anywhere."""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphstore.connect import open_store
from graphstore.neo4j.driver import SignInError, parse_url
from graphstore.neo4j.server.server import ServerInfo
from graphstore.store import Access
from ingest.errors import Graph2ImageError

SECRET = "s3cret-Pa55word!"

_names = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
_schemes = st.sampled_from([f"{name}{suffix}" for name in ("neo4j", "bolt") for suffix in ("", "+s", "+ssc")])


@given(_schemes, _names | st.ip_addresses(v=4).map(str), st.none() | st.integers(1, 65535), st.none() | _names)
def test_parse_url_takes_apart_what_was_put_together(
    scheme: str, host: str, port: int | None, database: str | None
) -> None:
    url = f"{scheme}://{host}" + (f":{port}" if port else "") + (f"/{database}" if database else "")
    address = parse_url(url)
    assert (address.host, address.port, address.database) == (host, port or 7687, database)
    assert address.uri == f"{scheme}://{host}:{port or 7687}"
    assert parse_url(f"{address.uri}/{database or ''}") == address


@given(_schemes, st.ip_addresses(v=6).map(str), st.integers(1, 65535))
def test_parse_url_keeps_the_brackets_of_an_ipv6_address(scheme: str, host: str, port: int) -> None:
    address = parse_url(f"{scheme}://[{host}]:{port}")
    assert (address.uri, address.host, address.port) == (f"{scheme}://[{host}]:{port}", host, port)


@given(st.text(max_size=30))
def test_parse_url_of_any_text_is_an_address_or_an_error_of_ours(text: str) -> None:
    try:
        address = parse_url(f"neo4j://{text}")
    except Graph2ImageError:
        return
    assert address.host
    assert 0 < address.port < 65536
    assert "/" not in (address.database or "")
    assert "@" not in address.uri


@pytest.mark.parametrize(
    "url",
    [
        f"neo4j://neo4j:{SECRET}@127.0.0.1:7687",
        f"bolt+s://:{SECRET}@host/database",
        f"neo4j://neo4j:{SECRET}@host:port",
        f"neo4j://neo4j:{SECRET}@",
        f"neo4j://neo4j:{SECRET}@[::1",
        f"neo4j://host?password={SECRET}",
        f"neo4j://host/neo4j#{SECRET}",
        f"neo4j://host:7687/a/{SECRET}",
        f"neo4j://neo4j:{SECRET}/@host",
        f"neo4j://neo4j:a#{SECRET}@host",
        f"neo4j://neo4j:{SECRET}",
        f"mysql://root:{SECRET}@host",
        f"neo4j:/neo4j:{SECRET}@host",
    ],
)
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Graph2ImageError) as caught:
        open_store(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + str(caught.value.hint) + caplog.text


def test_a_password_shows_nowhere(
    both_urls: tuple[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    neo4j_server: ServerInfo,
) -> None:
    for logger in ("", "graphstore", "neo4j", "neo4j.io", "neo4j.pool"):
        caplog.set_level(logging.DEBUG, logger)
    (tmp_path / "password").write_text(SECRET + "\n")
    # Another user than the rest of the tests: after three wrong passwords the server locks a name for seconds.
    with pytest.raises(SignInError) as caught:
        open_store(both_urls[1], access=Access("nobody", tmp_path / "password"))
    monkeypatch.setenv("GRAPH2IMAGE_NEO4J_PASSWORD", SECRET)
    monkeypatch.delenv("GRAPH2IMAGE_NEO4J_PASSWORD_FILE")
    with pytest.raises(SignInError) as from_environment:
        open_store(both_urls[1], access=Access("nobody"))
    for error in (caught.value, from_environment.value):
        shown = "".join(traceback.format_exception(error)) + repr(error) + str(error.hint)
        assert SECRET not in shown
    assert "neo4j" in {record.name.partition(".")[0] for record in caplog.records}
    assert SECRET not in caplog.text


def test_a_store_does_not_show_the_password_it_was_opened_with(
    both_urls: tuple[str, str], neo4j_server: ServerInfo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "neo4j")
    access = Access(password_file=neo4j_server.password_file)
    with open_store(both_urls[1], access=access) as store:
        shown = f"{store!r} {store.__dict__} {access!r} {os.environ}"
        with pytest.raises(Graph2ImageError) as caught:
            store.query("MATCH (n RETURN n")
    shown += "".join(traceback.format_exception(caught.value))
    assert neo4j_server.password_file.read_text().strip() not in shown + caplog.text
