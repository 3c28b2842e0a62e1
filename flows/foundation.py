"""A foundation for models of 64-pixel images: trained once, for hours, on images that no demo and no test shows.

It is what Stable Diffusion is to InstructG2I: an autoencoder, a mini CLIP and a network, with a Graph-QFormer that has
learned to look at neighbors. All of it is trained by the stages of the main job, on synthetic data of all three sources
by casts of their own: other artists, brands and authors than the usual ones, many of them, and half of the titles say
how an image looks too.

Calling it again continues: a killed run loses what came after its last checkpoint. `make foundation` is the command.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flows import stages
from flows.cli.console import configure_logging
from flows.settings import Settings
from flows.timing import StopWatch
from graphstore.sampling.settings import SamplerSettings
from ingest.encoders.mini_config import MiniClipConfig
from ingest.ingestion import Amazon, Art500k, Goodreads
from ingest.sampledata import paint_amazon, paint_art500k, paint_goodreads
from ingest.sampledata.casts import invent_artists, invent_authors, invent_brands

#: Seed of the casts and of what they make.
SEED = 20_000
#: Images of each source, and who made them.
WORKS, ARTISTS = 12_000, 600
PRODUCTS, BRANDS = 5_000, 200
BOOKS, AUTHORS = 3_000, 200
#: Share of the titles that say how an image looks.
WORDS_OF_STYLE = 0.5

#: It sees brushwork, which is gone at the 32 pixels that are enough for a mini CLIP trained in a minute.
ENCODER = MiniClipConfig(image_size=64, context_length=32, batch_size=128, base_steps=400, pairs_per_step=20)


def train_foundation(out: Path) -> str:
    """Generate the data under `out`, and train on them; returns the id of the model in `out/data`."""
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=str(out / "data"), store=f"ladybug://{(out / 'data' / 'graph.lbug').resolve()}")
    watch = StopWatch(out / "timings.json")
    works, products, books = out / "works", out / "products", out / "books"
    style = WORDS_OF_STYLE
    with watch.stage("paint"):
        watch.keep(
            paint_art500k(works, items=WORKS, seed=SEED, artists=invent_artists(ARTISTS, SEED), words_of_style=style)
        )
        watch.keep(
            paint_amazon(products, items=PRODUCTS, seed=SEED, brands=invent_brands(BRANDS, SEED), words_of_style=style)
        )
        watch.keep(
            paint_goodreads(books, items=BOOKS, seed=SEED, authors=invent_authors(AUTHORS, SEED), words_of_style=style)
        )
    with watch.stage("ingest"):
        for ingestion in (
            Art500k(files=(str(works / "label_list.csv"),), images=works),
            Amazon(files=(str(products / "meta_*.json.gz"),), images=products / "images"),
            Goodreads(files=(str(books / "goodreads_*.json.gz"),), images=books / "images"),
        ):
            watch.keep(stages.ingest(settings, ingestion))
    with watch.stage("embed"):
        encoder = watch.keep(stages.embed(settings, ENCODER)).encoder
    with watch.stage("sample"):
        neighbors = watch.keep(stages.sample(settings, SamplerSettings(encoder=encoder))).digest
    with watch.stage("train"):
        return watch.keep(stages.train(settings, "foundation", neighbors)).model_id


if __name__ == "__main__":
    configure_logging(debug=False)
    print(train_foundation(Path(sys.argv[1])))
