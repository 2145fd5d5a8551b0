"""``lazystore verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lazystore.cli.output import print_json, print_note, size_text
from lazystore.errors import StoreError, UsageError

HELP = """Check every byte of a store; name what is damaged.

Damaged, missing and stray files are named with the records they cost.

Exit status: 0 sound, 3 damaged, 4 unfinished, 5 no manifest, 1 sound but not from --source.

\b
  lazystore verify session.zarr
  lazystore verify session.zarr --quick
  lazystore verify session.zarr --sample 5%
"""


def verify(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store.")],
    quick: Annotated[bool, typer.Option("--quick", help="Metadata, presence and sizes only.")] = False,
    sample: Annotated[str | None, typer.Option(metavar="PERCENT", help="Read this share of the files, such as 5%.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Read every byte (the default).")] = False,
    source: Annotated[str | None, typer.Option(metavar="FILE", help="Also compare an item's source with FILE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:  # fmt: skip
    from lazystore.store.open_location import open_location
    from lazystore.store.verify import STATUS_DAMAGED
    from lazystore.store.verify import verify as check

    if quick + full + (sample is not None) > 1:
        raise UsageError("--quick, --sample and --full exclude each other; pass one of them")
    level = "quick" if quick else "sample" if sample is not None else "full"
    location = open_location(store)
    check_there(location)
    report = check(location, level=level, fraction=_fraction(sample))
    source_line, is_source = (None, True) if source is None else _compare_source(store, source)
    status = report.exit_status or (0 if is_source else 1)
    if as_json:
        print_json({**report.to_json(), "source": source_line})
        return status
    for finding in report.findings:
        print(finding)
    if report.exit_status == STATUS_DAMAGED:
        print_note(f"note: 'lazystore repair {store} --source FILE' says what can be made again")
    for line in report.unfinished:
        print_note(f"note: {line}")
    if source_line is not None:
        print(source_line)
    counts = ", ".join(f"{count} {problem}" for problem, count in report.counts().items())
    if not report.has_manifest:
        print(f"{store}: no lazystore manifest to check against")
    else:
        print(f"{store}: {report.files} files, {size_text(report.n_bytes)} read: {counts or 'all sound'}")
    return status


def check_there(location: Any) -> None:
    """A path mistyped is no damaged store."""
    root = getattr(location, "root", None)
    if root is not None and not root.exists() and not Path(f"{root}.progress").exists():
        raise StoreError(f"there is no store at {location.url!r}; expected a folder that lazystore wrote")


def _fraction(sample: str | None) -> float:
    if sample is None:
        return 0.05
    try:
        return float(sample.rstrip("%")) / 100
    except ValueError:
        raise UsageError(f"--sample {sample!r} is no percentage, such as 5%") from None


def _compare_source(store: str, source: str) -> tuple[str, bool]:
    """A line on it, and whether a file is the one that an item was made from."""
    from lazystore.dataset import open_own
    from lazystore.sources.registry import open_sources

    streams = open_sources(source)
    try:
        wanted = {identity.sha256_sampled for identity in streams[0].info.identity}
    finally:
        for stream in streams:
            stream.close()
    with open_own(store) as opened:
        for name, record in opened.records.items():
            files = record.attributes.get("source", {}).get("files", [])
            if {file["sha256_sampled"] for file in files} == wanted:
                return f"source: {source} is what item {name!r} was made from", True
    return f"source: {source} is not, or no longer, what any item of {store} was made from", False
