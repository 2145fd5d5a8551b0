"""The commands around a store: help, info, verify, set, bench, events, view, demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import zarr

import lazystore as ls
from lazystore.dataset import Store
from tests.cli.conftest import run

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    "convert",
    "info",
    "view",
    "verify",
    "set",
    "demo",
    "bench",
    "events",
    "events rate",
    "events frame",
]
HEAVY = ["zarr", "xarray", "dask", "numba", "napari", "av", "h5py", "matplotlib", "rich", "tifffile"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_of_every_command(command: str) -> None:
    """Help exits with 0, names every option in a line, and is not longer than wide screens."""
    done = run(*command.split(), "--help")
    assert done.status == 0
    assert done.out.startswith(f"Usage: lazystore {command}".rstrip())
    assert done.err == ""
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("words", [["convert-to-zarr"], [], ["convert", "--help"], ["events"]], ids=" ".join)
def test_help_waits_for_nothing_heavy(words: list[str]) -> None:
    """Help, asked for or not, prints before zarr, xarray, numba or any reader is imported."""
    code = (
        "import sys, lazystore.cli as cli\n"
        "words = sys.argv[1:]\n"
        "convert = words[:1] == ['convert-to-zarr']\n"
        "status = cli.convert_main(words[1:]) if convert else cli.main(words)\n"
        "sys.stderr.write('\\n' + ' '.join({name.split('.')[0] for name in sys.modules}))\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in (0, 2)
    assert "Usage: " in done.stdout + done.stderr
    assert not set(done.stderr.splitlines()[-1].split()).intersection(HEAVY)


def test_a_command_that_is_not_there() -> None:
    """A word that is no command, and an argument left out, are usage errors in one line."""
    for words, message in (
        (["nonsense"], "No such command"),
        (["verify"], "Missing argument 'STORE'; see lazystore --help"),
        (["set", "a.zarr"], "Missing argument 'ITEM'"),
        (["set", "a.zarr", "mouse"], "Missing argument 'KEY=VALUE...'"),
    ):
        done = run(*words)
        assert (done.status, done.err.count("\n")) == (2, 1), done.err
        assert message in done.err


def test_unforeseen_errors_are_one_line_too(monkeypatch: pytest.MonkeyPatch, session: Path) -> None:
    """Whatever is raised, the user sees one line; --debug shows where it came from."""

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("lazystore.dataset.open", broken)
    done = run("info", session)
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "RuntimeError: two lines; run again with --debug to see where" in done.err
    with pytest.raises(RuntimeError, match="two"):
        run("info", session, "--debug")


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("fields.npy", ["field", "npy", "float32 (time: 200, y: 40, x: 30)", "assumed: pass --rate HZ"]),
        ("mouse.mp4", ["video", "uint8 (time: 60, y: 48, x: 64", "options of format video", "gray"]),
        ("cells.tif", ["stack", "uint16 (time: 12, y: 32, x: 40)"]),
        ("drone.h5", ["events", "evio", "20,000", "64, 48", "seconds", "time_range_us"]),
        ("track.csv", ["tracks", "float64 (time: 100, individual: 1, keypoint: 1, space: 2)"]),
    ],
)
def test_info_of_a_recording(name: str, facts: list[str], recordings: Path) -> None:
    """What a file is before it is converted: kind, format, arrays, clock, options."""
    done = run("info", recordings / name)
    assert done.status == 0, done.err
    for fact in facts:
        assert fact in done.out
    document = run("info", recordings / name, "--json").document
    assert document["streams"][0]["kind"] == facts[0]
    assert document["streams"][0]["files"][0]["name"] == name


def test_info_of_a_store(session: Path) -> None:
    """Items with shape, size of their records, span in session seconds and clock."""
    run("set", session, "fields", "clock.start=12.5")
    done = run("info", session)
    assert done.status == 0
    line = next(line for line in done.out.splitlines() if "fields" in line)
    for word in ("field", "200 x 40 x 30 float32", "960.0 kB", "12.500 to 211.500 s", "given 12.5 s"):
        assert word in line
    items = run("info", session, "--json").document["items"]
    assert items["drone"]["span_s"] == pytest.approx([0, 1], abs=0.01)
    assert items["track"]["span_s"] == pytest.approx([0, 99 / 25])
    assert items["fields"]["arrays"]["data"]["shape"] == [200, 40, 30]
    # Not of the item that was set: there old times lie beside the new ones, for those who hold its metadata.
    files = [path for path in (session / "drone").rglob("*") if path.suffix != ".json" and path.is_file()]
    assert items["drone"]["stored_bytes"] == sum(path.stat().st_size for path in files)


def test_info_of_one_item(session: Path) -> None:
    """STORE/ITEM: its facts and its arrays, as text and as JSON; another name is refused."""
    done = run("info", session / "track")
    assert (done.status, done.err) == (0, "")
    for fact in ("track.csv", "tracks", "assumed 0", "position", 's["track/ARRAY"]'):
        assert fact in done.out
    assert "fields" not in done.out
    asked, describe = [], Store._item_info
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Store, "_item_info", lambda store, item: asked.append(item.name) or describe(store, item)
        )
        document = run("info", session / "track", "--json").document
    assert asked == ["track"]
    assert list(document["items"]) == ["track"]
    done = run("info", session / "cat")
    assert (done.status, "'cat' is not in" in done.err, "its items are: drone" in done.err) == (2, True, True)


def test_info_of_a_store_of_somebody_else(tmp_path: Path) -> None:
    """Its arrays, as text and as JSON, all or one."""
    group = zarr.open_group(tmp_path / "theirs.zarr", mode="w")
    group.create_array("movie", data=np.zeros((10, 4, 3), np.float32), chunks=(2, 4, 3))
    group.create_array("mask", data=np.zeros((4, 3), np.uint8))
    done = run("info", tmp_path / "theirs.zarr")
    assert (done.status, done.err) == (0, "")
    told = " ".join(done.out.split())  # a long path wraps the line
    for fact in ("not written by lazystore", "movie", "float32", "10", "2 x 4 x 3", "mask"):
        assert fact in told
    one = run("info", tmp_path / "theirs.zarr" / "mask", "--json").document
    assert list(one["items"]) == ["mask"]
    done = run("info", tmp_path / "theirs.zarr" / "cat")
    assert (done.status, "its arrays are: mask, movie" in done.err) == (2, True)


def test_spans_of_spikes_and_intervals(tmp_path: Path) -> None:
    """From the first spike to the last, from the first start to the last stop."""
    (tmp_path / "spikes.csv").write_text("time,unit\n0.25,1\n3.5,2\n")
    (tmp_path / "trials.csv").write_text("start,stop,label\n0.5,9,long\n2,4,short\n")
    store = tmp_path / "session.zarr"
    for name in ("spikes", "trials"):
        assert run("convert-to-zarr", tmp_path / f"{name}.csv", store, "--kind",
                   "intervals" if name == "trials" else name, "-q").status == 0  # fmt: skip
    items = run("info", store, "--json").document["items"]
    assert items["spikes"]["span_s"] == [0.25, 3.5]
    assert items["trials"]["span_s"] == [0.5, 9.0]


def test_a_rate_that_nobody_knows_is_told(recordings: Path, store_path: Path) -> None:
    """When converting, and ever after; not where it was given."""
    done = run("convert-to-zarr", recordings / "fields.npy", store_path)
    assert "note: fields: no time stamps; 1 Hz is assumed: pass --rate HZ" in done.err
    assert "1 Hz assumed" in run("info", store_path).out
    done = run("convert-to-zarr", recordings / "fields.npy", store_path, "--rate", "25", "--name", "known")
    assert done.err == ""
    assert "Hz assumed" not in run("info", store_path / "known").out


def test_version() -> None:
    from importlib.metadata import version

    done = run("--version")
    assert (done.status, done.out) == (0, f"{version('lazystore')}\n")


def test_info_of_nothing(tmp_path: Path) -> None:
    """A path that is not there is an error, for a store as for a file."""
    for path in (tmp_path / "no.zarr", tmp_path / "no.npy"):
        done = run("info", path)
        assert (done.status, done.err) == (1, f"error: no such file or folder: {str(path)!r}\n")


def a_shard(store: Path) -> Path:
    return next(path for path in sorted((store / "fields" / "data" / "c").rglob("*")) if path.is_file())


def test_verify_tells_sound_from_damaged(session: Path) -> None:
    """0 while all is sound; 3 when a byte changed, with the file and the records that it costs."""
    sound = run("verify", session)
    assert sound.status == 0
    assert sound.out.rstrip().endswith("all sound")
    shard = a_shard(session)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    assert run("verify", session, "--quick").status == 0
    damaged = run("verify", session)
    assert damaged.status == 3
    assert str(shard.relative_to(session)).replace("\\", "/") in damaged.out.replace("\\", "/")
    report = run("verify", session, "--json")
    assert report.status == 3
    assert report.document["ok"] is False
    shard.unlink()
    assert run("verify", session, "--quick").status == 3


def test_verify_levels_and_their_limits(session: Path) -> None:
    """A sample reads less than everything; levels exclude each other; nonsense is usage."""
    full = run("verify", session, "--json").document["bytes"]
    sample = run("verify", session, "--sample", "20%", "--json").document["bytes"]
    assert 0 < sample < full
    assert run("verify", session, "--quick", "--json").document["bytes"] == 0
    for words, message in (
        (["--quick", "--full"], "--quick, --sample and --full exclude each other"),
        (["--sample", "x"], "--sample 'x' is no percentage"),
        (["--sample", "500%"], "is not between 0 and 1"),
    ):
        done = run("verify", session, *words)
        assert (done.status, message in done.err) == (2, True), done.err


def test_verify_compares_with_the_source(session: Path, recordings: Path, tmp_path: Path) -> None:
    """The file that an item was made from is named; another one, or a changed one, is a failure."""
    same = run("verify", session, "--source", recordings / "fields.npy")
    assert same.status == 0
    assert "is what item 'fields' was made from" in same.out
    np.save(tmp_path / "fields.npy", np.load(recordings / "fields.npy") + 1)
    other = run("verify", session, "--source", tmp_path / "fields.npy")
    assert other.status == 1
    assert "is not, or no longer, what any item" in other.out


def test_verify_of_what_is_no_store(tmp_path: Path) -> None:
    """Nothing there is an error (1); a folder without a manifest has nothing to be checked (5)."""
    done = run("verify", tmp_path / "no.zarr")
    assert (done.status, "there is no store at" in done.err) == (1, True)
    assert run("verify", tmp_path).status == 5


def test_set_corrects_the_clock_and_keeps_the_data(session: Path) -> None:
    """A new start moves every time; no shard of the data changes; the store stays sound."""
    shard = a_shard(session)
    before = shard.stat().st_mtime_ns, shard.read_bytes()
    done = run("set", session, "fields", "clock.start=100", "subject=M1")
    assert (done.status, done.out) == (0, "fields: set clock.start, subject\n")
    with ls.open(session) as store:
        assert np.asarray(store["fields"].coords["time"])[0] == 100
    assert zarr.open_group(session, mode="r")["fields"].attrs["subject"] == "M1"
    assert (shard.stat().st_mtime_ns, shard.read_bytes()) == before
    assert run("verify", session).status == 0


def test_set_tells_that_a_word_of_the_clock_became_an_attribute(session: Path) -> None:
    """`start` is a good name for an attribute and a likely slip for `clock.start`: done, and said."""
    done = run("set", session, "fields", "start=12.5", "subject=M1")
    assert done.status == 0
    assert (
        done.err == "note: 'start' is now an attribute of yours and moves no time; clock.start=12.5 would\n"
    )
    assert zarr.open_group(session, mode="r")["fields"].attrs["start"] == 12.5
    assert run("set", session, "fields", "start=").err == ""


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["fields", "nonsense"], 2, "'nonsense' is not KEY=VALUE"),
        (["nothing", "a=1"], 1, "there is no item 'nothing'"),
        (["fields", "clock.start=abc"], 2, "start 'abc' is neither seconds nor an instant"),
        (["fields", "clock.epoch_utc=abc"], 2, "start 'abc' is neither seconds nor an instant"),
        (["fields", "clock.rate=-2"], 2, "clock rate -2.0 is not"),
        (["fields", "clock.bogus=1"], 2, "unknown key 'clock.bogus'"),
        (["fields", "transform=nothing.json"], 1, "cannot read a transform from 'nothing.json'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_set_refuses_nonsense(words: list[str], status: int, message: str, session: Path) -> None:
    """A correction that cannot be made changes nothing."""
    before = {path: path.read_bytes() for path in session.rglob("zarr.json")}
    done = run("set", session, *words)
    assert (done.status, message in done.err) == (status, True), done.err
    assert {path: path.read_bytes() for path in session.rglob("zarr.json")} == before


def test_bench_measures_a_movie(session: Path) -> None:
    """Opening, random frames and a sequential read, ours beside zarr-python's, as table and JSON."""
    document = run("bench", session, "--frames", "5", "--json").document
    assert (document["item"], document["shape"]) == ("fields", "200x40x30")
    assert [case["case"] for case in document["cases"]] == [
        "open", "random frame, uncached", "read 200 frames in order"
    ]  # fmt: skip
    for case in document["cases"]:
        assert case["ratio"] == pytest.approx(case["lazystore_s"] / case["zarr_s"])
    table = run("bench", session, "fields", "--frames", "5")
    assert "zarr-python" in table.out
    for words, message in (
        (["drone"], "'drone' is no movie"),
        (["--frames", "0"], "frames=0 is not 1 or more"),
    ):
        done = run("bench", session, *words)
        assert (done.status, message in done.err) == (2, True)


