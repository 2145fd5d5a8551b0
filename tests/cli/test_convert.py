"""``convert-to-zarr``: naming, joining, clocks, plans, and going on after Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import lazystore as ls
from tests.cli.conftest import run


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_input_becomes_an_item(recordings: Path, store_path: Path) -> None:
    """Each is named by its stem, has the kind of its content, and is reported."""
    names = ["mouse.mp4", "drone.h5", "cells.tif", "track.csv", "fields.npy"]
    done = run("convert-to-zarr", *(recordings / name for name in names), store_path, "--json")
    assert done.status == 0, done.err
    assert done.err == ""
    found = {item["name"]: item["kind"] for item in done.document["items"]}
    assert found == {
        "mouse": "video",
        "drone": "events",
        "cells": "stack",
        "track": "tracks",
        "fields": "field",
    }
    sizes = {item["name"]: item["decoded_bytes"] for item in done.document["items"]}
    assert sizes["drone"] == 20_000 * (8 + 2 + 2 + 1)
    with ls.open(store_path) as store:
        assert sorted(store) == sorted(found)
        np.testing.assert_array_equal(store["fields"].load(), np.load(recordings / "fields.npy"))


def test_a_dry_run_writes_nothing(recordings: Path, store_path: Path) -> None:
    """The plan says shapes, sizes and memory; there is no file afterwards, as text or as JSON."""
    words = ["convert-to-zarr", recordings / "fields.npy", recordings / "drone.h5", store_path, "--dry-run"]
    table = run(*words)
    assert table.status == 0
    assert "200 x 40 x 30 float32" in table.out
    assert "free on the disk of the store" in table.out
    document = run(*words, "--json").document
    assert document["items"][0]["arrays"][0]["shape"] == [200, 40, 30]
    assert document["items"][0]["decoded_bytes"] == 200 * 40 * 30 * 4
    assert document["free_bytes"] > 0
    assert not list(store_path.parent.glob("session.zarr*"))


def test_the_same_command_twice_does_nothing_twice(recordings: Path, store_path: Path) -> None:
    """The second run finds the item there and leaves every byte as it is."""
    words = ["convert-to-zarr", recordings / "fields.npy", store_path]
    assert run(*words).status == 0
    before = files_of(store_path)
    again = run(*words)
    assert again.status == 0
    assert "fields: was there already, from the same source and settings" in again.out
    assert files_of(store_path) == before


def test_an_item_is_replaced_only_on_request(recordings: Path, store_path: Path) -> None:
    """Other settings for an existing name are refused with the way out; --overwrite replaces."""
    words = ["convert-to-zarr", recordings / "fields.npy", store_path, "--quiet"]
    assert run(*words).status == 0
    refused = run(*words, "--every", "2")
    assert refused.status == 1
    assert "overwrite" in refused.err
    assert run(*words, "--every", "2", "--overwrite").status == 0
    with ls.open(store_path) as store:
        assert len(store["fields"]) == 100
    assert run("verify", store_path).status == 0


def test_equal_stems_are_told_apart_by_their_folders(recordings: Path, tmp_path: Path) -> None:
    """day1/cam.npy and day2/cam.npy become two items."""
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        np.save(tmp_path / day / "cam.npy", np.full((3, 4, 5), int(day[-1]), np.uint8))
    store_path = tmp_path / "s.zarr"
    inputs = [tmp_path / "day1" / "cam.npy", tmp_path / "day2" / "cam.npy"]
    assert run("convert-to-zarr", *inputs, recordings / "fields.npy", store_path, "-q").status == 0
    with ls.open(store_path) as store:
        assert sorted(store) == ["day1/cam", "day2/cam", "fields"]
        assert store["day2/cam"][0].max() == 2
    twice = run("convert-to-zarr", inputs[0], inputs[0], tmp_path / "t.zarr", "-q")
    assert twice.status == 2
    assert "several inputs would be named 'day1/cam'" in twice.err


def test_parts_are_joined_in_natural_order(tmp_path: Path) -> None:
    """part2 comes before part10, however they are given."""
    for number in (1, 2, 10):
        np.save(tmp_path / f"part{number}.npy", np.full((4, 6), number, np.float32))
    parts = [tmp_path / f"part{number}.npy" for number in (10, 1, 2)]
    done = run(
        "convert-to-zarr", *parts, tmp_path / "s.zarr", "--concat", "--name", "run/all", "--rate", "10", "-q"
    )
    assert done.status == 0, done.err
    with ls.open(tmp_path / "s.zarr") as store:
        assert store["run/all"].load()[:, 0].tolist() == [1] * 4 + [2] * 4 + [10] * 4


def test_several_inputs_have_no_single_name(recordings: Path, tmp_path: Path) -> None:
    """--name with two inputs says that --concat would join them; one word is no command."""
    both = [recordings / "fields.npy", recordings / "drone.h5"]
    done = run("convert-to-zarr", *both, tmp_path / "s.zarr", "--name", "x")
    assert (done.status, "use --concat to join them" in done.err) == (2, True)
    alone = run("convert-to-zarr", both[0])
    assert (alone.status, "alone is not enough" in alone.err) == (2, True)


def test_a_forgotten_output_is_noticed(recordings: Path, tmp_path: Path) -> None:
    """The last of several recordings is not taken for a new store, nor overwritten."""
    done = run("convert-to-zarr", recordings / "fields.npy", tmp_path / "Later.MP4")
    assert done.status == 2
    assert "is named like a recording (.mp4); give the store a name such as Later.zarr" in done.err
    before = (recordings / "drone.h5").read_bytes()
    assert run("convert-to-zarr", recordings / "fields.npy", recordings / "drone.h5").status in (1, 2)
    assert (recordings / "drone.h5").read_bytes() == before
    assert not (tmp_path / "Later.MP4").exists()


@pytest.mark.parametrize(
    ("words", "start", "stop"),
    [
        (["--start", "12.5"], 12.5, 12.5 + 59 / 30),
        (["--rate", "10"], 0.0, 5.9),
        (["--start", "2", "--rate", "10"], 2.0, 7.9),
        (["--times", "times.csv"], 5.0, 5 + 59 / 29.97),
        (["--times", "times.csv:seconds"], 5.0, 5 + 59 / 29.97),
        (["--sync", "own.txt", "ref.txt"], 100.0, 100 + 2 * 59 / 30),
        (["--time", "1:1.5"], 1.0, 44 / 30),
        (["--every", "4"], 0.0, 56 / 30),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_clocks_place_a_video_in_the_session(
    words: list[str], start: float, stop: float, recordings: Path, store_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each way to say when it was recorded ends in the session seconds of every frame."""
    monkeypatch.chdir(store_path.parent)
    Path("times.csv").write_bytes((recordings / "times.csv").read_bytes())
    np.savetxt("own.txt", np.arange(5.0))
    np.savetxt("ref.txt", 100 + 2 * np.arange(5.0))
    done = run("convert-to-zarr", recordings / "mouse.mp4", store_path, *words, "-q")
    assert done.status == 0, done.err
    with ls.open(store_path) as store:
        times = np.asarray(store["mouse"].coords["time"])
    assert times[[0, -1]] == pytest.approx([start, stop], abs=1e-6)
    assert (np.diff(times) > 0).all()


