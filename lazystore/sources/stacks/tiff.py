"""Multipage TIFF as a stack: page by page, axes understood, channels last, intervals kept."""

from __future__ import annotations

import json
import logging
import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import LazystoreError, MissingExtraError, SourceError
from lazystore.protocols import Block, Column, Recognition, Source, SourceInfo, Ticks
from lazystore.schema import JSON
from lazystore.sources.arrays.npy import FileBytes, bytes_of, to_native
from lazystore.sources.frames import RATE_OPTION, check_storable, even_ticks
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.stacks.decoding import FrameDecoder, reason_of

TIFF_MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_CHANNEL_AXES = "CS"
_FRAME_AXES = "YX"
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "msec": 1e-3, "µs": 1e-6, "us": 1e-6, "min": 60.0, "h": 3600.0}


class _Layout:
    """How the axes of a series become (time, others..., y, x, channel).

    Parameters
    ----------
    axes, shape
        As tifffile gives them, e.g. ``"TCYX"``.
    n_pages
        Pages of the series; each holds the last axes, in C order.
    name
        For messages.
    """

    def __init__(self, axes: str, shape: tuple[int, ...], n_pages: int, name: str) -> None:
        if "Y" not in axes or "X" not in axes:
            raise SourceError(f"{name!r} has axes {axes!r}, which are no images; expected Y and X among them")
        # Without a T the first axis that is neither channel nor image counts the records: ImageJ and
        # most cameras write a movie as Z, or as pages without a meaning (I, Q).
        outer = [axis for axis in axes if axis not in _FRAME_AXES + _CHANNEL_AXES]
        self.record_axis = "T" if "T" in axes else (outer[0] if outer else None)
        n_leading = 0
        while math.prod(shape[:n_leading]) < n_pages:
            n_leading += 1
        # Of a single image, too, the axes of length 1 are not inside its page.
        while shape[n_leading] == 1 and axes[n_leading] not in _FRAME_AXES + _CHANNEL_AXES:
            n_leading += 1
        if math.prod(shape[:n_leading]) != n_pages:
            raise SourceError(f"{name!r}: {n_pages} pages do not fill the axes {axes!r} of {shape}")
        self.page_shape = shape[n_leading:]
        leading, page_axes = axes[:n_leading], axes[n_leading:]
        self._record_in_page = self.record_axis is not None and self.record_axis in page_axes
        numbers = np.arange(n_pages).reshape(shape[:n_leading])
        if self.record_axis is not None and self.record_axis in leading:
            numbers = np.moveaxis(numbers, leading.index(self.record_axis), 0)
            leading = leading.replace(self.record_axis, "")
        else:
            numbers = numbers[np.newaxis]
        self.pages_of_record: NDArray[np.int64] = numbers.reshape(len(numbers), -1)
        if self._record_in_page:
            raise SourceError(
                f"{name!r} keeps its record axis {self.record_axis!r} inside its pages (axes {axes!r}); "
                "save it with one page a frame"
            )
        self._unmerged = (*numbers.shape[1:], *self.page_shape)
        rest = leading + page_axes
        others = [axis for axis in rest if axis not in _FRAME_AXES + _CHANNEL_AXES]
        channels = [axis for axis in rest if axis in _CHANNEL_AXES]
        self._order = [rest.index(axis) for axis in (*others, *_FRAME_AXES, *channels)]
        sizes = [self._unmerged[position] for position in self._order]
        n_kept = len(others) + 2
        merged = sizes[:n_kept] + ([math.prod(sizes[n_kept:])] if channels else [])
        names = [f"axis_{axis.lower()}" if axis not in "ZT" else axis.lower() for axis in others]
        self.dims = ("time", *names, "y", "x", *(("channel",) if channels else ()))
        self.shape = (len(numbers), *merged)

    def arrange(self, pages: NDArray[Any]) -> NDArray[Any]:
        """Pages (record, page, ...) as records (record, others..., y, x, channel)."""
        unmerged = pages.reshape(len(pages), *self._unmerged)
        moved = unmerged.transpose(0, *(position + 1 for position in self._order))
        return np.ascontiguousarray(moved.reshape(len(pages), *self.shape[1:]))


