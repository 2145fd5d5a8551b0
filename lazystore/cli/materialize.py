"""``lazystore materialize``."""

from __future__ import annotations

from typing import Annotated

import typer

from lazystore.cli.convert import free_bytes_of, parse_span
from lazystore.cli.info import split_item
from lazystore.cli.output import print_json, progress_bar
from lazystore.cli.plans import print_plans, print_reports
from lazystore.errors import UsageError

HELP = """Decode an encoded video, or seconds of it, to pixels.

The frames become an item of their own, ITEM_pixels, that plain zarr and xarray read. They are those of
the encoded item to the bit. Interrupted at any point, the same command goes on where it stopped.

\b
  lazystore materialize session.zarr/mouse
  lazystore materialize session.zarr/mouse --time 10:20 --codec fast --name trial_3
  lazystore materialize session.zarr mouse --to pixels.zarr
  lazystore materialize session.zarr mouse --time 10:20 --dry-run
"""


def materialize(
    store: Annotated[str, typer.Argument(metavar="STORE[/ITEM]", help="The store, or an encoded item of it.")],
    item: Annotated[str | None, typer.Argument(metavar="[ITEM]", help="The encoded item, where it is not in the path.")] = None,
    to: Annotated[str | None, typer.Option(metavar="STORE", help="Another store to write to.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the new item; ITEM_pixels if left out.")] = None,
    time: Annotated[str | None, typer.Option(metavar="A:B", help="Session seconds to decode, half-open; either side may be left out.")] = None,
    codec: Annotated[str | None, typer.Option(help="balanced (default), fast, small, none.")] = None,
    chunks: Annotated[int | None, typer.Option(help="Frames an inner chunk.")] = None,
    shards: Annotated[int | None, typer.Option(help="Frames a shard (one file).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that compress; default one a core.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with an unfinished run.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an item of the new name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and what each codec would cost; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:  # fmt: skip
    from lazystore.convert.api import available_cores
    from lazystore.convert.materialize import item_choices, prepare_item, run_item
    from lazystore.convert.plan import Settings

    place, found = (store, item) if item is not None else split_item(store)
    if found is None:
        raise UsageError(
            f"{store!r} names no item; name one behind it, as {store.rstrip('/')}/ITEM or as STORE ITEM"
        )
    settings = Settings(codec, chunks, shards, workers or available_cores())
    prepared, output = prepare_item(place, found, to=to, name=name, time=parse_span(time), settings=settings)
    try:
        if dry_run or not (as_json or quiet):
            tried = [item_choices(prepared, settings)] if dry_run else []
            print_plans([prepared], free_bytes_of(output.root), as_json=as_json, choices=tried)
        if dry_run:
            return 0
        with progress_bar(quiet=quiet or as_json) as progress:
            report = run_item(prepared, output, resume=resume, overwrite=overwrite, progress=progress)
    finally:
        prepared.close()
    if as_json:
        print_json(report.to_json())
    else:
        print_reports(report.items, [] if quiet else [prepared])
    return 0
