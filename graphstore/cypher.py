"""What may be said about a Cypher text without a parser: is it one reading statement, and can a row limit be appended?

The store itself refuses writes (a read-only transaction); these checks catch what such a transaction does not: several
statements in one text, and statements that touch the files of the machine (`COPY … TO`, `LOAD FROM`).
"""

from __future__ import annotations

import re

from ingest.errors import Graph2ImageError

_QUOTED_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*` | /\*.*?\*/ | //[^\n]*""", re.VERBOSE | re.DOTALL
)
_READING = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"})
_PREFIXES = frozenset({"EXPLAIN", "PROFILE"})
_READING_PROCEDURES = re.compile(
    r"db\.(labels|relationshipTypes|propertyKeys|schema\.\w+|index\.(fulltext|vector)\.query\w+)"
    r"|gds\.([\w.]+\.)?(stream|stats|estimate|list|listProgress|version|debug\.sysInfo)",
    re.IGNORECASE,
)


def _skeleton(cypher: str) -> str:
    """`cypher` without its quoted texts and comments: keywords, names and signs are left; of a quoted name, a "`"."""
    return _QUOTED_OR_COMMENT.sub(lambda match: "`" if match[0][0] == "`" else " ", cypher)


def check_reads_only(cypher: str) -> None:
    """Raise unless `cypher` is a single statement that begins as a reading one and touches no files.

    Raises
    ------
    Graph2ImageError
        Naming the first word that is not allowed.
    """
    skeleton = _skeleton(cypher).strip().rstrip(";").strip()
    if not skeleton:
        raise Graph2ImageError("the query is empty", 'Try "MATCH (n) RETURN label(n), count(*)".')
    if ";" in skeleton:
        raise Graph2ImageError("the query has several statements", "Send one at a time.")
    words = [word.upper() for word in re.findall(r"[A-Za-z_]+", skeleton)]
    first = next((word for word in words if word not in _PREFIXES), "")
    if first not in _READING:
        raise Graph2ImageError(
            f"a query cannot begin with {first or skeleton[0]!r}: queries only read the graph",
            f"Begin with one of {', '.join(sorted(_READING))}; data is changed by the other commands.",
        )
    if load := re.search(r"\bLOAD\s+(FROM|CSV)\b", skeleton, re.IGNORECASE):
        raise Graph2ImageError(
            f"a query cannot {' '.join(load[0].upper().split())} a file: queries only read the graph"
        )


def check_procedures(cypher: str) -> None:
    """Raise unless every procedure that `cypher` calls on Neo4j only looks at the graph.

    A read-only transaction stops no procedure from changing what is not the graph: projections, files, other queries.

    Raises
    ------
    Graph2ImageError
        Naming the procedure.
    """
    if "\\u" in cypher:  # Neo4j replaces these before it looks for the ends of quoted texts
        raise Graph2ImageError("a query cannot have \\u escapes", "Write the character itself, or use a parameter.")
    for call in re.finditer(r"\bCALL\s*([A-Za-z_`][\w.`]*)", _skeleton(cypher), re.IGNORECASE):
        if not _READING_PROCEDURES.fullmatch(call[1]):
            raise Graph2ImageError(f"a query cannot call {call[1]}: queries only read the graph")


def check_parameters(cypher: str, parameters: dict[str, object]) -> None:
    """Raise if `cypher` names a parameter that is not given: the embedded store would silently match nothing."""
    missing = sorted(set(re.findall(r"\$([A-Za-z_]\w*)", _skeleton(cypher))) - parameters.keys())
    if missing:
        raise Graph2ImageError(f"the query's parameter ${missing[0]} has no value")


def with_row_limit(cypher: str, rows: int) -> str:
    """`cypher` with `LIMIT rows` appended where its last RETURN has none, so that the store stops early.

    A query with a LIMIT of its own, a UNION or no RETURN is returned as it is: the caller cuts its result.
    """
    skeleton = _skeleton(cypher)
    returns = list(re.finditer(r"\bRETURN\b", skeleton, re.IGNORECASE))
    if not returns or re.search(r"\bUNION\b", skeleton, re.IGNORECASE):
        return cypher
    if re.search(r"\bLIMIT\b", skeleton[returns[-1].end() :], re.IGNORECASE):
        return cypher
    return f"{cypher.rstrip().rstrip(';')}\nLIMIT {rows}"
