"""What a scheduled ingestion reads, as one value: it is a parameter of flows and deployments, so it is plain JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from flows import stages
from flows.settings import Settings
from ingest.errors import Graph2ImageError


class Ingestion(BaseModel):
    """A source with its files.

    Attributes
    ----------
    files
        Files or glob patterns; for `table` the spec, for `instructg2i` the folder.
    place
        Where pictures are (a folder, tar or zip); for `table` what the paths in the spec are relative to.
    fetch
        Fetch the pictures from their addresses instead.
    prune
        Remove the items that the files no longer have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["art500k", "amazon", "goodreads", "instructg2i", "table"]
    files: tuple[str, ...]
    place: Path | None = None
    fetch: bool = False
    prune: bool = False

    def run(self, settings: Settings) -> stages.IngestOutcome:
        """Ingest the files and load them into the graph store.

        Raises
        ------
        Graph2ImageError
            As the stages; also if a table or a folder is not exactly one.
        """
        if self.source in ("table", "instructg2i"):
            if len(self.files) != 1:
                raise Graph2ImageError(f"{self.source} takes one path, not {len(self.files)}")
            path = Path(self.files[0])
            if self.source == "table":
                return stages.ingest_table(settings, path, self.place or Path(), prune=self.prune)
            return stages.ingest_instructg2i(settings, path, {}, prune=self.prune)
        pictures = stages.pictures(settings, self.place, fetch=self.fetch)
        if self.source == "art500k":
            return stages.ingest_art500k(settings, self.files, pictures, prune=self.prune)
        if self.source == "amazon":
            return stages.ingest_amazon(settings, self.files, pictures, prune=self.prune)
        return stages.ingest_goodreads(settings, self.files, pictures, prune=self.prune)
