"""``lazystore events``: plots of an event recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Draw an event recording's rate, or a moment of it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
)


@app.command("rate", help="Plot events a second over the whole recording, ON and OFF.")
def rate(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The event recording in it.")],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Picture to write.")
    ] = "rate.png",
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:
    from lazystore.analysis.event_plots import draw_rate

    draw_rate(store, item, Path(output))
    print(output)
    return 0


@app.command("frame", help="Draw the events of a span of session seconds as a picture.")
def frame(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The event recording in it.")],
    start: Annotated[
        float | None, typer.Option(help="Session second at which the frame begins; default the middle.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Length in seconds.")] = 0.02,
    mode: Annotated[str, typer.Option(help="count, signed or polarity.")] = "signed",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Picture to write.")
    ] = "frame.png",
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:
    from lazystore.analysis.event_plots import draw_frame

    draw_frame(store, item, Path(output), start_s=start, duration_s=duration, mode=mode)
    print(output)
    return 0
