"""The pages: templates that hold the frame; what is in them, their scripts ask the API for."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import jinja2
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from flows.explorer.guard import COOKIE, Access, refusal

_FOLDER = Path(__file__).parent
_STATIC = _FOLDER / "static"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}

#: Pages by their paths: the template, and what it is called.
PAGES = {
    "/": ("start", "Explore"),
    "/item": ("item", "Item"),
    "/make": ("make", "Make"),
    "/lineage": ("lineage", "Lineage"),
    "/models": ("models", "Models"),
    "/cypher": ("cypher", "Cypher"),
    "/api": ("api", "API"),
}

pages = APIRouter(include_in_schema=False)
_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
)


def is_page(request: Request) -> bool:
    """Whether a person asks for a page, and not a program for data."""
    path = request.url.path
    return request.method == "GET" and not path.startswith(("/api/", "/images/", "/static/"))


def trouble(request: Request, status: int, message: str, hint: str | None) -> Response:
    """A page that says what is wrong."""
    return _page(request, "trouble", "Trouble", status=status, message=message, hint=hint or "")


def _page(request: Request, template: str, title: str, *, status: int = 200, **values: Any) -> Response:
    html = _environment.get_template(f"{template}.html.j2").render(
        page=template,
        title=title,
        links=[(path, name) for path, (_, name) in PAGES.items() if path not in ("/item", "/api")],
        here=request.url.path,
        **values,
    )
    return HTMLResponse(html, status)


def _show(request: Request) -> Response:
    template, title = PAGES[request.url.path]
    operations = _operations(request.app.openapi()) if template == "api" else []
    return _page(request, template, title, operations=operations)


for path in PAGES:
    pages.add_api_route(path, _show, methods=["GET"])


@pages.get("/static/{name}")
def static(name: str) -> Response:
    """A file of the package: one of those that its folder lists, whatever is asked for."""
    files = {file.name: file for file in _STATIC.iterdir() if file.suffix in _TYPES}
    if name not in files:
        return refusal(404, "there is no such file")
    file = files[name]
    headers = {"cache-control": "no-cache"}
    return Response(file.read_bytes(), media_type=_TYPES[file.suffix], headers=headers)


@pages.get("/healthz")
def health() -> dict[str, str]:
    """That the server answers; it says nothing of the store."""
    return {"status": "ok"}


@pages.get("/signin")
def sign_in_page(request: Request) -> Response:
    """Where a browser gives the token."""
    return _page(request, "signin", "Sign in", wrong=False)


@pages.post("/signin")
async def sign_in(request: Request) -> Response:
    """Take the token, and give a cookie for it."""
    access: Access = request.app.state.access
    given = parse_qs((await request.body()).decode("utf-8", "replace")).get("token", [""])[0]
    if not access.is_token(given.strip()):
        return _page(request, "signin", "Sign in", status=401, wrong=True)
    response = RedirectResponse("/", 303)
    response.set_cookie(
        COOKIE, access.cookie, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/"
    )
    return response


def _operations(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The API's operations by their groups, for its page."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "text": operation.get("description", operation.get("summary", "")),
                    "parameters": [
                        {
                            "name": one["name"],
                            "text": one.get("description", ""),
                            "required": one.get("required", False),
                        }
                        for one in operation.get("parameters", [])
                    ],
                    "body": _fields(description, operation.get("requestBody")),
                }
            )
    return [{"name": name, "operations": operations} for name, operations in groups.items()]


def _fields(description: dict[str, Any], body: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The fields of a JSON body."""
    schema = (body or {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    if not name:
        return []
    model = description["components"]["schemas"][name]
    return [
        {"name": field, "text": value.get("description", ""), "required": field in model.get("required", [])}
        for field, value in model["properties"].items()
    ]
