"""``lazystore demo``."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lazystore.cli.output import print_table, seconds_text, size_text
from lazystore.errors import LazystoreError, UsageError

if TYPE_CHECKING:
    from lazystore.demo.tour import Measured

HELP = """Make a session of every kind, convert it and open it.

\b
  lazystore demo
  lazystore demo /tmp/my-demo
"""

DEFAULT_FOLDER = "lazystore-demo"
SESSION_SECOND = 17.0


def demo(
    folder: Annotated[str, typer.Argument(metavar="[FOLDER]", help="Where to; a demo that lies there is replaced.")] = DEFAULT_FOLDER,
    seconds: Annotated[float, typer.Option(help="Length of the session, 20 or more.")] = 40.0,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:  # fmt: skip
    from lazystore.cli import convert_main
    from lazystore.dataset import open_own
    from lazystore.demo.picture import draw_session
    from lazystore.demo.session import make_session
    from lazystore.demo.tour import command_of, measure, timed

    if seconds < 20:
        raise UsageError(f"--seconds {seconds} is too short for a session; pass 20 or more")
    top = Path(folder)
    store_path = top / "session.zarr"
    _clear(top, store_path)
    print(f"Making {seconds:.0f} s of recordings in {top / 'recordings'} ...")
    recordings = make_session(top / "recordings", duration_s=seconds)
    convert_s = {}
    for recording in recordings:
        words = command_of(recording, store_path)
        print(f"\n$ convert-to-zarr {' '.join(words)}")
        convert_s[recording.item], status = timed(partial(convert_main, [*words, "--quiet"]))
        if status:
            raise LazystoreError(f"converting {recording.path.name} failed with status {status}")
    open_s, store = timed(lambda: open_own(store_path))
    with store:
        measured = [
            measure(recording, store, convert_s[recording.item], SESSION_SECOND) for recording in recordings
        ]
        picture = top / "demo.png"
        draw_session(store, SESSION_SECOND, picture)
    print()
    _print_measured(measured)
    print(f"\nlazystore.open({str(store_path)!r}) took {seconds_text(open_s)}.")
    print(f"Picture of all items at {SESSION_SECOND:g} s: {picture}")
    print(f"Look around: lazystore info {store_path}   lazystore view {store_path}")
    return 0


def _clear(top: Path, store: Path) -> None:
    """Remove an earlier demo, and nothing else."""
    if not top.exists():
        return
    known = {"recordings", "session.zarr", "session.zarr.progress", "demo.png"}
    others = sorted(path.name for path in top.iterdir() if path.name not in known)
    if others:
        raise UsageError(
            f"{str(top)!r} holds {others[0]!r}, which is no part of a demo; choose another folder"
        )
    for path in (store, Path(f"{store}.progress"), top / "recordings"):
        shutil.rmtree(path, ignore_errors=True)


def _print_measured(measured: list[Measured]) -> None:
    rows = [
        (
            m.name,
            m.kind,
            " x ".join(map(str, m.shape)),
            size_text(m.source_bytes),
            size_text(m.stored_bytes),
            f"{m.decoded_bytes / m.stored_bytes:.1f}",
            seconds_text(m.convert_s),
            seconds_text(m.first_frame_s),
            seconds_text(m.numpy_s),
        )
        for m in measured
    ]
    headings = ("item", "kind", "shape", "source", "store", "ratio", "convert", "first frame", "without")
    print_table(headings, rows)
    print("ratio: decoded bytes over stored bytes. first frame: from the opened store.")
    print(
        "without: the same frame without a store, by "
        + ", ".join(f"{m.numpy_way} ({m.name})" for m in measured)
    )