def test_bench_of_a_video_that_plain_zarr_cannot_decode(recordings: Path, tmp_path: Path) -> None:
    """Ours is measured, and what the other cannot do is said."""
    ls.convert(recordings / "mouse.mp4", tmp_path / "s.zarr", codec="encoded")
    done = run("bench", tmp_path / "s.zarr", "--frames", "3")
    assert (done.status, done.err) == (0, "")
    assert done.out.count("cannot") == 2
    cases = run("bench", tmp_path / "s.zarr", "--frames", "3", "--json").document["cases"]
    assert [case["ratio"] is None for case in cases] == [False, True, True]


def test_events_are_drawn(session: Path, tmp_path: Path) -> None:
    """The rate and a frame as pictures, in each mode; the frame's events are those of its window."""
    rate = run("events", "rate", session, "drone", "-o", tmp_path / "rate.png")
    assert (rate.status, rate.out.strip()) == (0, str(tmp_path / "rate.png"))
    assert iio.imread(tmp_path / "rate.png").std() > 5
    pictures = []
    for mode in ("count", "signed", "polarity"):
        path = tmp_path / f"{mode}.png"
        done = run("events", "frame", session, "drone", "--start", "0.25", "--mode", mode, "-o", path)
        assert done.status == 0, done.err
        pictures.append(iio.imread(path))
    assert not np.array_equal(pictures[0], pictures[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rate", "fields"], "'fields' is no event recording"),
        (["frame", "drone", "--mode", "x"], "mode 'x' is not one of count, signed, polarity"),
        (["frame", "drone", "--duration", "0"], "duration 0.0 s is not above 0"),
        (["rate", "drone", "-o", "no-such-folder/x.png"], "there is no folder 'no-such-folder'"),
        (["rate", "drone", "-o", "x.nonsense"], "ends in no format there is"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_events_refuse_nonsense(words: list[str], message: str, session: Path) -> None:
    """A picture that cannot be drawn is said in one line."""
    command, item, *options = words
    done = run("events", command, session, item, *options)
    assert (done.status, done.err.count("\n"), message in done.err) == (2, 1, True), done.err


def test_view_knows_what_is_there(session: Path, tmp_path: Path) -> None:
    """An item that is not in the store is named before any window opens."""
    done = run("view", session, "nothing")
    assert (done.status, "'nothing' is not in" in done.err) == (2, True), done.err
    assert run("view", tmp_path / "no.zarr").status == 1
    done = run("view", session, "--scrub", "fast")
    assert (done.status, "scrub='fast'; expected 'overview'" in done.err) == (2, True), done.err


def test_both_scripts_are_installed(session: Path) -> None:
    """`lazystore` and `convert-to-zarr` are there as commands of their own."""
    folder = Path(sys.executable).parent
    done = subprocess.run([folder / "lazystore", "verify", session, "--quick", "--json"],
                          capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True)
    done = subprocess.run([folder / "convert-to-zarr", "x.npy", "y.zarr"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: no such file or folder: 'x.npy'\n")
