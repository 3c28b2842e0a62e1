"""A machine where neither the installation nor the home can be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment import FOLDERS


def run(code: str, temporary: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    temporary.mkdir(exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if key not in FOLDERS}
    environment |= {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "HOME": "/dev/null",
        "TMPDIR": str(temporary),
        # As where the folders of the modules cannot be written: only the user's cache is left.
        "NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator",
    }
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment | changes, capture_output=True, text=True, check=False)


def test_kernels_are_compiled_and_kept_in_a_temporary_folder(tmp_path: Path) -> None:
    done = run("import flows, graphstore.projection.projection", tmp_path / "tmp")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tmp" / f"graph2image-{os.getuid()}" / ".cache").is_dir()


@pytest.mark.slow
def test_doctor_says_where_the_caches_are(tmp_path: Path) -> None:
    code = f"from flows.cli.app import app; app(['doctor', '--data', {str(tmp_path / 'data')!r}])"
    done = run(code, tmp_path / "tmp")
    assert "the home cannot be written" in done.stdout
    assert str(tmp_path / "tmp") in done.stdout
    assert done.returncode == 0, done.stderr
    done = run(code, tmp_path / "tmp", PREFECT_HOME="/dev/null/prefect")
    assert "FAIL  /dev/null/prefect cannot be written" in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize("mode", [0o777, 0o720])
def test_a_folder_that_others_can_write_is_not_used(mode: int, tmp_path: Path) -> None:
    """What is in it is loaded as code."""
    folder = tmp_path / "tmp" / f"graph2image-{os.getuid()}"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    done = run("import flows, os; print(os.environ['XDG_CACHE_HOME'])", tmp_path / "tmp")
    used = Path(done.stdout.strip())
    assert folder not in used.parents
    assert used.parent.stat().st_mode & 0o077 == 0
