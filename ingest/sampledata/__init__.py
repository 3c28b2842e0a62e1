"""Synthetic data in the upstream formats, pictures included, for demos and tests.

`gallery` paints artworks in ART500K's format, `amazon` photographs products, `goodreads` prints book covers. In each
the text says *what* is shown and the graph (artist, brand, author and series) decides *how* it looks, so what a
graph-conditioned model gains from its neighbors can be seen and measured.
"""

from ingest.sampledata.gallery import paint_art500k
from ingest.sampledata.writing import SampleReport

__all__ = ["SampleReport", "paint_art500k"]
