"""The renderer benchmark runs, tiny, and writes what it prints."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_renderer.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_renderer", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:.*json_encoders.*", "ignore::DeprecationWarning:napari.*")
def test_every_case_runs_and_is_written(
    benchmark: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each case once, with both packages' times and the frames that each read."""
    results = benchmark.main(["--tiny", "--json", str(tmp_path / "renderer.json")])
    written = json.loads((tmp_path / "renderer.json").read_text())
    assert {row["case"] for row in written["rows"]} == {
        "first frame, uncompiled", "hit", "hit, napari's slice", "miss", "miss, napari's slice",
        "chunked, in order", "chunked, a new chunk each", "chunked, at random", "creation and shape",
    }  # fmt: skip
    printed = capsys.readouterr().out
    reads = {result.case: (result.ours_frames_read, result.neurospatial_frames_read) for result in results}
    for row in written["rows"]:
        assert row["case"] in printed
        assert row["ours"]["best_us"] > 0
        assert row["ratio"] == pytest.approx(row["ours"]["best_us"] / row["neurospatial"]["best_us"])
    assert reads["hit"] == (0, 0)
    assert reads["miss"] == (6, 6)
    assert reads["creation and shape"] == (0, 6)
    assert reads["chunked, a new chunk each"][0] == 6


def test_a_wrong_frame_is_no_result(benchmark: Any) -> None:
    """The benchmark stops where the two disagree."""
    from neurospatial.animation.backends import napari_backend

    calls = []

    def make(cls: Any) -> Any:
        calls.append(cls)

        return np.full((3, 2), len(calls))

    with pytest.raises(AssertionError, match="frame 0 differs"):
        benchmark.same_frames(make, napari_backend)
