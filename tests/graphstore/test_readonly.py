"""What `query` refuses on both stores, whatever the text hides it in, and what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ladybug
import neo4j
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sources import publish_art

from graphstore.connect import open_store
from graphstore.loading.load import load_source
from graphstore.neo4j.server.server import USER, ServerInfo
from graphstore.store import GraphStore, is_truncated
from ingest.datasets.root import DataRoot
from ingest.errors import Graph2ImageError

NAMES = ["Hokusai", "Monet"]


@pytest.fixture(scope="module")
def art(both_urls: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, GraphStore]]:
    """Both stores with the same small graph, open for writing."""
    data = DataRoot(str(tmp_path_factory.mktemp("art")))
    publish_art(data)
    embedded, server = (open_store(url) for url in both_urls)
    for store in (embedded, server):
        load_source(store, data, "art")
    yield {"ladybug": embedded, "neo4j": server}
    embedded.close()
    server.close()


@pytest.fixture(params=["ladybug", "neo4j"])
def opened(art: dict[str, GraphStore], request: pytest.FixtureRequest) -> GraphStore:
    return art[request.param]


@pytest.fixture(scope="module")
def driver(art: dict[str, GraphStore], neo4j_server: ServerInfo) -> Iterator[neo4j.Driver]:
    """Signed in past our store."""
    with neo4j.GraphDatabase.driver(neo4j_server.url, auth=(USER, _password(neo4j_server))) as driver:
        yield driver
        driver.execute_query("CALL gds.graph.drop('g', false) YIELD graphName RETURN graphName")


def _password(server: ServerInfo) -> str:
    return server.password_file.read_text().strip()


def _state(store: GraphStore) -> list[object]:
    counts = ("MATCH (n) RETURN count(n) AS count", "MATCH ()-[r]->() RETURN count(r) AS count")
    return [
        *(store.read(count)["count"][0].as_py() for count in counts),
        *sorted(store.nodes("Artist", ["name"])["name"].to_pylist()),
    ]


WRITES = [
    "MATCH (a:Artist) SET a.name = 'x' RETURN a.id",
    "MATCH (a:Artist) SET a:Other RETURN a.id",
    "MATCH (a:Artist) REMOVE a.name RETURN a.id",
    "MATCH (a:Artist) DETACH DELETE a",
    "MATCH (a:Artist) MERGE (a)-[:INFLUENCED_BY]->(a) RETURN a.id",
    "WITH 1 AS one CREATE (:Artist {id: 'x'})",
    "UNWIND [1] AS one MERGE (:Artist {id: 'x'})",
    "OPTIONAL MATCH (a:Nothing) CREATE (:Artist {id: 'x'})",
    "MATCH (a:Artist) CALL { WITH a SET a.name = 'x' } RETURN a.id",
    "MATCH (a:Artist) CALL (a) { SET a.name = 'x' } RETURN a.id",
    "MATCH (a:Artist) CALL (a) { CALL (a) { SET a.name = 'x' } } RETURN a.id",
    "MATCH (a:Artist) CALL (a) { SET a.name = 'x' } IN TRANSACTIONS OF 1 ROW RETURN a.id",
    "MATCH (a:Artist) FOREACH (one IN [1] | SET a.name = 'x') RETURN a.id",
    "MATCH (a:Artist) INSERT (:Artist {id: 'x'}) FINISH",
    "MATCH (a:Artist) WHERE EXISTS { CREATE (:Artist {id: 'x'}) } RETURN a.id",
    "MATCH (a:Artist) RETURN a.id UNION ALL CREATE (a:Artist {id: 'x'}) RETURN a.id",
    "MATCH (a:Artist) RETURN a.id NEXT CREATE (:Artist {id: 'x'})",
    "MATCH (a:Artist) /* only RETURN */ SET /**/ a.name = 'x' // RETURN",
    "EXPLAIN MATCH (a:Artist) SET a.name = 'x'",
    "PROFILE MATCH (a:Artist) SET a.name = 'x'",
    "PROFILE EXPLAIN MATCH (a:Artist) SET a.name = 'x'",
    "MATCH (a:Artist) RETURN a.id; MATCH (a:Artist) DETACH DELETE a",
    "MATCH (a:Artist) RETURN a.id\n;\nMATCH (a:Artist) DETACH DELETE a;",
]
NO_READING = [
    "CYPHER 25 MATCH (a:Artist) RETURN a.id",
    "CYPHER runtime=slotted MATCH (a:Artist) RETURN a.id",
    "EXPLAIN CYPHER 5 MATCH (a:Artist) RETURN a.id",
    "USING PERIODIC COMMIT 10 LOAD CSV FROM 'file:///x' AS row RETURN row",
    "USE system SHOW USERS",
    "FOREACH (one IN [1] | CREATE (:Artist))",
    "FINISH",
    "CREATE INDEX i FOR (a:Artist) ON (a.name)",
    "CREATE CONSTRAINT c FOR (a:Artist) REQUIRE a.name IS UNIQUE",
    "DROP INDEX i",
    "DROP CONSTRAINT Artist_id",
    "CREATE DATABASE other",
    "DROP DATABASE neo4j",
    "STOP DATABASE neo4j",
    "ALTER DATABASE neo4j SET ACCESS READ ONLY",
    "CREATE USER eve SET PASSWORD 'evening'",
    "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'b'",
    "GRANT ROLE admin TO eve",
    "SHOW USERS",
    "SHOW TRANSACTIONS",
    "SHOW SETTINGS",
    "TERMINATE TRANSACTION 'neo4j-transaction-1'",
    "EXPLAIN SHOW USERS",
    "CHECKPOINT",
    "DROP TABLE Artist",
    "ALTER TABLE Artist DROP name",
    "IMPORT DATABASE '/tmp'",
    "LOAD EXTENSION algo",
]
FILES = [
    "MATCH (a:Artist) LOAD CSV FROM 'file:///etc/passwd' AS row RETURN row",
    "WITH 1 AS one LOAD CSV WITH HEADERS FROM 'http://127.0.0.1:9/' AS row RETURN row",
    "MATCH (a:Artist) LOAD FROM '{file}' RETURN *",
    "MATCH (a:Artist) LOAD WITH HEADERS (one STRING, two STRING) FROM '{file}' RETURN *",
    "MATCH (a:Artist) LOAD\u180eFROM '{file}' RETURN *",
    "MATCH (a:Artist) LOAD\u2003/**/\u1680WITH\u3000HEADERS (one STRING, two STRING) FROM '{file}' RETURN *",
    "WITH 1 AS one CALL read_csv_serial('{file}') RETURN *",
    "CALL read_parquet('{file}') RETURN *",
]
HIDDEN = [
    "RETURN 1 /***/ AS one LOAD FROM '{file}' RETURN * /*/ AS two",
    "RETURN 1 AS one /***/; COPY (RETURN 1) TO '{folder}/out.csv' /* */",
    "RETURN 1 AS one /**/;/***/ COMMIT; MATCH (a:Artist) SET a.name = 'x' /* */",
    "/* /* */ LOAD FROM '{file}' RETURN * // */",
    "RETURN '\\' AS one // ' LOAD FROM '{file}' RETURN *",
    "RETURN 1 AS `a``b LOAD FROM '{file}' RETURN * //`",
    "RETURN 1 AS `to_json($x)` LOAD FROM '{file}' RETURN *",
    "RETURN to_json($x)",
    "RETURN “1” AS one LOAD FROM '{file}' RETURN *",
    "COPY (MATCH (a:Artist) RETURN a.id) TO '{folder}/out.csv'",
    "PROFILE COPY (MATCH (a:Artist) RETURN a.id) TO '{folder}/out.csv'",
    "EXPLAIN LOGICAL EXPORT DATABASE '{folder}/out'",
    "MATCH (a:Artist) WHERE EXISTS { LOAD FROM '{file}' RETURN * } RETURN a.id",
    "COMMIT; MATCH (a:Artist) SET a.name = 'x'",
    "ATTACH '{folder}/other.lbug' AS other (dbtype lbug)",
    "LOAD EXTENSION '{file}'",
    "INSTALL httpfs FROM 'http://127.0.0.1:9/'",
    "RETURN nextval('s')",
]
CALLS = [
    "CALL gds.graph.drop('g')",
    "CALL gds.graph.project('g', '*', '*')",
    "CALL gds.graph.export('g', {dbName: 'x'})",
    "CALL gds.pageRank.write('g', {writeProperty: 'x'})",
    "CALL gds.pageRank.mutate('g', {mutateProperty: 'x'})",
    "CALL\ngds . graph /* */ . drop('g')",
    "CALL db.labels .x()",
    "call GDS.GRAPH.DROP('g')",
    "CALL `gds`.`graph`.`drop`('g')",
    "CALL gds.`graph`.drop('g')",
    "CALL`gds.graph.drop`('g')",
    "CALL\u001fgds.graph.drop('g')",
    "MATCH (a:Artist) OPTIONAL CALL gds.graph.drop('g') YIELD graphName RETURN graphName",
    "MATCH (a:Artist) CALL (a) { CALL gds.graph.drop('g') YIELD graphName RETURN graphName } RETURN graphName",
    "MATCH (a:Artist) WHERE a.name = 'x'CALL gds.graph.drop('g') YIELD graphName RETURN graphName",
    "MATCH (a:Artist) // one\rCALL gds.graph.drop('g') YIELD graphName RETURN graphName",
    "MATCH (a:Artist) // \r '\n CALL gds.graph.drop('g') YIELD graphName RETURN graphName // '",
    "\\u0043ALL gds.graph.drop('g')",
    "MATCH (a:Artist)-->(b) RETURN gds.graph.project('h', a, b)",
    "MATCH (a:Artist)-->(b) RETURN gds . graph . project ('h', a, b)",
    "MATCH (a:Artist)-->(b) RETURN `gds`.graph.`project`('h', a, b)",
    "MATCH (a:Artist)-->(b) RETURN `gds.graph.project`('h', a, b)",
    "MATCH (a:Artist)-->(b) WITH gds.graph.project('h', a, b, {}, {}) AS g RETURN g.graphName",
    "CALL dbms.listConfig()",
    "CALL dbms.killQuery('1')",
    "CALL db.createLabel('x')",
    "CALL db.clearQueryCaches()",
    "CALL db.create.setNodeVectorProperty(null, 'x', [1.0])",
    "CALL apoc.export.csv.all('x.csv', {})",
    "CALL apoc.cypher.runWrite('CREATE (:Artist)', {})",
    "CALL { USE system MATCH (n) RETURN n } RETURN n",
    "RETURN 1 AS one UNION USE system RETURN 2 AS one",
    "RETURN 1 AS one UNION ALL USE`system` RETURN 2 AS one",
    "CALL threads=1",
    "CALL auto_checkpoint=false",
    "CALL\u180echeckpoint_threshold=1",
    "CALL home_directory='/tmp'",
    "CALL project_graph('g', ['Artist'], ['INFLUENCED_BY'])",
    "CALL drop_projected_graph('g')",
    "CALL clear_warnings()",
]


@pytest.mark.parametrize("cypher", [*WRITES, *NO_READING, *FILES, *HIDDEN, *CALLS])
def test_what_does_not_only_read_is_refused(opened: GraphStore, tmp_path: Path, cypher: str) -> None:
    (tmp_path / "file.csv").write_text("one,two\nthree,four\n")
    before = _state(opened)
    text = cypher.replace("{file}", str(tmp_path / "file.csv")).replace("{folder}", str(tmp_path))
    with pytest.raises(Graph2ImageError) as error:
        opened.query(text, {"x": '"` LOAD FROM"'})
    assert "\n" not in error.value.message
    assert _state(opened) == before
    assert [path.name for path in tmp_path.iterdir()] == ["file.csv"]


@pytest.mark.parametrize("cypher", CALLS)
def test_calls_do_not_reach_the_server(art: dict[str, GraphStore], driver: neo4j.Driver, cypher: str) -> None:
    """The projection that they would drop is still there, and none that they would make."""
    driver.execute_query("MATCH (a:Artist) WHERE NOT gds.graph.exists('g') RETURN gds.graph.project('g', a, a)")
    with pytest.raises(Graph2ImageError, match=r"a query cannot|several statements"):
        art["neo4j"].query(cypher)
    names = driver.execute_query("CALL gds.graph.list() YIELD graphName RETURN graphName ORDER BY graphName").records
    assert [name for (name,) in names] == ["g"]


# Neo4j alone replaces an escape before it looks for the ends of texts.
ESCAPED = "RETURN '\\u0027 AS one CALL gds.graph.drop(\\u0027g\\u0027) YIELD graphName RETURN graphName //' AS text"


def test_an_escape_ends_no_text(opened: GraphStore) -> None:
    text = "' AS one CALL gds.graph.drop('g') YIELD graphName RETURN graphName //"
    assert opened.query(ESCAPED)["text"].to_pylist() == [text]


def test_the_server_itself_refuses_to_write(art: dict[str, GraphStore], driver: neo4j.Driver) -> None:
    with (
        driver.session(default_access_mode=neo4j.READ_ACCESS) as session,
        pytest.raises(neo4j.exceptions.ClientError, match="read access mode"),
    ):
        session.run("MATCH (a:Artist) SET a.name = 'x'").consume()


def test_the_embedded_database_itself_refuses_to_write(art: dict[str, GraphStore], both_urls: tuple[str, str]) -> None:
    path = both_urls[0].removeprefix("ladybug://")
    copy = Path(path).with_name("copy.lbug")
    copy.write_bytes(Path(path).read_bytes())
    connection = ladybug.Connection(ladybug.Database(copy, read_only=True))
    with pytest.raises(RuntimeError, match="read-only"):
        connection.execute("CREATE (:Artist {id: 'x'})")


READING = [
    "MATCH (a:Artist) RETURN a.name AS name ORDER BY name",
    "// every artist's name; CREATE\nMATCH (a:Artist) RETURN a.name AS name ORDER BY name;",
    "MATCH (a:Artist) WHERE a.name <> 'CALL gds.graph.drop(\"x\"); LOAD CSV' RETURN a.name AS name ORDER BY name",
    "MATCH (a:`Artist`) RETURN a.`name` AS `name` ORDER BY `name`\r\n// LOAD FROM\r\n",
    "MATCH (load:Artist) WITH load AS `call` RETURN `call`.name AS name ORDER BY name",
    "MATCH (a:Artist) WHERE (a.name = 'Monet' OR a.name IN ['Hokusai']) RETURN a.name AS name ORDER BY name",
]


@pytest.mark.parametrize("cypher", READING)
def test_what_only_looks_dangerous_is_answered(opened: GraphStore, cypher: str) -> None:
    assert opened.query(cypher)["name"].to_pylist() == NAMES


@pytest.mark.parametrize(
    ("store", "cypher"),
    [
        ("neo4j", "CALL db.labels() YIELD label RETURN label"),
        ("neo4j", "CALL db.schema.nodeTypeProperties() YIELD nodeType RETURN nodeType"),
        ("neo4j", "RETURN gds.version() AS version"),
        ("neo4j", "RETURN gds.similarity.cosine([1.0, 2.0], [2.0, 1.0]) AS similarity"),
        ("neo4j", "CALL gds.list() YIELD name RETURN name LIMIT 1"),
        ("neo4j", "MATCH (a:Artist) CALL (a) { RETURN a.name AS name } RETURN name"),
        ("neo4j", "MATCH (a:Artist) RETURN a {.name} AS artist"),
        ("ladybug", "CALL show_tables() RETURN name"),
        ("ladybug", "CALL table_info('Artist') RETURN *"),
        ("ladybug", "EXPLAIN MATCH (a:Artist) RETURN a.name"),
    ],
)
def test_calls_that_look_are_answered(art: dict[str, GraphStore], store: str, cypher: str) -> None:
    assert art[store].query(cypher).num_rows


@given(st.text())
def test_a_parameter_is_a_value_whatever_it_holds(art: dict[str, GraphStore], text: str) -> None:
    for store in art.values():
        answer = store.query(
            "MATCH (a:Artist) WHERE a.name <> $text RETURN $text AS text, a.name AS name", {"text": text}
        )
        assert set(answer["text"].to_pylist()) <= {text}
        assert set(answer["name"].to_pylist()) == {*NAMES} - {text}


@pytest.mark.parametrize(
    "text",
    [
        "'; MATCH (a) DETACH DELETE a //",
        "' }) SET a.name = 'x' //",
        "\\u0027 DETACH DELETE a",
        "`) DETACH DELETE a //",
        "$text",
        "*/ DELETE a /*",
        "\x00",
        "\r\n\u2028",
    ],
)
def test_a_parameter_changes_nothing(opened: GraphStore, text: str) -> None:
    before = _state(opened)
    query = "MATCH (a:Artist) WHERE a.name = $text OR a.id CONTAINS $text RETURN a.id UNION ALL RETURN $text AS `a.id`"
    assert opened.query(query, {"text": text})["a.id"].to_pylist() == [text]
    assert _state(opened) == before


@settings(max_examples=30)
@given(st.text(max_size=40))
def test_a_text_of_any_kind_is_answered_or_refused_in_one_line(art: dict[str, GraphStore], text: str) -> None:
    for store in art.values():
        for cypher in (text, f"MATCH (a:Artist) {text}", f"MATCH (a:Artist) RETURN a.name {text}"):
            message = ""
            try:
                store.query(cypher, row_limit=10, timeout_s=5)
            except Graph2ImageError as error:
                message = error.message
            assert "\n" not in message


def test_limits_hold_for_rows_and_time(opened: GraphStore) -> None:
    rows = opened.query(
        "UNWIND range(1, 1000) AS x RETURN x UNION ALL UNWIND range(1, 1000) AS x RETURN x", row_limit=7
    )
    assert rows.num_rows == 7
    assert is_truncated(rows)
    with pytest.raises(Graph2ImageError, match="time limit"):
        opened.query(
            "UNWIND range(1, 100000) AS x UNWIND range(1, 100000) AS y WITH x, y WHERE x + y < 0 RETURN x, y",
            timeout_s=0.3,
        )
    # And the store is as good as before.
    assert opened.query("MATCH (a:Artist) RETURN a.name AS name ORDER BY name")["name"].to_pylist() == NAMES