def test_times_of_another_count_pair_as_told(recordings: Path, store_path: Path, tmp_path: Path) -> None:
    """--times-mismatch head keeps the first frames, as many as there are times."""
    (tmp_path / "t.csv").write_text("s\n" + "".join(f"{3 + i / 30}\n" for i in range(50)))
    words = ["convert-to-zarr", recordings / "mouse.mp4", store_path, "--times", tmp_path / "t.csv", "-q"]
    assert "50 times do not match 60 records" in run(*words).err
    assert run(*words, "--times-mismatch", "head").status == 0
    with ls.open(store_path) as store:
        assert len(store["mouse"]) == 50
        assert store["mouse"].coords["time"][0] == 3


def test_crops_and_smaller_values_are_what_was_asked_for(recordings: Path, store_path: Path) -> None:
    """Rows and columns are half-open; kept bits round, and say so."""
    words = ["--crop", "5:25,10:20", "--keep-bits", "8", "--codec", "fast", "--chunks", "5", "--shards", "50"]
    assert run("convert-to-zarr", recordings / "fields.npy", store_path, *words, "-q").status == 0
    expected = np.load(recordings / "fields.npy")[:, 5:25, 10:20]
    with ls.open(store_path) as store:
        movie = store["fields"]
        assert movie.shape == (200, 20, 10)
        assert movie.chunks[0] == 5
        np.testing.assert_allclose(movie.load(), expected, rtol=2**-8)
        assert not np.array_equal(movie.load(), expected)


