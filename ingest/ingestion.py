"""What an ingestion reads, as one value: plain JSON, so that it can be the parameter of a flow or of a deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Ingestion(BaseModel):
    """A source with its files.

    Attributes
    ----------
    files
        Files or glob patterns; for `table` the spec, for `instructg2i` the folder.
    place
        Where images are (a folder, tar or zip); for `table` what the paths in the spec are relative to.
    fetch, refresh
        Fetch the images from their addresses instead; and ask whether those fetched before have changed.
    painters
        For `art500k`: PainterPalette's tables.
    min_shelf_count
        For `goodreads`: readers that a shelf of a book must have.
    center_key, neighbors_key, text_key
        For `instructg2i`: keys of the rows; None for those that the first row tells.
    workers
        Blocks of a file that are parsed at once; by default one per core for a large file.
    strict
        Fail at the first rejected row.
    prune
        Remove the items that the files no longer have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["art500k", "amazon", "goodreads", "instructg2i", "table"]
    files: tuple[str, ...] = Field(min_length=1)
    place: Path | None = None
    fetch: bool = False
    refresh: bool = False
    painters: tuple[str, ...] = ()
    min_shelf_count: int = Field(5, ge=1)
    center_key: str | None = None
    neighbors_key: str | None = None
    text_key: str = "text"
    workers: int | None = Field(None, ge=1)
    strict: bool = False
    prune: bool = False
