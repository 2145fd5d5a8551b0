"""``lazystore bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from lazystore.cli.output import print_json, print_table, seconds_text, size_text

HELP = """Measure how fast a store of yours opens and reads.

Beside zarr-python on the same bytes.

\b
  lazystore bench session.zarr
  lazystore bench session.zarr mouse --frames 500 --json
"""


def bench(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    item: Annotated[
        str | None, typer.Argument(metavar="ITEM", help="A movie in it; default the first.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Random frames to read.")] = 200,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:
    from lazystore.analysis.bench import bench_item

    result = bench_item(store, item, frames)
    if as_json:
        print_json(result)
        return 0
    rows = [
        (
            case["case"],
            seconds_text(case["lazystore_s"]),
            "cannot" if case["zarr_s"] is None else seconds_text(case["zarr_s"]),
            "" if case["ratio"] is None else f"{case['ratio']:.3f}",
        )
        for case in result["cases"]
    ]
    title = f"{result['item']}: {result['shape']} {result['dtype']}, {size_text(result['nbytes'])} decoded"
    print_table(("case", "lazystore", "zarr-python", "ratio"), rows, title=title)
    return 0
