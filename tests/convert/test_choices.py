"""What each codec would cost: said before the conversion, and near what it then costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.cli import main
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
    """Within a fifth, or a few kilobytes for shard indices, and no time is 0."""
    choices = planned(capsys, str(recordings[kind]), str(store_path))["choices"]
    codecs = [choice["codec"] for choice in choices]
    assert codecs == [*(["encoded"] if kind == "video" else []), "fast", "balanced", "small"]
    for choice in choices:
        ls.convert(recordings[kind], store_path, codec=choice["codec"], name=choice["codec"])
        assert choice["random_s"] > 0
        assert choice["frames_per_s"] > 0
    with ls.open(store_path) as store:
        for choice in choices:
            path = "packets" if choice["codec"] == "encoded" else "data"
            files = (store_path / choice["codec"] / path).rglob("*")
            stored = sum(file.stat().st_size for file in files if file.is_file() and file.suffix != ".json")
            assert choice["stored_bytes"] == pytest.approx(stored, rel=0.2, abs=4000)
        assert store.verify().ok


def test_packets_are_no_choice_where_values_change(
    recordings: dict[str, Path], store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does a note say more than is true."""
    plan = planned(capsys, str(recordings["video"]), str(store_path), "--dtype", "uint16")
    assert [choice["codec"] for choice in plan["choices"]] == ["fast", "balanced", "small"]
    assert plan["codec"] == "balanced"
    assert plan["notes"] == ["kept as pixels (balanced): dtype and keep_bits change its values"]


def test_a_table_for_people(
    recordings: dict[str, Path], store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One row a codec, and nothing is written."""
    assert main(["convert", str(recordings["video"]), str(store_path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "mouse: what each --codec would cost" in printed
    assert all(f" {codec} " in printed for codec in ("encoded", "fast", "balanced", "small"))
    assert not store_path.exists()
