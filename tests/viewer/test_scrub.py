"""A jump shows the small picture of its time at once, then the frame; nothing else ever does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore as ls
from lazystore.array.lazy_array import LazyArray
from lazystore.cache.reader import CachedReader
from lazystore.dataset import Store
from lazystore.errors import DamagedStoreError, UsageError
from lazystore.testing import FailingReader, GatedReader
from lazystore.viewer.scrub import MAX_STEP_FRAMES, ScrubbedMovie, enlarged, has_pictures

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
needs_display = pytest.mark.skipif(
    not os.environ.get("DISPLAY"), reason="a napari window needs a display; CI gives it Xvfb"
)
N_FRAMES, SHAPE = 96, (90, 130)
LONG_S = 20.0


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    """Noise: no mean of frames equals one."""
    return np.random.default_rng(1).integers(0, 256, (N_FRAMES, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def path(frames: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera with small pictures, and a field."""
    path = tmp_path_factory.mktemp("scrub") / "session.zarr"
    ls.convert(frames, path, name="cam", kind="stack", rate_hz=20, chunks=(1, *SHAPE))
    ls.convert(np.ones((50, 30), np.float32), path, name="field", kind="field", rate_hz=10)
    return path


@dataclass
class Scene:
    """A camera behind a gate, as a viewer has it."""

    store: Store
    gate: GatedReader
    array: LazyArray
    movie: ScrubbedMovie
    is_rough: bool = True


def wait_for(movie: ScrubbedMovie) -> None:
    """Until the frame that was asked for last is there."""
    give_up_at = time.monotonic() + LONG_S
    while not movie.has_arrived:
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


def gated(store: Store, wrap: Callable[[Any], Any]) -> LazyArray:
    """The store's camera, whose frames come through another reader."""
    reader = CachedReader(wrap(store.reader(store.records["cam"], "data")), prefetch=False)
    return LazyArray(reader, name="cam", overviews=store["cam"].view.overviews)


@pytest.fixture
def scene(path: Path) -> Iterator[Scene]:
    with ls.open(path) as store, ThreadPoolExecutor(2) as executor:
        assert isinstance(store, Store)
        gates: list[GatedReader] = []

        def wrap(reader: Any) -> Any:
            gates.append(GatedReader(reader))
            return gates[0]

        array = gated(store, wrap)
        movie = ScrubbedMovie(array, executor, lambda: scene.is_rough, int)
        scene = Scene(store, gates[0], array, movie)
        scene.gate.open_gate()
        movie[0]
        scene.gate.shut_gate()
        yield scene
        scene.gate.open_gate()
        executor.shutdown()
        array.close()


