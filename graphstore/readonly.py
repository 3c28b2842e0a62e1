"""What may be said about a Cypher text without a parser: is it one reading statement, and can a row limit be appended?

The store itself refuses writes to the graph (a read-only transaction); these checks catch what such a transaction does
not: several statements in one text, statements that touch the files of the machine (`COPY … TO`, `LOAD FROM`), and
procedures that change what is not the graph, such as projections and settings.

They see the text as the stores do, or refuse what the stores see differently: a carriage return ends a comment for one
of them only, so one amid a line could hide a clause.
"""

from __future__ import annotations

import re

from ingest.errors import Graph2ImageError

_QUOTED_OR_COMMENT = re.compile(
    r"""'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*` | /\*.*?\*/ | //[^\n]*""", re.VERBOSE | re.DOTALL
)
_READING = frozenset({"MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL"})
_PREFIXES = frozenset({"EXPLAIN", "PROFILE"})
# A digit may stand directly before a keyword: no \b.
_LOAD = re.compile(r"(?<![A-Za-z_])LOAD (FROM|CSV|WITH HEADERS|EXTENSION)\b", re.IGNORECASE)
_CALL = re.compile(r"(?<![A-Za-z_])CALL ?((?:[^\W\d]|`)[\w`]*(?:\.[\w`]+)*)", re.IGNORECASE)
_FUNCTION = re.compile(r"([\w`]+(?:\.[\w`]+)*) ?\(")
_USE = re.compile(r"(?:\{|\bUNION(?: ALL| DISTINCT)?|\bNEXT) ?USE\b ?[\w`(]", re.IGNORECASE)

_NEO4J_PROCEDURES = re.compile(
    r"db\.(labels|relationshipTypes|propertyKeys|schema\.\w+|index\.(fulltext|vector)\.query\w+)"
    r"|gds\.([\w.]+\.)?(stream|stats|estimate|list|listProgress|version|debug\.sysInfo)",
    re.IGNORECASE,
)
_GDS_FUNCTIONS = re.compile(r"gds\.(version|isLicensed|graph\.exists|(linkprediction|similarity|util)\.\w+)")
_LADYBUG_FUNCTIONS = re.compile(
    r"show_\w+|\w+_info|db_version|catalog_version|storage_version|current_setting", re.IGNORECASE
)


def _skeleton(cypher: str) -> str:
    """The keywords, names and signs of `cypher`.

    Quoted texts, comments and white space become single spaces, a quoted name a "`"; a dotted name has no spaces.
    """
    text = _QUOTED_OR_COMMENT.sub(lambda match: "`" if match[0][0] == "`" else " ", cypher)
    # What is neither ASCII nor a letter may be white space to a store, as U+180E is to Ladybug.
    text = re.sub(r"[^\w\x21-\x7e]+", " ", text).strip()
    return re.sub(r" ?\. ?", ".", text)


def check_reads_only(cypher: str) -> None:
    """Raise unless `cypher` is a single statement that begins as a reading one and touches no files.

    Raises
    ------
    Graph2ImageError
        Naming the first word that is not allowed.
    """
    if re.search(r"\r(?!\n)", cypher):
        raise Graph2ImageError("a query cannot have a carriage return amid a line", "End its lines with a line feed.")
    skeleton = _skeleton(cypher).rstrip("; ")
    if not skeleton:
        raise Graph2ImageError("the query is empty", 'Try "MATCH (n) RETURN count(*)".')
    if ";" in skeleton:
        raise Graph2ImageError("the query has several statements", "Send one at a time.")
    words = [word.upper() for word in re.findall(r"[A-Za-z_]+", skeleton)]
    first = next((word for word in words if word not in _PREFIXES), "")
    if first not in _READING:
        raise Graph2ImageError(
            f"a query cannot begin with {first or skeleton[0]!r}: queries only read the graph",
            f"Begin with one of {', '.join(sorted(_READING))}; data is changed by the other commands.",
        )
    if load := _LOAD.search(skeleton):
        raise Graph2ImageError(f"a query cannot {load[0].upper()} a file: queries only read the graph")


def check_calls_on_ladybug(cypher: str) -> None:
    """Raise unless every `CALL` in `cypher` only looks at the database.

    A read-only transaction lets a `CALL` read files, and change settings that all connections share.

    Raises
    ------
    Graph2ImageError
        Naming the function or setting.
    """
    _check_calls(_skeleton(cypher), _LADYBUG_FUNCTIONS)


def check_calls_on_neo4j(cypher: str) -> None:
    """Raise unless every procedure and function that `cypher` calls on Neo4j only looks at this graph.

    A read-only transaction stops none from changing what is not the graph: projections, files, other queries.

    Raises
    ------
    Graph2ImageError
        Naming it.
    """
    if "\\u" in cypher:  # Neo4j replaces these before it looks for the ends of quoted texts
        raise Graph2ImageError("a query cannot have \\u escapes", "Write the character itself, or use a parameter.")
    skeleton = _skeleton(cypher)
    _check_calls(skeleton, _NEO4J_PROCEDURES)
    if _USE.search(skeleton):
        raise Graph2ImageError("a query cannot USE another graph", "Name the database in the store's URL.")
    for function in _FUNCTION.finditer(_CALL.sub(" ", skeleton)):
        if "`" in function[1]:
            raise Graph2ImageError("a query cannot call a function by a quoted name", "Write it without backticks.")
        if function[1].lower().startswith("gds.") and not _GDS_FUNCTIONS.fullmatch(function[1]):
            raise Graph2ImageError(f"a query cannot call {function[1]}: queries only read the graph")


def _check_calls(skeleton: str, reading: re.Pattern[str]) -> None:
    for call in _CALL.finditer(skeleton):
        if not reading.fullmatch(call[1]):
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
