"""The subjects: their words, their genre, and who draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ingest.sampledata import figures, landscapes, stilllifes, townscapes
from ingest.sampledata.landscapes import HOURS, Hour
from ingest.sampledata.sketch import Sketch

Draw = Callable[[Sketch, np.random.Generator, Hour, int], None]


@dataclass(frozen=True)
class Subject:
    """One thing to paint.

    Attributes
    ----------
    key
        Short name, used as the tag in the label file.
    titles
        For each variant of the scene, the ways to say it.
    """

    key: str
    genre: str
    draw: Draw
    titles: tuple[tuple[str, ...], ...]

    def title(self, rng: np.random.Generator, variant: int, hour: Hour) -> str:
        """What the image shows, in words; an hour is named outdoors only."""
        words = self.titles[variant]
        title = words[int(rng.integers(len(words)))]
        return f"{title} {hour.words}" if self.genre in OUTDOOR_GENRES else title


OUTDOOR_GENRES = ("landscape", "marina", "cityscape")

SUBJECTS = (
    Subject(
        "lake",
        "landscape",
        landscapes.mountain_lake,
        (("Mountain lake", "Lake among mountains"), ("Rowing boat on a mountain lake", "Mountain lake with a boat")),
    ),
    Subject(
        "church",
        "landscape",
        landscapes.church_on_hill,
        (("Church on a hill", "Hill with a church"), ("Church in the snow", "Snowy hill with a church")),
    ),
    Subject(
        "hills",
        "landscape",
        landscapes.cypress_hills,
        (("Hills with cypresses", "Cypresses in the fields"), ("Haystacks in the fields", "Field with haystacks")),
    ),
    Subject(
        "birches",
        "landscape",
        landscapes.birch_grove,
        (("Birch grove", "Path through the birches"), ("Birches in the snow", "Birch grove in winter")),
    ),
    Subject(
        "windmill",
        "landscape",
        landscapes.windmill,
        (("Windmill in a field", "Windmill"), ("Windmill by a canal", "Canal with a windmill")),
    ),
    Subject(
        "harbor",
        "marina",
        townscapes.harbor,
        (
            ("Harbor with a sailboat", "Sailboat in the harbor"),
            ("Three sailboats in the harbor", "Harbor with sailboats"),
        ),
    ),
    Subject(
        "lighthouse",
        "marina",
        townscapes.lighthouse,
        (
            ("Lighthouse on the rocks", "Lighthouse by the sea"),
            ("Lighthouse in a storm", "Stormy sea with a lighthouse"),
        ),
    ),
    Subject(
        "bridge",
        "cityscape",
        townscapes.stone_bridge,
        (("Stone bridge", "Bridge over the river"), ("Bridge of three arches", "River with a bridge of three arches")),
    ),
    Subject(
        "street",
        "cityscape",
        townscapes.old_street,
        (("Street in the old town", "Gabled houses"), ("Street with a lantern", "Walker in the old town")),
    ),
    Subject(
        "pears",
        "still life",
        stilllifes.pears_and_jug,
        (
            ("Still life with two pears and a jug", "Two pears and a jug"),
            ("Still life with three pears and a jug", "Three pears and a jug"),
            ("Still life with five pears and a jug", "Five pears and a jug"),
        ),
    ),
    Subject(
        "apples",
        "still life",
        stilllifes.apples_and_bottle,
        (
            ("Still life with apples and a bottle", "Bowl of apples and a bottle"),
            ("Still life with apples and a candle", "Bowl of apples by candlelight"),
        ),
    ),
    Subject(
        "flowers",
        "flower painting",
        stilllifes.flowers_in_vase,
        (
            ("Daisies in a vase", "Vase with daisies"),
            ("Tulips in a vase", "Vase with tulips"),
            ("Roses in a vase", "Vase with roses"),
        ),
    ),
    Subject(
        "fish bowl",
        "animal painting",
        stilllifes.fish_bowl,
        (("Fish in a glass bowl", "Bowl with a fish"), ("Three fish in a glass bowl", "Bowl with three fish")),
    ),
    Subject(
        "cat",
        "animal painting",
        figures.cat_at_window,
        (("Cat on a windowsill", "Cat at the window"), ("Sleeping cat on a windowsill", "Cat asleep at the window")),
    ),
    Subject(
        "bird",
        "animal painting",
        figures.bird_on_branch,
        (("Bird on a branch", "Songbird on a branch"), ("Two birds on a branch", "Pair of birds on a branch")),
    ),
    Subject(
        "woman",
        "portrait",
        figures.woman_in_hat,
        (
            ("Portrait of a woman in a hat", "Woman in a wide hat"),
            ("Portrait of a woman in a headscarf", "Woman in a headscarf"),
        ),
    ),
    Subject(
        "man",
        "portrait",
        figures.bearded_man,
        (
            ("Portrait of a man with a pipe", "Bearded man with a pipe"),
            ("Portrait of a man with spectacles", "Bearded man with spectacles"),
        ),
    ),
)

__all__ = ["HOURS", "SUBJECTS", "Hour", "Subject"]
