"""What a query becomes before a store sees it."""

from __future__ import annotations

import time

import pytest

from graphstore.cypher.grammar import Dialect, read_query
from ingest.errors import Graph2ImageError

DIALECT = Dialect(may_call=lambda name: name == "db.labels", may_apply=lambda name: name != "nextval")


def written(cypher: str, **parameters: object) -> str:
    return read_query(cypher, parameters, DIALECT).cypher


@pytest.mark.parametrize(
    ("cypher", "expected"),
    [
        ("RETURN 1 /***/ AS a // x\n ;", "RETURN 1 AS a"),
        ("RETURN/**/1/* ; */AS/***/a", "RETURN 1 AS a"),
        ("match (n:Order) return n.type as end", "match (n:`Order`) return n.`type` as `end`"),
        ("MATCH (load) WITH load AS `call` RETURN `call`", "MATCH (`load`) WITH `load` AS `call` RETURN `call`"),
        ("MATCH (é:`Ö b`) RETURN é", "MATCH (`é`:`Ö b`) RETURN `é`"),
        ("MATCH (a)-[r:X|Y*1..3]->(b)<--(c)--(d) RETURN r", "MATCH (a)-[r:X|Y*1..3]->(b)<--(c)--(d) RETURN r"),
        ("MATCH p=(a)-[:R* SHORTEST 1..3 (r, n | WHERE r.w > 0)]->(b) RETURN p", None),
        ("MATCH p = shortestPath((a)-[*..5]-(b)) RETURN length(p)", None),
        ("MATCH (a)-[:R]->{1,3}(b:A&!B {x: 1, y: [1, 2]}) WHERE NOT (a)-[:S]->() RETURN *", None),
        ("MATCH (a) CALL (a) { MATCH (a)-->(b) RETURN count(b) AS n } RETURN a, n", None),
        ("RETURN [x IN [1, 2] WHERE x > 1 | x + 1][0..1] AS l, {a: -1.5e3, b: .5} AS m", None),
        ("RETURN [(a)-->(b) WHERE b.x = 1 | b.id] AS l, a {.*, .id, x: 1} AS p", None),
        ("RETURN all(x IN l WHERE x > 0) AND (a)-->(b) OR (1 + 2) * 3 <> 4 AS b", None),
        ("RETURN reduce(s = 0, x IN l | s + x) AS s, CASE WHEN 1 = 1 THEN 2 ELSE 3 END AS c", None),
        ("RETURN CAST(x AS STRING[]) AS c, list_transform(l, x -> x + 1) AS l", None),
        ("UNWIND [1] AS x WITH DISTINCT x ORDER BY x DESC SKIP 1 LIMIT 2 WHERE x IS NOT NULL RETURN x", None),
        ("CALL db.labels() YIELD label AS l WHERE l STARTS WITH 'A' RETURN l", None),
        ("RETURN EXISTS { (a)-->(b) WHERE a.x = b.x } AS e, COUNT { MATCH (a)-->() } AS n", None),
    ],
)
def test_a_reading_query_is_written_anew(cypher: str, expected: str | None) -> None:
    assert written(cypher) == (cypher if expected is None else expected)
    assert written(written(cypher)) == written(cypher)


def test_texts_become_parameters() -> None:
    query = read_query(
        "RETURN 'it\\'s /* */' AS a, \"it's /* */\" AS b, 'INT64' AS c, '\\ud83d\\ude00\\n' AS d, $x AS e",
        {"x": 1, "text_1": 2, "unused": 3},
        DIALECT,
    )
    assert query.cypher == "RETURN $text_0 AS a, $text_0 AS b, 'INT64' AS c, $text_1_ AS d, $x AS e"
    assert query.parameters == {"text_0": "it's /* */", "text_1_": "\N{GRINNING FACE}\n", "x": 1}


@pytest.mark.parametrize(
    ("cypher", "limited"),
    [
        ("RETURN 'x' AS `LIMIT`", " RETURN 'x' AS `LIMIT` LIMIT 5"),
        ("MATCH (a) WITH a LIMIT 5 RETURN a.id // all five", " MATCH (a) WITH a LIMIT 5 RETURN a.id LIMIT 5"),
        (
            "RETURN EXISTS { MATCH (a) RETURN a LIMIT 1 } AS b",
            " RETURN EXISTS { MATCH (a) RETURN a LIMIT 1 } AS b LIMIT 5",
        ),
        ("RETURN 1 AS a LIMIT 3", " RETURN 1 AS a LIMIT 3"),
        ("RETURN 1 AS a UNION ALL RETURN 2 AS a", " RETURN 1 AS a UNION ALL RETURN 2 AS a"),
        ("CALL db.labels()", " CALL db.labels()"),
        ("PROFILE RETURN 1 AS a", "PROFILE RETURN 1 AS a LIMIT 5"),
    ],
)
def test_a_limit_is_appended_where_there_is_none(cypher: str, limited: str) -> None:
    assert read_query(cypher, {}, DIALECT).limited(5) == limited


@pytest.mark.parametrize(
    ("cypher", "message"),
    [
        ("", "the query is empty"),
        (" ; ", "cannot have ; at line 1, column 2"),
        ("RETURN 1 AS a; RETURN 2 AS a", "several statements"),
        ("RETURN 1 AS a\nSET a.x = 1", "cannot have SET at line 2, column 1"),
        ("MATCH (n) WHERE n.x = LOAD FROM 'x' RETURN n", "cannot have FROM at line 1, column 28"),
        ("RETURN CREATE (n)", "cannot have CREATE at line 1, column 8"),
        ("RETURN 'abc", "cannot end inside what ' begins at line 1, column 8"),
        ("RETURN 1 /* abc *", r"cannot end inside what /\* begins at line 1, column 10"),
        ("RETURN '\\x'", r"cannot have the escape \\x in a text"),
        ("RETURN '\\ud800'", "half a character"),
        ("RETURN 1\x00", r"cannot have '\\x00' at line 1, column 9"),
        ("RETURN\u180e1", r"cannot have '\\u180e'"),
        ("RETURN \ud800", r"cannot have '\\ud800'"),
        ("RETURN 1x", "cannot have '1' at line 1, column 8"),
        ("RETURN `a(b)`", r"quoted name 'a\(b\)'"),
        ("RETURN $x", r"parameter \$x has no value"),
        ("RETURN nextval('s')", "cannot call nextval"),
        ("CALL db.other()", "cannot call db.other"),
        ("RETURN 1 AS", "cannot end here"),
        ("RETURN " + "(" * 200 + "1" + ")" * 200, "nested more than"),
        ("MATCH (a) WHERE " + "EXISTS { MATCH (a) WHERE " * 200 + "1", "nested more than"),
    ],
)
def test_what_is_no_reading_query_is_told_with_its_place(cypher: str, message: str) -> None:
    with pytest.raises(Graph2ImageError, match=message) as caught:
        written(cypher)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "piece", ["[", "(", "({a: ", "[x IN ", "[(a {x: ", "[p = (a {x: ", "[x IN [(a)-->(b {x: ", "NOT ("]
)
def test_nesting_takes_no_exponential_time(piece: str) -> None:
    started = time.process_time()
    with pytest.raises(Graph2ImageError):
        written("RETURN " + piece * 24 + "1 SET")
    assert time.process_time() - started < 20  # tried again at each level, it would be years
