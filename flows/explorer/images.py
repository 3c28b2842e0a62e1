"""Images over HTTP, by hashes and ids that are checked before anything is looked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from flows.explorer.api import GeneratedId, Held
from flows.explorer.catalog import NotFoundError
from flows.explorer.thumbnails import SIZES
from ingest.datasets.items import among
from ingest.datasets.names import GENERATED_IMAGE
from ingest.datasets.schemas import GENERATED_SCHEMA
from ingest.errors import Graph2ImageError

images = APIRouter(prefix="/images", include_in_schema=False)

#: Content under a hash never changes.
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}

ImageHash = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@images.get("/generated/{generated_id}.png")
def generated(held: Held, generated_id: GeneratedId) -> Response:
    """A generated image as it was written, with its record in it."""
    with held.graph.reading() as store:
        cypher = f"MATCH (g:{GENERATED_IMAGE} {{id: $id}}) RETURN g.image_path AS path"
        paths = store.read(cypher, {"id": generated_id})["path"].to_pylist()
    if not paths:  # not in the graph yet
        rows = held.data.dataset("generated", GENERATED_SCHEMA).to_table(
            ["image_path"], filter=among("generated_id", [generated_id])
        )
        paths = rows["image_path"].to_pylist()
    if not paths:
        raise NotFoundError(f"there is no generated image {generated_id!r}")
    parts = str(paths[0]).split("/")
    if len(parts) != 3 or parts[0] != "generated" or ".." in parts or parts[2] != f"{generated_id}.png":
        raise Graph2ImageError(f"the image {generated_id} is not where images are")
    try:
        content = held.data.read_bytes(paths[0])
    except FileNotFoundError as error:
        raise NotFoundError(f"the file of the generated image {generated_id} is gone") from error
    disposition = {"content-disposition": f'inline; filename="{generated_id}.png"'}
    return Response(content, media_type="image/png", headers=_FOREVER | disposition)


@images.get("/{size}/{image_hash}")
def image(request: Request, held: Held, size: int, image_hash: ImageHash) -> Response:
    """The image of an item, no side longer than `size`, which is one of a few."""
    if size not in SIZES:
        raise NotFoundError(f"images come in these sizes: {', '.join(map(str, SIZES))}")
    if not held.catalogs.now().has_image(image_hash):
        raise NotFoundError("no item has this image, or it was withdrawn")
    tag = f'"{image_hash[:32]}-{size}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=_FOREVER | {"etag": tag})
    return Response(held.thumbnails.of(image_hash, size), media_type="image/webp", headers=_FOREVER | {"etag": tag})