SLOW_CONVERSION = """
import signal, sys, time
# A suite that was started in the background hands its children an ignored Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
import lazystore.cli as cli
from lazystore.store.location import LocalLocation

stage = LocalLocation.stage

def slow(self, key, parts):
    staged = stage(self, key, parts)
    if "/c/" in key:
        print("shard", flush=True)
        time.sleep(0.05)
    return staged

LocalLocation.stage = slow
sys.exit(cli.convert_main())
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT that a parent can send")
def test_ctrl_c_leaves_a_store_that_goes_on(tmp_path: Path) -> None:
    """Interrupted, the command says how to resume, exits with 130, and ends as if never stopped."""
    source, store = tmp_path / "movie.npy", tmp_path / "s.zarr"
    np.save(source, np.random.default_rng(0).integers(0, 99, (200, 20, 20)).astype(np.uint8))
    words = [str(source), str(store), "--chunks", "2", "--shards", "2", "--workers", "1"]
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW_CONVERSION, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert child.stdout is not None
    shards = 0
    for line in child.stdout:
        shards += line == "shard\n"
        if shards == 5:
            child.send_signal(signal.SIGINT)
            break
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "interrupted; what was finished is kept: run the same command again to resume" in err
    assert "Traceback" not in err
    assert run("verify", store).status == 4
    assert run("info", store).status == 0
    resumed = run("convert-to-zarr", *words, "--json").document["items"][0]
    assert resumed["tasks_resumed"] >= 4
    assert run("verify", store).status == 0
    undisturbed = tmp_path / "t.zarr"
    assert run("convert-to-zarr", words[0], undisturbed, *words[2:], "-q").status == 0
    assert files_of(undisturbed) == files_of(store)
    with ls.open(store) as opened:
        np.testing.assert_array_equal(opened["movie"].load(), np.load(source))


def test_progress_is_for_people_at_terminals(recordings: Path, store_path: Path) -> None:
    """A pipe gets no bar and no control characters; JSON is the whole of what is printed."""
    started = time.monotonic()
    done = run("convert", recordings / "fields.npy", store_path, "--json")
    assert json.loads(done.out)["items"][0]["seconds"] <= time.monotonic() - started
    assert "\x1b" not in done.out + done.err


def test_folders_of_images_convert_whatever_lies_beside_them(tmp_path: Path, store_path: Path) -> None:
    """Unpadded numbers, other files and a pattern: the images are read, in natural order."""
    folder = tmp_path / "plate"
    folder.mkdir()
    (folder / "notes.txt").write_text("exposure 10 ms")
    for index in range(12):
        iio.imwrite(folder / f"img{index}.png", np.full((6, 8), index, np.uint8))
    assert run("convert-to-zarr", folder, store_path, "-q").status == 0
    words = ["--name", "few", "-o", "pattern=img1?.png", "-q"]
    assert run("convert-to-zarr", folder, store_path, *words).status == 0
    with ls.open(store_path) as store:
        assert store["plate"].load()[:, 0, 0].tolist() == list(range(12))
        assert store["few"].load()[:, 0, 0].tolist() == [10, 11]


def test_each_thing_that_is_wrong_is_noted_once(tmp_path: Path, store_path: Path) -> None:
    """What the plan noted is not said again at the end; what only converting found is."""
    folder = tmp_path / "plate"
    folder.mkdir()
    for index in range(6):
        iio.imwrite(folder / f"{index}.png", np.full((6, 8), index, np.uint8))
    (folder / "2.png").write_bytes(b"no image")
    known = "note: plate: 1 of 6 images cannot be read and are marked as missing: 2.png"
    found = "note: plate: 1 of 6 records could not be read from the source"
    loud = run("convert-to-zarr", folder, store_path)
    assert (loud.status, loud.err.count(known), loud.err.count(found)) == (0, 1, 1)
    quiet = run("convert-to-zarr", folder, store_path, "--overwrite", "-q")
    assert (quiet.status, quiet.err.count(known), quiet.err.count(found)) == (0, 1, 1)
