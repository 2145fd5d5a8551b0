"""``lazystore repair``."""

from __future__ import annotations

from typing import Annotated

import typer

from lazystore.cli.convert import parse_options
from lazystore.cli.output import print_json, print_note
from lazystore.cli.verify import check_there

HELP = """Make a store's damaged files again, from the recordings.

Looks and says what it would do; --yes does it. Nothing is replaced by other bytes than were committed,
and damaged files are kept in STORE.quarantine. Metadata needs no source, and neither do pixels that were
decoded from an item of the same store.

Exit status: 0 all is sound, 3 something is damaged still, 5 no manifest.

\b
  lazystore repair session.zarr --source mouse.mp4
  lazystore repair session.zarr --source mouse.mp4 --source rates.npy --yes
"""


def repair(
    store: Annotated[str, typer.Argument(metavar="STORE", help="The store, a folder.")],
    source: Annotated[list[str] | None, typer.Option(metavar="FILE", help="A recording that an item was made from; several times for several.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Look for what is missing or of another size only.")] = False,
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Option of the source's format, as in the conversion; stores record theirs.")] = None,
    env: Annotated[str | None, typer.Option(metavar="FILE", help="A field's environment, where its own files are damaged.")] = None,
    times: Annotated[str | None, typer.Option(metavar="FILE[:COLUMN]", help="Session seconds of every record, where they were given and are damaged.")] = None,
    times_mismatch: Annotated[str | None, typer.Option(help="head or tail, as in the conversion.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Tracebacks.")] = False,
) -> int:  # fmt: skip
    from lazystore.convert.repair import repair as run
    from lazystore.store.open_location import open_location

    check_there(open_location(store))
    report = run(
        store,
        source or [],
        yes=yes,
        level="quick" if quick else "full",
        source_options=parse_options(option or []),
        env=env,
        times=times,
        times_mismatch=times_mismatch,
    )
    if as_json:
        print_json(report.to_json())
        return report.exit_status
    for one in report.repaired:
        print(f"{'repaired' if yes else 'would repair'} ({one.how}): {one.key}")
    for line in report.left:
        print(f"left: {line}")
    if not report.has_manifest:
        print(f"{store}: no lazystore manifest to check against")
    elif not report.repaired and not report.left:
        print(f"{store}: all sound")
    else:
        print(
            f"{store}: {len(report.repaired)} files {'repaired' if yes else 'to repair'}, {len(report.left)} left"
        )
    if report.repaired and not yes:
        print_note("note: nothing was changed; add --yes to do it")
    if report.quarantine is not None:
        print_note(f"note: what was replaced is kept in {report.quarantine}")
    return report.exit_status
