"""Decoded frames to arrays: the Y plane as it is, an expanded or weighted gray, or RGB.

A Y plane goes from the decoder's buffer into the result in one copy; conversions that would lose
it on the way (``to_ndarray``) cost more than the decoding of an easy frame.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.schema import JSON

if TYPE_CHECKING:
    from av import VideoFrame

COLORS = ("gray", "rgb")
GRAYS = ("y", "expanded", "luma")

# Formats whose first plane is Y (or gray) alone, one sample a pixel, native little-endian.
_PLAIN_Y8 = re.compile(r"(yuva?j?4\d\dp|gray|nv(12|16|21|24|42))")
_PLAIN_Y16 = re.compile(r"(yuva?4\d\dp|gray)(9|10|12|14|16)le")
# The same samples in another arrangement: repacking them first loses nothing.
_REPACKED = {
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "p410le": "yuv444p10le",
    "y210le": "yuv422p10le",
    "ya8": "gray",
    "ya16le": "gray16le",
    "monow": "gray",
    "monob": "gray",
}

# OpenCV's weights of R, G and B (ITU-R BT.601: 0.299, 0.587, 0.114) in units of 2^-15.
_LUMA_WEIGHTS = (9798, 19235, 3735)
_LUMA_SHIFT = 15


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a decoded frame is turned for display: first transposed, then flipped."""

    transpose: bool = False
    flip_y: bool = False
    flip_x: bool = False

    def apply(self, image: NDArray[Any]) -> NDArray[Any]:
        """A view of shape (y, x[, channel]) the right way up."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def orientation_of(matrix: bytes) -> Orientation | None:
    """What a display matrix (nine int32, row by row) asks for; None if not a right angle.

    >>> quarter = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], "i4").tobytes()
    >>> orientation_of(quarter)
    Orientation(transpose=True, flip_y=False, flip_x=True)
    """
    if len(matrix) != 36:
        return None
    # A pixel (x, y) is shown at (a x + c y, b x + d y), up to a shift.
    a, b, _, c, d = np.frombuffer(matrix, "=i4")[:5].tolist()
    if a and d and not b and not c:
        return Orientation(False, d < 0, a < 0)
    if b and c and not a and not d:
        return Orientation(True, b < 0, c < 0)
    return None


@dataclass(frozen=True, slots=True)
class Pixels:
    """What a frame becomes, and how; JSON-able, so that a store can repeat it.

    Attributes
    ----------
    color
        ``"gray"`` or ``"rgb"``.
    gray
        ``"y"``: the Y plane as it is; ``"expanded"``: limited range stretched to the full one;
        ``"luma"``: OpenCV's weights on RGB. ``""`` for ``"rgb"``.
    width, height
        Of the decoded frame, before it is turned.
    bits
        Bits of a sample as it was coded, 8 to 16.
    full_range
        Whether Y spans 0 to 2^bits - 1 rather than 16 to 235 (in 8 bits).
    orientation
        Applied to every frame.
    crop
        (y0, y1, x0, x1), half-open: what is kept of the frame once it is turned; None keeps all.
    """

    color: str
    gray: str
    width: int
    height: int
    bits: int
    full_range: bool
    orientation: Orientation = Orientation()
    crop: tuple[int, int, int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x) or (y, x, channel) of a finished frame."""
        size = (self.height, self.width)
        size = size[::-1] if self.orientation.transpose else size
        if self.crop is not None:
            y0, y1, x0, x1 = self.crop
            size = (y1 - y0, x1 - x0)
        return (*size, 3) if self.color == "rgb" else size

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or uint16 for more than 8 bits.

        Gray keeps the coded scale (10 bits: 0 to 1023); RGB and luma fill 16 bits.
        """
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16)

    def to_json(self) -> dict[str, JSON]:
        """The record as plain JSON; `from_json` turns it back."""
        turned = self.orientation
        record: dict[str, JSON] = {
            "color": self.color,
            "gray": self.gray,
            "width": self.width,
            "height": self.height,
            "bits": self.bits,
            "full_range": self.full_range,
            "orientation": {
                "transpose": turned.transpose,
                "flip_y": turned.flip_y,
                "flip_x": turned.flip_x,
            },
        }
        return record if self.crop is None else {**record, "crop": list(self.crop)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Pixels:
        """The record of `to_json`."""
        fields = dict(record)
        fields["orientation"] = Orientation(**fields["orientation"])
        if "crop" in fields:
            y0, y1, x0, x1 = map(int, fields["crop"])
            fields["crop"] = (y0, y1, x0, x1)
        return cls(**fields)

    def fits(self, frame: VideoFrame) -> bool:
        """Whether a frame has the size of the first one; a damaged packet may claim any."""
        return (frame.width, frame.height) == (self.width, self.height)

    def write(self, frame: VideoFrame, out: NDArray[Any]) -> None:
        """Put one decoded frame that `fits` into `out`, of `shape` and `dtype`.

        Raises
        ------
        SourceError
            If the frame has another depth than the first one.
        """
        out[...] = self.image(frame)

    def image(self, frame: VideoFrame) -> NDArray[Any]:
        """One decoded frame that `fits`, of `shape` and `dtype`; mostly a view of FFmpeg's memory.

        Raises
        ------
        SourceError
            If the frame has another depth than the first one.
        """
        if self.color == "rgb":
            return self._shown(_rgb(frame, self.bits))
        if self.gray == "luma":
            return _luma(self._shown(_rgb(frame, self.bits)))
        plane = self._shown(_y_plane(frame, self.bits))
        is_stretched = self.gray == "expanded" and not self.full_range
        return _expanded(plane, self.bits) if is_stretched else plane

    def _shown(self, image: NDArray[Any]) -> NDArray[Any]:
        """The image the right way up, and what is kept of it; a view."""
        image = self.orientation.apply(image)
        if self.crop is None:
            return image
        y0, y1, x0, x1 = self.crop
        return image[y0:y1, x0:x1]


def has_y_plane(pixel_format: str) -> bool:
    """Whether a pixel format holds luma or gray apart from colour.

    >>> [has_y_plane(name) for name in ("yuv420p", "p010le", "gray16be", "bgr24")]
    [True, True, True, False]
    """
    return _plain_y_format(pixel_format) is not None


@functools.cache
def _plain_y_format(name: str) -> str | None:
    """The format with a plane of its own for Y that holds the same samples."""
    if _PLAIN_Y8.fullmatch(name) or _PLAIN_Y16.fullmatch(name):
        return name
    if name.endswith("be") and _PLAIN_Y16.fullmatch(name[:-2] + "le"):
        return name[:-2] + "le"
    return _REPACKED.get(name)


def plane_view(frame: VideoFrame, index: int, dtype: np.dtype[Any], channels: int = 1) -> NDArray[Any]:
    """A view of a plane, shape (y, x * channels); valid while the frame lives."""
    plane = frame.planes[index]
    stride = abs(plane.line_size) // dtype.itemsize
    rows = np.frombuffer(plane, dtype)[: stride * plane.height].reshape(plane.height, stride)
    # Bottom-up pictures have a negative line size; the buffer then begins at the last row.
    return rows[:: -1 if plane.line_size < 0 else 1, : plane.width * channels]


def _y_plane(frame: VideoFrame, bits: int) -> NDArray[Any]:
    name = _plain_y_format(frame.format.name)
    is_wide = name is not None and name.endswith("le")
    if name is None or is_wide != (bits > 8):
        raise SourceError(
            f"the pixel format changes to {frame.format.name!r} on the way, but the first frame had "
            f"a Y plane of {bits} bits; convert each part on its own with time="
        )
    if name != frame.format.name:
        frame = frame.reformat(format=name, threads=1)
    return plane_view(frame, 0, np.dtype("<u2" if is_wide else "u1"))


def _rgb(frame: VideoFrame, bits: int) -> NDArray[Any]:
    """Shape (y, x, 3): a view into a converted frame's own memory."""
    wide = bits > 8
    dtype = np.dtype("<u2" if wide else "u1")
    # Slices on many threads would compete with the decoder's and the compressors'.
    converted = frame.reformat(format="rgb48le" if wide else "rgb24", threads=1)
    return plane_view(converted, 0, dtype, channels=3).reshape(frame.height, frame.width, 3)


