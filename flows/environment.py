"""What libraries are told by the environment before they are imported: `flows` calls it first of all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

#: Variables that name a folder for what libraries compile and keep, and the folder that they take by themselves, under
#: the home: numba, the hub's client and we ourselves; matplotlib; Prefect.
FOLDERS = {"XDG_CACHE_HOME": ".cache", "MPLCONFIGDIR": ".config/matplotlib", "PREFECT_HOME": ".prefect"}

_PREFECT = {
    # A run without a server starts one of its own; on a busy machine that takes longer than Prefect waits.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # What the stages log shows with the task run.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "ingest,graphstore,model,flows",
}


def set_defaults() -> None:
    """Set what is not set: Prefect's settings, and a temporary folder in place of each that cannot be written."""
    for variable, value in _PREFECT.items():
        os.environ.setdefault(variable, value)
    missing = [variable for variable in FOLDERS if variable not in os.environ and not is_writable(folder_of(variable))]
    if missing:
        temporary = _own_temporary_folder()
        os.environ.update({variable: str(temporary / Path(FOLDERS[variable]).name) for variable in missing})


def folder_of(variable: str) -> Path | None:
    """The folder of one of `FOLDERS`; None if there is no home that it could be in."""
    if variable in os.environ:
        return Path(os.environ[variable])
    try:
        return Path.home() / FOLDERS[variable]
    except RuntimeError:  # no HOME, and no entry of this user
        return None


def is_writable(folder: Path | None) -> bool:
    """Whether a folder can be written to, or made."""
    while folder is not None and not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    return folder is not None and os.access(folder, os.W_OK | os.X_OK)


def _own_temporary_folder() -> Path:
    """A folder that lasts from one call to the next and belongs to this user alone: compiled code is loaded from it."""
    folder = Path(tempfile.gettempdir()) / f"graph2image-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="graph2image-"))
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        return folder
    return Path(tempfile.mkdtemp(prefix="graph2image-"))
