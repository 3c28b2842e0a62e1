"""Opening stores, reading with limits, refusing to write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ladybug
import pytest
from sources import publish_art

from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.store import GraphStore, is_truncated
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError


@pytest.fixture
def art(store: GraphStore, data: DataRoot) -> GraphStore:
    publish_art(data)
    load_source(store, data, "art")
    return store


def test_query_returns_rows_with_parameters(art: GraphStore) -> None:
    table = art.query(
        "MATCH (a:Artwork)-[:CREATED_BY]->(p:Artist) WHERE p.name = $name RETURN a.title AS title ORDER BY title",
        {"name": "Monet"},
    )
    assert table.to_pydict() == {"title": ["1", "2"]}
    assert not is_truncated(table)


@pytest.mark.parametrize(
    ("cypher", "rows", "truncated"),
    [
        ("MATCH (a:Artwork) RETURN a.id", 3, True),
        ("MATCH (a:Artwork) RETURN a.id ORDER BY a.id;", 3, True),
        ("MATCH (a:Artwork) RETURN a.id LIMIT 2", 2, False),
        ("MATCH (a:Artwork) WITH a LIMIT 5 RETURN a.id // all five", 3, True),
        ("MATCH (a:Artwork) RETURN a.id UNION ALL MATCH (a:Artist) RETURN a.id", 3, True),
        ("MATCH (a:Artist) RETURN 'RETURN LIMIT 1' AS text, a.id", 2, False),
        ("MATCH (a:Genre) RETURN a.id", 1, False),
    ],
)
def test_query_returns_at_most_row_limit_rows(art: GraphStore, cypher: str, rows: int, truncated: bool) -> None:
    table = art.query(cypher, row_limit=3)
    assert (table.num_rows, is_truncated(table)) == (rows, truncated)


def test_the_store_itself_stops_at_the_row_limit(art: GraphStore) -> None:
    table = art.query("UNWIND range(1, 100000) AS x UNWIND range(1, 1000000) AS y RETURN x, y", row_limit=10)
    assert is_truncated(table)  # and not after an hour


def test_query_stops_at_the_time_limit(art: GraphStore) -> None:
    with pytest.raises(Graph2ImageError, match="time limit"):
        art.query("UNWIND range(1, 100000) AS x UNWIND range(1, 1000000) AS y RETURN sum(x * y)", timeout_s=0.3)


@pytest.mark.parametrize(
    "cypher",
    [
        "CREATE (:Artist {id: 'x'})",
        "MATCH (a:Artist) SET a.name = 'x' RETURN a.id",
        "MATCH (a:Artist) DETACH DELETE a",
        "MERGE (:Artist {id: 'x'})",
        "CREATE NODE TABLE T(id STRING PRIMARY KEY)",
        "DROP TABLE Artist",
        "MATCH (a:Artist) RETURN a.id; MATCH (a:Artist) DETACH DELETE a",
        "COMMIT; MATCH (a:Artist) DETACH DELETE a",
        "BEGIN TRANSACTION",
        "COPY (MATCH (a:Artist) RETURN a.id) TO '{folder}/out.csv'",
        "PROFILE COPY (MATCH (a:Artist) RETURN a.id) TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "LOAD FROM '/etc/passwd' (file_format='csv') RETURN *",
        "MATCH (a:Artist) LOAD /* */ FROM '/etc/passwd' (file_format='csv') RETURN *",
        "ATTACH '{folder}/other.lbug' AS other (dbtype lbug)",
        "INSTALL algo",
        "",
        " ; ",
        "// nothing",
        "{}",
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_query_refuses_everything_but_reading(
    data: DataRoot, store_url: str, tmp_path: Path, cypher: str, read_only: bool
) -> None:
    publish_art(data)
    with open_store(store_url) as store:
        load_source(store, data, "art")
        if not read_only:
            _assert_refused(store, cypher, tmp_path)
    if read_only:
        with open_store(store_url, read_only=True) as store:
            _assert_refused(store, cypher, tmp_path)


def _assert_refused(store: GraphStore, cypher: str, folder: Path) -> None:
    files = sorted(folder.rglob("*"))
    with pytest.raises(Graph2ImageError):
        store.query(cypher.replace("{folder}", str(folder)))
    assert store.query("MATCH (a:Artist) RETURN a.name AS name ORDER BY name")["name"].to_pylist() == [
        "Hokusai",
        "Monet",
    ]
    assert sorted(folder.rglob("*")) == files


@pytest.mark.parametrize(
    ("cypher", "message"),
    [
        ("MATC (n) RETURN n", "MATC"),
        ("MATCH (n:Artist RETURN n", "RETURN at line 1, column 17"),
        ("MATCH (n:Nothing) RETURN n", "Nothing does not exist"),
        ("MATCH (n:Artist)-[r:NOTHING]->() RETURN r", "NOTHING does not exist"),
        ("MATCH (n:Artist) RETURN n.nothing", "property nothing"),
        ("MATCH (n:Artist) WHERE n.id = $id RETURN n", r"\$id has no value"),
    ],
)
def test_mistakes_in_cypher_are_told_in_one_line(art: GraphStore, cypher: str, message: str) -> None:
    with pytest.raises(Graph2ImageError, match=message) as error:
        art.query(cypher)
    assert "\n" not in error.value.message


def test_schema_counts_labels_and_relations(art: GraphStore) -> None:
    schema = art.schema()
    labels = {label.name: label for label in schema.labels}
    assert (labels["Artwork"].kind, labels["Artwork"].count) == ("item", 5)
    assert (labels["Artist"].kind, labels["Artist"].count) == ("entity", 2)
    assert labels["Model"].kind == "system"
    assert labels["Artwork"].properties["opted_out"] == "BOOL"
    relations = {(r.type, r.from_label, r.to_label): r.count for r in schema.relations}
    assert relations["CREATED_BY", "Artwork", "Artist"] == 4
    assert relations["INFLUENCED_BY", "Artist", "Artist"] == 1


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Graph2ImageError, match="there is no graph store at"):
        open_store(f"ladybug://{tmp_path}/graph.lbug", read_only=True)
    assert not (tmp_path / "graph.lbug").exists()
    for url in ("graph.lbug", "ladybug://", "mysql://x"):
        with pytest.raises(Graph2ImageError, match="is no graph store"):
            open_store(url)


def test_opening_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "graph.lbug").write_text("something else " * 1000)
    for read_only in (True, False):
        with pytest.raises(Graph2ImageError, match="not a valid Lbug database"):
            open_store(f"ladybug://{tmp_path}/graph.lbug", read_only=read_only)
    (tmp_path / "folder").mkdir()
    with pytest.raises(Graph2ImageError, match="cannot be a directory"):
        open_store(f"ladybug://{tmp_path}/folder")


def test_one_writer_in_a_process_and_readers_beside_it(ladybug_url: str, data: DataRoot) -> None:
    publish_art(data)
    with open_store(ladybug_url) as store:
        with pytest.raises(Graph2ImageError, match="already open in this process for writing"):
            open_store(ladybug_url)
        with open_store(ladybug_url, read_only=True) as reader:
            load_source(store, data, "art")
            assert reader.query("MATCH (a:Artwork) RETURN a.id").num_rows == 5
            store.close()
            assert reader.query("MATCH (a:Artwork) RETURN a.id").num_rows == 5
            with open_store(ladybug_url) as again:
                assert again.query("MATCH (a:Artwork) RETURN a.id").num_rows == 5
    with open_store(ladybug_url, read_only=True), pytest.raises(Graph2ImageError, match="in this process for reading"):
        open_store(ladybug_url)


def test_a_second_process_may_read_but_not_write(ladybug_url: str, data: DataRoot) -> None:
    publish_art(data)
    code = (
        "import sys\n"
        "from graphstore.connect import open_store\n"
        "with open_store(sys.argv[1], read_only=sys.argv[2] == 'read') as store:\n"
        "    print(store.query('MATCH (a:Artwork) RETURN a.id').num_rows)\n"
    )

    def run(mode: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, ladybug_url, mode], capture_output=True, text=True)

    with open_store(ladybug_url) as store:
        load_source(store, data, "art")
        assert run("read").stdout == "5\n"
        writing = run("write")
    assert "TransientError" in writing.stderr
    assert "is open for writing in another process (PID" in writing.stderr


def test_a_query_needs_neither_numba_nor_torch(art: GraphStore, store_url: str) -> None:
    code = (
        "import sys\n"
        "from graphstore.connect import open_store\n"
        "open_store(sys.argv[1], read_only=True).query('MATCH (a:Artwork) RETURN a.id')\n"
        "assert not {'numba', 'torch', 'polars', 'pandas', 'prefect'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, store_url], check=True)


def test_a_file_whose_maker_was_killed_is_no_graph_yet(tmp_path: Path) -> None:
    path = tmp_path / "graph.lbug"
    ladybug.Database(str(path)).close()
    with pytest.raises(Graph2ImageError, match="there is no graph store at"):
        open_store(f"ladybug://{path}", read_only=True)
    with open_store(f"ladybug://{path}") as store:
        assert store.version()
