"""``lazystore info --preview``: a picture of a store, or of one item."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest

import lazystore as ls
from lazystore.analysis import store_picture
from lazystore.cli.info import split_item
from tests.cli.conftest import run


def test_a_picture_of_every_kind(session: Path, tmp_path: Path) -> None:
    """A part an item, of a readable size, in more than one colour; the table is printed as ever."""
    path = tmp_path / "all.png"
    done = run("info", session, "--preview", path)
    assert (done.status, done.err) == (0, "")
    assert done.out == run("info", session).out
    image = iio.imread(path)
    assert image.shape[1] > 1000
    # Every third holds something else than white: three items.
    for part in np.array_split(image[..., :3], 3):
        assert (part < 128).all(axis=2).any()


def test_a_picture_of_one_item(session: Path, tmp_path: Path) -> None:
    """STORE/ITEM, and other endings."""
    for ending in ("png", "svg", "pdf"):
        path = tmp_path / f"one.{ending}"
        assert run("info", f"{session}/drone", "--preview", path).status == 0
        assert path.stat().st_size > 1000
    everything = tmp_path / "all.png"
    run("info", session, "--preview", everything)
    assert len(iio.imread(tmp_path / "one.png")) < len(iio.imread(everything)) / 2


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("tail", [(), (3,)], ids=["grey", "colour"])
def test_movies_of_all_sorts(dtype: str, tail: tuple[int, ...], store_path: Path, tmp_path: Path) -> None:
    """Bytes, words and floats, grey and colour, one frame, and frames without a finite value."""
    values = np.random.default_rng(1).integers(0, 200, (40, 12, 16, *tail)).astype(dtype)
    if dtype == "f4":
        values[3] = np.nan
    ls.convert(values, store_path, name="day2/cam", kind="stack", rate_hz=10)
    ls.convert(values[:1], store_path, name="short", kind="stack")
    path = tmp_path / "picture.png"
    assert run("info", store_path, "--preview", path).status == 0
    assert run("info", store_path / "day2" / "cam", "--preview", path).status == 0


def test_spikes_are_ticks_or_a_rate(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row a unit where the rows can be told apart, else spikes a second."""
    table = tmp_path / "spikes.csv"
    table.write_text("time,unit\n" + "".join(f"{i / 7},{i % 5}\n" for i in range(90)))
    assert run("convert-to-zarr", table, store_path, "-q").status == 0
    pictures = []
    for n_rows in (store_picture.MAX_ROWS, 4):
        monkeypatch.setattr(store_picture, "MAX_ROWS", n_rows)
        pictures.append(tmp_path / f"{n_rows}.png")
        assert run("info", f"{store_path}/spikes", "--preview", pictures[-1]).status == 0
    ticks, rate = (iio.imread(path)[..., :3].astype(int) for path in pictures)
    assert (ticks < 100).all(axis=2).sum() < (rate < 100).all(axis=2).sum() / 2


@pytest.mark.parametrize("labels", [["left", "right", "left"], [f"trial {i}" for i in range(12)], None])
def test_intervals_have_a_colour_a_label(labels: list[str] | None, store_path: Path, tmp_path: Path) -> None:
    """Named in a legend where they are few."""
    n = len(labels or "abc")
    table = tmp_path / "trials.csv"
    rows = [f"{i},{i + 0.8}" + (f",{labels[i]}" if labels else "") for i in range(n)]
    table.write_text("\n".join(["start,stop" + (",label" if labels else ""), *rows]) + "\n")
    assert run("convert-to-zarr", table, store_path, "--kind", "intervals", "-q").status == 0
    axes = store_picture.empty_figure(4, 2).subplots()
    with ls.open(store_path) as store:
        store_picture._draw_intervals(axes, store, "trials")
    colours = {tuple(bars.get_facecolor()[0]) for bars in axes.collections}
    assert len(colours) == min(10, len(set(labels or [""])))
    assert sum(len(bars.get_paths()) for bars in axes.collections) == n
    assert (axes.get_legend() is not None) == (n == 3 and labels is not None)


def test_nothing_is_drawn_across_a_pause(store_path: Path, tmp_path: Path) -> None:
    """Ten frames, an hour of nothing, ten frames: two lines."""
    np.save(tmp_path / "a.npy", np.random.default_rng(1).integers(0, 9, (20, 4, 5), np.uint8))
    times = [*range(10), *range(3600, 3610)]
    (tmp_path / "times.csv").write_text("\n".join(["t", *map(str, times)]) + "\n")
    words = ["--kind", "stack", "--times", tmp_path / "times.csv", "-q"]
    assert run("convert-to-zarr", tmp_path / "a.npy", store_path, *words).status == 0
    axes = store_picture.empty_figure(4, 2).subplots()
    with ls.open(store_path) as store:
        store_picture._draw_intensity(axes, store["a"])
    drawn = np.asarray(axes.lines[-1].get_ydata())
    assert np.flatnonzero(np.isnan(drawn)).tolist() == [10]


def test_lines_are_named(session: Path, tmp_path: Path) -> None:
    """By the labels of the axes that tell them apart."""
    with ls.open(session) as store:
        assert store_picture._line_names(store["track"]) == ["x", "y"]
    assert run("info", f"{session}/track", "--preview", tmp_path / "track.svg").status == 0


def test_bad_requests_are_refused(session: Path, recordings: Path, tmp_path: Path) -> None:
    """Another ending, another folder, another item, a file that is no store: one line, status 2."""
    for words, message in (
        ((session, "--preview", tmp_path / "a.txt"), "does not end in one of .png, .svg, .pdf"),
        ((session, "--preview", tmp_path / "no" / "a.png"), "there is no folder"),
        ((f"{session}/cat", "--preview", tmp_path / "a.png"), "'cat' is not in"),
        ((recordings / "fields.npy", "--preview", tmp_path / "a.png"), "convert it first"),
    ):
        done = run("info", *words)
        assert done.status == 2, done.err
        assert message in done.err
        assert len(done.err.splitlines()) == 1
    assert not list(tmp_path.glob("a.*"))


def test_the_store_is_the_outermost_folder(session: Path) -> None:
    """Items are groups of Zarr metadata, too; a name that is not there is still a name."""
    assert split_item(str(session)) == (str(session), None)
    assert split_item(str(session / "drone")) == (str(session), "drone")
    assert split_item(str(session / "day9" / "cam")) == (str(session), "day9/cam")


def test_short_items_keep_an_axis_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second beside an hour would be a line."""
    figure = store_picture.empty_figure(4, 4)
    long, short = figure.subplots(2)
    for axes, end in ((long, 3600), (short, 1)):
        axes.plot([0, end], [0, 1])
    store_picture._align([long, short])
    assert short.get_xlim()[1] < 2
    short.plot([0, 3000], [0, 1])
    store_picture._align([long, short])
    assert short.get_xlim() == long.get_xlim()
