"""Colours are neurospatial's, bit for bit."""

from __future__ import annotations

import warnings
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.geometry import Geometry
from lazystore.render import LazyFieldRenderer, colormap_lookup
from lazystore.render.colors import FieldPainter, color_indices
from lazystore.render.layout import frame_layout

from .conftest import LOOKUP, grid_environment

FLOATS = ("f2", "f4", "f8")
INTEGERS = ("bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8")
SWAPPED = (">f2", ">f4", ">f8", ">u2", ">i4")
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 1e300)


def oracle(env: Any, field: NDArray[Any], vmin: Any, vmax: Any) -> NDArray[np.uint8]:
    from neurospatial.animation.rendering import field_to_rgb_for_napari

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its overflows and invalid values
        return field_to_rgb_for_napari(env, field, LOOKUP, vmin, vmax)


@st.composite
def grids(draw: st.DrawFn) -> Any:
    """Grids of one to three dimensions, with and without inactive bins; rows of bins."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)))
    mask = draw(st.one_of(st.none(), hnp.arrays(bool, shape)))
    if mask is not None and not mask.any():
        mask = np.ones(shape, bool)
    env = grid_environment(shape, mask)
    env.layout.is_grid_compatible = draw(st.booleans())
    return env


@st.composite
def fields(draw: st.DrawFn, n_bins: int) -> NDArray[Any]:
    dtype = np.dtype(draw(st.sampled_from(FLOATS + INTEGERS + SWAPPED)))
    if dtype.kind != "f":
        return draw(hnp.arrays(dtype, n_bins))
    around = st.floats(-0.5, 1.5, width=16) | st.sampled_from(SPECIAL)
    with np.errstate(over="ignore"):
        return np.array(draw(st.lists(around, min_size=n_bins, max_size=n_bins))).astype(dtype)


LIMITS = st.one_of(
    st.tuples(st.floats(-1, 1), st.floats(-1, 2)),
    st.tuples(st.sampled_from([0.0, np.inf, np.nan, -np.inf]), st.floats(0, 1)),
    st.tuples(st.just(0), st.integers(1, 100)),
    st.tuples(st.floats(0, 0.4).map(np.float64), st.floats(0.5, 1).map(np.float64)),
    st.tuples(st.floats(0, 0.25, width=32).map(np.float32), st.floats(0.5, 1, width=32).map(np.float32)),
    st.tuples(st.floats(0, 0.25, width=32).map(np.float32), st.floats(0.5, 1)),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_colours_of_random_fields_are_neurospatials(data: st.DataObject, painting: str) -> None:
    """Any dtype, any values, any grid and any limits give the same pixels."""
    env = data.draw(grids())
    field = data.draw(fields(env.n_bins))
    vmin, vmax = data.draw(LIMITS)
    try:
        expected = oracle(env, field, vmin, vmax)
    except OverflowError:  # it multiplies int8 by 255 where the range is empty
        assert field.dtype == np.int8
        return
    painted = LazyFieldRenderer(env, field[np.newaxis], LOOKUP, vmin, vmax)[0]
    np.testing.assert_array_equal(painted, expected)
    assert painted.shape == expected.shape
    assert painted.dtype == expected.dtype


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("name", ["masked", "walked", "hexagons", "three-d", "polygon", "track"])
def test_colours_on_every_layout_are_neurospatials(
    environments: dict[str, Any], name: str, dtype: str, painting: str
) -> None:
    """Real environments: masked and full grids, hexagons, 3-D, polygons, tracks."""
    env = environments[name]
    rng = np.random.default_rng(3)
    values = (
        rng.normal(0.5, 0.5, env.n_bins) if np.dtype(dtype).kind == "f" else rng.integers(0, 120, env.n_bins)
    )
    field = values.astype(dtype)
    if field.dtype.kind == "f":
        field[:5] = np.nan, np.inf, -np.inf, 0.0, 1.0
    limits = (0.0, 1.0) if field.dtype.kind == "f" else (3.0, 90.0)
    painted = LazyFieldRenderer(env, [field], LOOKUP, *limits)[0]
    np.testing.assert_array_equal(painted, oracle(env, field, *limits))


def test_every_float32_near_a_step_gets_neurospatials_colour(painting: str) -> None:
    """Arithmetic in another precision would move values that lie next to a step between two colours."""
    steps = (np.arange(256) / 255).astype("f4")
    near = np.concatenate([np.nextafter(steps, -1), steps, np.nextafter(steps, 2)]).astype("f4") * np.float32(
        0.7
    )
    field = near + np.float32(0.1)
    env = grid_environment((field.size,), None)
    painted = LazyFieldRenderer(env, field[np.newaxis], LOOKUP, 0.1, 0.8)[0]
    np.testing.assert_array_equal(painted, oracle(env, field, 0.1, 0.8))
    in_double = color_indices(field.astype("f8"), 0.1, 0.8)
    assert (color_indices(field, 0.1, 0.8) != in_double).any(), "the values do not tell the precisions apart"


@pytest.mark.parametrize(("dtype", "index"), [("f4", 127), ("u1", 0), ("i1", 0), ("i8", 0), ("bool", 255)])
def test_an_empty_range_has_one_colour(dtype: str, index: int, painting: str) -> None:
    """vmax <= vmin paints every bin alike: in the middle of the map, or where integers fall off it."""
    painter = FieldPainter(frame_layout(grid_environment((2, 3), None)), LOOKUP, 4.0, 4.0)
    painted = painter.paint(np.ones(6, dtype))
    assert (painted == LOOKUP[index]).all()


def test_an_integer_limit_that_the_dtype_cannot_hold_counts_as_a_float(painting: str) -> None:
    """uint8 minus -5 overflows in numpy; the colours are those of -5.0."""
    painter = FieldPainter(frame_layout(grid_environment((3,), None)), LOOKUP, -5, 250)
    values = np.array([0, 100, 255], "u1")
    assert (painter.paint(values) == LOOKUP[color_indices(values, -5.0, 250.0)]).all()
    values = values.astype("u4")
    assert (painter.paint(values) == LOOKUP[color_indices(values, -5.0, 250.0)]).all()


def test_the_store_geometry_paints_as_the_environment(environments: dict[str, Any], painting: str) -> None:
    """Frames can be painted without neurospatial."""
    env = environments["masked"]
    geometry = Geometry(
        "grid", env.n_bins, 2, env.bin_centers, tuple(env.layout.grid_shape), env.layout.active_mask
    )
    field = np.random.default_rng(0).random((1, env.n_bins))
    painted = LazyFieldRenderer(geometry, field, LOOKUP, 0.1, 0.9)[0]
    np.testing.assert_array_equal(painted, oracle(env, field[0], 0.1, 0.9))
    points = Geometry("points", env.n_bins, 2, env.bin_centers)
    assert LazyFieldRenderer(points, field, LOOKUP, 0.1, 0.9).shape == (1, env.n_bins, 3)


def test_images_are_painted_as_they_lie(painting: str) -> None:
    """Fields (time, y, x) need no environment; their first row stays on top."""
    images = np.random.default_rng(0).random((2, 3, 4)).astype("f4")
    expected = LOOKUP[color_indices(images, 0.0, 1.0)]
    np.testing.assert_array_equal(LazyFieldRenderer(None, images, LOOKUP, 0.0, 1.0)[:], expected)
    on_a_grid = grid_environment((4, 3), None)
    np.testing.assert_array_equal(LazyFieldRenderer(on_a_grid, images, LOOKUP, 0.0, 1.0)[:], expected)
    turned = np.asfortranarray(images[0])
    np.testing.assert_array_equal(LazyFieldRenderer(None, [turned], LOOKUP, 0.0, 1.0)[0], expected[0])


@pytest.mark.parametrize("layout", ["reversed", "strided", "unaligned", "read-only", "swapped"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "u2", "i4"])
def test_values_may_lie_in_memory_anyhow(layout: str, dtype: str, painting: str) -> None:
    """Neither strides, alignment, byte order nor a read-only flag change a colour."""
    values = np.random.default_rng(1).integers(0, 100, 40).astype(dtype)
    if layout == "reversed":
        odd = values[::-1].copy()[::-1]
    elif layout == "strided":
        odd = np.repeat(values, 2)[::2]
    elif layout == "unaligned":
        odd = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:].view(values.dtype)
        assert not odd.flags.aligned
    elif layout == "read-only":
        odd = values.copy()
        odd.setflags(write=False)
    else:
        odd = values.astype(values.dtype.newbyteorder())
    painter = FieldPainter(frame_layout(grid_environment((5, 8), None)), LOOKUP, 10.0, 80.0)
    np.testing.assert_array_equal(painter.paint(odd), painter.paint(values))


def test_a_block_is_painted_like_its_frames(painting: str) -> None:
    """Several frames at once, for any dtype, are the frames one by one."""
    mask = np.random.default_rng(0).random((6, 5)) < 0.7
    painter = FieldPainter(frame_layout(grid_environment((6, 5), mask)), LOOKUP, 0.1, 0.9)
    for dtype in ("f8", "f4", "f2", "u1", "i8"):
        block = (np.random.default_rng(1).random((4, int(mask.sum()))) * 2).astype(dtype)
        np.testing.assert_array_equal(painter.paint_block(block), [painter.paint(one) for one in block])


def test_a_field_of_the_wrong_length_is_refused() -> None:
    """The error says both numbers, as neurospatial's does."""
    painter = FieldPainter(frame_layout(grid_environment((2, 3), None)), LOOKUP, 0.0, 1.0)
    with pytest.raises(UsageError, match=r"Field has 5 values but environment has 6 bins"):
        painter.paint(np.zeros(5))
    with pytest.raises(ValueError, match=r"Field has 5 values but environment has 6 bins"):
        painter.paint_block(np.zeros((3, 5)))


@pytest.mark.parametrize("lookup", [LOOKUP[:255], LOOKUP[:, :2], LOOKUP.astype(float), LOOKUP[0]])
def test_a_lookup_that_is_no_table_of_256_colours_is_refused(lookup: NDArray[Any]) -> None:
    """Found out when the renderer is made, not at its first frame."""
    with pytest.raises(UsageError, match=r"cmap_lookup has shape .* expected \(256, 3\) uint8"):
        LazyFieldRenderer(None, np.zeros((1, 2, 2)), lookup, 0.0, 1.0)


def test_colormap_lookup_is_neurospatials() -> None:
    """256 colours of a matplotlib map, cut off to bytes."""
    import matplotlib.pyplot

    colors = matplotlib.pyplot.get_cmap("hot")(np.linspace(0, 1, 256))[:, :3]
    np.testing.assert_array_equal(colormap_lookup("hot"), (colors * 255).astype(np.uint8))
    with pytest.raises(ValueError, match="nonesuch"):
        colormap_lookup("nonesuch")
