"""The reading statements of Cypher, as a grammar; what it covers is written anew, token by token.

It is somewhat wider than the two stores' own grammars, which have the last word on what they accept, but nothing in it
writes, touches a file, or calls what its `Dialect` does not list. A name that is a keyword is always written in
backticks, so no store can take it for one.

    statement   := [EXPLAIN | PROFILE] query [;]
    query       := single {UNION [ALL | DISTINCT] single}
    single      := clause {clause}
    clause      := [OPTIONAL] MATCH pattern {, pattern} [WHERE expression] | UNWIND expression AS name
                 | WITH projection [WHERE expression] | RETURN projection
                 | CALL procedure(…) [YIELD …] | CALL [(…)] { query }
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphstore.cypher.tokens import Kind, Token, position, tokenize
from ingest.errors import Graph2ImageError

#: Deeper brackets are refused.
_DEEPEST = 50

#: Words that begin or join something in the grammar of either store, or that would change something.
_KEYWORDS_TEXT = """
    ACYCLIC ALL ALTER ANALYZE AND ANY AS ASC ASCENDING ATTACH BEGIN BY CALL CASE CAST CHECKPOINT COLUMN COMMENT COMMIT
    CONSTRAINT CONTAINS COPY COUNT CREATE CYCLE CYPHER DATABASE DELETE DESC DESCENDING DETACH DISTINCT DROP ELSE END
    ENDS EXISTS EXPLAIN EXPORT EXTENSION FALSE FINISH FOR FOREACH FROM GLOB GRAPH GROUP HEADERS HINT IF IMPORT IN INDEX
    INSERT INSTALL INTO IS JOIN KEY LIMIT LOAD LOGICAL MACRO MATCH MERGE MULTI_JOIN NEXT NONE NOT NULL OF OFFSET ON ONLY
    OPTIONAL OR ORDER PRIMARY PROFILE PROJECT READ REL REMOVE RENAME RETURN ROLLBACK SEQUENCE SET SHORTEST SHOW SINGLE
    SKIP START STARTS STOP TABLE TERMINATE THEN TO TRAIL TRANSACTION TRANSACTIONS TRUE TYPE UNINSTALL UNION UNIQUE
    UNWIND UPDATE USE USER USING WHEN WHERE WITH WRITE WSHORTEST XOR YIELD
