"""How a lazy array shows itself: text without reading data, HTML with at most one chunk of it."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.preview import png, stretched
from lazystore.array.reading import read_selection
from lazystore.array.view import View
from lazystore.chunks import ceil_div

if TYPE_CHECKING:
    from lazystore.array.lazy_array import LazyArray

THUMBNAIL_SIDE = 160
# A thumbnail is a courtesy: no large chunk is decoded for it.
THUMBNAIL_CHUNK_BYTES = 16 * 1024 * 1024
# Labels longer than this are not read just to show their ends.
SPAN_LABELS = 1_000_000


def size_text(nbytes: int) -> str:
    """A size for reading.

    >>> size_text(999), size_text(307_200_000)
    ('999 B', '307.2 MB')
    """
    size = float(nbytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _facts(array: LazyArray) -> list[tuple[str, str]]:
    """What text and HTML both tell, as (name, value)."""
    coords = array.coords
    facts = []
    for name in coords:
        dims = coords.dims_of(name)
        units = str(coords.attributes_of(name).get("units", ""))
        length = array.shape[array.dims.index(dims[0])] if dims else 1
        if not dims or len(dims) > 1 or not length or not (coords.is_loaded(name) or length <= SPAN_LABELS):
            facts.append((name, f"({', '.join(dims)}) {units}".strip()))
            continue
        try:
            values = coords[name]
        except (
            Exception
        ) as error:  # A repr is read when things are wrong; it must not add an error of its own.
            facts.append((name, f"unreadable: {type(error).__name__}"))
            continue
        facts.append((name, f"{_label(values[0])} … {_label(values[-1])} {units}".strip()))
    if array.attrs.get("units"):
        facts.append(("units", str(array.attrs["units"])))
    facts.append(("chunks", str(array.chunks)))
    lost = len(array.missing_frames)
    if lost:
        facts.append(("missing", f"{lost} of {array.shape[0]} frames"))
    return facts


def _label(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)


def _headline(array: LazyArray) -> str:
    sizes = ", ".join(f"{dim}: {size}" for dim, size in zip(array.dims, array.shape, strict=True))
    return f"({sizes}) {array.dtype}, {size_text(array.nbytes)}"


def text_of(array: LazyArray) -> str:
    """The repr: sizes, span of the labels, units. Reads labels at most, never data."""
    lines = [f"<LazyArray {array.name!r} {_headline(array)}>"]
    width = max(len(name) for name, _ in _facts(array))
    lines += [f"  {name:<{width}}  {value}" for name, value in _facts(array)]
    return "\n".join(lines)


def thumbnail_of(view: View) -> NDArray[np.uint8] | None:
    """The middle frame as a small image, or None where it is no image or costs more than one chunk."""
    spec, shape = view.reader.spec, view.shape
    is_color = len(shape) == 4 and shape[-1] in (3, 4)
    if spec.dtype.kind not in "biuf" or not (len(shape) == 3 or is_color) or 0 in shape:
        return None
    kept = view.without_missing()
    if not kept.shape[0] or spec.chunk_nbytes > THUMBNAIL_CHUNK_BYTES:
        return None
    middle = kept.shape[0] // 2
    step = ceil_div(max(shape[1:3]), THUMBNAIL_SIDE)
    subsampled = slice(None, None, step)
    image = kept.pick([middle, subsampled, subsampled, *([slice(None)] if is_color else [])])
    first = [entry if isinstance(entry, int) else entry[0] for entry in image.selection]
    last = [entry if isinstance(entry, int) else entry[-1] for entry in image.selection]
    if [at // c for at, c in zip(first, spec.chunks, strict=True)] != [
        at // c for at, c in zip(last, spec.chunks, strict=True)
    ]:
        return None
    values = read_selection(image.reader, image.selection)
    if is_color and values.dtype == np.uint8:
        return values
    return stretched(values)


def html_of(array: LazyArray, thumbnail: NDArray[np.uint8] | None) -> str:
    """The notebook's view: a table of facts beside a thumbnail."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in _facts(array)
    )
    picture = ""
    if thumbnail is not None:
        encoded = base64.b64encode(png(thumbnail)).decode()
        picture = f"<td rowspan='99'><img alt='frame' src='data:image/png;base64,{encoded}'/></td>"
    title = f"LazyArray <b>{escape(array.name)}</b> {escape(_headline(array))}"
    return f"<table><tr><td colspan='2'>{title}</td>{picture}</tr>{rows}</table>"
