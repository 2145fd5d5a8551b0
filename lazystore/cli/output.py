"""What commands print: one-line errors, JSON, tables, progress with rate and time left."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lazystore.convert.run import Progress


PIPE_COLUMNS = 160
# Tables of so few columns are read well where some cells are folded.
COLUMNS_THAT_FOLD = 5


def print_error(message: str) -> None:
    """One line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)


def print_note(message: str) -> None:
    """One line on standard error that is no error."""
    print(message, file=sys.stderr)


def print_json(document: Any) -> None:
    """A document on standard output."""
    print(json.dumps(document, indent=2, default=str, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """A table on standard output; numbers lie to the right.

    Where the terminal is too narrow, each row is a table of its own, of headings and cells.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    # A pipe has no width: let every cell stand in full.
    if not console.is_terminal:
        console = Console(width=PIPE_COLUMNS)
    kept = [list(row) for row in rows]
    if len(headings) > COLUMNS_THAT_FOLD and _natural_width(headings, kept) > console.width:
        # Cells folded after every few letters cannot be read: each row stands upright instead.
        for row in kept:
            facts = [(heading, cell) for heading, cell in zip(headings[1:], row[1:], strict=True) if cell]
            print_table((headings[0], row[0]), facts, title=title)
            title = None
        return
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for column, heading in enumerate(headings):
        numeric = all(row[column][:1].isdigit() or row[column] in ("", "-") for row in kept)
        table.add_column(heading, justify="right" if numeric and kept else "left", overflow="fold")
    for row in kept:
        table.add_row(*row)
    console.print(table, markup=False)


def _natural_width(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Columns of a terminal that a table takes where nothing is folded."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(headings, *rows, strict=True)]
    return sum(widths) + 3 * len(widths)


def size_text(n_bytes: float) -> str:
    """A size in bytes for people.

    >>> size_text(999), size_text(1_500_000)
    ('999 B', '1.5 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def seconds_text(seconds: float) -> str:
    """A duration for people.

    >>> seconds_text(0.00012), seconds_text(0.0042), seconds_text(3.21), seconds_text(4000)
    ('120 µs', '4.2 ms', '3.21 s', '1:06:40')
    """
    if 0 < seconds < 0.9995e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """A callback that draws a bar on standard error, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bar

    bar = Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    )
    tasks: dict[str, Any] = {}

    def draw(progress: Progress) -> None:
        if progress.item not in tasks:
            tasks[progress.item] = bar.add_task(progress.item, rate="", left="")
        left = progress.left_s
        bar.update(
            tasks[progress.item],
            total=progress.total_records,
            completed=progress.records,
            rate=f"{progress.rate_hz:,.0f}/s",
            left=f"{seconds_text(left)} left" if left else "",
        )

    with bar:
        yield draw
