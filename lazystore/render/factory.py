"""The renderer that suits a recording's length."""

from __future__ import annotations

from typing import Any

from lazystore.render.chunked import DEFAULT_CHUNK_SIZE, DEFAULT_MAX_CHUNKS, ChunkedLazyFieldRenderer
from lazystore.render.renderer import DEFAULT_CACHE_SIZE, LazyFieldRenderer

CHUNKED_CACHE_THRESHOLD = 10_000
"""Recordings with more frames than this are kept by the chunk."""


def create_lazy_field_renderer(
    env: Any,
    fields: Any,
    cmap_lookup: Any,
    vmin: float,
    vmax: float,
    cache_size: int = DEFAULT_CACHE_SIZE,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    max_chunks: int = DEFAULT_MAX_CHUNKS,
) -> LazyFieldRenderer | ChunkedLazyFieldRenderer:
    """A `LazyFieldRenderer` for up to 10,000 frames, a `ChunkedLazyFieldRenderer` for more.

    Parameters are those of the two classes. Reads no frame.
    """
    if len(fields) <= CHUNKED_CACHE_THRESHOLD:
        return LazyFieldRenderer(env, fields, cmap_lookup, vmin, vmax, cache_size)
    return ChunkedLazyFieldRenderer(env, fields, cmap_lookup, vmin, vmax, chunk_size, max_chunks)
