"""A foundation for models of 64-pixel images: trained once, for hours, on images that no demo and no test shows.

It is what Stable Diffusion is to InstructG2I: an autoencoder, a mini CLIP and a network, with a Graph-QFormer that has
learned to look at neighbors. All of it is trained by the stages of the main job, on synthetic data of all three sources
by casts of their own: other artists, brands and authors than the usual ones, many of them, and half of the titles say
how an image looks too.

Calling it again continues: a killed run loses what came after its last checkpoint. `make foundation` is the command.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from flows import stages
from flows.cli.console import configure_logging
from flows.cli.failures import failures_told
from flows.cli.streams import standard_streams
from flows.settings import Settings
from flows.timing import StopWatch
from graphstore.sampling.settings import SamplerSettings
from ingest.encoders.mini_config import MiniClipConfig
from ingest.ingestion import Amazon, Art500k, Goodreads
from ingest.sampledata import paint_amazon, paint_art500k, paint_goodreads
from ingest.sampledata.artists import Artist
from ingest.sampledata.casts import invent_artists, invent_authors, invent_brands
from ingest.sampledata.covers import Author
from ingest.sampledata.products import Brand

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


def train_foundation(
    out: Path,
    *,
    works: int = WORKS,
    products: int = PRODUCTS,
    books: int = BOOKS,
    encoder: MiniClipConfig = ENCODER,
    config: str | Path = "foundation",
) -> str:
    """Generate the data under `out`, and train on them; returns the id of the model in `out/data`.

    Parameters
    ----------
    works, products, books
        Images of each source.
    encoder, config
        How the mini CLIP and the model are trained.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = Settings(data=str(out / "data"), store=f"ladybug://{(out / 'data' / 'graph.lbug').resolve()}")
    watch = StopWatch(out / "timings.json")
    folders = [out / name for name in ("works", "products", "books")]
    style = WORDS_OF_STYLE
    with watch.stage("paint"):
        artists, brands, authors = casts()
        watch.keep(paint_art500k(folders[0], items=works, seed=SEED, artists=artists, words_of_style=style))
        watch.keep(paint_amazon(folders[1], items=products, seed=SEED, brands=brands, words_of_style=style))
        watch.keep(paint_goodreads(folders[2], items=books, seed=SEED, authors=authors, words_of_style=style))
    with watch.stage("ingest"):
        for ingestion in (
            Art500k(files=(str(folders[0] / "label_list.csv"),), images=folders[0]),
            Amazon(files=(str(folders[1] / "meta_*.json.gz"),), images=folders[1] / "images"),
            Goodreads(files=(str(folders[2] / "goodreads_*.json.gz"),), images=folders[2] / "images"),
        ):
            watch.keep(stages.ingest(settings, ingestion))
    with watch.stage("embed"):
        encoder_id = watch.keep(stages.embed(settings, encoder)).encoder
    with watch.stage("sample"):
        neighbors = watch.keep(stages.sample(settings, SamplerSettings(encoder=encoder_id))).digest
    with watch.stage("train"):
        return watch.keep(stages.train(settings, config, neighbors)).model_id


def casts() -> tuple[tuple[Artist, ...], tuple[Brand, ...], tuple[Author, ...]]:
    """The artists, brands and authors whose works, products and books the foundation sees."""
    return invent_artists(ARTISTS, SEED), invent_brands(BRANDS, SEED), invent_authors(AUTHORS, SEED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.foundation", description="Train a foundation.")
    parser.add_argument("out", type=Path, help="Folder for all files; what is there is continued.")
    with standard_streams(), failures_told(debug=False):
        configure_logging(debug=False)
        print(train_foundation(parser.parse_args().out))
