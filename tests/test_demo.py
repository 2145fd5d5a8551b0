"""The demo: the animal is at one place in every panel, and the command leaves what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import lazystore as ls
from lazystore.dataset import Store
from lazystore.demo.picture import field_image
from lazystore.demo.session import make_session, position_cm
from tests.cli.conftest import run

SECONDS = (8.0, 11.37, 14.0)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short demo."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = run("demo", folder, "--seconds", "20")
    assert done.status == 0, done.err
    (folder / "printed.txt").write_text(done.out)
    return folder


@pytest.fixture
def store(demo: Path) -> Iterator[Store]:
    with ls.open(demo / "session.zarr") as store:
        yield store


@pytest.mark.parametrize("second", SECONDS)
def test_the_animal_is_where_it_was(second: float, store: Store) -> None:
    """Field peak, dark blob, events and track agree with the path to the size of their pixels."""
    truth = position_cm(np.array([second]))[0]
    track = store["trajectory"].sel(time=second, method="nearest").reshape(2)
    np.testing.assert_allclose(track, truth, atol=0.5)

    image, geometry = field_image(store, second)
    assert geometry.extent is not None
    rate = np.nan_to_num(image) ** 4
    axes = [
        low + (np.arange(n) + 0.5) * (high - low) / n
        for (low, high), n in zip(geometry.extent, rate.shape, strict=True)
    ]
    peak = [np.average(axis, weights=rate.sum(axis=1 - index)) for index, axis in enumerate(axes)]
    np.testing.assert_allclose(peak, truth, atol=2.0)

    frame = store["mouse"].sel(time=second, method="nearest")[..., 0].astype(float)
    dark = np.argwhere(frame < 25)[:, ::-1] + 0.5
    matrix = np.array(store.records["mouse"].attributes["transform"]["matrix"])
    np.testing.assert_allclose(matrix @ (*dark.mean(axis=0), 1), truth, atol=1.0)

    window = store["drone"].window(second - 0.02, second + 0.02, unit="s")
    matrix = np.array(store.records["drone"].attributes["transform"]["matrix"])
    pixels = np.array([np.median(window.x), np.median(window.y), 1])
    np.testing.assert_allclose(matrix @ pixels, truth, atol=3.0)


def test_a_wrong_clock_would_show(store: Store) -> None:
    """Without its clock the event recording shows the animal elsewhere: the check above can fail."""
    second = 11.37
    stream = store["drone"]
    wrong = stream.window(int((second - 0.02) * 1e6), int((second + 0.02) * 1e6), unit="us")
    matrix = np.array(store.records["drone"].attributes["transform"]["matrix"])
    seen = matrix @ (np.median(wrong.x), np.median(wrong.y), 1)
    assert np.hypot(*(seen - position_cm(np.array([second]))[0])) > 10


def test_the_demo_says_and_leaves_what_it_made(demo: Path) -> None:
    """The commands to repeat it, a line for each item, a picture, and a sound store."""
    printed = (demo / "printed.txt").read_text()
    assert printed.count("$ convert-to-zarr ") == 4
    for word in ("place_field", "mouse", "drone", "trajectory", "first frame", "without", "demo.png"):
        assert word in printed
    assert iio.imread(demo / "demo.png").shape[:2] == (576, 990)
    assert run("verify", demo / "session.zarr").status == 0


def test_the_printed_commands_repeat_it(demo: Path) -> None:
    """What is printed after `$` does what the demo did: nothing is left to do."""
    for line in (demo / "printed.txt").read_text().splitlines():
        if line.startswith("$ "):
            done = run(*line.removeprefix("$ ").split())
            assert "was there already" in done.out, done


def test_the_recordings_are_the_same_every_time(demo: Path, tmp_path: Path) -> None:
    """Made twice, field, track and events hold the same numbers."""
    again = make_session(tmp_path / "again", duration_s=20)
    for recording in again:
        if recording.path.suffix in (".npy", ".csv"):
            assert recording.path.read_bytes() == (demo / "recordings" / recording.path.name).read_bytes()


def test_a_folder_of_something_else_is_not_cleared(tmp_path: Path) -> None:
    """The demo replaces an earlier demo and touches nothing that it did not make."""
    (tmp_path / "thesis.txt").write_text("mine")
    done = run("demo", tmp_path)
    assert (done.status, "'thesis.txt', which is no part of a demo" in done.err) == (2, True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"
    short = run("demo", tmp_path / "new", "--seconds", "5")
    assert (short.status, "too short for a session" in short.err) == (2, True)
