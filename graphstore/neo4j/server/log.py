"""What a Neo4j server logged since its start: whether it can still come up, and why not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from ingest.errors import Graph2ImageError

_UNREADABLE = "Its data cannot be read: go back to a backup, or start with another --home and load again."
# What the logs say, and what to tell the user.
_CAUSES = (
    (
        "OutOfMemoryError|Could not reserve enough space|insufficient memory|exceeds physical memory",
        "The memory does not suffice, or not for these sizes: look at --heap and --page-cache.",
    ),
    ("Unrecognized setting|Error evaluating value for setting|Bad value", "A setting given with --set is not right."),
    ("Address already in use|Failed to bind", "The port is taken: choose another with --port."),
    ("No space left on device", "The disk is full."),
    ("StoreLockException|FileLockException|has been locked by another process", "Another server uses this data."),
    ("Failed to start DatabaseId", _UNREADABLE),
)


class StartLog:
    """The part of a home's logs that is newer than this object; made before the server is launched."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "logs"
        self.folder.mkdir(exist_ok=True)
        self.console = self.folder / "console.log"
        self.console.write_text("")
        self._before = {name: self._size(name) for name in ("neo4j.log", "debug.log")}

    def errors(self) -> list[str]:
        """The errors in Neo4j's debug log, each with its innermost cause; a database that fails is told only there."""
        return [
            ": ".join((entry["message"], *re.findall(r"Caused by: ([^\n]+)", entry.get("stacktrace", ""))[-1:]))
            for entry in self._entries()
            if entry["level"] == "ERROR"
        ]

    def failed_database(self) -> bool:
        """Whether a database did not start; the server itself then waits for ever."""
        return any("Failed to start DatabaseId" in error for error in self.errors())

    def failure(self, message: str) -> Graph2ImageError:
        """`message` with the cause, if the logs tell it, and with their last lines."""
        lines = [
            line.strip()[:300]
            for line in (*self._new("neo4j.log").splitlines(), *self.errors(), *self.console.read_text().splitlines())
            if line.strip() and not re.match(r"\s+at ", line)
        ]
        text = "\n".join(lines)
        hints = [hint for pattern, hint in _CAUSES if re.search(pattern, text)]
        telling = [line for line in lines if " INFO " not in line] or lines
        tail = "\n".join(f"  {line}" for line in telling[-5:])
        return Graph2ImageError(message, "\n".join((*hints, f"Logs are in {self.folder}; the last lines:", tail)))

    def _entries(self) -> Iterator[dict[str, str]]:
        for line in self._new("debug.log").splitlines():
            if '"level":"ERROR"' in line and line.endswith("}"):
                yield json.loads(line)

    def _size(self, name: str) -> int:
        path = self.folder / name
        return path.stat().st_size if path.exists() else 0

    def _new(self, name: str) -> str:
        path = self.folder / name
        if not path.exists():
            return ""
        with path.open("rb") as stream:
            # A log that was rotated is new as a whole.
            stream.seek(self._before[name] if self._size(name) >= self._before[name] else 0)
            return stream.read().decode(errors="replace")
