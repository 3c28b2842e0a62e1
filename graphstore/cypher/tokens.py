"""The tokens of a Cypher text, as graph2image understands it.

Stores differ in where a comment or a quoted text ends, in what is white space, and in what may be a letter. Nothing of
that matters: no store ever sees the text, only what is written anew from these tokens. So comments are dropped, quoted
texts become values, and everything that is not listed here is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from ingest.errors import Graph2ImageError


class Kind(Enum):
    """What a token is."""

    NAME = auto()
    QUOTED_NAME = auto()
    TEXT = auto()
    NUMBER = auto()
    PARAMETER = auto()
    SIGN = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token.

    Attributes
    ----------
    text
        A name, number or sign as written; a quoted name, a text or a parameter without its quotes or `$`.
    is_spaced
        Whether white space or a comment precedes it.
    offset
        Where it begins.
    """

    kind: Kind
    text: str
    is_spaced: bool
    offset: int


_TOKEN = re.compile(
    r"""
    (?P<space>    [ \t\r\n\f\v\u00a0\u2028\u2029]+ | //[^\n]* | /\*.*?\*/)
  | (?P<TEXT>     '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*")
  | (?P<QUOTED_NAME> `(?:[^`]|``)*`)
  | \$(?P<PARAMETER> [A-Za-z_][A-Za-z0-9_]*)
  | (?P<NUMBER>   (?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?!\w))
  | (?P<NAME>     [^\W\d]\w*)
  | (?P<SIGN>     =~ | <> | != | <= | >= | \.\.(?!\.) | [()\[\]{},.:;|&!=<>+\-*/%^])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL)
_ESCAPED = {"\\": "\\", "'": "'", '"': '"', "`": "`", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# Without signs that would mean something if a quoted name were not taken for one: a driver looks for some in the text.
_QUOTED_NAME = re.compile(r"[\w .:/%#-]+")


def tokenize(cypher: str) -> list[Token]:
    """The tokens of `cypher`; the last one is `Kind.END`.

    Raises
    ------
    Graph2ImageError
        For what is no token, with its place.
    """
    if re.search(r"\r(?!\n)", cypher):
        raise Graph2ImageError("a query cannot have a carriage return amid a line", "End its lines with a line feed.")
    tokens: list[Token] = []
    offset, is_spaced = 0, False
    while offset < len(cypher):
        match = _TOKEN.match(cypher, offset)
        if match is None or (cypher.startswith("/*", offset) and match.lastgroup != "space"):
            raise _no_token(cypher, offset)
        start, offset = offset, match.end()
        if match.lastgroup == "space":
            is_spaced = True
            continue
        kind = Kind[str(match.lastgroup)]
        text = match[kind.name]
        if kind is Kind.TEXT:
            text = _unescaped(text[1:-1], cypher, start)
        elif kind is Kind.QUOTED_NAME:
            text = text[1:-1]
            if not _QUOTED_NAME.fullmatch(text):
                raise Graph2ImageError(
                    f"a query cannot have the quoted name {text[:40]!r}",
                    "Between backticks may be letters, digits, spaces and _ . : / % # -",
                )
        tokens.append(Token(kind, text, is_spaced, start))
        is_spaced = False
    return [*tokens, Token(Kind.END, "", is_spaced, len(cypher))]


def position(cypher: str, offset: int) -> str:
    """Line and column, for messages."""
    before = cypher[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - before.rfind(chr(10))}"


def _no_token(cypher: str, offset: int) -> Graph2ImageError:
    sign = "/*" if cypher.startswith("/*", offset) else cypher[offset]
    where = position(cypher, offset)
    if sign in ("'", '"', "`", "/*"):
        return Graph2ImageError(f"a query cannot end inside what {sign} begins at {where}")
    return Graph2ImageError(f"a query cannot have {ascii(sign) if not sign.isprintable() else repr(sign)} at {where}")


def _unescaped(text: str, cypher: str, offset: int) -> str:
    def replace(match: re.Match[str]) -> str:
        code, long_code, sign = match.groups()
        if sign is None:
            number = int(code or long_code, 16)
            if number <= 0x10FFFF:
                return chr(number)
        elif sign in _ESCAPED:
            return _ESCAPED[sign]
        raise Graph2ImageError(f"a query cannot have the escape {match[0]} in a text, at {position(cypher, offset)}")

    value = _ESCAPE.sub(replace, text)
    try:  # halves of a character, such as \ud83d\ude00, belong together
        return value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise Graph2ImageError(
            f"a query cannot have half a character in a text, at {position(cypher, offset)}"
        ) from None