"""
_KEYWORDS = frozenset(_KEYWORDS_TEXT.split())
_CLAUSES = ("MATCH", "OPTIONAL", "UNWIND", "WITH", "RETURN", "CALL")
_BINARY_WORDS = frozenset({"AND", "OR", "XOR", "IN", "CONTAINS"})
_BINARY_SIGNS = frozenset({"=", "<>", "!=", "<", ">", "<=", ">=", "=~", "+", "-", "*", "/", "%", "^"})
_QUANTIFIERS = frozenset({"ALL", "ANY", "NONE", "SINGLE"})
#: Keywords that are names of functions, too.
_FUNCTION_KEYWORDS = frozenset({"COUNT", "EXISTS", "OFFSET", "TYPE"})
_PATHS = frozenset({"SHORTESTPATH", "ALLSHORTESTPATHS"})


@dataclass(frozen=True)
class Dialect:
    """What a kind of store may be asked for.

    Attributes
    ----------
    may_call
        Whether a procedure, by its dotted name, only looks at the graph.
    may_apply
        Whether a function does.
    """

    may_call: Callable[[str], bool]
    may_apply: Callable[[str], bool]


@dataclass(frozen=True)
class ReadingQuery:
    """A query as it is sent to the store.

    Attributes
    ----------
    cypher
        Written anew from the tokens that the grammar covers.
    prefix
        `EXPLAIN`, `PROFILE` or nothing, which belongs before it.
    parameters
        Those of the user that the query names, and the texts that were in it.
    takes_limit
        Whether `LIMIT` may be appended.
    """

    cypher: str
    prefix: str
    parameters: dict[str, Any]
    takes_limit: bool

    def limited(self, rows: int) -> str:
        """The whole text; with `LIMIT rows` where its last RETURN has none, so that the store stops early.

        A query with a LIMIT of its own, a UNION or no RETURN stays as it is: the caller cuts its result.
        """
        return f"{self.prefix} {self.cypher}" + (f" LIMIT {rows}" if self.takes_limit else "")


def read_query(cypher: str, parameters: Mapping[str, Any], dialect: Dialect) -> ReadingQuery:
    """Understand `cypher` as one reading statement.

    Raises
    ------
    Graph2ImageError
        Naming the first word or sign that has no place in one, or a parameter that has no value.
    """
    reader = _Reader(cypher, parameters, dialect)
    try:
        reader.statement()
    except RecursionError:
        raise Graph2ImageError("the query is nested too deeply") from None
    return ReadingQuery("".join(reader.written), reader.prefix, reader.values, reader.takes_limit)


class _NotCovered(Graph2ImageError):  # noqa: N818
    """The tokens are not what was tried; something else may fit."""


class _Reader:
    """Walks over the tokens once, and writes each that it understands."""

    def __init__(self, cypher: str, parameters: Mapping[str, Any], dialect: Dialect) -> None:
        self._cypher, self._given, self._dialect = cypher, parameters, dialect
        self._tokens = tokenize(cypher)
        self._index = 0
        self._depth = 0
        self._in_vain: set[tuple[str, int]] = set()
        self.written: list[str] = []
        self.values: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self.prefix = ""
        self.takes_limit = False

    # -- tokens ------------------------------------------------------------------------------------------------------

    @property
    def _token(self) -> Token:
        return self._tokens[self._index]

    def _at_end(self) -> bool:
        return self._token.kind is Kind.END

    def _word(self, ahead: int = 0) -> str:
        """The next token in upper case if it is a plain name, else nothing."""
        index = min(self._index + ahead, len(self._tokens) - 1)
        token = self._tokens[index]
        return token.text.upper() if token.kind is Kind.NAME and token.text.isascii() else ""

    def _sign(self, ahead: int = 0) -> str:
        index = min(self._index + ahead, len(self._tokens) - 1)
        token = self._tokens[index]
        return token.text if token.kind is Kind.SIGN else ""

    def _write(self, text: str | None = None) -> str:
        """Take the next token, and write it, or `text` in its place."""
        token = self._token
        if token.is_spaced and self.written:
            self.written.append(" ")
        self.written.append(token.text if text is None else text)
        self._index += 1
        return token.text

    def _may_write(self, *expected: str) -> bool:
        """Write the next token if it is one of these words or signs."""
        if self._word() in expected or self._sign() in expected:
            self._write()
            return True
        return False

    def _must_write(self, expected: str) -> None:
        if not self._may_write(expected):
            raise self._misplaced()

    def _misplaced(self) -> _NotCovered:
        token = self._token
        if token.kind is Kind.END:
            return _NotCovered("a query cannot end here: something is missing", "A query is MATCH … RETURN …")
        shown = {Kind.TEXT: f"{token.text[:40]!r}", Kind.PARAMETER: f"${token.text}"}.get(token.kind, token.text[:40])
        return _NotCovered(
            f"a query cannot have {shown} at {position(self._cypher, token.offset)}: queries only read the graph",
            f"It is made of {', '.join(sorted(_CLAUSES))} and what belongs to them; other commands change data.",
        )

    def _name(self) -> str:
        """A name that the user chose: of a variable, label, relation type, property or column."""
        token = self._token
        if token.kind is Kind.NAME and token.text.isascii() and token.text.upper() not in _KEYWORDS:
            return self._write()
        if token.kind in (Kind.NAME, Kind.QUOTED_NAME):
            return self._write(f"`{token.text}`")
        raise self._misplaced()

    def _list(self, element: Callable[[], object], end: str) -> None:
        """Elements and commas, up to and with `end`."""
        if not self._may_write(end):
            element()
            while self._may_write(","):
                element()
            self._must_write(end)

    def _nested(self, inner: Callable[[], object]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Graph2ImageError(f"the query is nested more than {_DEEPEST} deep")
        inner()
        self._depth -= 1

    def _attempt(self, inner: Callable[[], None]) -> bool:
        """Whether `inner` covers what comes; else nothing of it is written.

        What was tried in vain at a place is not tried there again, so nested brackets take no exponential time.
        """
        index, length, depth = self._index, len(self.written), self._depth
        if (inner.__name__, index) in self._in_vain:
            return False
        try:
            inner()
        except _NotCovered:
            self._in_vain.add((inner.__name__, index))
            self._index, self._depth = index, depth
            del self.written[length:]
            return False
        return True

    # -- statements --------------------------------------------------------------------------------------------------

    def statement(self) -> None:
        if self._at_end():
            raise Graph2ImageError("the query is empty", 'Try "MATCH (n) RETURN count(*)".')
        if self._word() in ("EXPLAIN", "PROFILE"):
            self.prefix = self._word()
            self._index += 1
        self.takes_limit = self._query()
        while self._sign() == ";":
            self._index += 1
            if not self._at_end() and self._sign() != ";":
                raise Graph2ImageError("the query has several statements", "Send one at a time.")
        if not self._at_end():
            raise self._misplaced()

    def _query(self) -> bool:
        """Parts and UNIONs; whether a LIMIT may follow."""
        takes_limit = self._single()
        while self._may_write("UNION"):
            self._may_write("ALL", "DISTINCT")
            self._single()
            takes_limit = False
        return takes_limit

    def _single(self) -> bool:
        """Clauses; whether the last is a RETURN without a LIMIT."""
        while self._word() != "RETURN":
            self._clause()
            if self._word() not in _CLAUSES:
                return False
        self._write()
        return not self._projection()

    def _clause(self) -> None:
        """Any but RETURN."""
        if self._may_write("OPTIONAL"):
            self._must_write("MATCH")
            self._items(self._pattern)
            self._where()
        elif self._may_write("MATCH"):
            self._items(self._pattern)
            self._where()
        elif self._may_write("UNWIND"):
            self._expression()
            self._must_write("AS")
            self._name()
        elif self._may_write("WITH"):
            self._projection()
            self._where()
        elif self._may_write("CALL"):
            self._call()
        else:
            raise self._misplaced()

    def _where(self) -> None:
        if self._may_write("WHERE"):
            self._expression()

    def _projection(self) -> bool:
        """What WITH and RETURN have; whether there is a LIMIT."""
        self._may_write("DISTINCT")
        if self._may_write("*"):
            if self._may_write(","):
                self._items(self._column)
        else:
            self._items(self._column)
        if self._may_write("ORDER"):
            self._must_write("BY")
            self._items(self._order)
        if self._may_write("SKIP", "OFFSET"):
            self._expression()
        if self._may_write("LIMIT"):
            self._expression()
            return True
        return False

    def _items(self, element: Callable[[], object]) -> None:
        element()
        while self._may_write(","):
            element()

    def _column(self) -> None:
        self._expression()
        if self._may_write("AS"):
            self._name()

    def _order(self) -> None:
        self._expression()
        self._may_write("ASC", "ASCENDING", "DESC", "DESCENDING")

    def _call(self) -> None:
        if self._sign() in ("(", "{"):
            if self._may_write("("):
                if self._may_write("*"):
                    self._must_write(")")
                else:
                    self._list(self._name, ")")
            self._must_write("{")
            self._nested(self._query)
            self._must_write("}")
            return
        procedure = self._dotted_name()
        if not self._dialect.may_call(procedure):
            raise Graph2ImageError(f"a query cannot call {procedure}: queries only read the graph")
        if self._may_write("("):
            self._list(self._expression, ")")
        if self._may_write("YIELD"):
            if not self._may_write("*"):
                self._items(self._yielded)
            self._where()

    def _yielded(self) -> None:
        self._name()
        if self._may_write("AS"):
            self._name()

    def _dotted_name(self) -> str:
        """The name of a procedure or function, which is never quoted; without spaces around its dots."""
        parts = []
        while True:
            if not self._word():
                raise self._misplaced()
            parts.append(self._write())
            if self._sign() != "." or not self._word(1):
                return ".".join(parts)
            self._write()

    # -- patterns ----------------------------------------------------------------------------------------------------

    def _pattern(self) -> None:
        if self._sign(1) == "=":
            self._name()
            self._must_write("=")
        if self._word() in _PATHS:
            self._shortest_path()
        else:
            self._path()

    def _shortest_path(self) -> None:
        self._write()
        self._must_write("(")
        self._path()
        self._must_write(")")

    def _path(self) -> int:
        """Nodes and relations; how many relations."""
        self._node()
        count = 0
        while self._sign() in ("-", "<"):
            self._relation()
            self._node()
            count += 1
        return count

    def _node(self) -> None:
        self._must_write("(")
        if self._word() != "WHERE" and self._token.kind in (Kind.NAME, Kind.QUOTED_NAME):
            self._name()
        self._labels()
        self._element_end(")")

    def _relation(self) -> None:
        self._may_write("<")
        self._must_write("-")
        if self._may_write("["):
            if self._word() != "WHERE" and self._token.kind in (Kind.NAME, Kind.QUOTED_NAME):
                self._name()
            self._labels()
            if self._may_write("*"):
                self._length()
            self._element_end("]")
        self._must_write("-")
        self._may_write(">")
        if self._may_write("+", "*"):
            return
        if self._sign() == "{":
            self._write()
            self._range(",")
            self._must_write("}")

    def _length(self) -> None:
        """Of a relation of variable length: a range, and before it how the embedded store is to look for paths."""
        self._may_write("ALL")
        if self._may_write("SHORTEST", "TRAIL", "ACYCLIC"):
            pass
        elif self._may_write("WSHORTEST"):
            self._must_write("(")
            self._name()
            self._must_write(")")
        self._range("..")
        if self._may_write("("):
            self._name()
            self._must_write(",")
            self._name()
            self._must_write("|")
            self._where()
            self._must_write(")")

    def _range(self, between: str) -> None:
        self._may_write_number()
        if self._may_write(between):
            self._may_write_number()

    def _may_write_number(self) -> None:
        if self._token.kind is Kind.NUMBER:
            self._write()

    def _labels(self) -> None:
        """Labels of a node or types of a relation, such as `:A|B`, `:A:B`, `:(A|B)&!C`."""
        if self._may_write(":"):
            self._label()
            while self._may_write("|", ":", "&"):
                self._may_write(":")
                self._label()

    def _label(self) -> None:
        while self._may_write("!"):
            pass
        if self._may_write("("):
            self._nested(self._label)
            while self._may_write("|", "&"):
                self._nested(self._label)
            self._must_write(")")
        elif not self._may_write("%"):
            self._name()

    def _element_end(self, end: str) -> None:
        if self._sign() == "{":
            self._map()
        elif self._token.kind is Kind.PARAMETER:
            self._parameter()
        self._where()
        self._must_write(end)

    # -- expressions -------------------------------------------------------------------------------------------------

    def _expression(self) -> None:
        self._nested(self._operands)

    def _operands(self) -> None:
        """Operands and operators; which binds first is for the store to say."""
        self._operand()
        while True:
            if self._word() in _BINARY_WORDS or self._sign() in _BINARY_SIGNS:
                self._write()
            elif self._word() in ("STARTS", "ENDS"):
                self._write()
                self._must_write("WITH")
            else:
                return
            self._operand()

    def _operand(self) -> None:
        while self._may_write("NOT", "+", "-"):
            pass
        self._atom()
        while True:
            if self._may_write("."):
                if not self._may_write("*"):
                    self._name()
            elif self._may_write("["):
                if not self._may_write(".."):
                    self._expression()
                    if not self._may_write(".."):
                        self._may_write(":")
                if self._sign() != "]":
                    self._expression()
                self._must_write("]")
            elif self._sign() == ":" and self._token.offset and self._follows_name():
                self._labels()
            elif self._may_write("IS"):
                self._may_write("NOT")
                self._must_write("NULL")
            else:
                return

    def _follows_name(self) -> bool:
        """Whether the colon to come follows a variable, as in `n:Artwork`; elsewhere it is that of a list's part."""
        return self._tokens[self._index - 1].kind in (Kind.NAME, Kind.QUOTED_NAME) and self._word(1) != ""

    def _atom(self) -> None:
        token, word = self._token, self._word()
        if token.kind is Kind.TEXT:
            self._text()
        elif token.kind is Kind.NUMBER:
            self._write()
        elif token.kind is Kind.PARAMETER:
            self._parameter()
        elif word in ("TRUE", "FALSE", "NULL"):
            self._write()
        elif self._sign() == "[":
            self._bracket()
        elif self._sign() == "{":
            self._map()
        elif self._sign() == "(":
            if not self._attempt(self._related_path):
                self._write()
                self._expression()
                self._must_write(")")
        elif word == "CASE":
            self._case()
        elif self._sign(1) == "{" and word in ("EXISTS", "COUNT", "COLLECT"):
            self._write()
            self._subquery()
        elif self._sign(1) == "(" and word in _PATHS:
            self._shortest_path()
        elif self._sign(1) == "(" and word in _QUANTIFIERS:
            self._quantifier()
        elif self._sign(1) == "(" and word == "CAST":
            self._cast()
        elif word and self._is_applied():
            self._function()
        else:
            self._name()
            if self._sign() == "{":
                self._map_projection()

    def _text(self) -> None:
        """A text as a parameter. One of plain letters stays, since some functions want no parameter."""
        text = self._token.text
        if text.isascii() and text.replace("_", "x").isalnum() and len(text) <= 64:
            self._write(f"'{text}'")
            return
        if text not in self._texts:
            name = f"text_{len(self._texts)}"
            while name in self._given:
                name += "_"
            self._texts[text] = name
            self.values[name] = text
        self._write(f"${self._texts[text]}")

    def _parameter(self) -> None:
        name = self._token.text
        if name not in self._given:  # the embedded store would silently match nothing
            raise Graph2ImageError(f"the query's parameter ${name} has no value")
        self.values[name] = self._given[name]
        self._write(f"${name}")

    def _related_path(self) -> None:
        """A path of at least one relation, such as `(a)-->(b)`."""
        if not self._path():
            raise self._misplaced()

    def _bracket(self) -> None:
        """A list, or a comprehension of one, or of a pattern."""
        self._write()
        if self._attempt(self._path_to_map):
            pass
        elif self._word(1) != "IN" or not self._attempt(self._comprehension):
            self._list(self._expression, "]")

    def _path_to_map(self) -> None:
        if self._sign(1) == "=":
            self._name()
            self._must_write("=")
        self._related_path()
        self._where()
        self._must_write("|")
        self._expression()
        self._must_write("]")

    def _comprehension(self) -> None:
        self._name()
        self._must_write("IN")
        self._expression()
        self._where()
        if self._may_write("|"):
            self._expression()
        self._must_write("]")

    def _map(self) -> None:
        self._must_write("{")
        self._list(self._entry, "}")

    def _entry(self) -> None:
        self._name()
        self._must_write(":")
        self._expression()

    def _map_projection(self) -> None:
        self._must_write("{")
        self._list(self._projected, "}")

    def _projected(self) -> None:
        if self._may_write("."):
            if not self._may_write("*"):
                self._name()
            return
        self._name()
        if self._may_write(":"):
            self._expression()

    def _case(self) -> None:
        self._write()
        if self._word() != "WHEN":
            self._expression()
        while self._may_write("WHEN"):
            self._expression()
            self._must_write("THEN")
            self._expression()
        if self._may_write("ELSE"):
            self._expression()
        self._must_write("END")

    def _subquery(self) -> None:
        self._must_write("{")
        if self._word() in _CLAUSES:
            self._nested(self._query)
        else:
            self._items(self._pattern)
            self._where()
        self._must_write("}")

    def _quantifier(self) -> None:
        self._write()
        self._must_write("(")
        self._name()
        self._must_write("IN")
        self._expression()
        self._where()
        self._must_write(")")

    def _cast(self) -> None:
        self._write()
        self._must_write("(")
        self._expression()
        if self._may_write("AS"):
            self._type()
        else:
            self._must_write(",")
            self._text()
        self._must_write(")")

    def _type(self) -> None:
        if not self._word() or self._word() in _KEYWORDS:
            raise self._misplaced()
        self._write()
        if self._may_write("("):
            self._list(self._may_write_number, ")")
        while self._may_write("["):
            self._may_write_number()
            self._must_write("]")

    def _is_applied(self) -> bool:
        """Whether the name to come, dotted or not, is followed by a bracket."""
        ahead = 1
        while self._sign(ahead) == "." and self._word(ahead + 1):
            ahead += 2
        return self._sign(ahead) == "("

    def _function(self) -> None:
        if self._word() in _KEYWORDS - _FUNCTION_KEYWORDS:
            raise self._misplaced()
        function = self._dotted_name()
        if not self._dialect.may_apply(function):
            raise Graph2ImageError(f"a query cannot call {function}: queries only read the graph")
        self._must_write("(")
        self._may_write("DISTINCT")
        if self._may_write("*"):
            self._must_write(")")
        elif function.lower() == "reduce":
            self._reduction()
        else:
            self._list(self._argument, ")")

    def _argument(self) -> None:
        if self._sign(1) == "-" and self._sign(2) == ">":  # a function of one variable, of the embedded store
            self._name()
            self._must_write("-")
            self._must_write(">")
        self._expression()

    def _reduction(self) -> None:
        self._name()
        self._must_write("=")
        self._expression()
        self._must_write(",")
        self._name()
        self._must_write("IN")
        self._expression()
        self._must_write("|")
        self._expression()
        self._must_write(")")
