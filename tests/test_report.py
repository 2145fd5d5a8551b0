"""The page of results says what the measurements say, and where we lose."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.layouts import LAYOUTS
from benchmarks.plots import draw
from benchmarks.tables import Column, Listing, Pivot, render

REMOTE_ROWS = [
    {"group": "50 ms away: fields", "case": "lazystore", "first_frame_ms": 120.0, "p99_ms": 0.3, "stalls": 0,
     "jump_ms": 131.0},
    {"group": "50 ms away: fields", "case": "dask", "first_frame_ms": 119.0, "p99_ms": 70.4, "stalls": 4,
     "jump_ms": 115.0},
]  # fmt: skip


def lines_of(table: Any, rows: list[dict[str, Any]]) -> list[str]:
    return [line for _, text in render(table, rows) for line in text.splitlines()]


def test_the_page_is_what_the_measurements_give(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever commits numbers commits the page that they make: `python -m benchmarks.report`."""
    assert report.main(["--check"]) == 0, capsys.readouterr().out


def test_every_picture_of_the_page_is_there() -> None:
    """And no picture of measurements lies about that the page does not show."""
    shown = set(re.findall(r"\((images/performance-[\w-]+\.svg)\)", report.PAGE.read_text(encoding="utf-8")))
    there = {f"images/{path.name}" for path in (report.PAGE.parent / "images").glob("performance-*.svg")}
    assert shown == there != set()


def test_a_loss_is_bold_and_a_tie_is_not() -> None:
    """Ours against the best of the others, one number at a time; 3 % is a tie."""
    lines = lines_of(LAYOUTS["remote"].tables[0], REMOTE_ROWS)
    assert "| lazystore | 120 | 0 | 0.3 | **131** |" in lines
    assert "| dask | 119 | 4 | 70.4 | 115 |" in lines


def test_ways_are_compared_that_give_the_same_thing() -> None:
    """Painting is not compared with reading numbers."""
    rows = [
        {"case": "values: numpy", "group": "a", "ms": 1.0},
        {"case": "RGB: peer", "group": "a", "ms": 9.0},
        {"case": "RGB: lazystore", "group": "a", "ms": 5.0},
        {"case": "values: lazystore", "group": "a", "ms": 2.0},
    ]
    lines = lines_of(Pivot("", ("case",), ("group",), Column("", "ms", "low")), rows)
    assert "| RGB: lazystore | 5 |" in lines
    assert "| values: lazystore | **2** |" in lines


def test_ours_stands_first_where_ways_are_columns() -> None:
    """Then it is compared along its line; and a goal that is missed is bold where it stands."""
    columns = (Column("ours", "us.ours", "low"), Column("peer", "us.peer", "low"), Column("ratio", "ratio"))
    table = Listing("", ("case",), columns, across=True, goal=("ratio", 1.15, "low"))
    rows = [
        {"case": "a", "us": {"ours": 3.0, "peer": 2.0}, "ratio": 1.5},
        {"case": "b", "us": {"ours": 1.0, "peer": 2.0}, "ratio": 1.1},
    ]
    assert lines_of(table, rows)[2:] == ["| a | **3** | 2 | **1.5** |", "| b | 1 | 2 | 1.1 |"]


def test_a_benchmark_that_nobody_laid_out_is_shown_whole(tmp_path: Path) -> None:
    """Every number of every row, and the conditions it was measured in."""
    document = {
        "machine": {"python": "3.13.1", "system": "Plan9 mips", "cores": "2", "numpy": "9.9"},
        "rows": [{"what": "one", "ms": 12.345, "inner": {"x": 7}}, {"what": "two", "ms": 0.5}],
        "run": {"load_before": 1.25, "load_after": 2.0, "seconds": 31.4},
    }
    (tmp_path / "new_thing.json").write_text(json.dumps(document))
    assert report.main([str(tmp_path), "--page", str(tmp_path / "page.md"), "--no-plots"]) == 0
    text = (tmp_path / "page.md").read_text()
    assert "## New thing" in text
    assert "`python -m benchmarks new_thing` · Python 3.13.1, Plan9 mips, 2 cores; numpy 9.9; load" in text
    assert "| one | 12.3 | 7 |" in text
    assert "| two | 0.5 |  |" in text


def test_without_measurements_there_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what to run."""
    with pytest.raises(SystemExit, match="2"):
        report.main([str(tmp_path), "--page", str(tmp_path / "page.md")])
    assert "no JSON files in" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_a_page_that_was_changed_by_hand_is_found(tmp_path: Path) -> None:
    """`--check` writes nothing."""
    document = {"machine": {"python": "3", "system": "Any", "cores": "2"}, "rows": REMOTE_ROWS}
    (tmp_path / "remote.json").write_text(json.dumps(document))
    page = tmp_path / "page.md"
    arguments = [str(tmp_path), "--page", str(page)]
    report.main([*arguments, "--no-plots"])
    assert report.main([*arguments, "--check"]) == 0
    page.write_text(page.read_text() + "Trust me.\n")
    assert report.main([*arguments, "--check"]) == 1
    assert page.read_text().endswith("Trust me.\n")


def test_pictures_are_drawn_from_the_same_rows_to_the_same_bytes(tmp_path: Path) -> None:
    """Ours is named, and the number stands at its dot."""
    pytest.importorskip("matplotlib")
    (first,) = draw({"remote": REMOTE_ROWS}, tmp_path / "a")
    (second,) = draw({"remote": REMOTE_ROWS}, tmp_path / "b")
    text = first.read_text()
    assert text == second.read_text()
    assert "lazystore" in text
    assert " 70" in text
    assert draw({"remote": []}, tmp_path / "c") == []
