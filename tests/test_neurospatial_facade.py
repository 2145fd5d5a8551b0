"""animate_fields: neurospatial's front door, reading only what is shown."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore.neurospatial as facade
from lazystore.errors import MemoryBudgetError, MissingExtraError, UsageError
from lazystore.geometry import Geometry
from lazystore.render import ChunkedLazyFieldRenderer, LazyFieldRenderer

SCRIPT = Path(__file__).with_name("viewer_of_fields.py")
N_FRAMES, SHAPE = 8, (4, 3)
MASK = np.ones(SHAPE, bool)
MASK[0, 0] = False
VALUES = np.random.default_rng(0).random((N_FRAMES, 11))
TIMES = np.arange(N_FRAMES) / 30.0


class CountingFields:
    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> NDArray[Any]:
        self.reads.append(index)
        return self.values[index]


@pytest.fixture(scope="module")
def env() -> Any:
    from neurospatial import Environment

    return Environment.from_grid_mask(MASK, grid_edges=(np.arange(5.0), np.arange(4.0)))


@pytest.fixture
def handed_over(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What neurospatial's animate_fields is given; it shows nothing."""
    from neurospatial.animation import core

    seen: dict[str, Any] = {}

    def animate_fields(env: Any, fields: Any, **options: Any) -> str:
        seen.update(env=env, fields=fields, **options)
        return "shown"

    monkeypatch.setattr(core, "animate_fields", animate_fields)
    return seen


# --- in a real viewer -------------------------------------------------------------------------------


@functools.cache
def seen_in_a_viewer() -> dict[str, Any]:
    """What a viewer in a process of its own showed and read."""
    command = [sys.executable, str(SCRIPT)]
    # A screen of its own: windows of other tests on a shared one change what has the focus.
    if shutil.which("xvfb-run") is not None:
        command = ["xvfb-run", "-a", *command]
    elif sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        pytest.skip("no screen and no xvfb-run to stand in for one")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SCRIPT.parents[1]), os.environ.get("PYTHONPATH", "")]),
    }
    # napari keeps window sizes between runs, in a file of the user's; these windows begin without.
    settings = tempfile.mkdtemp()
    environment["NAPARI_CONFIG"] = os.path.join(settings, "settings.yaml")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_only_the_frames_shown_are_read() -> None:
    """Of 200 frames: the first and the middle one, which napari looks at, and those that are shown, once."""
    seen = seen_in_a_viewer()
    assert seen["renderer"] == "lazystore.render.renderer"
    assert seen["distinct_reads"] == [0, 77, 78, 99]
    assert seen["reads_to_open"] <= 4
    assert seen["reads_of_shown"] == [1, 1]
    assert seen["slider"] == [200, 200]


def test_the_viewer_shows_what_neurospatial_shows() -> None:
    """The same picture to the pixel, overlays and scale bar included; and it changes with the frame."""
    seen = seen_in_a_viewer()
    assert seen["same_picture"]
    assert seen["same_picture_from_geometry"]
    assert seen["pictures_differ"]
    assert seen["colours"] > 50
    assert seen["layers"] == ["Head Direction", "Position", "Spatial Fields"]


def test_several_movies_stand_side_by_side() -> None:
    """Each lazily, in one range of colours."""
    seen = seen_in_a_viewer()
    assert seen["several"] == dict.fromkeys("ab", "lazystore.render.renderer")
    (vmin, vmax), other = seen["several_limits"]
    assert other == [vmin, vmax]
    assert vmax > 1.5
    assert all(set(reads) <= {0, 50, 99} and 50 in reads for reads in seen["several_reads"])


# --- what neurospatial is given ---------------------------------------------------------------------


def test_neurospatial_gets_an_array_that_reads_when_indexed(env: Any, handed_over: dict[str, Any]) -> None:
    """It keeps only numpy arrays lazy, so that is what it gets: of the right shape, without memory."""
    fields = CountingFields(VALUES)
    assert (
        facade.animate_fields(env, fields, frame_times=TIMES, backend="napari", vmin=0.0, vmax=1.0) == "shown"
    )
    given = handed_over["fields"]
    assert isinstance(given, np.ndarray)
    assert (given.shape, len(given), given.ndim) == ((N_FRAMES, 11), N_FRAMES, 2)
    assert fields.reads == []
    np.testing.assert_array_equal(given[-1], VALUES[-1])
    np.testing.assert_array_equal(given[2, 3:5], VALUES[2, 3:5])
    assert fields.reads == [7, 2]
    np.testing.assert_array_equal(given[1:3], VALUES[1:3])
    np.testing.assert_array_equal(given[[0, 5], 1:], VALUES[[0, 5], 1:])
    np.testing.assert_array_equal(np.stack(list(given)), VALUES)
    with pytest.raises(IndexError, match="out of bounds"):
        given[N_FRAMES]


