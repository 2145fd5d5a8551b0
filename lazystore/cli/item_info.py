"""``lazystore info STORE/ITEM``: one item of a store, and its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazystore.cli.output import print_note, print_table, size_text


def print_item(store: str, name: str, item: Mapping[str, Any], times: str, start: str) -> None:
    """What an item is, what it was made from, and the arrays it consists of.

    Parameters
    ----------
    item
        As `Store.info` describes it.
    times, start
        Its session seconds, and what is known of their origin, as text.
    """
    attributes = item["attributes"]
    source = attributes.get("source") or {}
    files = [f"{file['name']} ({size_text(file['size_bytes'])})" for file in source.get("files", ())]
    nbytes = sum(array["nbytes"] or 0 for array in item["arrays"].values() if array["shards"])
    lost = sum(stop - start for start, stop in attributes.get("missing", ()))
    facts = {
        "kind": item["kind"],
        "data": f"{item['dtype']} {' x '.join(map(str, item['shape'] or ()))}",
        "decoded": size_text(nbytes),
        "stored": "" if item["stored_bytes"] is None else size_text(item["stored_bytes"]),
        "time": times,
        "start": start,
        "codec": str(attributes.get("codec", "")),
        "made from": ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else ""),
        "format": str(source.get("format", "")),
        "lost records": f"{lost:,}" if lost else "",
    }
    print_table(("fact", "value"), [(key, value) for key, value in facts.items() if value], title=name)
    rows = [
        (
            path,
            f"{array['dtype']} ({', '.join(_axes(array))})",
            "" if array["nbytes"] is None else size_text(array["nbytes"]),
        )
        for path, array in item["arrays"].items()
    ]
    print_table(("array", "holds", "decoded"), rows, title=f'arrays; in Python s["{name}/ARRAY"]')
    for problem in attributes.get("problems", ()):
        print_note(f"note: {name}: {problem}")


def _axes(array: Mapping[str, Any]) -> list[str]:
    return [f"{dim}: {size:,}" for dim, size in zip(array["dims"] or (), array["shape"] or (), strict=False)]
