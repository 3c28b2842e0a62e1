"""Synthetic data in the upstream formats, images included, for demos and tests.

`paint_art500k` paints artworks, `paint_amazon` photographs products, `paint_goodreads` prints book covers. In each the
text says *what* is shown and the graph (artist, brand, author and series) decides *how* it looks, so what a
graph-conditioned model gains from its neighbors can be seen and measured.

Whose things they are is up to a cast: the usual one, or another drawn from a seed (`casts`). A share of the titles can
say how things look (`captions`).

An image starts as a `Sketch` without color (`landscapes`, `townscapes`, `stilllifes`, `figures`); a palette and a
brush turn it into paint (`palettes`, `brushes`, `surfaces`).
"""

from ingest.sampledata.amazon import paint_amazon
from ingest.sampledata.gallery import paint_art500k
from ingest.sampledata.goodreads import paint_goodreads
from ingest.sampledata.writing import SampleReport

__all__ = ["SampleReport", "paint_amazon", "paint_art500k", "paint_goodreads"]
