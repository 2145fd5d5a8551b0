"""`convert`: what is asked for is done and recorded; what cannot be is refused in one line."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.convert import api
from lazystore.convert.correct import correct
from lazystore.errors import (
    ClockError,
    LazystoreError,
    NoSpaceError,
    SourceChangedError,
    SourceError,
    StoreError,
    UsageError,
)
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify
from tests.samples import make_events, make_field, make_times, make_track, make_video

FIELD = np.random.default_rng(1).random((20, 6, 8)).astype(np.float32)


@pytest.fixture
def field(tmp_path: Path) -> Path:
    np.save(tmp_path / "field.npy", FIELD)
    return tmp_path / "field.npy"


def converted(source: Any, store: Path, **options: Any) -> tuple[np.ndarray[Any, Any], Any, dict[str, Any]]:
    """Values, session seconds and attributes of the one item of a new store."""
    ls.convert(source, store, **options)
    with ls.open(store) as opened:
        (name,) = opened
        record = dict(opened.records[name].attributes)
        times = opened.array_values(name, "time") if "time" in opened.specs(name) else None
        return opened[name].load(), times, record


# --- what is asked for ------------------------------------------------------------------------------


def test_time_crop_and_every(field: Path, store_path: Path) -> None:
    """Half-open in session seconds and pixels; recorded."""
    values, times, record = converted(
        field, store_path, rate_hz=10, clock=100.0, time=(100.3, 101.5), crop=(1, 5, 2, 8), every=2
    )
    np.testing.assert_array_equal(values, FIELD[3:15:2, 1:5, 2:8])
    np.testing.assert_allclose(times, 100 + np.arange(3, 15, 2) / 10, rtol=0, atol=1e-9)
    assert record["source"]["selection"]["every"] == 2
    assert record["clock"]["known"] == "given"
    assert record["clock"]["offset_s"] == 100.0


def test_dtype_and_keep_bits(field: Path, tmp_path: Path) -> None:
    """Smaller values on request only, within the bits that were asked for."""
    values, _, record = converted(field, tmp_path / "a.zarr", dtype="f2")
    np.testing.assert_array_equal(values, FIELD.astype(np.float16))
    assert "float32" in str(record["source"]) or "f4" in str(record)
    values, _, record = converted(field, tmp_path / "b.zarr", keep_bits=7)
    assert values.dtype == np.float32
    assert 0 < np.abs(values / FIELD - 1).max() <= 2.0**-8
    assert "7" in str(record)


def test_a_given_time_for_each_record(field: Path, store_path: Path, tmp_path: Path) -> None:
    """From an array or a file; `time` then selects in those."""
    given = np.cumsum(np.random.default_rng(2).random(20))
    values, times, record = converted(field, store_path, times=given, time=(given[4], given[9]))
    np.testing.assert_array_equal(values, FIELD[4:9])
    np.testing.assert_array_equal(times, given[4:9])
    assert record["times"] == "given"
    (tmp_path / "t.csv").write_text("n,cam\n" + "".join(f"{i},{t!r}\n" for i, t in enumerate(given.tolist())))
    _, times, _ = converted(field, tmp_path / "b.zarr", times=f"{tmp_path / 't.csv'}:cam")
    np.testing.assert_array_equal(times, given)


@pytest.mark.parametrize(("side", "kept"), [("head", slice(0, 20)), ("tail", slice(3, 23))])
def test_times_of_another_count(field: Path, store_path: Path, side: str, kept: slice) -> None:
    """Both counts are named, unless one says which end to trust."""
    given = np.arange(23.0)
    with pytest.raises(ClockError, match=r"23.*20|20.*23"):
        ls.convert(field, store_path, times=given)
    assert not store_path.exists()
    _, times, _ = converted(field, store_path, times=given, times_mismatch=side)
    np.testing.assert_array_equal(times, given[kept])


def test_a_clock_by_matched_pulses(field: Path, store_path: Path) -> None:
    """Piecewise linear between pulses that both clocks saw."""
    clock = ls.Clock.synchronise(np.array([0.0, 10.0, 20.0]), np.array([5.0, 15.5, 25.0]))
    _, times, record = converted(field, store_path, clock=clock)
    np.testing.assert_allclose(times, np.interp(np.arange(20), [0, 10, 20], [5, 15.5, 25]), atol=1e-9)
    assert record["clock"]["known"] == "synchronised"


def test_a_transform_and_an_instant(field: Path, store_path: Path) -> None:
    """The affine and the session's epoch are kept as they were given."""
    _, _, record = converted(
        field, store_path, transform=[[0.5, 0, 0], [0, -0.5, 240]], clock="2026-03-01T12:00:00Z"
    )
    assert record["transform"]["matrix"] == [[0.5, 0.0, 0.0], [0.0, -0.5, 240.0]]
    assert record["clock"]["epoch_utc"].startswith("2026-03-01T12:00:00")


