"""``lazystore set``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lazystore.errors import UsageError

HELP = """Correct an item's clock, transform, units or attributes.

Its data is not touched.

Keys: clock.start (seconds or ISO instant of the first record), clock.offset_s, clock.rate,
clock.epoch_utc, clock.id, transform (a file), units; any other key is an attribute of yours.
An empty value removes an attribute of yours.

\b
  lazystore set session.zarr mouse clock.start=12.5 subject=M1
  lazystore set session.zarr day2/cam transform=calibration.json
"""


def correct(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The item.")],
    changes: Annotated[list[str], typer.Argument(metavar="KEY=VALUE...", help="What to set.")],
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:
    from lazystore.convert.api import local_output
    from lazystore.convert.correct import correct as commit
    from lazystore.convert.correct import hints

    pairs = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise UsageError(f"{change!r} is not KEY=VALUE")
        pairs[key] = value
    commit(local_output(store), item, pairs)
    print(f"{item}: set {', '.join(pairs)}")
    for hint in hints(pairs):
        print(f"note: {hint}", file=sys.stderr)
    return 0
