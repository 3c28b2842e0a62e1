"""Words around books: what the jacket says, what readers call their shelves, what authors are called."""

from __future__ import annotations

from collections.abc import Callable

#: A function that draws a number in [0, 1).
Draw = Callable[[], float]

_SENTENCES = (
    "When {who} inherits {what} in {where}, nobody warns {who2} about {trouble}.",
    "It begins with {what}, and it ends, {when} later, in {where}.",
    "{who} has spent {when} running from {trouble}; now {who2} comes to the door.",
    "“You cannot keep {what},” says {who2}, and so the journey to {where} begins.",
    "Nobody in {where} talks about {trouble} any more, least of all {who}.",
    "Then {who2} finds {what}, and the only person to trust is {who}.",
    "Told over {when}, this is a book about {trouble}, about {what}, and about coming home.",
    "Between {where} and {where2} lie {when} of silence and one letter that was never sent.",
    "But {trouble} leaves its traces, and {who} knows how to read them.",
    "With warmth and wit the author of many well-loved books takes us to {where}.",
    "What {who} does not know is that {who2} has been watching all along.",
    "A story of {trouble} and {what}, for everyone who has ever longed for {where}.",
    "Critics called it haunting; readers have kept it beside {what} for {when}.",
    "Set in {where} after the war, it follows {who} and {who2} through {trouble}.",
)
_SLOTS = {
    "who": (
        "a retired cartographer", "Eleanor", "the youngest Pemberton", "a clockmaker’s daughter", "Inspector Vale",
        "Mira", "the new schoolteacher", "Jonah Hale", "an orphan named Wren", "the last of the ferrymen", "Tomas",
        "a disgraced surgeon", "Sister Agnes", "the boy from the mill", "Professor Okafor", "a reluctant thief",
    ),
    "who2": (
        "her estranged brother", "the innkeeper", "a stranger with a limp", "the archivist", "old Mrs. Tarrant",
        "the harbor master", "his first wife", "a child nobody has seen before", "the bishop", "Captain Rourke",
        "the girl next door", "an unlikely friend", "somebody who should be dead", "the lighthouse keeper",
    ),
    "what": (
        "a crumbling house", "a box of letters", "an unfinished symphony", "the bakery on the corner", "a silver key",
        "a map with one name scratched out", "a debt of honor", "two tickets to Lisbon", "a garden gone wild",
        "the wrong suitcase", "a dog called Admiral", "the family recipe", "a photograph from 1921", "a stolen ring",
    ),
    "where": (
        "a village on the Cornish coast", "the mountains above Trieste", "Saltmarsh", "a city that is never named",
        "the far north", "the old quarter", "an island without roads", "the valley of the mills", "Edinburgh",
        "the court of the winter queen", "a boarding school", "Hollow End", "the borderlands", "New Orleans",
    ),
    "where2": ("the sea", "Buenos Aires", "the capital", "the other shore", "the edge of the map", "a prison cell"),
    "trouble": (
        "the fire", "a drowning that was no accident", "the long drought", "a promise broken at the altar",
        "the disappearance of four children", "an old feud", "the plague", "first love", "a war nobody wanted",
        "the price of a lie", "grief", "the thing in the cellar", "a fortune lost overnight", "forbidden magic",
    ),
    "when": ("one summer", "forty years", "a single night", "three generations", "a winter", "nine days", "a lifetime"),
}  # fmt: skip

#: Shelves of all genres; those that say nothing about a book are common, as upstream.
_COMMON_SHELVES = (
    "currently-reading", "favorites", "owned", "fiction", "kindle", "books-i-own", "library", "series", "ebook",
    "default", "wish-list", "my-books", "to-buy", "novels", "audiobook", "adult", "i-own", "own-it", "re-read",
    "favourites", "dnf", "ya", "literature", "my-library", "e-books", "novel", "general-fiction", "historical",
)  # fmt: skip
_ADJECTIVES = (
    "cozy", "dark", "funny", "british", "gothic", "classic", "modern", "short", "epic", "sad", "queer", "feminist",
    "rural", "urban", "weird", "beautiful", "slow", "lost", "signed", "vintage", "rainy-day", "school", "holiday",
    "beach", "book-club", "hidden", "strong", "nordic", "japanese", "irish", "victorian", "medieval", "space", "time",
)  # fmt: skip
_THINGS = (
    "reads", "books", "stories", "mysteries", "romance", "fantasy", "tales", "heroines", "fiction", "poems", "travel",
    "adventures", "families", "houses", "detectives", "animals", "wars", "villages", "dragons", "ghosts", "witches",
    "cooking", "gardens", "music", "art", "science", "religion", "friendship", "siblings", "letters", "journeys", "sea",
)  # fmt: skip
_YEARS = tuple(range(2007, 2018))

#: From the usual to the odd.
SHELVES_BY_USE = (
    *_COMMON_SHELVES,
    *(f"read-in-{year}" for year in _YEARS),
    *(f"{year}-reads" for year in _YEARS),
    *(f"{thing}-to-read" for thing in _THINGS),
    *(f"{adjective}-{thing}" for thing in _THINGS for adjective in _ADJECTIVES),
    *(f"{adjective}-{thing}-{year}" for year in _YEARS for thing in _THINGS for adjective in _ADJECTIVES),
)

FIRST_NAMES = (
    "Adaeze", "Anton", "Beatriz", "Bram", "Camille", "Dagny", "Dmitri", "Eilidh", "Esther", "Farid", "Fiona", "Gustavo",
    "Hana", "Henrik", "Imani", "Isolde", "Jasper", "Juno", "Kenji", "Leonora", "Magnus", "Mei", "Nadia", "Oscar",
    "Paloma", "Quentin", "Rosalind", "Samir", "Thea", "Ulrich", "Vera", "Walter", "Xavier", "Yara", "Zoltán", "Zuzana",
)  # fmt: skip
LAST_NAMES = (
    "Abernathy", "Achterberg", "Bellamy", "Bianchi", "Castellanos", "Chaudhry", "Dahl", "Delacroix", "Eberhart", "Egan",
    "Fairweather", "Fonseca", "Grimaldi", "Haddad", "Hartigan", "Ivanova", "Jørgensen", "Kowalczyk", "Lindgren",
    "MacAllister", "Mbeki", "Nakagawa", "Novák", "Oduya", "O’Rourke", "Papadakis", "Quigley", "Rasmussen", "Sato",
    "Szabó", "Thornbury", "Underhill", "Vasquez", "Whitcombe", "Yilmaz", "Zeller",
)  # fmt: skip


def description(draw: Draw) -> str:
    """Some sentences, 300 to 800 characters."""
    length = 300 + int(draw() * 350)
    text = ""
    while len(text) < length:
        words = {slot: choices[int(draw() * len(choices))] for slot, choices in _SLOTS.items()}
        sentence = _SENTENCES[int(draw() * len(_SENTENCES))].format_map(words)
        text += sentence[0].upper() + sentence[1:] + " "
    return text.rstrip()


def author_name(draw: Draw) -> str:
    """A first name, an initial and a last name; like real names, not always unique."""
    first = FIRST_NAMES[int(draw() * len(FIRST_NAMES))]
    last = LAST_NAMES[int(draw() * len(LAST_NAMES))]
    return f"{first} {chr(65 + int(draw() * 26))}. {last}"
