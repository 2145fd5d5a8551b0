"""A store in a real napari window: layers agree on the second, first frames come first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.errors import UsageError
from lazystore.viewer.layers import layers_of

# napari's own dependencies warn about each other when it is imported; that is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

needs_display = pytest.mark.skipif(
    not os.environ.get("DISPLAY"), reason="a napari window needs a display; CI gives it Xvfb"
)


@pytest.fixture(autouse=True, scope="module")
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """napari's settings in a file of the test's, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_CONFIG", str(tmp_path_factory.mktemp("napari") / "settings.yaml"))
        yield


@pytest.fixture(scope="module")
def store_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A movie at 10 Hz from second 1, one at 4 Hz from second 3, and a track; values tell the time."""
    path = tmp_path_factory.mktemp("view") / "session.zarr"
    fast = np.zeros((60, 8, 8), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None]
    slow = np.zeros((12, 6, 9), np.float32) + 3.0 + np.arange(12, dtype=np.float32)[:, None, None] / 4
    ls.convert(fast, path, name="fast", kind="stack", rate_hz=10, clock=1.0)
    ls.convert(slow, path, name="slow", kind="field", rate_hz=4, clock=3.0)
    track = path.parent / "track.csv"
    times = np.arange(0, 8, 0.05)
    np.savetxt(
        track, np.column_stack([times, times * 2, times * 3]), delimiter=",", header="time,x,y", comments=""
    )
    ls.convert(track, path, name="track")
    return path


def test_layers_are_described_without_napari(store_path: Path) -> None:
    """Kind, limits and times come from the store; unknown items are refused."""
    with ls.open(store_path) as store:
        specs, notes = layers_of(store)
        assert [spec.name for spec in specs] == ["fast", "slow", "track"]
        assert notes == []
        by_name = {spec.name: spec for spec in specs}
        assert by_name["fast"].contrast_limits == (0.0, 59.0)
        assert by_name["slow"].samples.nearest(3.3) == 1
        with pytest.raises(UsageError, match="'nobody' is not in .*; its items are: fast, slow, track"):
            layers_of(store, ["nobody"])


@needs_display
def test_every_layer_shows_its_own_nearest_sample(store_path: Path) -> None:
    """At each second of the slider the values on the screen are those of that second, and it says which."""
    from qtpy.QtWidgets import QLabel

    from lazystore.viewer.window import LABEL_NAME

    with ls.open(store_path) as store:
        viewer = ls.view(store, show=False)
        try:
            layers: Any = viewer.layers
            label: Any = viewer.window._qt_window.findChild(QLabel, LABEL_NAME)
            text = viewer.canvas.overlays.text
            for second in (1.0, 3.5, 5.0, 6.9):
                viewer.dims.set_point(0, second)
                shown = float(viewer.dims.point[0])
                assert label.text() == f"{shown:.3f} s"
                # For pictures of the canvas, where somebody wants it.
                text.visible = second > 5
                assert text.text == (label.text() if text.visible else "")
                fast = np.asarray(layers["fast"]._slice.image.view)
                assert np.all(np.abs(1 + fast / 10 - shown) <= 0.051)
                slow = np.asarray(layers["slow"]._slice.image.view)
                if 3 <= second <= 5.75:
                    assert np.all(np.abs(slow - shown) <= 0.126)
                elif second < 2.8:
                    assert np.isnan(slow).all()
                y, x = layers["track"].data[0]
                assert x == pytest.approx(2 * shown, abs=0.06)
                assert y == pytest.approx(3 * shown, abs=0.09)
        finally:
            viewer.close()
        # A closed window hears of no slider.
        viewer.dims.set_current_step(0, 3)


@needs_display
def test_opening_reads_little_of_the_movies(store_path: Path) -> None:
    """A window opens on the first frames, not on the movie."""
    with ls.open(store_path) as store:
        viewer = ls.view(store, ["fast"], show=False)
        try:
            info = store["fast"].cache_info()
            assert info.misses <= 2
        finally:
            viewer.close()
