"""Every input that cannot be converted: one line, a status, and no output that looks whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest

from tests.cli.conftest import run


def text_named_mp4(folder: Path) -> list[object]:
    (folder / "a.mp4").write_text("hello world\n" * 50)
    return [folder / "a.mp4"]


def empty_file(folder: Path) -> list[object]:
    (folder / "a.npy").touch()
    return [folder / "a.npy"]


def empty_folder(folder: Path) -> list[object]:
    (folder / "images").mkdir()
    return [folder / "images"]


def truncated_video(folder: Path) -> list[object]:
    """The index of an .mp4 lies at its end: without it no frame can be found."""
    whole = (folder.parent / "recordings_of_samples" / "mouse.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    return [folder / "cut.mp4"]


def ragged_folder(folder: Path) -> list[object]:
    images = folder / "ragged"
    images.mkdir()
    for index, height in enumerate((10, 10, 11, 10)):
        iio.imwrite(images / f"{index}.png", np.zeros((height, 10), np.uint8))
    return [images]


def wrong_bins(folder: Path) -> list[object]:
    np.save(folder / "field.npy", np.zeros((20, 9), np.float32))
    facts = {"layout_type": "RegularGrid", "grid_shape": [7, 1], "units": "cm", "n_bins": 7,
             "dimension_ranges": [[0, 7], [0, 1]]}  # fmt: skip
    (folder / "env.json").write_text(json.dumps(facts))
    np.savez(folder / "env.npz", bin_centers=np.zeros((7, 2)), active_mask=np.ones((7, 1), bool))
    return [folder / "field.npy", "--env", folder / "env"]


def events(folder: Path, times: np.ndarray, x: np.ndarray) -> list[object]:
    with h5py.File(folder / "e.h5", "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = 64, 48
        group["t"], group["x"] = times, x.astype(np.uint16)
        group["y"], group["p"] = np.zeros(len(times), np.uint16), np.ones(len(times), np.int8)
    return [folder / "e.h5"]


def negative_times(folder: Path) -> list[object]:
    return events(folder, np.arange(-5, 95), np.zeros(100))


def beyond_sensor(folder: Path) -> list[object]:
    return events(folder, np.arange(100), np.arange(100))


def other_count_of_times(folder: Path) -> list[object]:
    (folder / "times.csv").write_text("seconds\n1\n2\n3\n")
    np.save(folder / "field.npy", np.zeros((20, 9), np.float32))
    return [folder / "field.npy", "--times", folder / "times.csv"]


def objects(folder: Path) -> list[object]:
    np.save(folder / "o.npy", np.array([{}, 1], object))
    return [folder / "o.npy"]


def no_records(folder: Path) -> list[object]:
    np.save(folder / "z.npy", np.zeros((0, 9)))
    return [folder / "z.npy"]


def missing_file(folder: Path) -> list[object]:
    return [folder / "nothing.npy"]


BAD: dict[str, tuple[Callable[[Path], list[object]], str]] = {
    "missing file": (missing_file, "no such file or folder: '"),
    "empty file": (empty_file, "is empty (0 bytes); expected a recording"),
    "empty folder": (empty_folder, "a folder without files"),
    "text named .mp4": (text_named_mp4, "'a.mp4' is not a video: it is text that begins 'hello world"),
    "truncated video": (
        truncated_video,
        "'cut.mp4' cannot be opened: its index (moov) is missing or cut off",
    ),
    "ragged images": (ragged_folder, "image '2.png' of 'ragged' does not fit"),
    "wrong n_bins": (wrong_bins, "the field has 9 bins, but the environment has 7"),
    "negative times": (negative_times, "5 of 100 events have negative times"),
    "beyond the sensor": (beyond_sensor, "36 of 100 events lie outside the sensor 64x48"),
    "other count of times": (other_count_of_times, "3 times do not match 20 records"),
    "objects": (objects, "has dtype object, which holds no plain numbers"),
    "no records": (no_records, "holds no records"),
}


@pytest.fixture(autouse=True)
def _samples_beside(tmp_path: Path, recordings: Path) -> None:
    link = tmp_path / "recordings_of_samples"
    link.mkdir()
    (link / "mouse.mp4").write_bytes((recordings / "mouse.mp4").read_bytes())


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("dry", [False, True], ids=["convert", "dry-run"])
def test_bad_inputs_are_refused_in_one_line(case: str, dry: bool, tmp_path: Path) -> None:
    """What is wrong is said in one line with status 1, and there is no store, not even a begun one."""
    make, words = BAD[case]
    folder = tmp_path / "input"
    folder.mkdir()
    source, *options = make(folder)
    done = run(
        "convert-to-zarr", source, tmp_path / "s.zarr", *options, *(["--dry-run"] if dry else ["--quiet"])
    )
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert words in done.err
    assert done.err.count("\n") == 1
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("s.zarr*"))


@pytest.mark.parametrize("case", ["negative times", "empty file", "text named .mp4", "ragged images"])
def test_a_bad_input_leaves_a_good_store_alone(case: str, tmp_path: Path, session: Path) -> None:
    """A store keeps what it holds when one more conversion into it is refused."""
    folder = tmp_path / "input"
    folder.mkdir()
    before = {path: path.read_bytes() for path in session.rglob("*") if path.is_file()}
    source, *options = BAD[case][0](folder)
    assert run("convert-to-zarr", source, session, *options, "--quiet").status == 1
    assert {path: path.read_bytes() for path in session.rglob("*") if path.is_file()} == before


def test_one_bad_input_of_several_stops_before_anything_is_written(tmp_path: Path, recordings: Path) -> None:
    """All inputs are opened and planned first; a typo in the last costs no hour of the first."""
    done = run("convert-to-zarr", recordings / "fields.npy", tmp_path / "no.npy", tmp_path / "s.zarr")
    assert done.status == 1
    assert "no such file" in done.err
    assert not list(tmp_path.glob("s.zarr*"))


FIELD_WORDS: dict[str, tuple[int, str]] = {
    "--nonsense": (2, "No such option: --nonsense"),
    "-o foo=1": (2, "unknown option 'foo'"),
    "-o foo": (2, "--option 'foo' is not KEY=VALUE"),
    "--time a:b": (2, "--time 'a:b' is not A:B in seconds"),
    "--time 5": (2, "--time '5' is not A:B in seconds"),
    "--time 900:": (2, "time from 900.0 s holds no record; the recording runs from 0 s to 199 s"),
    "--time 9:4": (2, "time 9.0 to 4.0 s ends where it starts, or before; expected A:B, A < B"),
    "--time 900:901": (2, "holds no record; the recording runs from 0 s to 199 s"),
    "--crop 1,2": (2, "--crop '1,2' is not Y0:Y1,X0:X1"),
    "--crop 0:400,0:5": (2, "does not lie in frames of 40 x 30"),
    "--every 0": (2, "every=0 is not a positive whole number"),
    "--rate -3": (2, "rate -3.0 Hz is not above 0"),
    "--dtype nonsense": (2, "dtype='nonsense' is no dtype"),
    "--keep-bits 99": (2, "keep_bits=99 is not from 1 to 23"),
    "--keep-bits abc": (2, "Invalid value for '--keep-bits'"),
    "--codec gzipp": (2, "unknown codec 'gzipp'"),
    "--codec encoded": (2, "codec 'encoded' is for one video file"),
    "--kind nokind": (2, "unknown kind 'nokind'"),
    "--kind events": (1, "no format of kind 'events'"),
    "--format noformat": (2, "unknown format 'noformat'"),
    "--start yesterday": (2, "start 'yesterday' is neither seconds nor an instant"),
    "--name ../x": (2, "item name '../x' has an empty or relative part"),
    "--name CON": (2, "a name that Windows keeps for itself"),
    "--workers 0": (2, "--workers 0 is not 1 or more"),
    "--chunks 0": (2, "chunks 0 must be 1 or more"),
    "--shards 7 --chunks 4": (2, "is not a multiple of the chunk length 4"),
    "--start 1 --times x.csv": (2, "--start, --times and --sync exclude each other"),
    "--times nothing.csv": (1, "times file 'nothing.csv' does not exist"),
    "--sync nothing.csv nothing.csv": (1, "times file 'nothing.csv' does not exist"),
    "--transform nothing.json": (1, "cannot read a transform from 'nothing.json'"),
    "--env nothing": (1, "nothing"),
}


@pytest.mark.parametrize("words", FIELD_WORDS)
def test_bad_options_are_refused_in_one_line(words: str, tmp_path: Path, recordings: Path) -> None:
    """An option that means nothing is named with its value; nothing is written."""
    status, message = FIELD_WORDS[words]
    done = run("convert-to-zarr", recordings / "fields.npy", tmp_path / "s.zarr", *words.split())
    assert (done.status, done.err.count("\n")) == (status, 1), done.err
    assert done.err.startswith("error: ")
    assert message in done.err
    assert not list(tmp_path.glob("s.zarr*"))


def test_outputs_that_are_something_else_are_refused(tmp_path: Path, recordings: Path) -> None:
    """A file, a folder of other things and an address are no outputs, and stay as they are."""
    field = recordings / "fields.npy"
    for output, message in (
        (recordings / "track.csv", "is a file; the output must be a new folder or a lazystore"),
        (recordings, "is a folder with other content"),
        ("s3://bucket/x.zarr", "is remote; this version writes to folders"),
    ):
        before = sorted(recordings.iterdir())
        done = run("convert-to-zarr", field, output, "--quiet")
        assert done.status in (1, 2)
        assert message in done.err
        assert sorted(recordings.iterdir()) == before


def test_a_disk_without_space_is_noticed_before_the_first_byte(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What will not fit is refused with both sizes, and no file is made."""
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1000))
    done = run("convert-to-zarr", recordings / "fields.npy", tmp_path / "s.zarr", "--quiet")
    assert done.status == 1
    assert "free" in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("s.zarr*"))
