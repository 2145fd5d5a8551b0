"""How an event stream shows itself: text from the index alone, HTML with one small picture."""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from lazystore.array.preview import png, stretched
from lazystore.chunks import ceil_div

if TYPE_CHECKING:
    from lazystore.events.stream import EventStream

THUMBNAIL_SIDE = 160


def facts_of(stream: EventStream) -> list[tuple[str, str]]:
    """What text and HTML both tell, as (name, value); reads nothing."""
    count, duration_s = len(stream), stream.duration_us / 1e6
    rate = f", {count / duration_s:,.0f} events/s" if duration_s > 0 else ""
    on = stream.n_on / count if count else 0.0
    facts = [
        ("time", f"[{stream.t_start}, {stream.t_stop}) us, {duration_s:.6g} s{rate}"),
        ("polarity", f"{on:.1%} ON"),
        ("clock", stream.clock.describe()),
    ]
    if not stream.is_sorted:
        facts.append(("order", "times go back in the file; windows are exact, in file order"))
    if not stream.index.is_whole:
        lost = int((stream.index.t_min > stream.index.t_max).sum())
        facts.append(("missing", f"{lost} of {len(stream.index.t_min)} chunks cannot be read"))
    return facts


def _headline(stream: EventStream) -> str:
    return f"{len(stream):,} events, sensor {stream.sensor[0]} x {stream.sensor[1]}"


def text_of(stream: EventStream) -> str:
    """The repr; reads nothing."""
    lines = [f"<EventStream {stream.name!r} {_headline(stream)}>"]
    lines += [f"  {name:<8}  {value}" for name, value in facts_of(stream)]
    return "\n".join(lines)


def html_of(stream: EventStream) -> str:
    """The notebook's view: a table of facts beside the count of events at each pixel."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td></tr>"
        for name, value in facts_of(stream)
    )
    picture = ""
    if "summary/pixel_count" in stream.side:
        step = ceil_div(max(stream.sensor), THUMBNAIL_SIDE)
        image = png(stretched(stream.pixel_count()[::step, ::step]))
        encoded = base64.b64encode(image).decode()
        picture = f"<td rowspan='99'><img alt='events' src='data:image/png;base64,{encoded}'/></td>"
    title = f"EventStream <b>{escape(stream.name)}</b> {escape(_headline(stream))}"
    return f"<table><tr><td colspan='2'>{title}</td>{picture}</tr>{rows}</table>"