@pytest.mark.parametrize("codec", ["none", "fast", "balanced", "small"])
def test_every_codec_gives_the_values_back(field: Path, store_path: Path, codec: str) -> None:
    """Bit for bit, and the choice is recorded."""
    values, _, record = converted(field, store_path, codec=codec, chunks=3, shards=6, workers=3)
    np.testing.assert_array_equal(values, FIELD)
    assert record["codec"] == codec


def test_a_conversion_names_its_source_without_its_folder(field: Path, store_path: Path) -> None:
    """No path of a machine lands in a store."""
    _, _, record = converted(field, store_path)
    (file,) = record["source"]["files"]
    assert file["name"] == "field.npy"
    assert file["size_bytes"] == field.stat().st_size
    assert all(str(field.parent).encode() not in p.read_bytes() for p in store_path.rglob("*.json"))


def test_a_source_that_changes_on_the_way_is_not_committed(field: Path, store_path: Path) -> None:
    """The item does not appear; the changed file makes another item, which is begun anew."""

    def change(_: Any) -> None:
        other = FIELD + 1
        np.save(field, other)
        os.utime(field, ns=(1, 1))

    with pytest.raises(SourceChangedError, match=r"field\.npy"):
        ls.convert(field, store_path, chunks=2, shards=4, progress=change)
    with pytest.raises(StoreError):
        ls.open(store_path)
    with pytest.raises(StoreError, match="had another source or other settings"):
        ls.convert(field, store_path, chunks=2, shards=4)


def test_corrections(field: Path, store_path: Path) -> None:
    """`set` moves the clock and adds attributes by a commit; what was measured cannot be set."""
    ls.convert(field, store_path, name="a", rate_hz=10)
    location = LocalLocation(store_path)
    correct(location, "a", {"clock.start": "50", "subject": "m7", "units": "cm"})
    correct(location, "a", {"clock.rate": "2"})
    with ls.open(store_path) as store:
        np.testing.assert_allclose(store.array_values("a", "time"), 50 + 2 * np.arange(20) / 10, atol=1e-9)
        assert store.records["a"].user_attributes["subject"] == "m7"
        np.testing.assert_array_equal(store["a"].load(), FIELD)
    assert verify(location).ok
    for changes, message in [
        ({"kind": "video"}, "says how the bytes were made and cannot be set"),
        ({"clock.tempo": "1"}, "unknown key 'clock.tempo'"),
        ({"clock.rate": "fast"}, "is no number"),
    ]:
        with pytest.raises(UsageError, match=message):
            correct(location, "a", changes)
    with pytest.raises(StoreError, match="there is no item 'b'"):
        correct(location, "b", {"subject": "x"})


# --- what cannot be done ----------------------------------------------------------------------------


def text_as_video(folder: Path) -> tuple[Any, dict[str, Any]]:
    (folder / "movie.mp4").write_text("this is no movie\n" * 50)
    return folder / "movie.mp4", {}


def empty_file(folder: Path) -> tuple[Any, dict[str, Any]]:
    (folder / "empty.npy").touch()
    return folder / "empty.npy", {}


def ragged_folder(folder: Path) -> tuple[Any, dict[str, Any]]:
    (folder / "images").mkdir()
    return folder / "images", {}


def no_records(folder: Path) -> tuple[Any, dict[str, Any]]:
    np.save(folder / "none.npy", np.zeros((0, 4), np.float32))
    return folder / "none.npy", {}


