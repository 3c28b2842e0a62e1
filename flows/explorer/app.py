"""The explorer as an ASGI application: the guard, the API, images, and pages."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flows.explorer.api import api
from flows.explorer.catalog import NotFoundError
from flows.explorer.guard import Access, Guard, TooMuchError, refusal
from flows.explorer.images import images
from flows.explorer.pages import is_page, pages, trouble
from flows.explorer.state import Explorer
from flows.settings import Settings
from graphstore.store import NoGraphError
from ingest.datasets.integrity import DamagedError
from ingest.errors import Graph2ImageError, TransientError

log = logging.getLogger(__name__)


def make_app(settings: Settings, access: Access, *, allows_optout: bool = False) -> FastAPI:
    """The application; it opens the store with its first request, or when it starts."""
    held = Explorer(settings, allows_optout=allows_optout)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=_warm, args=(held,), name="explorer-warm", daemon=True).start()
        yield
        held.close()

    app = FastAPI(
        title="graph2image explorer",
        summary="Search items, sample neighbors, make images, and tell what they were made from.",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.explorer = held
    app.state.access = access
    app.include_router(api)
    app.include_router(images)
    app.include_router(pages)
    app.add_middleware(Guard, access=access)
    app.add_exception_handler(Graph2ImageError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _unexpected)
    return app


def _warm(held: Explorer) -> None:
    """Read the graph before the first request; what is wrong, that request is told."""
    try:
        held.warm()
    except Graph2ImageError as error:
        log.warning("%s", error.message)
    except Exception:
        log.exception("the graph cannot be read")


def _status(error: Exception) -> int:
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, TransientError | NoGraphError):
        return 503
    return 500 if isinstance(error, DamagedError) else 400


def _told(request: Request, status: int, message: str, hint: str | None) -> Response:
    """An error in the form that was asked for: a page, or JSON."""
    if is_page(request):
        return trouble(request, status, message, hint)
    return refusal(status, message, hint, {"retry-after": "2"} if status == 503 else None)


def _refused(request: Request, error: Exception) -> Response:
    message, hint = (error.message, error.hint) if isinstance(error, Graph2ImageError) else (str(error), None)
    return _told(request, _status(error), message, hint)


def _invalid(request: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    parts = [f"{'.'.join(str(part) for part in problem['loc'][1:])}: {problem['msg']}" for problem in problems]
    return _told(request, 400, "; ".join(parts)[:1000] or "the request is not understood", None)


def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = "there is no such page" if status == 404 else f"this cannot be asked so ({status})"
    if isinstance(error, TooMuchError):
        message = error.detail
    return _told(request, status, message, None)


def _unexpected(request: Request, error: Exception) -> Response:
    return _told(request, 500, f"unexpected error ({type(error).__name__})", "The server's log has its traceback.")
