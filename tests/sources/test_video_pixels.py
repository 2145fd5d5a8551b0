"""What frames become: the Y plane as it is, expanded or weighted gray, RGB, turned for display."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("av", reason="the extra lazystore[video] is not installed")

import av

from lazystore.errors import SourceError
from lazystore.sources.video.recording import VIDEO
from lazystore.video.pixels import Orientation, Pixels, orientation_of, plane_view
from tests.sources.video_files import decode_in_order, luma_plane, picture, write_video


def frame_of(pixel_format: str, height: int = 48, width: int = 64) -> Any:
    rgb = np.ascontiguousarray(picture(3, height, width))
    return av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)


def written(frame: Any, **fields: Any) -> np.ndarray[Any, Any]:
    bits = max(8, *(component.bits for component in frame.format.components))
    known = {"color": "gray", "gray": "y", "bits": bits, "full_range": False}
    pixels = Pixels(width=frame.width, height=frame.height, **{**known, **fields})
    out = np.zeros(pixels.shape, pixels.dtype)
    pixels.write(frame, out)
    return out


@pytest.mark.parametrize(
    "pixel_format",
    ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuva420p", "nv12", "gray", "yuv420p10le", "gray16le"],
)
@pytest.mark.parametrize("size", [(48, 64), (46, 62), (48, 100)])
def test_y_plane_is_copied_as_it_is(pixel_format: str, size: tuple[int, int]) -> None:
    """Every format with a Y plane of its own gives exactly that plane, whatever its line size."""
    frame = frame_of(pixel_format, *size)
    np.testing.assert_array_equal(written(frame), luma_plane(frame))


@pytest.mark.parametrize(
    ("pixel_format", "same_samples_in"),
    [("yuyv422", "yuv422p"), ("uyvy422", "yuv422p"), ("p010le", "yuv420p10le"), ("gray16be", "gray16le")],
)
def test_packed_luma_is_unpacked_without_loss(pixel_format: str, same_samples_in: str) -> None:
    """Interleaved, shifted and big-endian luma comes out as the samples that were put in."""
    planar = frame_of(same_samples_in)
    np.testing.assert_array_equal(written(planar.reformat(format=pixel_format)), luma_plane(planar))


def test_bottom_up_pictures_are_turned() -> None:
    """A plane stored from its last row up (negative line size) is read the right way round."""

    class Upside:
        line_size, height, width = -4, 3, 2

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(bytes([5, 6, 0, 0, 3, 4, 0, 0, 1, 2, 0, 0]))

    class Frame:
        planes = (Upside(),)

    view = plane_view(Frame(), 0, np.dtype("u1"))  # type: ignore[arg-type]  # only `planes` is used
    assert view.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize("bits", [8, 10])
def test_limited_range_is_expanded_to_the_full_one(bits: int) -> None:
    """Expanded gray equals (Y - 16) * 255 / 219 rounded and clipped, in the samples' own depth."""
    frame = frame_of("yuv420p" if bits == 8 else "yuv420p10le")
    y = luma_plane(frame).astype(np.float64)
    scale, top = 1 << (bits - 8), (1 << bits) - 1
    expected = np.clip(np.floor((y - 16 * scale) * top / (219 * scale) + 0.5), 0, top)
    np.testing.assert_array_equal(written(frame, gray="expanded"), expected)


def test_full_range_is_not_expanded() -> None:
    """Full-range Y stays as it is when expanding is asked for."""
    frame = frame_of("yuvj420p")
    np.testing.assert_array_equal(written(frame, gray="expanded", full_range=True), luma_plane(frame))


# Made with OpenCV 5.0's cvtColor(..., COLOR_RGB2GRAY), 8 and 16 bits.
COLOURS = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30], [200, 100, 50], [1, 2, 3],
           [254, 255, 253], [128, 127, 129], [77, 11, 190], [33, 66, 99]]  # fmt: skip
OPENCV_8 = [76, 150, 29, 18, 124, 2, 254, 128, 51, 60]
OPENCV_16 = [19596, 38469, 7470, 4664, 31920, 466, 65400, 32774, 13142, 15393]


@pytest.mark.parametrize(
    ("pixel_format", "scale", "expected"), [("rgb24", 1, OPENCV_8), ("rgb48le", 257, OPENCV_16)]
)
def test_luma_equals_opencv(pixel_format: str, scale: int, expected: list[int]) -> None:
    """Weighted gray is OpenCV's conversion of the same RGB, to the bit."""
    values = np.array(COLOURS, np.uint8 if scale == 1 else np.uint16) * scale
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values[None].repeat(2, 0)), pixel_format)
    assert written(frame, gray="luma").tolist() == [expected, expected]


@given(st.lists(st.integers(0, 255), min_size=3, max_size=3))
def test_luma_is_within_its_colours(rgb: list[int]) -> None:
    """A weighted mean lies between the smallest and the largest channel."""
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), rgb, np.uint8), "rgb24")
    gray = written(frame, gray="luma")
    assert min(rgb) <= gray[0, 0] <= max(rgb)


