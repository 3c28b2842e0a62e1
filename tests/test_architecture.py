"""The page that tells what lives where tells it of the code as it is."""

from __future__ import annotations

from docs.tree import PAGE, updated


def test_every_module_is_in_the_tree() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert updated(page) == page, "call `make tree`"
