"""One server for all tests of the explorer, on a tiny graph with titles that nobody would wish for."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from flows.explorer.guard import Access
from flows.explorer.serve import listen, make_server
from flows.settings import Settings
from ingest.datasets.root import DataRoot

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_graph import load_tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "model"))
from tiny_data import TinyData

HOSTILE = {
    "toy:04": "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>",
    "toy:05": "\u202egnp.exe \u2066bidi\u202b \"'><b>",
    "toy:06": "long " * 2_000,
    "toy:07": "{{ 7 * 7 }} ${7*7} &lt;i&gt; \x00?".replace("\x00", ""),
}


@dataclass(frozen=True)
class Served:
    """A running explorer: its URL, the data it serves, and the same data as it was before."""

    url: str
    tiny: TinyData
    before: Path

    @property
    def api(self) -> httpx.Client:
        return httpx.Client(base_url=f"{self.url}/api", timeout=120)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("explorer")
    tiny = load_tiny(folder, HOSTILE)
    shutil.copytree(tiny.root.path(), folder / "before")
    with run_server(Settings(data=tiny.root.url)) as url:
        yield Served(url, tiny, folder / "before")


class run_server:  # noqa: N801
    """Serve in a thread of this process."""

    def __init__(self, settings: Settings) -> None:
        self._server = make_server(settings, Access.of("127.0.0.1"))
        self._socket = listen("127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(60)


@pytest.fixture
def own(served: Served, tmp_path: Path) -> TinyData:
    """A copy of the data, to change."""
    shutil.copytree(served.before, tmp_path / "data")
    return replace(served.tiny, root=DataRoot(str(tmp_path / "data")))
