"""Where the bins of a field lie: from neurospatial, from its files, and back from a store."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lazystore.errors import SourceError, UsageError
from lazystore.geometry import Geometry
from lazystore.sources.geometry import GeometrySource, geometry_arrays, load_geometry
from lazystore.sources.memory import ArraySource
from lazystore.sources.registry import open_sources
from tests.sources.reading import check_reads

MASK = np.array([[True, False, True], [True, True, True]])
GRID = Geometry(
    type="grid",
    n_bins=5,
    n_dims=2,
    bin_centers=np.arange(10.0).reshape(5, 2),
    grid_shape=(2, 3),
    active_mask=MASK,
    units="cm",
    extent=((0.0, 2.0), (0.0, 3.0)),
)
POINTS = Geometry(type="points", n_bins=4, n_dims=1, bin_centers=np.arange(4.0)[:, np.newaxis])


def assert_equal(ours: Geometry, other: Geometry) -> None:
    assert ours.describe() == other.describe()
    np.testing.assert_array_equal(ours.bin_centers, other.bin_centers)
    if ours.active_mask is None:
        assert other.active_mask is None
    else:
        assert other.active_mask is not None
        np.testing.assert_array_equal(ours.active_mask, other.active_mask)


@pytest.mark.parametrize("geometry", [GRID, POINTS], ids=["grid", "points"])
def test_a_store_gives_the_geometry_back(geometry: Geometry) -> None:
    """What goes into an item's attributes (as JSON) and side arrays makes the same record again."""
    side = geometry_arrays(geometry)
    attributes = json.loads(json.dumps(geometry.describe(), allow_nan=False))
    assert_equal(Geometry.from_item(attributes, {array.path: array.values for array in side}), geometry)
    assert geometry.is_image == (geometry is GRID)


def test_side_arrays_have_the_agreed_names() -> None:
    """Mask and centres lie in a child group, with dimensions that no parent uses."""
    sides = {side.path: side for side in geometry_arrays(GRID)}
    assert sides["geometry/active_mask"].dims == ("grid_0", "grid_1")
    assert sides["geometry/bin_centers"].dims == ("bin_geometry", "axis")
    assert sides["geometry/bin_centers"].attributes["units"] == "cm"
    assert [side.path for side in geometry_arrays(POINTS)] == ["geometry/bin_centers"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"type": "mesh"}, "geometry type 'mesh' is neither"),
        ({"n_bins": 6}, r"bin centres of shape \(5, 2\) do not fit 6 bins in 2 dimensions"),
        ({"grid_shape": (3, 3)}, r"active mask of shape \(2, 3\) does not fit the grid \(3, 3\)"),
        ({"active_mask": np.ones((2, 3), bool)}, "has 6 active cells, but there are 5 bins"),
        ({"active_mask": None}, "needs both grid_shape and active_mask"),
        ({"extent": ((0.0, 1.0),)}, "does not have one pair for each of 2 dimensions"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], match: str) -> None:
    """A record whose sizes disagree cannot be made."""
    with pytest.raises(UsageError, match=match):
        replace(GRID, **change)


def test_an_item_without_its_geometry_is_told() -> None:
    """Missing attributes or arrays name the way out."""
    with pytest.raises(
        UsageError, match="the item's geometry is not readable: .*; convert it again with env="
    ):
        Geometry.from_item(GRID.describe(), {})
    sides = {side.path: side.values for side in geometry_arrays(GRID)}
    with pytest.raises(UsageError, match="do not fit 4 bins in 2 dimensions"):
        Geometry.from_item({**GRID.describe(), "n_bins": 4}, sides)


class TestNeurospatial:
    """Against the package whose environments these are."""

    ns = pytest.importorskip("neurospatial")

    def environments(self) -> dict[str, Any]:
        rng = np.random.default_rng(0)
        samples = rng.uniform(0, 40, (3000, 2))
        samples = samples[(samples[:, 0] < 20) | (samples[:, 1] < 10)]
        grid = self.ns.Environment.from_samples(samples, bin_size=2.0)
        grid.units = "cm"
        return {
            "grid": grid,
            "hexagons": self.ns.Environment.from_samples(samples, bin_size=4.0, layout="Hexagonal"),
            "line": self.ns.Environment.from_samples(samples[:, :1], bin_size=2.0),
            "volume": self.ns.Environment.from_samples(rng.uniform(0, 9, (4000, 3)), bin_size=3.0),
        }

    @pytest.mark.parametrize("name", ["grid", "hexagons", "line", "volume"])
    @pytest.mark.filterwarnings("ignore::UserWarning")  # neurospatial warns about sparse samples
    def test_the_object_and_its_files_give_the_same(self, name: str, tmp_path: Path) -> None:
        """Bins, mask, centres and units are the environment's, from the object or the saved pair."""
        env = self.environments()[name]
        geometry = load_geometry(env)
        assert geometry.type == ("points" if name == "hexagons" else "grid")
        assert (geometry.n_bins, geometry.n_dims) == (env.n_bins, env.n_dims)
        assert geometry.units == ("cm" if name == "grid" else "")
        np.testing.assert_array_equal(geometry.bin_centers, env.bin_centers)
        if geometry.active_mask is not None:
            np.testing.assert_array_equal(geometry.active_mask, env.layout.active_mask)
            assert geometry.grid_shape == tuple(env.layout.grid_shape)
        env.to_file(tmp_path / "env")
        for path in (tmp_path / "env", tmp_path / "env.json", str(tmp_path / "env.npz")):
            assert_equal(load_geometry(path), geometry)


