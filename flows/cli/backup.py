"""The commands that back up and restore; see `flows.cli.app`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.console import Call, command
from flows.cli.messages import count

if TYPE_CHECKING:
    from flows.backup import BackupReport

backup_app = typer.Typer()


@command(backup_app, "backup")
def backup(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the backup.")],
) -> None:
    """Copy the data root and the graph into a folder, together.

    Nothing else may write meanwhile: it waits for what does.
    """
    from flows.backup import backup as make

    report = make(call.settings, folder)
    call.show(report, f"Backed up {_told(report)}")


@command(backup_app, "restore")
def restore(
    call: Call,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `backup` has written.")],
) -> None:
    """Bring a backup into an empty data root and store.

    Every file and the graph are compared with the digests of the backup.
    """
    from flows.backup import restore as bring

    report = bring(call.settings, folder)
    call.show(report, f"Restored {_told(report)}")


def _told(report: BackupReport) -> str:
    graph = "no graph" if report.graph_version is None else f"graph version {report.graph_version}"
    size = f"{report.bytes / 2**20:,.0f} MiB"
    return f"{count(report.files, 'file')} ({size}) and {graph}, of {report.created_at}; digest {report.digest}."
