"""``lazystore info``: what a store holds, or what a source is before it is converted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from lazystore.cli.item_info import print_item
from lazystore.cli.output import print_json, print_note, print_table, size_text
from lazystore.errors import UsageError

MAX_FACT_CHARACTERS = 400
MAX_FILES_NAMED = 3

HELP = """Show what is in a store, an item or a recording.

\b
  lazystore info mouse.mp4
  lazystore info session.zarr
  lazystore info session.zarr/mouse
  lazystore info s3://bucket/session.zarr --json
  lazystore info session.zarr/mouse --preview mouse.png
"""


def info(
    path: Annotated[str, typer.Argument(metavar="STORE[/ITEM]|FILE", help="A store, an item of one, or a recording.")],
    option: Annotated[list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the file's format.")] = None,
    kind: Annotated[str | None, typer.Option(help="Read the file as this kind.")] = None,
    preview: Annotated[Path | None, typer.Option("--preview", metavar="FILE", help="Also draw STORE or STORE/ITEM: small pictures and values over time (.png, .svg, .pdf).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:  # fmt: skip
    store, item = split_item(path)
    if preview is not None:
        from lazystore.analysis.store_picture import draw_store

        if not _is_store(store) and Path(path).exists():
            raise UsageError(f"--preview draws what a store holds; {path!r} is not one: convert it first")
        draw_store(store, item, preview)
    if _is_store(store):
        return _store_info(store, item, as_json=as_json)
    return _source_info(path, option or [], kind, as_json=as_json)


def _is_store(path: str) -> bool:
    if "://" in path:
        return True
    folder = Path(path)
    progress = Path(f"{path}.progress")
    return progress.is_dir() or any((folder / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def split_item(path: str) -> tuple[str, str | None]:
    """A store, and the name behind it where there is one: ``session.zarr/day2/cam``.

    >>> split_item("s3://bucket/session.zarr/day2/cam")
    ('s3://bucket/session.zarr', 'day2/cam')
    """
    if "://" in path:
        store, end, name = path.rstrip("/").partition(".zarr/")
        return (store + ".zarr", name) if end else (path, None)
    folder = Path(path)
    # Items are folders of Zarr metadata, too: the store is the outermost one.
    for parent in (*reversed(folder.parents), folder):
        if (parent / "zarr.json").is_file():
            name = folder.relative_to(parent).as_posix()
            return str(parent), None if name == "." else name
    return path, None


def _store_info(path: str, only: str | None, *, as_json: bool) -> int:
    from lazystore.dataset import Store
    from lazystore.dataset import open as open_store

    with open_store(path, allow_incomplete=True) as store:
        document = store.info(only)
        if not isinstance(store, Store):
            return _foreign_info(document, as_json=as_json)
        spans = {name: _span_s(store, name, item) for name, item in document["items"].items()}
    for name, span in spans.items():
        document["items"][name]["span_s"] = span
    if as_json:
        print_json(document)
        return 0
    if only is not None:
        item = document["items"][only]
        print_item(document["store"], only, item, _span_text(spans[only]), _start_text(item["attributes"]))
        return 0
    rows = []
    for name, item in document["items"].items():
        attributes = item["attributes"]
        shape = " x ".join(map(str, item["shape"] or ())) + f" {item['dtype'] or ''}"
        # The records alone: statistics and indexes of a short recording may outweigh it.
        nbytes = sum(array["nbytes"] or 0 for array in item["arrays"].values() if array["shards"])
        rows.append(
            (
                name,
                item["kind"],
                shape,
                size_text(nbytes),
                "" if item["stored_bytes"] is None else size_text(item["stored_bytes"]),
                _span_text(spans[name]),
                _start_text(attributes),
                str(attributes.get("codec", "")),
            )
        )
    heads = ("item", "kind", "shape", "decoded", "stored", "time", "start", "codec")
    print_table(heads, rows, title=document["store"])
    for name, item in document["items"].items():
        for problem in item["attributes"].get("problems", ()):
            print_note(f"note: {name}: {problem}")
    for line in document["unfinished"].values():
        print_note(f"note: {line}")
    return 0


def _foreign_info(document: Any, *, as_json: bool) -> int:
    """Of a store that somebody else wrote: its arrays, of which nothing more is known."""
    if as_json:
        print_json(document)
        return 0
    rows = []
    for name, array in document["items"].items():
        axes = (f"{dim}: {size:,}" for dim, size in zip(array["dims"], array["shape"], strict=True))
        rows.append((name, f"{array['dtype']} ({', '.join(axes)})", " x ".join(map(str, array["chunks"]))))
    print_table(("array", "holds", "chunks"), rows, title=f"{document['store']}, not written by lazystore")
    for problem in document["problems"]:
        print_note(f"note: {problem}")
    return 0


def _span_s(store: Any, name: str, item: Any) -> list[float] | None:
    """Session seconds of an item's first and last record; None where it has no axis of time."""
    attributes = item["attributes"]
    axis, events = attributes.get("time"), attributes.get("events")
    if events and attributes.get("clock"):
        from lazystore.clock import Clock

        clock = Clock.from_json(attributes["clock"])
        return [float(clock.to_session(events[key] / 1e6)) for key in ("t_min_us", "t_max_us")]
    if isinstance(axis, dict):
        return [axis["start"], axis["start"] + axis["step"] * (axis["size"] - 1)]
    # Intervals may overlap: the last to begin need not be the last to end.
    for first, last in (("time", "time"), ("spike_time", "spike_time"), ("start", "stop")):
        if all(item["arrays"].get(path, {}).get("shape", [0])[0] for path in (first, last)):
            starts, stops = (store.array_values(name, path) for path in (first, last))
            return [float(starts.min()), float(stops.max())]
    return None