def _luma(rgb: NDArray[Any]) -> NDArray[Any]:
    """OpenCV's gray of an RGB picture, to the bit.

    >>> _luma(np.array([[[255, 0, 0], [10, 20, 30]]], np.uint8)).tolist()
    [[76, 18]]
    """
    weighted = np.full(rgb.shape[:2], 1 << (_LUMA_SHIFT - 1), np.uint32)
    for channel, weight in enumerate(_LUMA_WEIGHTS):
        weighted += rgb[..., channel] * np.uint32(weight)
    return (weighted >> _LUMA_SHIFT).astype(rgb.dtype)


def _expanded(plane: NDArray[Any], bits: int) -> NDArray[Any]:
    """Limited range stretched to the full one, rounded to nearest and clipped.

    >>> _expanded(np.array([0, 16, 126, 235, 255], np.uint8), 8).tolist()
    [0, 0, 128, 255, 255]
    """
    return np.take(_expansion_table(bits), plane)


@functools.cache
def _expansion_table(bits: int) -> NDArray[Any]:
    top = (1 << bits) - 1
    scale = 1 << (bits - 8)
    values = np.arange(1 << (8 if bits <= 8 else 16), dtype=np.int64)
    stretched = ((values - 16 * scale) * top * 2 + 219 * scale) // (2 * 219 * scale)
    return np.clip(stretched, 0, top).astype(np.uint8 if bits <= 8 else np.uint16)