def test_looking_past_indexing_shows_nan(env: Any, handed_over: dict[str, Any]) -> None:
    """Never zeros, which could be taken for data."""
    facade.animate_fields(
        env, CountingFields(VALUES), frame_times=TIMES, backend="napari", vmin=0.0, vmax=1.0
    )
    assert np.isnan(np.asarray(handed_over["fields"].view(np.ndarray))).all()


def test_several_movies_are_handed_over_as_lists(env: Any, handed_over: dict[str, Any]) -> None:
    """The form that neurospatial knows several movies by; a list of frames stays one movie."""
    first, second = CountingFields(VALUES), list(VALUES)
    facade.animate_fields(env, [first, second], frame_times=TIMES, backend="napari", vmin=0.0, vmax=1.0)
    given = handed_over["fields"]
    assert [isinstance(one, list) for one in given] == [True, True]
    assert [len(one) for one in given] == [N_FRAMES, N_FRAMES]
    assert first.reads == []
    np.testing.assert_array_equal(given[0][3], VALUES[3])
    np.testing.assert_array_equal(np.stack(list(given[1])), VALUES)
    assert first.reads == [3]
    facade.animate_fields(env, second, frame_times=TIMES, backend="napari", vmin=0.0, vmax=1.0)
    assert isinstance(handed_over["fields"], np.ndarray)


def test_everything_else_is_handed_on(env: Any, handed_over: dict[str, Any]) -> None:
    """Options as they are; times as float64; limits that are missing from the fields' range."""
    overlays = (object(),)
    facade.animate_fields(
        env, VALUES, frame_times=list(TIMES), backend="napari", overlays=overlays, vmax=np.float32(2),
        speed=0.5, cmap="hot", cache_size=9,
    )  # fmt: skip
    assert handed_over["env"] is env
    assert handed_over["overlays"] == list(overlays)
    assert handed_over["frame_times"].dtype == np.float64
    assert handed_over["vmin"] == VALUES.min()
    assert handed_over["vmax"] == 2.0
    assert (handed_over["speed"], handed_over["cmap"], handed_over["cache_size"]) == (0.5, "hot", 9)
    assert handed_over["save_path"] is None


@pytest.mark.parametrize(("n_frames", "cls"), [(8, LazyFieldRenderer), (10_001, ChunkedLazyFieldRenderer)])
def test_the_viewers_renderers_are_replaced_by_ours(
    env: Any, monkeypatch: pytest.MonkeyPatch, n_frames: int, cls: Any
) -> None:
    """With the colours, the limits and the sizes that neurospatial chose; other layers stay."""
    from neurospatial.animation import core

    other = SimpleNamespace(data=np.zeros((2, 2)))
    lookup = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)

    def animate_fields(env: Any, fields: Any, **options: Any) -> Any:
        theirs = SimpleNamespace(
            fields=fields, cmap_lookup=lookup, vmin=options["vmin"], vmax=options["vmax"]
        )
        return SimpleNamespace(layers=[other, SimpleNamespace(data=theirs)])

    monkeypatch.setattr(core, "animate_fields", animate_fields)
    fields = CountingFields(np.broadcast_to(VALUES[0], (n_frames, 11)))
    viewer = facade.animate_fields(
        env, fields, frame_times=np.arange(n_frames), backend="napari", vmin=0.25, vmax=0.75, cache_size=5,
        chunk_size=7, max_chunks=3,
    )  # fmt: skip
    ours = viewer.layers[1].data
    assert type(ours) is cls
    assert ours.fields is fields
    assert ours.cmap_lookup is lookup
    assert (ours.vmin, ours.vmax) == (0.25, 0.75)
    assert ours._arguments[:-1] == ((5,) if cls is LazyFieldRenderer else (7, 3))
    assert fields.reads == []
    assert isinstance(viewer.layers[0].data, np.ndarray)


def test_a_stored_geometry_speaks_neurospatials_words(env: Any, handed_over: dict[str, Any]) -> None:
    """Extent and units as stored; without an extent that of the bin centres."""
    geometry = Geometry("grid", 11, 2, env.bin_centers, SHAPE, MASK, "cm", ((0.0, 4.0), (0.0, 3.0)))
    facade.animate_fields(geometry, VALUES, frame_times=TIMES, backend="napari")
    view = handed_over["env"]
    assert (view.n_bins, view.n_dims, view.units, view.regions) == (11, 2, "cm", {})
    assert (view.layout.grid_shape, view.layout.is_grid_compatible) == (SHAPE, True)
    assert view.dimension_ranges == ((0.0, 4.0), (0.0, 3.0))
    points = Geometry("points", 11, 2, env.bin_centers)
    facade.animate_fields(points, VALUES, frame_times=TIMES, backend="napari")
    assert handed_over["env"].dimension_ranges == ((0.5, 3.5), (0.5, 2.5))
    assert not handed_over["env"].layout.is_grid_compatible
    assert handed_over["env"].units is None


