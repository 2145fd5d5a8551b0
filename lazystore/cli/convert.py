"""``convert-to-zarr`` and ``lazystore convert``."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lazystore.cli.output import print_json, progress_bar
from lazystore.cli.plans import print_plans, print_reports
from lazystore.errors import UsageError

if TYPE_CHECKING:
    from lazystore.convert.api import Prepared, Request
    from lazystore.convert.choices import Choice
    from lazystore.convert.plan import Settings
    from lazystore.convert.report import ItemReport

HELP = """Convert recordings into a store that opens at once.

INPUT... OUTPUT: every input becomes an item of the store OUTPUT, named by its stem. Kinds and
formats are recognised by content: fields (.npy, .npz, HDF5, NetCDF, Zarr), video, image stacks
(TIFF, folders of images), event recordings, tracks, series, spikes, intervals. Interrupted at any
point, the same command goes on where it stopped.

\b
  convert-to-zarr rates.npy --env environment.json session.zarr
  convert-to-zarr mouse.mp4 session.zarr --start 12.5
  convert-to-zarr events.raw images/ session.zarr --dry-run
  convert-to-zarr part1.avi part2.avi session.zarr --concat --name mouse
"""


def convert(
    paths: Annotated[list[str], typer.Argument(metavar="INPUT... OUTPUT", help="Inputs, then the store.")],
    name: Annotated[str | None, typer.Option(help="Name of the item; '/' nests. One input only.")] = None,
    kind: Annotated[str | None, typer.Option(help="field, video, stack, events, tracks, series, spikes, intervals.")] = None,
    format: Annotated[str | None, typer.Option(help="Name of the format, where content does not decide.")] = None,
    codec: Annotated[str | None, typer.Option(help="encoded (default for video: its packets), balanced (default else), fast, small, none.")] = None,
    chunks: Annotated[int | None, typer.Option(help="Records an inner chunk.")] = None,
    shards: Annotated[int | None, typer.Option(help="Records a shard (one file).")] = None,
    time: Annotated[str | None, typer.Option(metavar="A:B", help="Session seconds to keep, half-open; either side may be left out.")] = None,
    crop: Annotated[str | None, typer.Option(metavar="Y0:Y1,X0:X1", help="Pixels to keep, half-open.")] = None,
    every: Annotated[int | None, typer.Option(help="Keep every N-th record.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Store values in a smaller type, if they fit.")] = None,
    keep_bits: Annotated[int | None, typer.Option(help="Mantissa bits that floats keep.")] = None,
    start: Annotated[str | None, typer.Option(metavar="S|ISO", help="Session seconds, or the instant, of the first record.")] = None,
    rate: Annotated[float | None, typer.Option(metavar="HZ", help="Records a second.")] = None,
    times: Annotated[str | None, typer.Option(metavar="FILE[:COLUMN]", help="Session seconds of every record.")] = None,
    times_mismatch: Annotated[str | None, typer.Option(help="head or tail: pair times of another count.")] = None,
    sync: Annotated[tuple[str, str] | None, typer.Option(metavar="OWN REF", help="Files of matched pulses: own seconds, session seconds.")] = None,
    transform: Annotated[str | None, typer.Option(metavar="FILE", help="Affine from pixels to world units.")] = None,
    env: Annotated[str | None, typer.Option(metavar="FILE", help="Environment of a field's bins.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the format; see lazystore info FILE.")] = None,
    overview: Annotated[str | None, typer.Option(metavar="none|preview|exact", help="Bins along time: small pictures, also exact sums; default: what costs little.")] = None,
    concat: Annotated[bool, typer.Option("--concat", help="The inputs are one recording, joined in natural order.")] = False,
    workers: Annotated[int | None, typer.Option(help="Threads that compress; default one a core.")] = None,
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A dask scheduler (tcp://HOST:PORT) whose workers convert; they must see inputs and store at the same paths.")] = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on with an unfinished conversion.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace items of the same name.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and what each codec would cost; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:  # fmt: skip
    from lazystore.convert.api import Request, available_cores, execute, local_output, prepare
    from lazystore.convert.plan import Settings

    if len(paths) < 2:
        raise UsageError(f"{paths[0]!r} alone is not enough; pass one or more inputs, then the output store")
    *inputs, output = paths
    _check_is_no_recording(output)
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers} is not 1 or more")
    if workers is not None and scheduler is not None:
        raise UsageError(
            f"--workers {workers} are threads here, --scheduler works elsewhere; pass one of them"
        )
    if name is not None and len(inputs) > 1 and not concat:
        raise UsageError(
            f"--name {name!r} names one item, but there are {len(inputs)} inputs; use --concat to join them"
        )
    for given, wanted in ((start, sync), (start, times), (sync, times)):
        if given is not None and wanted is not None:
            raise UsageError("--start, --times and --sync exclude each other; pass one of them")
    request = Request(
        name=name,
        kind=kind,
        format=format,
        settings=Settings(codec, chunks, shards, workers or available_cores(), overview),
        time=parse_span(time),
        crop=_crop(crop),
        every=every,
        clock=start if sync is None else _synchronised(*sync),
        rate_hz=rate,
        times=times,
        times_mismatch=times_mismatch,
        dtype=dtype,
        keep_bits=keep_bits,
        transform=transform,
        env=env,
        source_options=parse_options(option or []),
    )
    location = local_output(output)
    jobs = jobs_of_inputs(inputs, request, concat=concat)
    prepared: list[tuple[Any, list[Prepared]]] = []
    try:
        for source, its_request in jobs:
            prepared.append((source, prepare(source, its_request)))
        plans = [one for _, group in prepared for one in group] if dry_run or not (as_json or quiet) else []
        if plans:
            tried = _choices(plans, request.settings) if dry_run else ()
            print_plans(plans, free_bytes_of(location.root), as_json=as_json, choices=tried)
        if dry_run:
            return 0
        reports: list[ItemReport] = []
        with _client(scheduler) as client, progress_bar(quiet=quiet or as_json) as progress:
            for source, group in prepared:
                report = execute(
                    group, location, source,
                    resume=resume, overwrite=overwrite, progress=progress, client=client,
                )  # fmt: skip
                reports.extend(report.items)
    finally:
        for _, group in prepared:
            for one in group:
                one.close()
    if as_json:
        from dataclasses import asdict

        print_json({"store": location.url, "items": [asdict(item) for item in reports]})
        return 0
    print_reports(reports, plans)
    return 0


def _choices(plans: Sequence[Prepared], settings: Settings) -> list[list[Choice]]:
    """What each codec would cost for each of the plans."""
    from lazystore.convert.choices import choices

    return [choices(one, settings) for one in plans]


def _client(scheduler: str | None) -> contextlib.AbstractContextManager[Any]:
    """A client of the scheduler of an address; None where none is given."""
    if scheduler is None:
        return contextlib.nullcontext()
    from lazystore.convert.on_client import connected

    return connected(scheduler)


def jobs_of_inputs(inputs: Sequence[str], request: Request, *, concat: bool) -> list[tuple[Any, Request]]:
    """Each source with its request: one for all inputs when they are joined, else one an input.

    Inputs of equal stems are told apart by their folders.
    """
    from dataclasses import replace

    if concat:
        ordered = sorted(inputs, key=_natural_key)
        return [(ordered if len(ordered) > 1 else ordered[0], request)]
    if len(inputs) == 1:
        return [(inputs[0], request)]
    from lazystore.convert.api import safe_stem

    stems = [safe_stem(Path(path).name) for path in inputs]
    jobs = []
    for path, stem in zip(inputs, stems, strict=True):
        folder = safe_stem(Path(path).resolve().parent.name)
        clash = [s.casefold() for s in stems].count(stem.casefold()) > 1
        jobs.append((path, replace(request, name=f"{folder}/{stem}" if clash else stem)))
    names = [job.name for _, job in jobs]
    doubles = sorted({str(n) for n in names if names.count(n) > 1})
    if doubles:
        raise UsageError(f"several inputs would be named {doubles[0]!r}; convert them one by one with --name")
    return jobs


def _natural_key(path: str) -> list[Any]:
    return [int(part) if part.isdigit() else part.casefold() for part in re.split(r"(\d+)", path)]


def free_bytes_of(root: Path) -> int:
    """Bytes free on the disk that a path is, or will be, on."""
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free


def parse_span(text: str | None) -> tuple[float | None, float | None] | None:
    """A:B as two numbers of seconds; a side that is left out is None."""
    if text is None:
        return None
    parts = text.split(":")
    try:
        low, high = (float(part) if part.strip() else None for part in parts)
    except ValueError:
        raise UsageError(f"--time {text!r} is not A:B in seconds, such as 10:20, 10: or :20") from None
    return low, high


def _check_is_no_recording(output: str) -> None:
    """Refuse a new store with a recording's name: usually the output was forgotten."""
    from lazystore.sources.registry import list_formats

    ending = Path(output).suffix.casefold()
    endings = {end for row in list_formats() for end in row.extensions} - {"/", ".zarr", ""}
    if ending in endings and not Path(output).exists():
        raise UsageError(
            f"the last path, {output!r}, is where the store goes, but it is named like a recording "
            f"({ending}); give the store a name such as {Path(output).stem}.zarr"
        )


def _crop(text: str | None) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+):(\d+)\s*,\s*(\d+):(\d+)\s*", text)
    if found is None:
        raise UsageError(f"--crop {text!r} is not Y0:Y1,X0:X1 in pixels, such as 0:480,100:300")
    y0, y1, x0, x1 = map(int, found.groups())
    return y0, y1, x0, x1


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE words as a dictionary."""
    options = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--option {word!r} is not KEY=VALUE")
        options[key] = value
    return options


def _synchronised(own: str, reference: str) -> Any:
    from lazystore.clock import Clock
    from lazystore.convert.times import read_times, split_times_argument

    own_s = read_times(*split_times_argument(own))
    reference_s = read_times(*split_times_argument(reference))
    return Clock.synchronise(own_s, reference_s)