def _span_text(span: list[float] | None) -> str:
    return "" if not span else f"{span[0]:.3f} to {span[1]:.3f} s"


def _start_text(attributes: Any) -> str:
    """What is known of the time of the first record, and of the rate where nobody knows it."""
    if not attributes.get("clock"):
        return ""
    from lazystore.clock import Clock

    text = Clock.from_json(attributes["clock"]).describe()
    ticks, axis = attributes.get("ticks"), attributes.get("time")
    is_guess = ticks is not None and not ticks.get("known", True) and isinstance(axis, dict) and axis["step"]
    return f"{text}, {1 / axis['step']:g} Hz assumed" if is_guess else text


def _source_info(path: str, options: list[str], kind: str | None, *, as_json: bool) -> int:
    from lazystore.cli.convert import parse_options
    from lazystore.sources.registry import open_sources, recognise

    format_name, _ = recognise(path, kind=kind)
    streams = open_sources(path, kind=kind, options=parse_options(options))
    try:
        documents = [_describe(stream.info) for stream in streams]
    finally:
        for stream in streams:
            stream.close()
    if as_json:
        print_json({"format": format_name, "streams": documents, "options": _format_options(format_name)})
        return 0
    for document in documents:
        facts = {**document, "records": f"{document['records']:,}", "files": _files_text(document["files"])}
        unsaid: tuple[object, ...] = ("", None, [], {}, "unspecified")
        rows = [(key, _text(value)) for key, value in facts.items() if value not in unsaid]
        print_table(("fact", "value"), rows, title=path)
    options_of_format = _format_options(format_name)
    if options_of_format:
        rows = [(name, meaning) for name, meaning in options_of_format.items()]
        print_table(("--option", "meaning"), rows, title=f"options of format {format_name}")
    return 0


def _format_options(name: str) -> dict[str, str]:
    from lazystore.sources.registry import find_format

    declared = getattr(find_format(name).load(), "options", ())
    return {option.name: option.meaning for option in declared}


def _describe(info: Any) -> dict[str, Any]:
    ticks = info.ticks
    document: dict[str, Any] = {"stream": info.suffix, "kind": info.kind, "format": info.format}
    document["records"] = info.length
    for column in info.columns:
        axes = ", ".join(f"{dim}: {size:,}" for dim, size in zip(column.dims, column.shape, strict=True))
        document[column.name] = f"{column.dtype.name} ({axes})"
    if ticks is not None:
        base = f"{ticks.time_base.numerator}/{ticks.time_base.denominator} s"
        guess = "" if ticks.known else ", assumed: pass --rate HZ"
        document["ticks"] = f"{'one a record' if ticks.values is not None else 'regular'}, {base}{guess}"
        if ticks.values is not None and info.length > 1:
            span = int(ticks.values.max() - ticks.values.min())
        else:
            span = ticks.step * (info.length - 1)
        document["seconds"] = round(float(span * ticks.time_base), 6)
    elif "time_range_us" in info.attributes:
        first, last = info.attributes["time_range_us"]
        document["seconds"] = (last - first) / 1e6
    document["files"] = [asdict(identity) for identity in info.identity]
    document.update(info.item_attributes)
    document.update(info.attributes)
    document["problems"] = list(info.problems)
    return document


def _text(value: Any) -> str:
    """A fact for people: names and numbers, without brackets and quotes."""
    if isinstance(value, dict):
        text = ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    elif isinstance(value, (list, tuple)):
        text = ", ".join(map(_text, value))
    else:
        text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
    return text if len(text) <= MAX_FACT_CHARACTERS else f"{text[:MAX_FACT_CHARACTERS]}…"


def _files_text(files: Any) -> str:
    named = [f"{file['name']} ({size_text(file['size_bytes'])})" for file in files[:MAX_FILES_NAMED]]
    more = len(files) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
