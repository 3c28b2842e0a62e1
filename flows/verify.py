"""What of a data root is damaged (`verify`), what each file can be made from again, and making it (`--repair`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

from flows import stages
from flows.settings import Settings
from graphstore.sampling.settings import SamplerSettings
from ingest.datasets.lock import writer_lock
from ingest.datasets.root import DataRoot
from ingest.datasets.verify import Damage, find_damage
from ingest.errors import Graph2ImageError
from ingest.images.restore import restore_rows
from ingest.parts import PART_SCHEMAS, write_parts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """Damaged files of one kind and name.

    Attributes
    ----------
    files
        Paths under the data root, with what is wrong with each.
    remedy
        What makes them again.
    repaired
        Whether that was done, and they are whole.
    """

    files: tuple[str, ...]
    remedy: str
    repaired: bool


@dataclass(frozen=True)
class VerifyReport:
    """What was compared, and what of it is damaged."""

    files: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged any more."""
        return all(finding.repaired for finding in self.findings)


@dataclass(frozen=True)
class _Case:
    """Damage to files that are made again together."""

    settings: Settings
    data: DataRoot
    #: The first and the second part of their paths, such as `embeddings` and an encoder's id.
    kind: str
    name: str
    damage: tuple[Damage, ...]

    def remove(self) -> None:
        """Remove what is left of the damaged files."""
        for damage in self.damage:
            if self.data.exists(damage.name) and not self.data.fs.isdir(self.data.path(damage.name)):
                self.data.fs.rm(self.data.path(damage.name))

    def remove_all(self) -> None:
        """Remove the whole folder."""
        self.data.fs.rm(self.data.path(self.kind, self.name), recursive=True)


#: What makes files of a kind again, for people; and a function that does as much of it as can be done from what there
#: is, and tells whether that is all.
_Remedy = tuple[str, Callable[[_Case], bool] | None]


def verify(settings: Settings, *, repair: bool = False) -> VerifyReport:
    """Compare all that is published under the data root with its digests.

    Parameters
    ----------
    repair
        Make what is damaged again, where what it is made from is there.
    """
    data = DataRoot(settings.data)
    inspection = find_damage(data)
    cases = [
        _Case(settings, data, kind, name, tuple(damage))
        for (kind, name), damage in groupby(inspection.damage, key=lambda damage: _kind(damage.name))
    ]
    # What is made from images comes after them.
    cases.sort(key=lambda case: list(_REMEDIES).index(case.kind) if case.kind in _REMEDIES else len(_REMEDIES))
    acted = [False] * len(cases)
    if repair:
        with writer_lock(data, "ingest"):
            acted = [_act(case) for case in cases]
    left = {damage.name for damage in find_damage(data).damage} if any(acted) else {d.name for d in inspection.damage}
    findings = [
        Finding(
            tuple(f"{damage.name} {damage.problem}" for damage in case.damage),
            _remedy(case)[0].format(name=case.name),
            done and not any(damage.name in left for damage in case.damage),
        )
        for case, done in zip(cases, acted, strict=True)
    ]
    return VerifyReport(inspection.files, inspection.bytes, tuple(findings))


def _kind(name: str) -> tuple[str, str]:
    kind, _, rest = name.partition("/")
    if kind in (*PART_SCHEMAS, "entities", "parts"):
        return "items", rest.partition("/")[0].removesuffix(".json")
    if kind == "images":
        return ("image files", "") if rest.startswith("files/") else ("images", "")
    return kind, rest.partition("/")[0]


def _remedy(case: _Case) -> _Remedy:
    return _REMEDIES.get(case.kind, ("restore it from a backup", None))


def _act(case: _Case) -> bool:
    act = _remedy(case)[1]
    if act is None:
        return False
    try:
        return act(case)
    except Graph2ImageError as error:
        log.warning("%s/%s cannot be made again now: %s", case.kind, case.name, error)
        return False


# -- one function per kind ---------------------------------------------------------------------------------------------


def _ingested(case: _Case) -> bool:
    """Let the next ingestion read the files again whose rows are damaged: it notices that they are missing."""
    case.remove()
    if any(damage.name.startswith("parts/") for damage in case.damage):
        write_parts(case.data, case.name, {})
    return False  # the source files are not ours


def _image_files(case: _Case) -> bool:
    case.remove()  # an ingestion stores them again
    return False


def _image_rows(case: _Case) -> bool:
    case.remove()
    restored = restore_rows(case.data)
    log.info("Entered %d stored images again", restored)
    return True


def _embeddings(case: _Case) -> bool:
    case.remove()
    stages.embed(case.settings, case.name)
    return True


def _neighbors(case: _Case) -> bool:
    snapshot = case.data.snapshot(f"neighbors/{case.name}")
    case.remove()
    if snapshot is not None:
        case.remove_all()
        return stages.sample(case.settings, SamplerSettings(**snapshot.metadata["settings"])).digest == case.name
    return True


def _remade_when_needed(case: _Case) -> bool:
    case.remove_all()
    return True


def _rows(case: _Case) -> bool:
    case.remove()
    return True


_REMEDIES: dict[str, _Remedy] = {
    "image files": ("`graph2image ingest` of their source again, with --images or --fetch", _image_files),
    "images": ("the stored images, and `graph2image ingest` for those whose files are lost too", _image_rows),
    "items": ("`graph2image ingest` of all files of {name} again", _ingested),
    "fetches": ("`graph2image ingest --fetch` asks for those URLs again", _rows),
    "encoders": ("restore encoders/{name} from a backup, or remove it and embed again", None),
    "embeddings": ("`graph2image embed --encoder {name}`", _embeddings),
    "text-embeddings": ("`graph2image embed --encoder {name}`", _embeddings),
    "unreadable": ("`graph2image embed --encoder {name}`", _remade_when_needed),
    "projections": ("the next `graph2image neighbors`", _remade_when_needed),
    "neighbors": ("`graph2image neighbors --all` with the same settings", _neighbors),
    "latents": ("the next `graph2image train`", _rows),
    "training-arrays": ("the next `graph2image train`", _remade_when_needed),
    "autoencoders": ("remove autoencoders/{name}: the next `graph2image train` makes it again", None),
    "models": ("restore models/{name} from a backup, or remove it and train again", None),
    "classifiers": ("the next `graph2image evaluate`", _remade_when_needed),
    "evaluations": ("`graph2image evaluate --model {name}`", _remade_when_needed),
    "generated": ("the same `graph2image generate` or `evaluate` again", _rows),
}
