"""What each codec would cost: said before the conversion, and near what it then costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.cli import main
from lazystore.convert.api import Request, prepare
from lazystore.convert.choices import choices
from lazystore.convert.plan import Settings
from tests.convert.test_encoded import write_video


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("recordings")
    write_video(folder / "mouse.mp4")
    rates = np.random.default_rng(1).integers(0, 9, (300, 20, 30)).astype(np.float32)
    np.save(folder / "rates.npy", rates)
    return {"video": folder / "mouse.mp4", "field": folder / "rates.npy"}


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["convert", *words, "--dry-run", "--json"]) == 0
    item: dict[str, Any] = json.loads(capsys.readouterr().out)["items"][0]
    return item


@pytest.mark.parametrize("kind", ["video", "field"])
def test_sizes_are_near_what_the_store_takes(
    recordings: dict[str, Path], kind: str, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole item within a tenth, or what small pictures may take; no time is 0; one codec is default."""
    found = planned(capsys, str(recordings[kind]), str(store_path))["choices"]
    codecs = [choice["codec"] for choice in found]
    assert codecs == [*(["encoded"] if kind == "video" else []), "fast", "balanced", "small", "none"]
    assert [choice["codec"] for choice in found if choice["mark"] == "default"] == [
        "encoded" if kind == "video" else "balanced"
    ]
    for choice in found:
        (item,) = ls.convert(recordings[kind], store_path, codec=choice["codec"], name=choice["codec"]).items
        assert choice["stored_bytes"] == pytest.approx(item.stored_bytes, rel=0.1, abs=16_000)
        assert choice["ratio"] == pytest.approx(choice["stored_bytes"] / item.source_bytes)
        assert choice["random_s"] > 0
        assert choice["frames_per_s"] > 0


def test_packets_are_no_choice_where_values_change(
    recordings: dict[str, Path], store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does a note say more than is true."""
    plan = planned(capsys, str(recordings["video"]), str(store_path), "--dtype", "uint16")
    assert [choice["codec"] for choice in plan["choices"]] == ["fast", "balanced", "small", "none"]
    assert plan["codec"] == "balanced"
    assert plan["notes"] == ["kept as pixels (balanced): dtype and keep_bits change its values"]


def test_a_table_for_people(
    recordings: dict[str, Path], store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a codec, and nothing is written."""
    assert main(["convert", str(recordings["video"]), str(store_path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "mouse: what each --codec would cost" in printed
    assert all(
        f" {codec} " in printed for codec in ("encoded (default)", "fast", "balanced", "small", "none")
    )
    assert not store_path.exists()


def test_expanding_costs_what_the_table_says(
    recordings: dict[str, Path], store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The packets as they are beside each codec of pixels, for the seconds that are asked for."""
    (item,) = ls.convert(recordings["video"], store_path).items
    words = ["materialize", str(store_path), "mouse", "--dry-run", "--json"]
    whole, part = [], []
    for found, more in ((whole, []), (part, ["--time", "0.5:1"])):
        assert main([*words, *more]) == 0
        (plan,) = json.loads(capsys.readouterr().out)["items"]
        found.extend(plan["choices"])
    for found in (whole, part):
        marks = {choice["codec"]: choice["mark"] for choice in found}
        assert marks == {"encoded": "as it is", "fast": "", "balanced": "default", "small": "", "none": ""}
        assert all(choice["random_s"] > 0 and choice["frames_per_s"] > 0 for choice in found)
        assert all(c["ratio"] == pytest.approx(c["stored_bytes"] / found[0]["stored_bytes"]) for c in found)
    assert whole[0]["stored_bytes"] == item.stored_bytes
    assert part[0]["stored_bytes"] < 0.5 * item.stored_bytes
    for choice in part[1:]:
        name = choice["codec"]
        (made,) = ls.materialize(store_path, "mouse", time=(0.5, 1.0), codec=name, name=name).items
        assert choice["stored_bytes"] == pytest.approx(made.stored_bytes, rel=0.1, abs=16_000)


def test_chunks_that_cut_frames_are_tried_as_asked(
    recordings: dict[str, Path], store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A layout of pixels leaves packets a choice, but not the default."""
    plan = planned(capsys, str(recordings["video"]), str(store_path), "--chunks", "7")
    marks = {choice["codec"]: choice["mark"] for choice in plan["choices"]}
    assert marks == {"encoded": "", "fast": "", "balanced": "default", "small": "", "none": ""}
    assert plan["arrays"][0]["chunks"][0] == 7
    (one,) = prepare(recordings["video"], Request(settings=Settings(chunks=(5, 16, 16, 3))))
    try:
        cut = choices(one, Settings(chunks=(5, 16, 16, 3)))
    finally:
        one.close()
    assert all(choice.random_s > 0 for choice in cut)


def test_a_narrow_terminal_gets_a_table_an_item(
    recordings: dict[str, Path],
    store_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No cell is folded into a column of letters, at 80 columns or at 120."""
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setenv("TERM", "dumb")
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        words = [str(recordings["video"]), str(recordings["field"]), str(store_path), "--dry-run"]
        assert main(["convert", *words]) == 0
        printed = capsys.readouterr().out
        assert all(text in printed for text in ("overviews", "video (mp4/h264)", "encoded (default)"))
        assert max(map(len, printed.splitlines())) <= int(columns)