# --- other backends -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::UserWarning")
def test_a_file_is_the_one_that_neurospatial_writes(env: Any, tmp_path: Path) -> None:
    """Backends that show every frame read every frame, once."""
    from neurospatial.animation import core

    fields = CountingFields(VALUES[:3])
    options = {"frame_times": TIMES[:3], "backend": "auto", "dpi": 40}
    ours = facade.animate_fields(env, fields, save_path=str(tmp_path / "ours.html"), **options)
    theirs = core.animate_fields(env, VALUES[:3], save_path=str(tmp_path / "theirs.html"), **options)
    assert Path(ours).read_text() == Path(theirs).read_text()
    range_pass, shown = fields.reads[:-3], fields.reads[-3:]
    assert shown == [0, 1, 2]
    assert len(range_pass) <= 4


@pytest.mark.parametrize("backend", ["video", "html", "widget"])
def test_backends_that_need_every_frame_have_a_limit(
    env: Any, handed_over: dict[str, Any], monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """They would load the whole recording; napari does not."""
    monkeypatch.setattr("lazystore.cache.guard.ALWAYS_FITS_BYTES", 0)
    monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", str(VALUES.nbytes - 1))
    fields = CountingFields(VALUES)
    with pytest.raises(
        MemoryBudgetError, match=rf"backend '{backend}' holds all frames at once, here 704 bytes"
    ):
        facade.animate_fields(env, fields, frame_times=TIMES, backend=backend, vmin=0, vmax=1)
    with pytest.raises(MemoryBudgetError, match="backend 'auto' holds all frames"):
        facade.animate_fields(env, fields, frame_times=TIMES, save_path="movie.mp4", vmin=0, vmax=1)
    assert handed_over == {}
    facade.animate_fields(env, fields, frame_times=TIMES, backend="napari", vmin=0, vmax=1)
    assert handed_over["backend"] == "napari"


def test_a_stored_geometry_is_no_environment_for_other_backends(
    env: Any, handed_over: dict[str, Any]
) -> None:
    """They draw with the environment's own methods."""
    geometry = Geometry("grid", 11, 2, env.bin_centers, SHAPE, MASK)
    with pytest.raises(UsageError, match="backend 'html' draws with neurospatial's Environment"):
        facade.animate_fields(geometry, VALUES, frame_times=TIMES, backend="html", save_path="a.html")
    assert handed_over == {}


def test_auto_without_a_file_is_what_neurospatial_would_choose(
    env: Any, handed_over: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook the widget, which needs every frame."""
    from neurospatial.animation import core

    monkeypatch.setattr("lazystore.cache.guard.ALWAYS_FITS_BYTES", 0)
    monkeypatch.setenv("LAZYSTORE_MEMORY_BYTES", "1")
    monkeypatch.setattr(core, "_select_backend", lambda n_frames, save_path: "widget")
    with pytest.raises(MemoryBudgetError, match="holds all frames"):
        facade.animate_fields(env, VALUES, frame_times=TIMES)
    monkeypatch.setattr(core, "_select_backend", lambda n_frames, save_path: "napari")
    assert facade.animate_fields(env, VALUES, frame_times=TIMES) == "shown"


# --- refusals ----------------------------------------------------------------------------------------


def test_fields_that_do_not_fit_are_refused_before_anything_opens(
    env: Any, handed_over: dict[str, Any]
) -> None:
    """Wrong number of bins, no frames, no fields at all."""
    with pytest.raises(UsageError, match="Field has 5 values but environment has 11 bins"):
        facade.animate_fields(env, np.zeros((3, 5)), frame_times=TIMES[:3])
    with pytest.raises(UsageError, match=r"frames of shape \(3, 4\): expected one value for each of 11 bins"):
        facade.animate_fields(env, np.zeros((2, 3, 4)), frame_times=TIMES[:2])
    with pytest.raises(UsageError, match="fields hold no frames: expected shape"):
        facade.animate_fields(env, np.zeros((0, 11)), frame_times=[])
    with pytest.raises(UsageError, match="fields hold no frames: expected shape"):
        facade.animate_fields(env, [], frame_times=[])
    with pytest.raises(UsageError, match="fields is 'int': expected a list"):
        facade.animate_fields(env, 3, frame_times=TIMES)
    assert handed_over == {}


def test_without_neurospatial_the_error_says_how_to_get_it(env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "neurospatial.animation", None)
    with pytest.raises(MissingExtraError, match="pip install neurospatial"):
        facade.animate_fields(env, VALUES, frame_times=TIMES)
