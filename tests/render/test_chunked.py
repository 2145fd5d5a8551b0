"""ChunkedLazyFieldRenderer: frames kept by the chunk, painted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lazystore.render import ChunkedLazyFieldRenderer, LazyFieldRenderer

from .conftest import LOOKUP
from .test_renderer import ENV, FIELDS, N_FRAMES, CountingFields


def renderer_of(fields: Any, **sizes: int) -> ChunkedLazyFieldRenderer:
    return ChunkedLazyFieldRenderer(ENV, fields, LOOKUP, 0.1, 0.9, **sizes)


def test_a_jump_paints_one_frame_not_its_chunk() -> None:
    """In chunks of 1000 frames a jump would otherwise cost half a second."""
    fields = CountingFields(FIELDS)
    renderer = renderer_of(fields, chunk_size=5)
    renderer[7], renderer[7], renderer[8], renderer[-4]
    assert fields.reads == [7, 8]
    assert renderer._get_chunk_cache_info() == {1: 5}


def test_whole_chunks_are_dropped_least_recently_used_first() -> None:
    """A hit on any of its frames keeps a chunk."""
    renderer = renderer_of(FIELDS, chunk_size=5, max_chunks=2)
    renderer[0], renderer[5], renderer[1], renderer[0], renderer[11]
    assert renderer._get_chunk_cache_info() == {0: 5, 2: 2}


def test_a_whole_chunk_is_painted_from_one_read() -> None:
    """`_get_chunk` and `_render_chunk` give all its frames; the last chunk is shorter."""
    expected = LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9)[10:]
    for fields in (FIELDS, list(FIELDS)):
        renderer = renderer_of(fields, chunk_size=5)
        np.testing.assert_array_equal(renderer._render_chunk(2), expected)
        assert renderer._get_chunk_cache_info() == {}
        np.testing.assert_array_equal(renderer._get_chunk(2), expected)
        assert renderer._get_chunk_cache_info() == {2: 2}
        assert renderer[10] is renderer._get_chunk(2)[0]


def test_a_chunk_partly_painted_is_completed() -> None:
    """Frames that are there are not painted again."""
    fields = CountingFields(FIELDS)
    renderer = renderer_of(fields, chunk_size=4)
    renderer[5]
    chunk = renderer._get_chunk(1)
    assert fields.reads == [5, 4, 6, 7]
    np.testing.assert_array_equal(chunk, LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9)[4:8])


def test_chunks_are_numbered_from_zero_to_the_last() -> None:
    """A chunk that is not there is an error."""
    renderer = renderer_of(FIELDS, chunk_size=5)
    assert [renderer._get_chunk_index(index) for index in (0, 4, 5, 11)] == [0, 0, 1, 2]
    for missing in (3, -1):
        with pytest.raises(IndexError, match=f"Chunk index {missing} out of range for {N_FRAMES} frames"):
            renderer._render_chunk(missing)