@pytest.mark.parametrize(("pixel_format", "rgb_format"), [("yuv420p", "rgb24"), ("yuv420p10le", "rgb48le")])
def test_rgb_equals_pyav(pixel_format: str, rgb_format: str) -> None:
    """Colour is what FFmpeg's converter makes of the frame, 16 bits a channel above 8."""
    frame = frame_of(pixel_format, 46, 62)
    expected = frame.to_ndarray(format=rgb_format)
    got = written(frame, color="rgb", gray="")
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_rotation_is_applied_and_recorded(degrees: int, tmp_path: Path) -> None:
    """A rotated recording comes out as it is meant to be seen, gray and RGB."""
    path = write_video(tmp_path / "a.mp4", rotation=float(degrees), count=3)
    _, planes = decode_in_order(path)
    source = VIDEO.open(path, {"color": "gray"})[0]
    turned = np.rot90(planes, degrees // 90, axes=(1, 2))
    np.testing.assert_array_equal(source.read(0, 3).columns["data"], turned)
    assert abs(int(source.info.attributes["rotation"])) == abs(degrees)  # type: ignore[call-overload]  # JSON
    source.close()
    _, colours = decode_in_order(path, pix_fmt="rgb24")
    source = VIDEO.open(path, {})[0]
    np.testing.assert_array_equal(
        source.read(0, 3).columns["data"], np.rot90(colours, degrees // 90, axes=(1, 2))
    )
    source.close()


@pytest.mark.parametrize("flip_x", [False, True])
@pytest.mark.parametrize("flip_y", [False, True])
@pytest.mark.parametrize("transpose", [False, True])
def test_display_matrix_gives_its_orientation(transpose: bool, flip_y: bool, flip_x: bool) -> None:
    """Each of the eight right-angled matrices is recognised, and moves a marked pixel as it says."""
    a, b, c, d = (-1 if flip_x else 1, 0, 0, -1 if flip_y else 1)
    if transpose:
        a, b, c, d = (0, -1 if flip_y else 1, -1 if flip_x else 1, 0)
    matrix = np.array([a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30], "i4")
    orientation = orientation_of(matrix.tobytes())
    assert orientation == Orientation(transpose, flip_y, flip_x)
    image = np.zeros((3, 5), int)
    image[1, 4] = 1
    y, x = np.argwhere(orientation.apply(image))[0]
    height, width = orientation.apply(image).shape
    shown_x, shown_y = a * 4 + c * 1, b * 4 + d * 1
    assert (y, x) == (shown_y % height if shown_y >= 0 else height - 1 + shown_y,
                      shown_x if shown_x >= 0 else width - 1 + shown_x)  # fmt: skip


def test_odd_display_matrices_are_left_alone() -> None:
    """A matrix that is no right angle, or no matrix, turns nothing."""
    assert (
        orientation_of(np.array([46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30], "i4").tobytes()) is None
    )
    assert orientation_of(b"short") is None


def test_slanted_recording_is_reported(tmp_path: Path) -> None:
    """A rotation by 30 degrees is not applied, and said."""
    source = VIDEO.open(write_video(tmp_path / "a.mp4", rotation=30.0, count=2), {})[0]
    assert any("it is left unturned" in line for line in source.info.problems)
    assert source.info.columns[0].shape == (2, 48, 64, 3)


@pytest.mark.parametrize(
    ("pixel_format", "options", "shape", "gray"),
    [
        ("yuv420p", {}, (2, 48, 64, 3), None),
        ("yuv420p", {"gray": "expanded"}, (2, 48, 64), "expanded"),
        ("yuv420p", {"color": "gray"}, (2, 48, 64), "y"),
        ("gray", {}, (2, 48, 64), "y"),
        ("gray", {"color": "rgb"}, (2, 48, 64, 3), None),
        ("bgr24", {"color": "gray"}, (2, 48, 64), "luma"),
    ],
)
def test_choice_of_colour(
    pixel_format: str, options: dict[str, str], shape: tuple[int, ...], gray: str | None, tmp_path: Path
) -> None:
    """Colour recordings become RGB unless gray is asked for; what was done is recorded."""
    path = write_video(tmp_path / "a.avi", "rawvideo", pix_fmt=pixel_format, options={}, count=2)
    source = VIDEO.open(path, options)[0]
    assert source.info.columns[0].shape == shape
    assert source.info.attributes["gray"] == gray
    assert any("has no Y plane" in line for line in source.info.problems) == (gray == "luma")


def test_neutral_colour_is_told(tmp_path: Path) -> None:
    """A mono camera's file says that its colour planes hold nothing."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        out = file.add_stream("ffv1", rate=25)
        out.width, out.height, out.pix_fmt = 64, 48, "yuv420p"
        gray = av.VideoFrame.from_ndarray(picture(0, 48, 64)[..., 0].copy(), "gray")
        file.mux(out.encode(gray.reformat(format="yuv420p")))
        file.mux(out.encode(None))
    assert VIDEO.open(path, {})[0].info.attributes["is_neutral"] is True


def test_pixels_survive_json() -> None:
    """A store repeats the conversion from the record it kept."""
    pixels = Pixels("gray", "expanded", 64, 48, 10, False, Orientation(True, False, True))
    assert Pixels.from_json(json.loads(json.dumps(pixels.to_json()))) == pixels
    assert pixels.shape == (64, 48)
    assert pixels.dtype == np.uint16


def test_changed_depth_is_refused() -> None:
    """A frame of another depth than the first cannot be put beside it."""
    with pytest.raises(SourceError, match="the pixel format changes to 'yuv420p10le'"):
        written(frame_of("yuv420p10le"), bits=8)
