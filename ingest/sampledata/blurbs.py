"""What shops write about their goods: enough different sentences that the files are about as large as real ones."""

from __future__ import annotations

from functools import cache
from random import Random

_WORDS = {
    "stuff": (
        "stoneware|porcelain|bone china|brushed steel|solid oak|bamboo|linen|washed cotton|borosilicate glass|cast iron"
        "|recycled polyester|walnut veneer|velvet|terracotta|copper|marble|rattan|felted wool"
    ),
    "quality": (
        "hand-glazed|food-safe|lightweight|double-walled|fade-resistant|scratch-proof|hypoallergenic|stackable|heirloom"
        "|easy-care|anti-slip|lead-free|generously sized|softly rounded|matte|crème-colored"
    ),
    "part": "rim|handle|base|lid|stitching|lining|frame|zipper|shade|hinge|spout|seam|glaze|backing|cord|finish",
    "place": (
        "kitchen|nursery|dorm room|home office|foyer|guest room|café corner|patio|bathroom|reading nook|studio"
        "|living room|cabin|hallway"
    ),
    "event": (
        "birthdays|housewarmings|weddings|Mother's Day|the holidays|graduations|baby showers|anniversaries"
        "|dinner parties|Valentine's Day"
    ),
    "person": "friends|teachers|newlyweds|colleagues|grandparents|students|neighbors|tea lovers|night owls|collectors",
    "care": (
        "Dishwasher safe|Hand wash only|Machine wash cold|Wipe clean with a damp cloth|Microwave safe up to 2 minutes"
        "|Oven safe to 350°F|Spot clean only|Tumble dry low"
    ),
    "promise": (
        "30-day money-back guarantee|2-year warranty|a replacement if it arrives damaged|lifetime support|free returns"
        "|a gift-ready box"
    ),
}
_SENTENCES = (
    "{care}; the {part} won't fade, chip or crack even after {n} washes.",
    "Made of {quality} {stuff} with a {stuff} {part} that's built to last.",
    "Measures {n} x {m} inches and weighs about {n} ounces, so it fits any {place}.",
    'The {n}" {part} is {quality} & reinforced, and stays that way.',
    "A thoughtful gift for {person} and {person}: ideal for {event} or {event}.",
    "Our {quality} {part} keeps everything in place in the {place} or the {place}.",
    "WHAT YOU GET: {n} pieces, a {stuff} {part}, and {promise}.",
    "Because each piece is {quality}, slight differences in the {part} are not a defect.",
    "Looks as good in a {place} as in a {place}; mix it with {stuff} or {stuff}.",
    "PERFECT SIZE - holds up to {m} oz. and still fits under most shelves (see pictures).",
    "Inspired by the {stuff} workshop we have run since 19{n}, it brings warmth to your {place}.",
    "{care}. Not recommended for outdoor use; keep the {part} away from open flame.",
    "If you don't love the {quality} {stuff}, we offer {promise} & answer within {n} hours.",
    "Pairs well with our {stuff} collection, sold separately.",
)


@cache
def blurbs() -> tuple[str, ...]:
    """Four thousand sentences about household goods; always the same."""
    rng = Random(0)
    words = {name: text.split("|") for name, text in _WORDS.items()}

    def sentence() -> str:
        # Each place in a template gets a word of its own.
        template = rng.choice(_SENTENCES)
        while "{" in template:
            before, _, rest = template.partition("{")
            name, _, after = rest.partition("}")
            word = str(rng.randint(10, 99)) if name in ("n", "m") else rng.choice(words[name])
            template = before + word + after
        return template

    return tuple(sentence() for _ in range(4000))