def write_pair(folder: Path, **facts: Any) -> Path:
    document = {
        "layout_type": "RegularGrid",
        "n_bins": 5,
        "n_dims": 2,
        "grid_shape": [2, 3],
        "units": "cm",
        **facts,
    }
    (folder / "env.json").write_text(json.dumps(document))
    np.savez(folder / "env.npz", bin_centers=GRID.bin_centers, active_mask=MASK)
    return folder / "env"


def test_files_are_read_without_the_package(tmp_path: Path) -> None:
    """The pair of files is enough."""
    geometry = load_geometry(write_pair(tmp_path))
    assert (geometry.type, geometry.grid_shape, geometry.extent) == ("grid", (2, 3), None)


def test_bad_files_are_one_line_errors(tmp_path: Path) -> None:
    """A missing half, damage, a pickle or two halves of different environments are told."""
    with pytest.raises(
        SourceError, match=r"'env.json' is not there; expected the two files that Environment.to_file"
    ):
        load_geometry(tmp_path / "env")
    base = write_pair(tmp_path, n_bins=7)
    with pytest.raises(SourceError, match=r"the .json says 7 bins, the .npz holds 5"):
        load_geometry(base)
    write_pair(tmp_path, grid_shape=[4, 4])
    with pytest.raises(SourceError, match=r"is not readable: active mask of shape \(2, 3\) does not fit"):
        load_geometry(base)
    (tmp_path / "env.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(SourceError, match="environment 'env' is not readable"):
        load_geometry(base)
    np.savez(tmp_path / "env.npz", bin_centers=np.array([{}], dtype=object))
    with pytest.raises(SourceError, match="is not readable: .* dtype object"):
        load_geometry(base)
    (tmp_path / "env.json").write_text("[1, 2")
    with pytest.raises(SourceError, match="environment 'env' is not readable"):
        load_geometry(base)


def test_a_huge_json_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be an environment is not loaded to find out."""
    base = write_pair(tmp_path)
    monkeypatch.setattr("lazystore.sources.geometry._MAX_JSON_BYTES", 10)
    with pytest.raises(SourceError, match="bytes of JSON are no environment"):
        load_geometry(base)


def test_objects_that_are_no_environment_are_refused() -> None:
    """Anything with bin centres and a layout will do; the rest is told."""
    with pytest.raises(
        UsageError, match="env=int is no environment; expected an object with bin_centers and layout"
    ):
        load_geometry(3)
    bad = SimpleNamespace(bin_centers=np.zeros((0, 2)), layout=SimpleNamespace())
    with pytest.raises(SourceError, match=r"bin centres have shape \(0, 2\); expected \(n_bins, n_dims\)"):
        load_geometry(bad)
    endless = SimpleNamespace(
        bin_centers=np.arange(3.0), layout=SimpleNamespace(), dimension_ranges=[(0, np.inf)], units=None
    )
    geometry = load_geometry(endless)
    assert (geometry.extent, geometry.type, geometry.n_dims) == (None, "points", 1)
    assert load_geometry(geometry) is geometry


def test_a_field_carries_its_geometry() -> None:
    """The wrapped source reads the same, and its facts hold what a renderer needs."""
    values = np.random.default_rng(1).random((7, 5))
    source = GeometrySource(ArraySource(values), GRID)
    assert source.info.item_attributes["geometry"] == GRID.describe()
    assert {side.path for side in source.info.side} == {"geometry/active_mask", "geometry/bin_centers"}
    check_reads(source, values)
    again = GeometrySource(source, GRID)
    assert len(again.info.side) == 2
    GeometrySource(ArraySource(np.zeros((7, 3, 2))), GRID)


def test_a_field_of_another_environment_is_refused() -> None:
    """Both numbers of bins are told, and what is no field is no field."""
    with pytest.raises(SourceError, match="the field has 6 bins, but the environment has 5"):
        GeometrySource(ArraySource(np.zeros((7, 6))), GRID)
    with pytest.raises(
        SourceError, match=r"frames of \(4, 4\) \(16 values\), but the environment has a grid of \(2, 3\)"
    ):
        GeometrySource(ArraySource(np.zeros((7, 4, 4))), GRID)
    with pytest.raises(SourceError, match="has no grid with 4 bins"):
        GeometrySource(ArraySource(np.zeros((7, 2, 2))), POINTS)
    with pytest.raises(
        SourceError, match="an environment belongs to a field, but 'array' is of kind 'stack'"
    ):
        GeometrySource(open_sources(np.zeros((7, 4, 4), "u1"))[0], GRID)