def truncated(folder: Path) -> tuple[Any, dict[str, Any]]:
    make_field(folder / "f.npy")
    content = (folder / "f.npy").read_bytes()
    (folder / "f.npy").write_bytes(content[: len(content) // 2])
    return folder / "f.npy", {}


def wrong_bins(folder: Path) -> tuple[Any, dict[str, Any]]:
    np.save(folder / "f.npy", np.zeros((5, 7), np.float32))
    np.savez(folder / "env.npz", bin_centers=np.zeros((9, 2)))
    return folder / "f.npy", {"env": folder / "env.npz"}


def option(**options: Any) -> Callable[[Path], tuple[Any, dict[str, Any]]]:
    def make(folder: Path) -> tuple[Any, dict[str, Any]]:
        make_field(folder / "f.npy")
        return folder / "f.npy", options

    return make


BAD: dict[str, tuple[Callable[[Path], tuple[Any, dict[str, Any]]], type[LazystoreError]]] = {
    "missing": (lambda folder: (folder / "nowhere.npy", {}), SourceError),
    "empty": (empty_file, SourceError),
    "no records": (no_records, SourceError),
    "text named mp4": (text_as_video, SourceError),
    "empty folder": (ragged_folder, SourceError),
    "truncated": (truncated, SourceError),
    "wrong bins": (wrong_bins, LazystoreError),
    "missing env": (option(env="nowhere.npz"), LazystoreError),
    "unknown option": (option(quality=3), UsageError),
    "unknown source option": (option(source_options={"nonsense": 1}), UsageError),
    "unknown codec": (option(codec="zip"), UsageError),
    "unknown kind": (option(kind="movie"), UsageError),
    "workers": (option(workers=0), UsageError),
    "client": (option(client=object()), UsageError),
    "chunks": (option(chunks=0), UsageError),
    "shards": (option(chunks=4, shards=6), UsageError),
    "every": (option(every=0), UsageError),
    "crop": (option(crop=(0, 99, 0, 5)), UsageError),
    "time": (option(time=(500, 600)), UsageError),
    "rate": (option(rate_hz=-1), UsageError),
    "times": (option(times=[1.0, 2.0]), ClockError),
    "times that step back": (option(times=np.arange(200.0)[::-1]), ClockError),
    "missing times": (option(times="nowhere.csv"), SourceError),
    "clock": (option(clock="yesterday"), LazystoreError),
    "dtype": (option(dtype="complex128"), UsageError),
    "keep_bits": (option(keep_bits=99), UsageError),
    "transform": (option(transform=[[0, 0, 0], [0, 0, 0]]), UsageError),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, store_path: Path, case: str) -> None:
    """The right type of error, one line, and neither a store nor a progress area."""
    make, kind = BAD[case]
    source, options = make(tmp_path)
    with pytest.raises(kind) as caught:
        ls.convert(source, store_path, **options)
    text = str(caught.value)
    assert text
    assert "\n" not in text
    assert not store_path.exists()
    assert not Path(f"{store_path}.progress").exists()


def test_what_will_not_fit_is_refused_first(
    field: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first byte, with both sizes."""
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NoSpaceError, match=r"'field' needs about .* MB and 0 MB are free"):
        ls.convert(field, store_path)
    assert not store_path.exists()


def test_a_remote_output_is_refused(field: Path) -> None:
    """This version reads buckets and writes to folders."""
    with pytest.raises(LazystoreError, match="remote|this version writes to folders|https"):
        ls.convert(field, "https://example.org/s.zarr")


# --- sources of every kind --------------------------------------------------------------------------


def test_one_store_of_several_kinds(tmp_path: Path, store_path: Path) -> None:
    """Each input is an item named by its stem; reports add up."""
    makers: dict[str, Callable[[Path], None]] = {
        "field.npy": make_field, "mouse.mp4": make_video, "drone.h5": make_events, "track.csv": make_track,
    }  # fmt: skip
    kinds = {}
    for name, make in makers.items():
        make(tmp_path / name)
        report = ls.convert(tmp_path / name, store_path, **({"codec": "balanced"} if "mp4" in name else {}))
        kinds |= {item.name: item.kind for item in report.items}
    assert kinds == {"field": "field", "mouse": "video", "drone": "events", "track": "tracks"}
    make_times(tmp_path / "times.csv")
    ls.convert(
        tmp_path / "mouse.mp4", store_path, name="timed", times=tmp_path / "times.csv", codec="balanced"
    )
    with ls.open(store_path) as store:
        assert sorted(store) == ["drone", "field", "mouse", "timed", "track"]
        assert store.array_values("timed", "time")[0] == 5.0
    assert verify(LocalLocation(store_path)).ok


def test_a_stream_that_is_not_the_main_one_is_an_item_of_its_own(
    field: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of several streams gives several items, the suffix in their names."""
    real = api.open_sources

    class Second:
        def __init__(self, source: Any) -> None:
            self._source = source
            self.read, self.close = source.read, source.close

        @property
        def info(self) -> Any:
            return replace(self._source.info, suffix="imu")

    def two(*arguments: Any, **options: Any) -> Any:
        return [*real(*arguments, **options), *map(Second, real(*arguments, **options))]

    monkeypatch.setattr(api, "open_sources", two)
    report = ls.convert(field, store_path)
    assert [item.name for item in report.items] == ["field", "field_imu"]


def test_a_column_without_a_name_for_every_dimension_is_refused(
    field: Path, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a faulty source would make is a store that no reader opens."""
    real = api.open_sources

    class Nameless:
        def __init__(self, source: Any) -> None:
            info = source.info
            self.info = replace(info, columns=(replace(info.columns[0], dims=("time", "y")),))
            self.read, self.close = source.read, source.close

    monkeypatch.setattr(api, "open_sources", lambda *asked, **options: [Nameless(real(*asked, **options)[0])])
    with pytest.raises(
        SourceError, match=r"column 'data' has shape \(20, 6, 8\), but dimensions \('time', 'y'\)"
    ):
        ls.convert(field, store_path)
    assert not store_path.exists()


def test_a_value_that_no_sample_met_is_an_error_and_never_wraps(tmp_path: Path, store_path: Path) -> None:
    """One value of a million does not fit: the shard that holds it stops the conversion, nothing is there."""
    frames = np.zeros((1000, 10, 10), np.int32)
    frames[517, 3, 4] = 256
    np.save(tmp_path / "a.npy", frames)
    with pytest.raises(SourceError, match=r"records \d+ to \d+: value 256 does not fit in uint8"):
        ls.convert(tmp_path / "a.npy", store_path, kind="stack", dtype="uint8", chunks=10, shards=50)
    with pytest.raises(StoreError):
        ls.open(store_path)