class TiffSource:
    """One series of a TIFF file.

    Parameters
    ----------
    path
        The file; OME files that name others bring those along.
    options
        ``series``, ``rate_hz``.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]) -> None:
        self._path = path
        import tifffile

        self._remarks: list[str] = []
        with _listening(self._remarks):
            self._tiff = _open(path)
        # Pages are read from several threads through one handle a file; of an OME recording spread
        # over many files, a few stay open at a time.
        self._tiff.filehandle.set_lock(True)
        self._files = tifffile.FileCache(lock=self._tiff.filehandle.lock)
        self._decoder = FrameDecoder(self._read_page, "lazystore-tiff")
        self._bytes: FileBytes | None = None
        try:
            with _listening(self._remarks):
                self._prepare(options)
        except BaseException as error:
            self.close()
            if isinstance(error, LazystoreError | MemoryError | ImportError) or not isinstance(
                error, Exception
            ):
                raise
            # tifffile raises anything on damaged tags.
            raise SourceError(
                f"{path.name!r} cannot be read: its tags are damaged ({reason_of(error)}); restore it"
            ) from error

    def _prepare(self, options: Mapping[str, Any]) -> None:
        path = self._path
        wanted = options.get("series")
        movie = _movie_of_single_images(self._tiff) if wanted is None and len(self._tiff.pages) > 1 else None
        series: Any = movie or self._choose(wanted)
        dtype = np.dtype(series.dtype)
        axes, shape = str(series.axes), tuple(int(size) for size in series.shape)
        self._pages = series.pages
        self._n_pages = len(series.pages)
        self._transform = series.transform
        # Uncompressed pages one after another, as ImageJ and most cameras write them: plain reads.
        is_run = not (series.is_multifile or movie or series.transform is not None)
        self._offset = series.dataoffset if is_run else None
        others = (
            [] if movie else [f"{s.axes} {s.shape} {s.dtype}" for s in self._tiff.series if s is not series]
        )
        if self._n_pages == 1 and self._offset is not None:
            # ImageJ and tifffile write the tags of later pages behind all frames: a file that was cut
            # has lost those tags, not the frames in front of the cut.
            promised = _promised_frames(self._tiff) if len(shape) == 2 else 1
            if promised > 1:
                axes, shape = f"T{axes}", (promised, *shape)
            self._n_pages = math.prod(shape) // math.prod(series.keyframe.shape)
        check_storable(shape, dtype, path.name)
        self._layout = _Layout(axes, shape, self._n_pages, path.name)
        self._page_bytes = math.prod(self._layout.page_shape) * dtype.itemsize
        self._file_bytes = path.stat().st_size
        self._stored_dtype = dtype.newbyteorder(self._tiff.byteorder)
        if self._offset is not None:
            self._bytes = FileBytes(path, self._offset)
            whole = max(0, self._file_bytes - self._offset) // self._page_bytes
            if whole < self._n_pages:
                self._remarks.append(
                    f"the file is cut: it holds {whole} of {self._n_pages} pages, the others are missing"
                )
        described = _described_shape(self._tiff.pages.first if movie else series.keyframe)
        promised = math.prod(described) // math.prod(self._layout.page_shape) if described else 0
        if promised > self._n_pages:
            self._remarks.append(
                f"the file is cut: it describes {promised} images, {self._n_pages} can be found"
            )
        column = Column("data", self._layout.dims, self._layout.shape, dtype.newbyteorder("="))
        attributes: dict[str, JSON] = {
            "axes": axes,
            "series": 0 if movie else self._tiff.series.index(series),
        }
        if others:
            attributes["other_series"] = others[:16]
            if wanted is None:
                self._remarks.append(
                    f"of its {1 + len(others)} series only the first is read, {axes} {shape}; the next is "
                    f"{others[0]}: choose one with the option series=1"
                )
        self._info = SourceInfo(
            kind="stack",
            format="tiff",
            columns=(column,),
            identity=tuple(identify_file(part) for part in self._paths(series)),
            ticks=self._ticks(options.get("rate_hz")),
            attributes=attributes,
            problems=tuple(self._remarks),
        )

    @property
    def info(self) -> SourceInfo:
        """What the series is."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop); pages that cannot be read are zeros and `missing`."""
        pages = self._layout.pages_of_record[start:stop]
        values = np.empty((*pages.shape, *self._layout.page_shape), self._info.columns[0].dtype)
        flat = values.reshape(-1, *self._layout.page_shape)
        if self._is_one_run(pages):
            raw = np.empty(flat.shape, self._stored_dtype)
            assert self._bytes is not None
            self._bytes.read_into(int(pages[0, 0]) * self._page_bytes, bytes_of(raw))
            return Block(start, {"data": self._layout.arrange(to_native(raw).reshape(values.shape))})
        if self._tiff.filehandle.closed:
            self._tiff.filehandle.open()
        lost = self._decoder.decode_into(flat, map(int, pages.reshape(-1)))
        reasons = {
            start + position // pages.shape[1]: f"page {int(pages.flat[position])}: {reason}"
            for position, reason in lost.items()
        }
        return Block(start, {"data": self._layout.arrange(values)}, tuple(reasons), reasons)

    def close(self) -> None:
        """End the threads and release the files; a later read opens them again."""
        self._decoder.close()
        if self._bytes is not None:
            self._bytes.close()
        self._files.clear()
        self._tiff.close()

    def _is_one_run(self, pages: NDArray[np.int64]) -> bool:
        """Whether all pages lie one after another in the file, to its last byte."""
        if self._offset is None:
            return False
        end = self._offset + (int(pages[-1, -1]) + 1) * self._page_bytes
        flat = pages.reshape(-1)
        return end <= self._file_bytes and bool((np.diff(flat) == 1).all())

    def _read_page(self, page_index: int) -> NDArray[Any]:
        if self._offset is not None:
            end = self._offset + (page_index + 1) * self._page_bytes
            if end > self._file_bytes:
                raise EOFError(f"it ends at byte {end}, the file at {self._file_bytes}")
            raw = np.empty(self._layout.page_shape, self._stored_dtype)
            assert self._bytes is not None
            self._bytes.read_into(page_index * self._page_bytes, bytes_of(raw))
            return to_native(raw)
        # Looking a page up reads its tags, through the handle that other threads read pages with.
        with self._tiff.filehandle.lock:
            page = self._pages[page_index]
        if page is None:
            raise EOFError("the file has no such page")
        handle = page.parent.filehandle
        self._files.open(handle)
        try:
            return self._decode_page(page, handle.size)
        finally:
            self._files.close(handle)

    def _decode_page(self, page: Any, file_bytes: int) -> NDArray[Any]:
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
        # Checked here, because a strip beyond the end would quietly decode to zeros.
        if ends and max(ends) > file_bytes:
            raise EOFError(f"it ends at byte {max(ends)}, the file at {file_bytes}")
        try:
            # One lock for the handles of all files: those of siblings come without one.
            values = page.asarray(maxworkers=1, lock=self._tiff.filehandle.lock)
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise MissingExtraError(
                    f"{self._path.name!r} is compressed with {page.compression!r}; pip install imagecodecs"
                ) from error
            raise
        if self._transform is not None:
            values = self._transform(values)
        return np.asarray(values).reshape(self._layout.page_shape)

    def _choose(self, wanted: int | None) -> Any:
        found = self._tiff.series
        if not found:
            raise SourceError(f"{self._path.name!r} is a TIFF file without images")
        if wanted is None:
            return found[0]
        if not 0 <= wanted < len(found):
            shown = ", ".join(f"{n}: {s.axes} {s.shape}" for n, s in enumerate(found))
            raise SourceError(f"{self._path.name!r} has no series {wanted!r}; it has: {shown}")
        return found[wanted]

    def _paths(self, series: Any) -> list[Path]:
        if not series.is_multifile:
            return [self._path]
        paths = {page.parent.filehandle.path for page in series.pages if page is not None}
        return sorted(Path(path) for path in paths)

    def _ticks(self, rate_hz: Fraction | None) -> Ticks:
        interval_s = None if rate_hz is not None else frame_interval(self._tiff)
        return even_ticks(rate_hz if interval_s is None else 1 / interval_s)


