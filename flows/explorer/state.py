"""What the explorer holds between requests, each part made when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flows import stages
from flows.explorer.catalog import Catalogs, Choice
from flows.explorer.graph import Graph
from flows.explorer.jobs import Jobs
from flows.explorer.neighborhood import Neighborhoods
from flows.explorer.thumbnails import ImageQueries, Thumbnails
from flows.settings import Settings
from ingest.errors import Graph2ImageError, TransientError

#: Cypher queries that run at a time, and seconds that another one waits.
_QUERIES, _WAIT_SECONDS = 4, 10.0


class Explorer:
    """The parts of the server, by what they do."""

    def __init__(self, settings: Settings, *, allows_optout: bool = False) -> None:
        self.settings, self.allows_optout = settings, allows_optout
        self.data = settings.data_root
        self.graph = Graph(settings)
        self.catalogs = Catalogs(self.graph)
        self.neighborhoods = Neighborhoods(self.graph, self.data)
        self.thumbnails = Thumbnails(self.data)
        self.queries = ImageQueries(self.data)
        self.jobs = Jobs(settings, self.graph)
        self._queries = threading.BoundedSemaphore(_QUERIES)

    def warm(self) -> None:
        """Read the graph, and sample once: what is compiled and mapped for it is there for the first request then."""
        catalog = self.catalogs.now()
        rows, _ = catalog.page(Choice(), None, 1)
        if rows:
            mode: dict[str, Any] = {"mode": "ppr", "image_required": False} if self.encoder() is None else {}
            self.neighborhoods.around(catalog, rows[0]["id"], stages.sampler_settings(self.settings, **mode))

    def encoder(self) -> str | None:
        """The newest encoder; None if there is none."""
        try:
            return stages.newest(self.settings, "encoders")
        except Graph2ImageError:
            return None

    def needed_encoder(self) -> str:
        """The newest encoder.

        Raises
        ------
        Graph2ImageError
            If there is none.
        """
        return stages.newest(self.settings, "encoders")

    def model_in_use(self) -> str:
        """The model that images are made with unless another one is named; see `stages.default_model`."""
        with self.graph.reading():  # so that nobody writes to the store, which that function opens by itself
            return stages.default_model(self.settings)

    @contextmanager
    def querying(self) -> Iterator[None]:
        """A turn to run a user's query."""
        if not self._queries.acquire(timeout=_WAIT_SECONDS):
            raise TransientError(f"{_QUERIES} queries are running already", "Try again in a moment.")
        try:
            yield
        finally:
            self._queries.release()

    def close(self) -> None:
        """End jobs, and close the store."""
        self.jobs.close()
        self.graph.close()
