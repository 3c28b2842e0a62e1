"""The tree of modules in `docs/architecture.md`, from the first line of each module's docstring: `make tree`."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("ingest", "graphstore", "model", "flows")
BEGIN, END = "<!-- tree -->\n```\n", "```\n<!-- /tree -->\n"
#: Where the line of a module starts, after its name.
COLUMN = 34


def tree() -> str:
    """One line per folder and module, folders after the modules beside them."""
    return "".join(line for package in PACKAGES for line in _lines(ROOT / package, ""))


def _lines(folder: Path, indent: str) -> list[str]:
    lines = [_line(f"{indent}{folder.name}/", folder / "__init__.py")]
    entries = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name))
    for path in entries:
        if path.suffix == ".py" and path.stem != "__init__":
            lines.append(_line(f"{indent}  {path.stem}", path))
        elif (path / "__init__.py").exists():
            lines += _lines(path, indent + "  ")
    return lines


def _line(name: str, module: Path) -> str:
    summary = (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
    sentence = " ".join(summary.split())
    return f"{name:<{COLUMN}}{sentence}".rstrip() + "\n"


def updated(page: str) -> str:
    """The page with the present tree."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + tree() + END + rest.partition(END)[2]


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(updated(text), encoding="utf-8")
    sys.exit(0)
