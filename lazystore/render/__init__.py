"""Frames from fields: colours bit for bit as neurospatial paints them, without its waiting.

Arrays that look like movies to napari. Fields may be anything that hands out frames by number; one
frame is read and painted when it is asked for, and kept.
"""

from lazystore.render.chunked import ChunkedLazyFieldRenderer
from lazystore.render.colors import colormap_lookup
from lazystore.render.factory import create_lazy_field_renderer
from lazystore.render.ranges import (
    compute_global_colormap_range,
    estimate_colormap_range_from_subset,
    large_session_napari_config,
)
from lazystore.render.renderer import LazyFieldRenderer
from lazystore.render.scalar import ScalarFieldImages

__all__ = [
    "ChunkedLazyFieldRenderer",
    "LazyFieldRenderer",
    "ScalarFieldImages",
    "colormap_lookup",
    "compute_global_colormap_range",
    "create_lazy_field_renderer",
    "estimate_colormap_range_from_subset",
    "large_session_napari_config",
]
