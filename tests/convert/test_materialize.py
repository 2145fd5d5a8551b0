"""Pixels out of an encoded item: the same frames, times and labels, in any store, resumed if cut short."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import lazystore as ls
from lazystore.cli import main
from lazystore.convert import run as run_module
from lazystore.convert.correct import correct
from lazystore.errors import NoSpaceError, SourceChangedError, StoreError, UsageError
from lazystore.store.location import LocalLocation
from tests.convert.test_encoded import N_FRAMES, write_video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, NDArray[np.uint8]]:
    folder = tmp_path_factory.mktemp("video")
    frames = write_video(folder / "mouse.mp4")
    ls.convert(folder / "mouse.mp4", folder / "session.zarr", clock=12.5)
    correct(LocalLocation(folder / "session.zarr"), "mouse", {"subject": "M1"})
    return folder / "mouse.mp4", folder / "session.zarr", frames


@pytest.fixture
def store(made: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "session.zarr"))


def test_all_of_it_in_the_same_store(made: Any, store: Path) -> None:
    """Frames, times, statistics and attributes are those of the encoded item; plain xarray reads them."""
    report = ls.materialize(store, "mouse")
    assert report.names == ("mouse_pixels",)
    assert report.items[0].codec == "balanced"
    with ls.open(store) as opened:
        packets, pixels = opened["mouse"], opened["mouse_pixels"]
        np.testing.assert_array_equal(pixels.load(), made[2])
        assert set(pixels.coords) == set(packets.coords) - {"packet_of_frame"}
        for name in pixels.coords:
            np.testing.assert_array_equal(pixels.coords[name], packets.coords[name])
        for name in ("min", "max", "sum", "sum_squares"):
            mine = opened.array_values("mouse_pixels", f"stats/{name}")
            np.testing.assert_array_equal(mine, opened.array_values("mouse", f"stats/{name}"))
        assert pixels.attrs["subject"] == "M1"
        assert pixels.attrs["lazystore"]["clock"] == packets.attrs["lazystore"]["clock"]
        generation = packets.attrs["lazystore"]["generation"]
        assert pixels.attrs["lazystore"]["materialized"] == {
            "item": "mouse", "generation": generation, "records": [0, N_FRAMES],
        }  # fmt: skip
        assert opened.verify().ok
    with xr.open_datatree(store, engine="zarr") as tree:
        np.testing.assert_array_equal(tree["mouse_pixels/data"].values, made[2])
    assert ls.materialize(store, "mouse").items[0].already_there


def test_a_range_in_another_store(made: Any, store: Path, tmp_path: Path) -> None:
    """`time` is in session seconds, half-open; the name stays."""
    other = tmp_path / "other.zarr"
    ls.materialize(store, "mouse", to=other, time=(13.0, 14.0), codec="fast", chunks=5)
    with ls.open(other) as opened, ls.open(store) as original:
        pixels = opened["mouse"]
        times = original["mouse"].coords["time"]
        wanted = np.flatnonzero((times >= 13.0) & (times < 14.0))
        assert len(wanted) == 25
        np.testing.assert_array_equal(pixels.load(), made[2][wanted])
        np.testing.assert_array_equal(pixels.coords["time"], times[wanted])
        assert pixels.chunks[0] == 5
    assert "mouse_pixels" not in ls.open(store)


@pytest.mark.parametrize(
    "options",
    [{"times": np.arange(N_FRAMES) * 0.5 + 3}, {"rate_hz": 50.0}, {"crop": (4, 20, 8, 40), "every": 2}],
    ids=["times", "rate", "part"],
)
def test_whatever_times_the_item_has(made: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    """Given times, a rate and a selection come along."""
    store = tmp_path / "session.zarr"
    ls.convert(made[0], store, name="packets", **options)
    ls.convert(made[0], store, name="pixels", codec="balanced", **options)
    ls.materialize(store, "packets", name="again", time=(0.5, None))
    with ls.open(store) as opened:
        again, pixels = opened["again"], opened["pixels"]
        late = pixels.coords["time"] >= 0.5
        np.testing.assert_array_equal(again.load(), pixels.load()[late])
        np.testing.assert_array_equal(again.coords["time"], pixels.coords["time"][late])


def test_cut_short_it_is_resumed(store: Path, tmp_path: Path) -> None:
    """What is durable is not decoded again, and the store ends as an undisturbed one."""
    whole = Path(shutil.copytree(store, tmp_path / "whole.zarr"))
    settings: dict[str, Any] = {"chunks": 4, "shards": 16, "workers": 1}
    ls.materialize(whole, "mouse", **settings)
    done = []

    def stop(progress: run_module.Progress) -> None:
        done.append(progress.records)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.materialize(store, "mouse", **settings, progress=stop)
    assert ls.materialize(store, "mouse", **settings).items[0].tasks_resumed >= 2
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(store) for p in store.rglob("*") if p.is_file())
    assert all((whole / name).read_bytes() == (store / name).read_bytes() for name in files)


def test_what_will_not_fit_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is written."""
    before = sorted(store.parent.rglob("*"))
    usage = shutil.disk_usage(store)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(NoSpaceError, match="'mouse_pixels' needs about"):
        ls.materialize(store, "mouse")
    assert sorted(store.parent.rglob("*")) == before


def test_bad_requests(made: Any, store: Path) -> None:
    """Each says what is wrong and what to do."""
    with pytest.raises(StoreError, match="there is no item 'rat'"):
        ls.materialize(store, "rat")
    with pytest.raises(UsageError, match="name 'mouse' is the encoded item itself"):
        ls.materialize(store, "mouse", name="mouse")
    with pytest.raises(UsageError, match="codec 'encoded' is what the item has"):
        ls.materialize(store, "mouse", codec="encoded")
    with pytest.raises(UsageError, match="workers=0 is not 1 or more"):
        ls.materialize(store, "mouse", workers=0)
    with pytest.raises(UsageError, match="holds no record"):
        ls.materialize(store, "mouse", time=(100.0, None))
    ls.materialize(store, "mouse", time=(None, 12.6))
    with pytest.raises(UsageError, match="'mouse_pixels' holds no packets but its values already"):
        ls.materialize(store, "mouse_pixels")
    assert not list(store.parent.glob("*.progress/*"))


def test_an_item_replaced_meanwhile_is_noticed(made: Any, store: Path) -> None:
    """Nothing is committed."""

    def replace_it(progress: run_module.Progress) -> None:
        ls.convert(made[0], store, name="mouse", clock=12.5, every=2, overwrite=True)

    with pytest.raises(SourceChangedError, match="item 'mouse' was replaced meanwhile"):
        ls.materialize(store, "mouse", progress=replace_it)
    with ls.open(store) as opened:
        assert list(opened) == ["mouse"]


def test_on_the_command_line(made: Any, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan first, then the item; `--dry-run` writes nothing."""
    words = ["materialize", str(store), "mouse", "--time", "13:14", "--name", "second"]
    assert main([*words, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["items"][0]
    assert plan["item"] == "second"
    assert plan["records"] == 25
    assert "second" not in ls.open(store)
    assert main(words) == 0
    assert "free on the disk" in capsys.readouterr().out
    with ls.open(store) as opened:
        assert opened["second"].shape == (25, *made[2].shape[1:])
    assert main(["materialize", str(store), "rat"]) == 1
    assert "there is no item 'rat'" in capsys.readouterr().err
    assert main(["materialize", f"{store}/mouse", "--time", "13:14", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["items"][0]["item"] == "mouse_pixels"
    assert main(["materialize", str(store), "--dry-run"]) == 2
    assert "names no item; name one behind it" in capsys.readouterr().err
