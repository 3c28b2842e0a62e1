"""What the benchmarks share: environments for peers, a description of the machine, a table, a last line of JSON."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

#: Where the environments of peers are kept; they can be deleted at any time.
CACHE = Path(os.environ.get("GRAPH2IMAGE_BENCHMARK_CACHE", Path.home() / ".cache" / "graph2image-benchmarks"))


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """Python of a virtual environment that holds `requirements` and nothing of ours; made by the first call.

    Parameters
    ----------
    name
        Tells the environments apart for people; other requirements make another environment under the same name.
    requirements
        As pip takes them, pinned so that a figure says what it was measured against.
    """
    key = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{key}"
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        print(f"making an environment for {name} in {folder}", file=sys.stderr, flush=True)
        uv = Path(sys.executable).with_name("uv")
        if uv.exists():
            subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
            install = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
        else:
            venv.create(folder, clear=True, with_pip=True)
            install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, *requirements], check=True)
        ready.touch()
    return python


def describe_machine() -> dict[str, Any]:
    """Processor, usable cores, memory in GiB, system and Python."""
    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    return {
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Rows under the keys of the first one; numbers to the right, floats with four digits at most."""
    names = list(rows[0])
    cells = [[_text(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in cells)) for i, name in enumerate(names)]
    right = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in names]
    for line in (names, ["-" * width for width in widths], *cells):
        parts = zip(line, widths, right, strict=True)
        print("  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in parts).rstrip())


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def print_json(figures: dict[str, Any]) -> None:
    """The last line of a benchmark: one JSON object."""
    print(orjson.dumps(figures).decode(), flush=True)
