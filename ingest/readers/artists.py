"""Who an author value means: `Circle of GOGH, Vincent van (1853-1890)` is Vincent van Gogh, by way of his circle.

An artist is known by a key, the name without accents, punctuation and capitals, so that `Paul Cézanne` and
`PAUL CEZANNE` are one. Beyond that two spellings are the same artist only if the table `MASTERS` says so.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ingest.readers.markup import visible_text
from ingest.records import squeeze


class Attributed(NamedTuple):
    """An artist, and how a work is attributed to them.

    Attributes
    ----------
    key
        Identifies the artist, whatever the spelling.
    name
        As spelled here, or the usual one of a master.
    role
        None for a work by their own hand; else `after`, `circle of`, `and workshop` …
    """

    key: str
    name: str
    role: str | None


#: A longer author value is something else.
MAX_LENGTH = 1000

#: Artists whom catalogs call by various names: the usual one, and the others.
MASTERS: dict[str, tuple[str, ...]] = {
    "Albrecht Dürer": ("Dürer", "Albrecht Duerer", "Duerer"),
    "Alfred Sisley": ("Sisley",),
    "Amedeo Modigliani": ("Modigliani",),
    "Andrea Mantegna": ("Mantegna",),
    "Anthony van Dyck": ("van Dyck", "Anton van Dyck", "Antoon van Dyck", "Sir Anthony van Dyck"),
    "Antonio Canaletto": ("Canaletto", "Giovanni Antonio Canal"),
    "Antonio da Correggio": ("Correggio", "Antonio Allegri da Correggio", "Antonio Allegri"),
    "Auguste Rodin": ("Rodin", "François Auguste René Rodin"),
    "Camille Pissarro": ("Pissarro",),
    "Caravaggio": ("Michelangelo Merisi da Caravaggio", "Michelangelo Merisi", "Michelangelo Caravaggio"),
    "Claude Lorrain": ("Claude Gellée", "Claude Gellée Le Lorrain", "Le Lorrain"),
    "Claude Monet": ("Monet", "Oscar-Claude Monet"),
    "Diego Velázquez": ("Velázquez", "Diego Rodríguez de Silva y Velázquez", "Diego de Silva Velázquez"),
    "Donatello": ("Donato di Niccolò di Betto Bardi",),
    "Edgar Degas": ("Degas", "Hilaire-Germain-Edgar Degas"),
    "Édouard Manet": ("Manet",),
    "Edvard Munch": ("Munch",),
    "Egon Schiele": ("Schiele",),
    "El Greco": ("Greco", "Domenikos Theotokopoulos", "Doménikos Theotokópoulos"),
    "Eugène Delacroix": ("Delacroix", "Ferdinand Victor Eugène Delacroix"),
    "Francisco Goya": ("Goya", "Francisco de Goya", "Francisco José de Goya", "Francisco de Goya y Lucientes"),
    "Frans Hals": ("Hals",),
    "Georges Seurat": ("Seurat", "Georges-Pierre Seurat"),
    "Giotto": ("Giotto di Bondone",),
    "Giovanni Battista Tiepolo": ("Tiepolo", "Giambattista Tiepolo"),
    "Gustave Courbet": ("Courbet",),
    "Gustav Klimt": ("Klimt",),
    "Hans Holbein the Younger": ("Hans Holbein d. J.", "Holbein the Younger"),
    "Henri de Toulouse-Lautrec": ("Toulouse-Lautrec", "Henri Toulouse-Lautrec"),
    "Henri Matisse": ("Matisse",),
    "Hieronymus Bosch": ("Bosch", "Jheronimus Bosch", "Jeroen van Aken"),
    "J.M.W. Turner": (
        "JMW Turner", "Joseph Mallord William Turner", "William Turner", "Joseph M. W. Turner", "Turner",
    ),
    "Jean-Auguste-Dominique Ingres": ("Ingres", "J.A.D. Ingres"),
    "Johannes Vermeer": ("Vermeer", "Jan Vermeer", "Jan Vermeer van Delft", "Johannes Vermeer van Delft"),
    "Katsushika Hokusai": ("Hokusai",),
    "Leonardo da Vinci": ("Leonardo", "da Vinci", "Leonardo di ser Piero da Vinci"),
    "Michelangelo": ("Michelangelo Buonarroti", "Michelangelo di Lodovico Buonarroti Simoni", "Buonarroti"),
    "Nicolas Poussin": ("Poussin",),
    "Pablo Picasso": ("Picasso", "Pablo Ruiz Picasso"),
    "Paolo Veronese": ("Veronese", "Paolo Caliari"),
    "Paul Cézanne": ("Cézanne",),
    "Paul Gauguin": ("Gauguin", "Eugène Henri Paul Gauguin"),
    "Peter Paul Rubens": ("Rubens", "Pieter Paul Rubens", "Sir Peter Paul Rubens", "P.P. Rubens"),
    "Pierre-Auguste Renoir": ("Renoir", "Auguste Renoir", "Pierre Auguste Renoir"),
    "Piet Mondrian": ("Mondrian", "Piet Mondriaan", "Pieter Cornelis Mondriaan"),
    "Pieter Bruegel the Elder": ("Pieter Brueghel the Elder", "Bruegel the Elder", "Brueghel the Elder"),
    "Raphael": ("Raffaello Sanzio", "Raffaello", "Raffaello Santi", "Raphael Sanzio", "Raffaello Sanzio da Urbino"),
    "Rembrandt": (
        "Rembrandt van Rijn", "Rembrandt Harmenszoon van Rijn", "Rembrandt Harmensz. van Rijn", "Rembrandt van Ryn",
    ),
    "Salvador Dalí": ("Dalí",),
    "Sandro Botticelli": ("Botticelli", "Alessandro Botticelli"),
    "Tintoretto": ("Jacopo Tintoretto", "Jacopo Robusti", "Jacopo Robusti Tintoretto"),
    "Titian": ("Tiziano Vecellio", "Tiziano", "Titian Vecellio", "Tiziano Vecelli"),
    "Utagawa Hiroshige": ("Hiroshige", "Ando Hiroshige"),
    "Vincent van Gogh": ("van Gogh", "Vincent Willem van Gogh"),
    "Wassily Kandinsky": ("Kandinsky", "Vasily Kandinsky", "Vassily Kandinsky"),
}  # fmt: skip

#: Keys that are no name, and first words of those.
_NOBODY = frozenset(
    {"noauthor", "no author", "anon", "none", "null", "nan", "na", "n a", "not known", "various", "various artists"}
    | {"artist unknown", "author unknown", "maker unknown"}
)
_UNKNOWN = frozenset({"unknown", "anonymous", "anonymus", "unidentified"})

#: Attributions by the words that stand before a name ...
_BEFORE_NAME = {
    "after": "after",
    "copy after": "copy after",
    "copies after": "copy after",
    "copy of": "copy after",
    "attributed to": "attributed to",
    "attr to": "attributed to",
    "attrib to": "attributed to",
    "ascribed to": "attributed to",
    "formerly attributed to": "formerly attributed to",
    "circle of": "circle of",
    "follower of": "follower of",
    "followers of": "follower of",
    "imitator of": "imitator of",
    "manner of": "manner of",
    "in the manner of": "manner of",
    "style of": "style of",
    "in the style of": "style of",
    "school of": "school of",
    "studio of": "studio of",
    "workshop of": "workshop of",
    "pupil of": "pupil of",
    "possibly": "possibly",
    "possibly by": "possibly",
    "perhaps": "possibly",
    "perhaps by": "possibly",
    "probably": "probably",
    "probably by": "probably",
    "by": "",
}
#: ... and after it, behind a comma or in parentheses.
_BEHIND_NAME = {
    **{words: role for words, role in _BEFORE_NAME.items() if role},
    "attributed": "attributed to",
    "attr": "attributed to",
    "attrib": "attributed to",
    "circle": "circle of",
    "follower": "follower of",
    "imitator": "imitator of",
    "manner": "manner of",
    "school": "school of",
    "studio": "studio of",
    "workshop": "workshop of",
    "copy": "copy after",
    "and workshop": "and workshop",
    "and studio": "and studio",
    "and assistants": "and assistants",
}
_LONGEST_BEFORE = max(len(words.split()) for words in _BEFORE_NAME)

_PARENTHESES = re.compile(r"\(([^()]*)\)")
_HELPED = re.compile(r",? (?:and|&|with) (?:his |her )?(workshop|studio|assistants?)$", re.IGNORECASE)
_HELPERS = {
    "workshop": "and workshop",
    "studio": "and studio",
    "assistant": "and assistants",
    "assistants": "and assistants",
}
#: Life dates that stand behind a name without parentheses.
_LIFE = re.compile(
    r"[ ,]+(?:(?:b|d|c|ca|fl|born|died|active)\b\.? ?)*[0-9]{4}(?: ?[-–/] ?(?:[0-9]{2,4})?)?$", re.IGNORECASE
)

#: They stand behind the name, and `Last, First` leaves them there.
_GENERATIONS = frozenset(
    {"the elder", "the younger", "elder", "younger", "i", "ii", "iii", "iv", "jr", "sr", "junior", "senior"}
)
_PARTICLES = frozenset(
    {"af", "al", "d'", "da", "dal", "dalla", "de", "degli", "dei", "del", "della", "den", "der", "des", "di", "do"}
    | {"dos", "du", "el", "il", "la", "las", "le", "lo", "los", "ten", "ter", "van", "vom", "von", "zu", "zum", "zur"}
)
_COMPANIES = frozenset({"inc", "ltd", "co", "company", "llc", "gmbh", "and", "et"})

#: Letters that do not decompose into one and its accent.
_PLAIN_LETTERS = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"}
    | dict.fromkeys("'’‘`´ʹʼ", "")
)


def artist_key(name: str) -> str:
    """What identifies an artist: the words of the name, without accents, punctuation and capitals.

    >>> artist_key("Paul CÉZANNE"), artist_key("J.-A.-D. Ingres"), artist_key("O’Keeffe")
    ('paul cezanne', 'j a d ingres', 'okeeffe')
    """
    if not name.isascii():
        decomposed = unicodedata.normalize("NFKD", name.casefold())
        plain = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
        name = unicodedata.normalize("NFKC", plain)
    name = name.casefold().translate(_PLAIN_LETTERS)
    return " ".join("".join(letter if letter.isalnum() else " " for letter in name).split())


_MASTERS_BY_KEY = {artist_key(name): master for master, others in MASTERS.items() for name in (master, *others)}


@lru_cache(maxsize=1 << 17)
def parse_artists(author: str) -> tuple[Attributed, ...]:
    """The artists that an author value names, each once; none for one who is unknown.

    >>> parse_artists("after Rembrandt (Rembrandt van Rijn)|after Rembrandt (Rembrandt van Rijn)")
    (Attributed(key='rembrandt', name='Rembrandt', role='after'),)
    """
    if len(author) > MAX_LENGTH:
        return ()
    artists: dict[str, Attributed] = {}
    for part in re.split("[|;]", visible_text(author) or ""):  # an entity such as `&amp;` has a semicolon
        artist = _parse_artist(squeeze(part))
        if artist is not None:
            artists.setdefault(artist.key, artist)
    return tuple(artists.values())


def usual_names(artists: Iterable[tuple[Attributed, int]]) -> dict[str, str]:
    """The most frequent spelling of each artist by key, given how often each is met; of equals the least."""
    counts: dict[str, Counter[str]] = {}
    for artist, count in artists:
        counts.setdefault(artist.key, Counter())[artist.name] += count
    return {key: min(names, key=lambda name: (-names[name], name)) for key, names in counts.items()}


@lru_cache(maxsize=1 << 16)
def listed_artists(names: str) -> tuple[Attributed, ...]:
    """The artists of a list with commas; what has a digit or a slash in it is a path or a title, and left out.

    >>> [artist.name for artist in listed_artists("Robert De Niro, Sr.,Monet, Artists2/X/Water Lilies.jpg,")]
    ['Robert De Niro Sr.', 'Claude Monet']
    """
    parts: list[str] = []
    for part in (visible_text(names) or "").split(","):
        if parts and artist_key(part) in _GENERATIONS:
            parts[-1] += part
        elif "/" not in part and not any(character.isdigit() for character in part):
            parts.append(part)
    return tuple({artist.key: artist for part in parts for artist in parse_artists(part)}.values())


def _parse_artist(text: str) -> Attributed | None:
    remarks = _PARENTHESES.findall(text)
    name = squeeze(_PARENTHESES.sub(" ", text)) or squeeze(" ".join(remarks))
    roles = []
    for remark in remarks:
        if artist_key(remark) in _GENERATIONS:
            name = f"{name} {remark}"
        elif role := _BEHIND_NAME.get(artist_key(remark)):
            roles.append(role)
    if name.endswith("?") or "?" in remarks:
        name = name.rstrip("? ")
        roles.append("possibly")
    name, attributions = _without_attributions(name)
    name = _in_order(name)
    key = artist_key(name)
    if not key or key in _NOBODY or key.split()[0] in _UNKNOWN:
        return None
    master = next((master for text in (key, *map(artist_key, remarks)) if (master := _MASTERS_BY_KEY.get(text))), None)
    if master is not None:
        key, name = artist_key(master), master
    return Attributed(key, name, next(iter((*roles, *attributions)), None))


def _without_attributions(name: str) -> tuple[str, list[str]]:
    """A name without what is said before and behind it, and the attributions in that."""
    roles: list[str] = []
    before = None
    while name != before:
        before = name = name.strip(" ,")
        words = name.split()
        for count in range(min(_LONGEST_BEFORE, len(words) - 1), 0, -1):
            if (role := _BEFORE_NAME.get(artist_key(" ".join(words[:count])))) is not None:
                name = " ".join(words[count:])
                roles.append(role)
                break
        head, comma, tail = name.rpartition(",")
        if comma and (role := _BEHIND_NAME.get(artist_key(tail))):
            name = head
            roles.append(role)
        if found := _HELPED.search(name):
            name = name[: found.start()]
            roles.append(_HELPERS[found[1].lower()])
        name = _LIFE.sub("", name)
    return name, [role for role in roles if role]


def _in_order(name: str) -> str:
    """`Last, First` as `First Last` where it is safely that, and all capitals as usual.

    >>> _in_order("GOGH, Vincent van"), _in_order("Bruegel, Pieter the Elder"), _in_order("Max Ernst, Hans Arp")
    ('Vincent van Gogh', 'Pieter Bruegel the Elder', 'Max Ernst, Hans Arp')
    """
    last, comma, first = (part.strip() for part in _usual_capitals(name).partition(","))
    if not comma:
        return last
    if artist_key(first) in _GENERATIONS:
        return f"{last} {first}"
    lasts, firsts = last.split(), first.split()
    generation: list[str] = []
    for count in (2, 1):
        if artist_key(" ".join(firsts[-count:])) in _GENERATIONS:
            firsts, generation = firsts[:-count], firsts[-count:]
            break
    safe = (
        1 <= len(firsts) <= 4
        and (len(lasts) == 1 or (2 <= len(lasts) <= 4 and lasts[0].casefold() in _PARTICLES))
        and not any(character == "," or character.isdigit() for character in first)
        and all(word[0].isupper() or word.casefold() in _PARTICLES for word in firsts)
        and not any(artist_key(word) in _COMPANIES for word in firsts)
    )
    return " ".join((*firsts, *lasts, *generation)) if safe else f"{last}, {first}"


def _usual_capitals(name: str) -> str:
    """`VAN GOGH` and `REMBRANDT van Rijn` as usually written; short words may be initials and stay."""
    words = name.split()
    if not any(len(word) > 3 and word.isupper() for word in words):
        return name
    for position, word in enumerate(words):
        if word.isupper() and word.lower() in _PARTICLES:
            words[position] = word.lower()
        elif word.isupper() and len(word) > 3:
            words[position] = word.title()
    return " ".join(words)
