"""Which other modules each module of kernels has compiled in, as a digest in its source: `make kernels` writes it.

numba keeps compiled kernels by the time and size of their own file. A kernel that calls one of another module has that
one compiled in, and would not notice its change; with the digest, its own file changes as well.
"""

from __future__ import annotations

import hashlib
import re
from graphlib import TopologicalSorter
from pathlib import Path

_FOLDER = Path(__file__).parent
_IMPORTED = re.compile(r"^from graphstore\.ppr\.(\w+) import ", re.MULTILINE)
_MARK = re.compile(r"^# compiled with: (\w+)$", re.MULTILINE)


def marked_sources() -> dict[Path, str]:
    """The source of each module of kernels that imports another, with the digest that it should have.

    Raises
    ------
    ValueError
        If such a module has no line for the digest.
    """
    sources = {file.stem: file.read_text() for file in _FOLDER.glob("*.py")}
    imported = {name: set(_IMPORTED.findall(source)) for name, source in sources.items() if "@njit" in source}
    marked = {}
    for name in TopologicalSorter(imported).static_order():
        if imported.get(name):
            content = "".join(sources[other] for other in sorted(imported[name]))
            mark = f"# compiled with: {hashlib.sha256(content.encode()).hexdigest()[:12]}"
            sources[name], count = _MARK.subn(mark, sources[name])
            if count != 1:
                raise ValueError(f"{name}.py needs one line '# compiled with: 0'")
            marked[_FOLDER / f"{name}.py"] = sources[name]
    return marked


if __name__ == "__main__":
    for path, source in marked_sources().items():
        if source != path.read_text():
            path.write_text(source)
            print(f"updated {path.name}")
