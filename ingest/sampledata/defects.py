"""Deliberate defects: the sample data is as untidy as the real files, in known places."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def assign_defects(rng: np.random.Generator, rows: int, shares: Mapping[str, float]) -> dict[int, str]:
    """Which row carries which defect.

    No row carries two, and each kind occurs at least once; too few rows for that stay without any.
    """
    if rows < 2 * len(shares):
        return {}
    order = iter(rng.permutation(rows).tolist())
    return {next(order): name for name, share in shares.items() for _ in range(max(1, round(share * rows)))}


def broken(image: bytes) -> bytes:
    """An image file cut off near its start, as a failed download leaves it."""
    return image[:700]
