"""What an ingestion reads: one class per source, with its files and its options.

Each option is told here and nowhere else. A field without a default is an argument of the command line, any other one
of its options, with the description, the bounds and the default of the field; the class's docstring is the command's
help. The commands (`flows.cli.ingestions`), the form of the Prefect flow (`flows.prepare`) and the dispatch
(`ingest.sources`) follow from the classes. Another source is a class here, a member of `AnyIngestion`, and what
`ingest.sources` opens for it.

An ingestion is plain JSON (`model_dump(mode="json")`), so that it can be the parameter of a flow or of a deployment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

#: A path, or a glob pattern of paths.
Pattern = Annotated[str, StringConstraints(min_length=1)]


class Ingestion(BaseModel):
    """What every source has."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Name of the source, by which `AnyIngestion` tells the classes apart.
    source: str

    strict: bool = Field(False, description="Fail at the first rejected row.")
    prune: bool = Field(False, description="Remove the items that the files no longer have.")
    require_images: bool = Field(
        False,
        description="Reject the rows whose image is missing or broken; their items are kept without one otherwise.",
    )


class FilesOfRows(Ingestion):
    """A source that is files of rows, with images elsewhere."""

    images: Path | None = Field(
        None, description="Folder, tar or zip with the images; without one, items keep the images that they have."
    )
    workers: int | None = Field(
        None, ge=1, le=1024, description="Processes that parse; by default one per core for a large file."
    )


class WithUrls(FilesOfRows):
    """A source whose rows have the URLs of the images."""

    fetch: bool = Field(False, description="Fetch the images from their URLs.")
    refresh: bool = Field(False, description="Fetch, and also ask whether images fetched before have changed.")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.images is not None and (self.fetch or self.refresh):
            raise ValueError("images are either taken from a folder or archive (images), or fetched (fetch, refresh)")
        return self


class Art500k(FilesOfRows):
    """ART500K's label files and images."""

    source: Literal["art500k"] = "art500k"
    files: tuple[Pattern, ...] = Field(
        min_length=1,
        description="label_list.csv (head_info.csv beside it names the columns), or the toy set's label file.",
    )
    painters: tuple[Pattern, ...] = Field(
        (), description="PainterPalette.csv: what is known of the artists, and who influenced whom; repeat it."
    )


class Amazon(WithUrls):
    """Amazon product metadata, with images from a folder or from their URLs."""

    source: Literal["amazon"] = "amazon"
    files: tuple[Pattern, ...] = Field(
        min_length=1, description="meta_*.json.gz or .jsonl.gz, of the 2014, 2018 or 2023 release."
    )


class Goodreads(WithUrls):
    """The Goodreads book graph, with covers from a folder or from their URLs."""

    source: Literal["goodreads"] = "goodreads"
    files: tuple[Pattern, ...] = Field(
        min_length=1,
        description="goodreads_books*.json.gz, and the files of authors, works, series, genres.",
    )
    min_shelf_count: int = Field(
        5, ge=1, le=2**31 - 1, description="Readers who must have put a book on a shelf for it to count."
    )


class InstructG2I(Ingestion):
    """A data set in InstructG2I's released layout."""

    source: Literal["instructg2i"] = "instructg2i"
    folder: Path = Field(description="Folder with train/metadata.jsonl, test/metadata.jsonl and the images.")
    center_key: str | None = Field(
        None, min_length=1, description="Key of a row's image; by default inferred from the first row."
    )
    neighbors_key: str | None = Field(
        None, min_length=1, description="Key of a row's neighbors; by default inferred from the first row."
    )
    text_key: str = Field("text", min_length=1, description="Key of a row's text.")


class Table(Ingestion):
    """Your table with images, described by a spec file."""

    source: Literal["table"] = "table"
    spec: Path = Field(description="Spec file, as docs/table-spec.md explains.")
    root: Path = Field(Path(), description="Folder that the paths in SPEC are relative to.")


AnyIngestion = Annotated[Art500k | Amazon | Goodreads | InstructG2I | Table, Field(discriminator="source")]

#: The classes of all sources, by the source's name.
INGESTIONS: dict[str, type[Ingestion]] = {
    kind.model_fields["source"].default: kind for kind in get_args(get_args(AnyIngestion)[0])
}