@contextmanager
def _listening(remarks: list[str]) -> Iterator[None]:
    """Collect what tifffile says of a file: a broken chain of pages is only a line in its log."""
    import tifffile

    def keep(record: logging.LogRecord) -> bool:
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING and line not in remarks:
            remarks.append(line)
        return False

    logger = tifffile.logger()
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@dataclass(frozen=True, slots=True)
class _Movie:
    """What is used of tifffile's series; its own holds every page."""

    pages: Any
    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_multifile: bool = False
    transform: None = None


def _movie_of_single_images(tiff: Any) -> _Movie | None:
    """All images of a file as one series where ``TiffWriter.write(frame)`` wrote them one by one.

    tifffile's writer marks each of these as a series of its own, and its reader takes hours to list
    a hundred thousand. None if that is not what the file holds.
    """
    first = tiff.pages.first
    for number in range(len(tiff.pages)):
        try:
            page = tiff.pages[number] if number else first
        except Exception:  # of damaged tags, anything; to read that page will say so
            continue
        is_alone = _described_shape(page) == page.shape
        if not is_alone or (page.shape, page.dtype) != (first.shape, first.dtype):
            return None
    return _Movie(tiff.pages, f"I{first.axes}", (len(tiff.pages), *first.shape), first.dtype)


