"""Our tokens against the embedded database's: what it makes of a text, and of what we write in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ladybug
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graphstore.connect import open_store
from graphstore.cypher.grammar import Dialect, read_query
from graphstore.cypher.tokens import Kind, tokenize
from graphstore.store import GraphStore
from ingest.errors import Graph2ImageError

EVERYTHING = Dialect(may_call=lambda _: True, may_apply=lambda _: True)
#: What comments, texts, names and white space are made of, and where the two might see their ends elsewhere.
PIECES = st.sampled_from(
    [
        *("/*", "*/", "/***/", "/**/", "**/", "/*/", "//", "\n", "\r\n", "\r", "\t", " ", "\\", "\\\\", "\\'", "\\n"),
        *("'", '"', "`", "``", "''", "\\u0027", "\\u0041", "\\x", "\u00a0", "\u2003", "\u180e", "\u200b", "\ufeff"),
        *("\u2028", "\x1f", "\x00", "‘", "’", "„", "´", "é", "a\u0301", "𝓐", "٣", "_", "$", "--", "#", ";", "%"),
        *("1", "2", ".5", "1.5", "1e3", "0x1", "..", ".", ",", "a", "b", "x", "AS", "AS b", "RETURN", "AND", "+", "-"),
        *("(", ")", "[", "]", "{", "}", "|", "=", "<>", "NULL", "true", "[1, 2]", "{a: 1}", "'text'", "'two words'"),
        *("MATCH (n)", "WITH 1 AS a", "UNION ALL", "LIMIT 1", "LOAD FROM 'f'", "COMMIT", "CALL threads=1", "COPY"),
    ]
)
TEXTS = st.lists(PIECES, max_size=10).map("".join)


@pytest.fixture(scope="module")
def raw() -> ladybug.Connection:
    """A database in memory, to which texts go as they are."""
    return ladybug.Connection(ladybug.Database(":memory:"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphStore]:
    with open_store(f"ladybug://{tmp_path_factory.mktemp('store')}/graph.lbug") as store:
        yield store


FUZZ = settings(
    derandomize=True, max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@FUZZ
@given(TEXTS)
@example("1 /***/ AS a")
@example("1 /* a /* b */ AS a")
@example("'\\\\' AS a // '")
@example("'a''b'")
@example("1 AS a /* ' */, 2 AS b // ' ")
@example("'/*' AS a, 2 AS b /* */")
def test_what_is_answered_is_what_the_database_would_answer(
    raw: ladybug.Connection, store: GraphStore, text: str
) -> None:
    """Where both understand a text, they understand the same."""
    cypher = f"RETURN {text}"
    try:
        ours = store.query(cypher, row_limit=100)
    except Graph2ImageError:
        return
    if any(word in text.upper() for word in ("LOAD", "COMMIT", "THREADS", "COPY")):
        return  # in a text or a comment for us; the raw database is not asked
    try:
        theirs = raw.execute(cypher)
    except RuntimeError:  # such as a comment that ends in **/, which it does not know
        return
    assert not isinstance(theirs, list)
    assert ours.rename_columns(_numbered(ours)).to_pylist() == [
        dict(zip(_numbered(ours), row, strict=True)) for row in theirs.get_all()
    ]


def _numbered(table: object) -> list[str]:
    return [str(number) for number in range(table.num_columns)]  # type: ignore[attr-defined]


@FUZZ
@given(TEXTS)
def test_what_is_written_is_read_as_the_same_tokens(text: str) -> None:
    cypher = f"RETURN {text}"
    try:
        query = read_query(cypher, {"a": 1, "x": 1, "b": 1}, EVERYTHING)
    except Graph2ImageError:
        return
    written = tokenize(query.cypher)
    kept = [token for token in tokenize(cypher) if token.text != ";"]
    assert len(written) == len(kept)
    for token, before in zip(written, kept, strict=True):
        if token.kind is Kind.PARAMETER and before.kind is Kind.TEXT:
            assert query.parameters[token.text] == before.text
        else:
            assert token.text == before.text
    assert "//" not in query.cypher
    assert "/*" not in query.cypher
    assert "\\" not in query.cypher


@FUZZ
@given(st.text(max_size=8) | TEXTS)
@example("\x00'\"`\\")
def test_a_text_comes_back_as_it_is(store: GraphStore, text: str) -> None:
    escaped = "".join(f"\\u{ord(sign):04x}" if sign in "'\\" else sign for sign in text)
    cypher = f"RETURN '{escaped}' AS text"
    if "\r" in text.replace("\r\n", ""):
        with pytest.raises(Graph2ImageError, match="carriage return"):
            store.query(cypher)
    else:
        assert store.query(cypher)["text"].to_pylist() == [text]


STATEMENTS = st.lists(
    st.sampled_from(
        [
            *("MATCH (n:OptOut)", "OPTIONAL MATCH (n)", "WHERE n.id = 'x'", "UNWIND [1] AS x", "WITH 1 AS x"),
            *("RETURN *", "RETURN 1", "AS a", "ORDER BY 1", "LIMIT 1", "UNION", "CALL show_tables()", "CALL {", "}"),
            *("LOAD FROM '{file}'", "LOAD EXTENSION '{file}'", "COPY (RETURN 1) TO '{folder}/out.csv'", "COMMIT"),
            *("EXPORT DATABASE '{folder}/out'", "CREATE (:OptOut {id: 'x'})", "SET n.id = 'y'", "DELETE n", "PROFILE"),
            *("EXPLAIN", "/*", "*/", "/***/", "//", "\n", "'", "`", "CHECKPOINT", "CALL threads=1", "INSTALL json"),
            *("ATTACH '{file}'", "MERGE (:OptOut {id: 'z'})", "DROP TABLE Model", "(", ")", ",", ";", "EXISTS {"),
            "CREATE NODE TABLE T(id STRING PRIMARY KEY)",
        ]
    ),
    min_size=1,
    max_size=7,
).map(" ".join)


@pytest.mark.slow
@FUZZ
@given(STATEMENTS)
@example("RETURN 1 AS a /***/ LOAD FROM '{file}' RETURN * /* */")
@example("RETURN 1 AS a /***/ ; COMMIT; COPY (RETURN 1) TO '{folder}/out.csv' /* */")
@example("MATCH (n:OptOut) WHERE EXISTS { LOAD FROM '{file}' RETURN * } RETURN n.id")
def test_no_statement_reads_or_writes_a_file_or_changes_anything(
    store: GraphStore, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = _folder(tmp_path_factory)
    cypher = text.replace("{file}", str(folder / "secret.csv")).replace("{folder}", str(folder))
    try:
        answer = store.query(cypher, timeout_s=5)
    except Graph2ImageError:
        answer = None
    assert "secret word" not in str(answer)
    assert [path.name for path in folder.iterdir()] == ["secret.csv"]
    assert store.read("MATCH (n) RETURN count(n) AS count")["count"].to_pylist() == [0]
    assert "T" not in store.node_labels()


def _folder(factory: pytest.TempPathFactory) -> Path:
    folder = factory.getbasetemp() / "files"
    if not folder.exists():
        folder.mkdir()
        (folder / "secret.csv").write_text("secret word\nsecret word\n")
    return folder
