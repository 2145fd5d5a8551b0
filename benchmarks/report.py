"""The page of results, written from the JSON that the benchmarks wrote: ``docs/performance.md``.

    python -m benchmarks.report [FOLDER] [--page FILE] [--no-plots] [--check]

FOLDER holds the documents that `benchmarks.program.keep` writes, ``NAME.json``; it is
``benchmarks/results`` unless given. A row is flat, or one level deep; ``group`` and ``case`` name it.
``benchmarks/layouts`` says which numbers stand beside which; a benchmark that it does not know is shown
whole. Nothing is rounded but the text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.layouts import LAYOUTS
from benchmarks.tables import Layout, Row, render, tables_of_anything

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"

HEAD = """\
# Measured performance

<!-- Written by `python -m benchmarks.report` from benchmarks/results; not by hand. -->

Every number below comes from a program in [benchmarks](../benchmarks); the command stands beside it.
`make bench` runs them all and writes this page again. Compare within a table: it is one run on one machine.
**Bold** is where lazystore is behind the best of the other ways in the table by more than 3 %, or misses its
goal. What to do with it stands in [caching and performance](caching-and-performance.md);
`lazystore bench STORE` measures your own store.
"""


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Documents by the name of their benchmark, those with a layout first, in its order."""
    documents = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    known = [name for name in LAYOUTS if name in documents]
    return {name: documents[name] for name in (*known, *(name for name in documents if name not in known))}


def rows_of(document: Mapping[str, Any]) -> list[Row]:
    """The measurements of a document."""
    rows: list[Row] = document["rows"]
    return rows


def conditions(document: Mapping[str, Any]) -> str:
    """Machine, versions and load of a run, in one line.

    >>> conditions({"machine": {"python": "3.13", "system": "Linux", "cores": "2", "av": "19"}})
    'Python 3.13, Linux, 2 cores; av 19'
    """
    facts = dict(document["machine"])
    line = f"Python {facts.pop('python')}, {facts.pop('system')}, {facts.pop('cores')} cores"
    if facts:
        line += "; " + ", ".join(f"{name} {version}" for name, version in facts.items())
    run = document.get("run", {})
    if "load_before" in run:
        line += (
            f"; load of the machine {run['load_before']:.1f} before and {run['load_after']:.1f} after, "
            f"{run['seconds']:.0f} s"
        )
    return line


def section(name: str, document: Mapping[str, Any], pictures: Mapping[str, str]) -> str:
    """One benchmark's part of the page."""
    rows = rows_of(document)
    layout = LAYOUTS.get(name, Layout(name.replace("_", " ").capitalize(), "", ()))
    tables = layout.tables or tables_of_anything(rows)
    parts = [f"## {layout.title}", layout.about] if layout.about else [f"## {layout.title}"]
    parts.append(f"`python -m benchmarks {name}` · {conditions(document)}")
    if name in pictures:
        parts.append(f"![{layout.title}]({pictures[name]})")
    for table in tables:
        for title, text in render(table, rows):
            parts += [f"### {title}", text] if title else [text]
    return "\n\n".join(parts)


def page_of(documents: Mapping[str, Mapping[str, Any]], pictures: Mapping[str, str]) -> str:
    """The whole page."""
    return "\n".join(
        [HEAD, *(section(name, document, pictures) + "\n" for name, document in documents.items())]
    )


def pictures_beside(page: Path, documents: Mapping[str, Any]) -> dict[str, str]:
    """Where the pictures of the benchmarks lie, as the page names them; only those that exist."""
    places = {name: f"images/performance-{name.replace('_', '-')}.svg" for name in documents}
    return {name: place for name, place in places.items() if (page.parent / place).exists()}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=RESULTS, help="where the JSON files lie")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page to write")
    parser.add_argument("--no-plots", action="store_true", help="leave the pictures as they are")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 where the page is another")
    options = parser.parse_args(arguments)
    documents = load(options.folder)
    if not documents:
        parser.error(f"no JSON files in {str(options.folder)!r}; run `python -m benchmarks` first")
    if not (options.check or options.no_plots):
        from benchmarks.plots import draw

        draw(
            {name: rows_of(document) for name, document in documents.items()}, options.page.parent / "images"
        )
    text = page_of(documents, pictures_beside(options.page, documents))
    if options.check:
        is_same = options.page.exists() and options.page.read_text(encoding="utf-8") == text
        print("the page is up to date" if is_same else f"{options.page.name} is not what the JSON gives")
        return 0 if is_same else 1
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text(text, encoding="utf-8")
    print(f"wrote {options.page} from {len(documents)} benchmarks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