def _described_shape(page: Any) -> tuple[int, ...] | None:
    """Shape of the array that begins at a page, as tifffile's writer noted it; None without a note."""
    try:
        return tuple(json.loads(page.shaped_description or "{}")["shape"])
    except (ValueError, TypeError, KeyError):
        return None


def _promised_frames(tiff: Any) -> int:
    """Images that ImageJ's description of the first page announces; 1 where there is none."""
    if not tiff.is_imagej:
        return 1
    images = (tiff.imagej_metadata or {}).get("images", 1)
    return images if isinstance(images, int) else 1


def frame_interval(tiff: Any) -> Fraction | None:
    """Seconds from frame to frame as ImageJ or OME metadata say; None if they do not."""
    imagej = tiff.imagej_metadata or {}
    interval, rate = imagej.get("finterval"), imagej.get("fps")
    if _is_positive(interval):
        return Fraction(str(interval))
    if _is_positive(rate):
        return 1 / Fraction(str(rate))
    if not tiff.is_ome or not tiff.ome_metadata:
        return None
    try:
        root = ElementTree.fromstring(tiff.ome_metadata)
    except ElementTree.ParseError:
        return None
    for element in root.iter():
        if element.tag.rpartition("}")[2] != "Pixels" or "TimeIncrement" not in element.attrib:
            continue
        seconds = _SECONDS.get(element.attrib.get("TimeIncrementUnit", "s"))
        try:
            value = float(element.attrib["TimeIncrement"])
        except ValueError:
            return None
        if seconds is None or not _is_positive(value):
            return None
        return Fraction(element.attrib["TimeIncrement"]) * Fraction(str(seconds))
    return None


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _open(path: Path) -> Any:
    import tifffile

    try:
        tiff = tifffile.TiffFile(path)
    except (OSError, ValueError, struct.error) as error:
        raise SourceError(f"{path.name!r} is no readable TIFF file: {error}") from error
    # Kept pages would add up: 20,000 of them hold a tag table each.
    tiff.pages.cache = False
    return tiff


def count_pages(path: Path) -> int:
    """Pages of a TIFF file; 1 where it cannot be read, so that reading it says why."""
    try:
        with _open(path) as tiff:
            return len(tiff.pages)
    except SourceError:
        return 1


class TiffFormat:
    """``.tif``: one page a frame, OME and ImageJ metadata understood."""

    name = "tiff"
    kinds = ("stack",)
    extensions = (".tif", ".tiff", ".btf", ".tf8")
    options = (
        Option("series", "integer", "number of the series in the file, from 0"),
        RATE_OPTION,
    )

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain by its magic bytes."""
        return Recognition(True) if head.startswith(TIFF_MAGICS) else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The chosen series, the first by default."""
        return [TiffSource(path, options)]


TIFF = TiffFormat()
