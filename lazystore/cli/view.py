"""``lazystore view``."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = """Show a store in napari, every item at the same second.

\b
  lazystore view session.zarr
  lazystore view session.zarr mouse drone
"""


def view(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    items: Annotated[
        list[str] | None, typer.Argument(metavar="ITEM", help="Items to show; default all.")
    ] = None,
    scrub: Annotated[
        str,
        typer.Option(
            help="After a jump: overview (a small picture until the frame is read) or exact (wait)."
        ),
    ] = "overview",
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:
    from lazystore.dataset import open_own
    from lazystore.viewer import run
    from lazystore.viewer.scrub import checked_scrub

    with open_own(store) as opened:
        run(opened, items or None, scrub=checked_scrub(scrub))
    return 0