def picture(store: Store, index: int) -> NDArray[Any]:
    """What stands for a frame, from the stored overview."""
    preview = store["cam"].view.overviews.levels.preview
    small = np.asarray(store[f"cam/overview/{preview.n}/mean"][index // preview.n])
    return enlarged(small, preview.factor, SHAPE)


def test_a_jump_shows_the_small_picture_then_the_frame(scene: Scene, frames: NDArray[np.uint8]) -> None:
    """At the frame's shape and dtype; the frame itself once it has arrived."""
    shown = scene.movie[70]
    assert (shown.shape, shown.dtype) == (SHAPE, frames.dtype)
    np.testing.assert_array_equal(shown, picture(scene.store, 70))
    assert not scene.movie.has_arrived
    # Drawn again for another reason, it is still on its way; it is not read twice.
    np.testing.assert_array_equal(scene.movie[70], picture(scene.store, 70))
    scene.gate.open_gate()
    wait_for(scene.movie)
    np.testing.assert_array_equal(scene.movie[70], frames[70])
    assert scene.gate.arrived.count((70, 0, 0)) == 1


def test_only_the_last_jump_arrives(scene: Scene, frames: NDArray[np.uint8]) -> None:
    """Frames that nobody waits for any more are told to nobody, and mostly not read."""
    for index in (90, 10, 50, 80, 30, 60):
        np.testing.assert_array_equal(scene.movie[index], picture(scene.store, index))
    scene.gate.open_gate()
    wait_for(scene.movie)
    np.testing.assert_array_equal(scene.movie[60], frames[60])
    read = {index for index, *_ in scene.gate.arrived}
    assert 60 in read
    assert len(read) <= 4  # the first, two threads', the last


@pytest.mark.parametrize("distance", [1, -1, MAX_STEP_FRAMES])
def test_steps_wait_for_their_frame(scene: Scene, frames: NDArray[np.uint8], distance: int) -> None:
    """Playing, or stepping, never shows a small picture, however slow the reader."""
    scene.gate.open_gate()
    if not np.array_equal(scene.movie[48], frames[48]):
        wait_for(scene.movie)
    np.testing.assert_array_equal(scene.movie[48], frames[48])
    scene.gate.shut_gate()
    timer = threading.Timer(0.2, scene.gate.open_gate)
    timer.start()
    np.testing.assert_array_equal(scene.movie[48 + distance], frames[48 + distance])
    timer.join()


def test_frames_in_memory_are_shown_at_once(scene: Scene, frames: NDArray[np.uint8]) -> None:
    """Also amid a drag, with both threads busy."""
    scene.gate.open_gate()
    scene.array[77]
    scene.gate.shut_gate()
    scene.movie[30], scene.movie[60]
    np.testing.assert_array_equal(scene.movie[77], frames[77])


def test_without_an_event_loop_frames_are_exact(scene: Scene, frames: NDArray[np.uint8]) -> None:
    """A script that takes pictures waits, also for a frame that an earlier jump has asked for."""
    np.testing.assert_array_equal(scene.movie[70], picture(scene.store, 70))
    scene.is_rough = False
    timer = threading.Timer(0.2, scene.gate.open_gate)
    timer.start()
    np.testing.assert_array_equal(scene.movie[70], frames[70])
    np.testing.assert_array_equal(scene.movie[20], frames[20])
    timer.join()


def test_an_error_in_the_background_is_told_once(path: Path, frames: NDArray[np.uint8]) -> None:
    """It is raised where the frame would have been; the next time the frame is read again."""
    broken = threading.Event()
    broken.set()
    held = threading.Event()

    def choose(index: Any) -> BaseException | None:
        if index[0] != 70 or not broken.is_set():
            return None
        held.wait(LONG_S)
        return DamagedStoreError("frame 70 is damaged")

    with ls.open(path) as store, ThreadPoolExecutor(2) as executor:
        assert isinstance(store, Store)
        array = gated(store, lambda reader: FailingReader(reader, choose))
        roughs: list[bool] = []
        movie = ScrubbedMovie(array, executor, lambda: True, lambda: roughs.append(True))
        movie[0]
        np.testing.assert_array_equal(movie[70], picture(store, 70))
        assert roughs == [True]
        held.set()
        wait_for(movie)
        with pytest.raises(DamagedStoreError, match="frame 70 is damaged"):
            movie[70]
        broken.clear()
        assert movie[70].shape == SHAPE
        executor.shutdown()
        np.testing.assert_array_equal(movie[70], frames[70])
        array.close()


def test_damaged_pictures_cost_time_not_the_frame(
    scene: Scene, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then a jump waits for its frame, as without pictures."""

    def damaged(index: int) -> NDArray[Any]:
        raise DamagedStoreError("overview")

    monkeypatch.setattr(scene.movie, "_picture", damaged)
    timer = threading.Timer(0.2, scene.gate.open_gate)
    timer.start()
    np.testing.assert_array_equal(scene.movie[70], frames[70])
    timer.join()


def test_what_has_pictures(path: Path) -> None:
    """Movies of images with an overview, whole; neither fields nor parts of frames."""
    with ls.open(path) as store:
        assert has_pictures(store["cam"])
        assert not has_pictures(store["field"])
        assert not has_pictures(store["cam"][:, 3:])
        assert not has_pictures(store["cam"][5:])
        assert not has_pictures(np.zeros((3, 4, 5)))


def test_another_word_is_refused(path: Path) -> None:
    with ls.open(path) as store, pytest.raises(UsageError, match="scrub='fast'; expected 'overview'"):
        ls.view(store, scrub="fast")  # type: ignore[arg-type]  # the mistake that is tested


@needs_display
def test_a_window_refreshes_when_the_frame_is_there(
    path: Path, frames: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Small picture in the layer during the read, the frame after it, drawn on the window's thread."""
    monkeypatch.setenv("NAPARI_CONFIG", str(tmp_path / "settings.yaml"))
    from qtpy.QtCore import QEventLoop, QTimer

    with ls.open(path) as store:
        assert isinstance(store, Store)
        gates: list[GatedReader] = []

        def wrap(reader: Any) -> Any:
            gates.append(GatedReader(reader))
            return gates[0]

        array = gated(store, wrap)
        monkeypatch.setitem(store._opened, "cam", array)
        gates[0].open_gate()
        viewer = ls.view(store, ["cam"], show=False)
        shown: dict[str, NDArray[Any]] = {}
        threads = []
        layer: Any = viewer.layers["cam"]
        layer.events.set_data.connect(lambda _: threads.append(threading.current_thread()))
        loop = QEventLoop()

        def look(name: str) -> None:
            shown[name] = np.array(layer._slice.image.raw)

        def jump() -> None:
            gates[0].shut_gate()
            viewer.dims.set_current_step(0, 70)
            look("during")
            QTimer.singleShot(0, gates[0].open_gate)
            wait_for_frame()

        def wait_for_frame(left: int = 400) -> None:
            look("after")
            if np.array_equal(shown["after"], frames[70]) or not left:
                loop.quit()
            else:
                QTimer.singleShot(20, lambda: wait_for_frame(left - 1))

        try:
            QTimer.singleShot(0, jump)
            loop.exec()
            np.testing.assert_array_equal(shown["during"], picture(store, 70))
            np.testing.assert_array_equal(shown["after"], frames[70])
            assert set(threads) == {threading.main_thread()}
            # No event loop runs here: exact.
            viewer.dims.set_current_step(0, 20)
            np.testing.assert_array_equal(layer._slice.image.raw, frames[20])
        finally:
            viewer.close()
            array.close()
