"""The index of ids, against a plain dict."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ingest.ids import IdIndex

_IDS = st.lists(st.text("abc", max_size=2), max_size=12)


@given(st.lists(_IDS, max_size=12), _IDS)
def test_the_first_place_of_an_id_is_remembered(batches: list[list[str]], others: list[str]) -> None:
    index = IdIndex()
    expected: dict[str, int] = {}
    place = 0
    for batch in batches:
        places = np.arange(place, place + len(batch))
        place += len(batch)
        found = index.add(pa.array(batch, pa.string()), places).tolist()
        assert found == [_first(expected, key, where) for key, where in zip(batch, places.tolist(), strict=True)]
    assert index.find(pa.array(others, pa.string())).tolist() == [expected.get(key, -1) for key in others]


def _first(seen: dict[str, int], key: str, place: int) -> int:
    if key in seen:
        return seen[key]
    seen[key] = place
    return -1
